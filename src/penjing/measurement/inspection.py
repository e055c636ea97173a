"""What is inside a model file, tensor by tensor, without loading the model."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from penjing.errors import FileFormatError
from penjing.files import as_path, check_file, gzip_bytes
from penjing.json_values import JsonValue
from penjing.measurement.size import format_bytes
from penjing.models.model_files import datasets, open_weights, read_values
from penjing.packing.packed_constants import packed_constants
from penjing.packing.packing import restore
from penjing.runtime.file_bounds import is_for_tflm
from penjing.tflite.loading import read_litert
from penjing.tflite.stored_tensors import StoredTensor, read_tflite, stored_tensors

_PACKED_HINT = (
    "The file is packed for TensorFlow Lite Micro: the rows are what it decodes to, "
    "with the bytes that it packs them in. "
    "What its weights take in flash and RAM says "
    'penjing.explain_sparsity(file, "micro").'
)
_FORMATS = {".keras": "keras", ".h5": "h5", ".hdf5": "h5", ".tflite": "tflite"}
_OPTIMIZER_GROUPS = ("optimizer", "optimizer_weights")


@dataclasses.dataclass(frozen=True, kw_only=True)
class InspectedTensor(JsonValue):
    """A tensor that a file stores.

    Attributes:
        name: Name in a `.tflite` file; path inside the HDF5 file of the others.
        layer: Name of the Keras layer, empty where the file does not say it.
        shape: Shape.
        dtype: Type as it is stored.
        zeros: Values that stand for 0; None where they are no numbers.
        distinct: Different values; None where they are no numbers.
        bytes: Bytes of the values, with the indices of a sparse tensor.
        gzip: The same bytes after gzip level 9; of more than 2**25 bytes level 6.
        is_sparse: Whether zeros are left out.
        is_optimizer_state: Whether only training needs it.
        packed: Form in which a file for microcontrollers packs it, whose bytes then
            count; empty for others.
        num_scales: Scales of its quantization, 0 where it is not quantized.
        hint: Where its bytes buy nothing, else empty.
    """

    name: str
    layer: str = ""
    shape: tuple[int, ...]
    dtype: str
    zeros: int | None
    distinct: int | None
    bytes: int
    gzip: int
    is_sparse: bool = False
    is_optimizer_state: bool = False
    packed: str = ""
    num_scales: int = 0
    hint: str = ""

    @property
    def size(self) -> int:
        """Values that the shape holds."""
        return math.prod(self.shape)

    @property
    def sparsity(self) -> float:
        """Fraction of zeros, 0.0 where the values are no numbers."""
        return (self.zeros or 0) / self.size if self.size else 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection(JsonValue):
    """What `inspect_file` found.

    Attributes:
        path: The file.
        format: "keras", "h5" or "tflite".
        bytes: Size of the file.
        tensors: One row for each stored tensor.
        hints: Where the file's bytes buy nothing, in sentences.
    """

    path: str
    format: str
    bytes: int
    tensors: tuple[InspectedTensor, ...]
    hints: list[str]

    def __str__(self) -> str:
        lines = [f"{self.path}: {self.format}, {format_bytes(self.bytes)}"]
        for tensor in self.tensors:
            zeros = "" if tensor.zeros is None else f"{tensor.sparsity:.1%} zeros, "
            values = "" if tensor.distinct is None else f"{tensor.distinct} values, "
            lines.append(
                f"  {tensor.name} {tensor.shape} {tensor.dtype}: {zeros}{values}"
                f"{format_bytes(tensor.bytes)}, gzip {format_bytes(tensor.gzip)}"
            )
        return "\n".join([*lines, *self.hints])


def inspect_file(path: str | os.PathLike[str]) -> Inspection:
    """Look at every tensor in a model file, without running or loading the model.

    Args:
        path: A `.keras`, `.h5` (whole model or weights) or `.tflite` file.

    Returns:
        A row for each tensor with data, and hints. Of a file that is packed for
        microcontrollers, see `penjing.pack_litert`, those are the decoded constants.

    Raises:
        FileFormatError: If the file is missing, too large, corrupt or of another
            type.

    Example:
        >>> inspection = inspect_file("model.tflite")  # doctest: +SKIP
        >>> inspection.tensors[0].zeros  # doctest: +SKIP
        10815
    """
    suffix = as_path(path).suffix.lower()
    if suffix not in _FORMATS:
        raise FileFormatError(
            f"Cannot inspect {path}: unknown suffix {suffix!r}. Allowed: "
            f"{', '.join(_FORMATS)}."
        )
    path = check_file(path)
    packed = suffix == ".tflite" and _is_packed(path)
    if packed:
        found = _from_packed(path)
    elif suffix == ".tflite":
        found = [_from_tflite(tensor) for tensor in read_tflite(path)]
    else:
        found = list(_from_h5(path))
    quantized = is_quantized(found)
    rows = tuple(
        dataclasses.replace(row, hint=tensor_hint(row, quantized)) for row in found
    )
    return Inspection(
        path=str(path),
        format=_FORMATS[suffix],
        bytes=path.stat().st_size,
        tensors=rows,
        hints=[_PACKED_HINT] if packed else file_hints(rows, _FORMATS[suffix]),
    )


def _is_packed(path: Path) -> bool:
    return is_for_tflm(read_litert(path), str(path))


def _from_packed(path: Path) -> list[InspectedTensor]:
    """Rows of the plain file that a packed one stands for, with the packed bytes."""
    content, where = read_litert(path), str(path)
    constants, rows = packed_constants(content, where), []
    for tensor in stored_tensors(restore(content, where), where):
        row, packed = _from_tflite(tensor), constants.get(tensor.data)
        if packed is not None:
            row = dataclasses.replace(
                row,
                packed=packed.form,
                bytes=len(packed.data),
                gzip=gzip_bytes(packed.data),
            )
        rows.append(row)
    return rows


def _from_tflite(tensor: StoredTensor) -> InspectedTensor:
    zeros, distinct = _count(tensor.values, tensor.zero)
    if tensor.is_sparse and tensor.values is not None and zeros is not None:
        left_out = math.prod(tensor.shape) - tensor.values.size
        if left_out and not zeros:
            distinct = (distinct or 0) + 1
        zeros += left_out
    return InspectedTensor(
        name=tensor.name,
        shape=tensor.shape,
        dtype=tensor.dtype,
        zeros=zeros,
        distinct=distinct,
        bytes=len(tensor.data),
        gzip=gzip_bytes(tensor.data),
        is_sparse=tensor.is_sparse,
        num_scales=tensor.num_scales,
    )


def _from_h5(path: Path) -> Iterator[InspectedTensor]:
    with open_weights(path) as file:
        for name, dataset in datasets(file, path):
            values = read_values(dataset, path)
            dtype = str(values.dtype)
            if dataset.attrs.get("dtype") == "bfloat16" and values.itemsize == 2:
                values, dtype = values.view(ml_dtypes.bfloat16), "bfloat16"
            is_number = dtype == "bfloat16" or values.dtype.kind in "biufc"
            zeros, distinct = _count(values.reshape(-1) if is_number else None, 0)
            data = values.tobytes() if values.dtype.kind != "O" else b""
            yield InspectedTensor(
                name=name,
                layer=_layer_name(name, dataset),
                shape=values.shape,
                dtype=dtype,
                zeros=zeros,
                distinct=distinct,
                bytes=len(data),
                gzip=gzip_bytes(data),
                is_optimizer_state=name.split("/")[0] in _OPTIMIZER_GROUPS,
            )


def _layer_name(name: str, dataset: Any) -> str:
    """Layer of a variable: Keras 3 writes it beside it, `.h5` files in the path."""
    if name.startswith("model_weights/"):
        return name.split("/")[1]
    layer = dataset.parent.attrs.get("name", "")
    return layer if isinstance(layer, str) else ""


def _count(
    values: np.ndarray[Any, Any] | None, zero: Any
) -> tuple[int | None, int | None]:
    """Count zeros and different values; -0.0 is 0, and equal bits are equal NaNs."""
    if values is None:
        return None, None
    is_zero = values == zero
    zeros = int(np.count_nonzero(is_zero))
    others = np.ascontiguousarray(values[~is_zero])
    word = min(others.itemsize, 8)
    bits = others.view(f"u{word}").reshape(len(others), others.itemsize // word)
    unique = np.unique(bits[:, 0]) if bits.shape[1] == 1 else np.unique(bits, axis=0)
    return zeros, len(unique) + (zeros > 0)


_MANY_ZEROS = 0.3  # Trained weights have next to none, pruned ones half and more.
_FEW_ELEMENTS = 256  # A kilobyte of floats: fewer are not worth a line.
_CONVERTER_MINIMUM = 1024  # What TensorFlow Lite's converter leaves as floats below it.
_SCALE_BYTES = 12  # a float32 scale and an int64 zero point


def has_unused_zeros(tensor: InspectedTensor) -> bool:
    """Whether many zeros are stored one by one."""
    return (
        not tensor.is_sparse
        and not tensor.packed
        and not tensor.is_optimizer_state
        and tensor.size >= _FEW_ELEMENTS
        and (tensor.zeros or 0) >= _MANY_ZEROS * tensor.size
    )


def tensor_hint(tensor: InspectedTensor, quantized_file: bool) -> str:
    """Say in a line where the bytes of a tensor buy nothing, else nothing."""
    parts = []
    if tensor.is_optimizer_state:
        parts.append("optimizer state: not needed to run the model")
    if has_unused_zeros(tensor):
        parts.append(
            f"{tensor.sparsity:.0%} zeros stored one by one: only compression uses "
            f"them ({format_bytes(tensor.bytes)} -> {format_bytes(tensor.gzip)})"
        )
    if tensor.packed:
        parts.append(f"packed in the form {tensor.packed}, decoded while it runs")
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
    """Say in sentences where the bytes of a file buy nothing, if anywhere."""
    hints = []
    if found := [tensor for tensor in tensors if has_unused_zeros(tensor)]:
        hints.append(_zeros_hint(found, file_format))
    found = [t for t in tensors if t.dtype == "float32" and t.size > 1]
    if found and is_quantized(tensors):
        size = format_bytes(sum(tensor.bytes for tensor in found))
        hints.append(
            f"{_tensors(found)} ({size}) stayed float32 in a quantized file. The "
            "converter keeps biases of dynamic-range files and tensors below 1,024 "
            "elements so."
        )
    if found := [tensor for tensor in tensors if tensor.num_scales > 1]:
        have = "has" if len(found) == 1 else "have"
        size = format_bytes(_SCALE_BYTES * sum(tensor.num_scales for tensor in found))
        hints.append(
            f"{_tensors(found)} {have} a scale for each channel: {size} of scales and "
            "zero points, and equal floats become different integers in different "
            "channels, which undoes clustering."
        )
    if state := sum(tensor.bytes for tensor in tensors if tensor.is_optimizer_state):
        share = state / sum(tensor.bytes for tensor in tensors)
        hints.append(
            f"The optimizer's state takes {format_bytes(state)}, {share:.0%} of all "
            "tensors. Only training needs it: save with include_optimizer=False (.h5), "
            "or save a model that is not compiled, as penjing.strip gives it."
        )
    return hints


def is_quantized(tensors: Sequence[InspectedTensor]) -> bool:
    """Whether weights of a file are stored as integers with a scale."""
    return any(tensor.num_scales and "int" in tensor.dtype for tensor in tensors)


def _zeros_hint(found: Sequence[InspectedTensor], file_format: str) -> str:
    zeros = sum(tensor.zeros or 0 for tensor in found)
    share = zeros / sum(tensor.size for tensor in found)
    raw = format_bytes(sum(tensor.bytes for tensor in found))
    gzipped = format_bytes(sum(tensor.gzip for tensor in found))
    text = (
        f"{share:.0%} of the values in {_tensors(found)} are zeros, stored like any "
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


def _tensors(tensors: Sequence[InspectedTensor]) -> str:
    return f"{len(tensors)} tensor{'' if len(tensors) == 1 else 's'}"
