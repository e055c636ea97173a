"""What an inspected file says to someone who wants it smaller or faster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from penjing.measurement.size import format_bytes

if TYPE_CHECKING:
    from penjing.measurement.inspection import InspectedTensor

_MANY_ZEROS = 0.3
_FEW_ELEMENTS = 256
_CONVERTER_MINIMUM = 1024
_SCALE_BYTES = 12  # a float32 scale and an int64 zero point


def has_unused_zeros(tensor: InspectedTensor) -> bool:
    """Whether many zeros are stored one by one."""
    return (
        not tensor.is_sparse
        and not tensor.is_optimizer_state
        and tensor.size >= _FEW_ELEMENTS
        and (tensor.zeros or 0) >= _MANY_ZEROS * tensor.size
    )


def tensor_hint(tensor: InspectedTensor, quantized_file: bool) -> str:
    """Say in a line where the bytes of a tensor buy nothing.

    Args:
        tensor: The tensor.
        quantized_file: Whether weights of its file are stored as integers.

    Returns:
        The hint, empty where there is nothing to say.
    """
    parts = []
    if tensor.is_optimizer_state:
        parts.append("optimizer state: not needed to run the model")
    if has_unused_zeros(tensor):
        parts.append(
            f"{tensor.sparsity:.0%} zeros stored one by one: only compression uses "
            f"them ({format_bytes(tensor.bytes)} -> {format_bytes(tensor.gzip)})"
        )
    if tensor.is_sparse:
        parts.append("sparse-encoded: zeros are left out, indices are stored")
    if quantized_file and tensor.dtype == "float32":
        small = tensor.size < _CONVERTER_MINIMUM
        why = ", as the converter does below 1,024 elements" if small else ""
        parts.append(f"left in float32{why}")
    if tensor.num_scales > 1:
        parts.append(f"{tensor.num_scales} scales, one for each channel")
    return "; ".join(parts)


def file_hints(tensors: Sequence[InspectedTensor], file_format: str) -> list[str]:
    """Say in sentences where the bytes of a file buy nothing.

    Args:
        tensors: Its tensors.
        file_format: "keras", "h5" or "tflite".

    Returns:
        The hints, perhaps none.
    """
    hints = (
        _zeros_hint(tensors, file_format),
        _float_hint(tensors),
        _scales_hint(tensors),
        _optimizer_hint(tensors),
    )
    return [hint for hint in hints if hint]


def is_quantized(tensors: Sequence[InspectedTensor]) -> bool:
    """Whether weights of a file are stored as integers with a scale."""
    return any(tensor.num_scales and "int" in tensor.dtype for tensor in tensors)


def _zeros_hint(tensors: Sequence[InspectedTensor], file_format: str) -> str:
    found = [tensor for tensor in tensors if has_unused_zeros(tensor)]
    if not found:
        return ""
    zeros = sum(tensor.zeros or 0 for tensor in found)
    share = zeros / sum(tensor.size for tensor in found)
    raw = format_bytes(sum(tensor.bytes for tensor in found))
    gzipped = format_bytes(sum(tensor.gzip for tensor in found))
    text = (
        f"{share:.0%} of the values in {_count(found)} are zeros, stored like any "
        f"other value: the raw size and the speed are those of full tensors. Only "
        f"compression uses them ({raw} raw, {gzipped} gzipped)."
    )
    if file_format != "tflite":
        return f"{text} Compress the file, or export it with penjing.export_litert."
    if any(tensor.dtype == "float32" for tensor in found):
        return (
            f'{text} quantization="int8" or "dynamic" makes the raw file up to four '
            "times smaller as well; sparse encoding leaves the zeros out, but few "
            "runtimes are faster for it."
        )
    return text


def _float_hint(tensors: Sequence[InspectedTensor]) -> str:
    found = [t for t in tensors if t.dtype == "float32" and t.size > 1]
    if not found or not is_quantized(tensors):
        return ""
    size = format_bytes(sum(tensor.bytes for tensor in found))
    return (
        f"{_count(found)} ({size}) stayed float32 in a quantized file. The converter "
        "keeps biases of dynamic-range files and tensors below 1,024 elements so."
    )


def _scales_hint(tensors: Sequence[InspectedTensor]) -> str:
    found = [tensor for tensor in tensors if tensor.num_scales > 1]
    if not found:
        return ""
    have = "has" if len(found) == 1 else "have"
    size = format_bytes(_SCALE_BYTES * sum(tensor.num_scales for tensor in found))
    return (
        f"{_count(found)} {have} a scale for each channel: {size} of scales and zero "
        "points, and equal floats become different integers in different channels, "
        "which undoes clustering."
    )


def _optimizer_hint(tensors: Sequence[InspectedTensor]) -> str:
    found = [tensor for tensor in tensors if tensor.is_optimizer_state]
    size = sum(tensor.bytes for tensor in found)
    if not size:
        return ""
    share = size / sum(tensor.bytes for tensor in tensors)
    return (
        f"The optimizer's state takes {format_bytes(size)}, {share:.0%} of all "
        "tensors. Only training needs it: save with include_optimizer=False (.h5), "
        "or save a model that is not compiled, as penjing.strip gives it."
    )


def _count(tensors: Sequence[InspectedTensor]) -> str:
    return f"{len(tensors)} tensor{'' if len(tensors) == 1 else 's'}"
