"""Activation ranges of an int8 file by another observer than the converter's.

The converter takes the least and the largest value that each tensor ever had, which one
outlier can spoil. Here its calibrated float model runs on the same samples, each range
in it is replaced by the one that an observer finds, and the converter quantizes that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from penjing.engine.calibration import OBSERVERS, sampled, sees_ends
from penjing.errors import require_extra
from penjing.export.samples import repeated
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType

_BATCH = 20
_SAMPLED = 5_000  # values of a tensor that are kept of each batch

Array = np.ndarray[Any, Any]


def observe_ranges(file: EditedFile, samples: Sequence[Array], observer: str) -> None:
    """Replace the ranges in a calibrated float model by those that the observer finds.

    They are widened to hold zero. Tensors within loops, and those that a run leaves
    without values, keep theirs. The file is as the converter makes it before it
    quantizes, with ranges, and inputs in the order of `samples`, an array `(samples,
    ...)` for each. `observer` is one of `penjing.engine.calibration.OBSERVERS`.
    """
    tensors = file.model["subgraphs"][0]["tensors"]
    ranged = {n: t["quantization"] for n, t in enumerate(tensors) if _has_range(t)}
    batches: dict[int, list[Array]] = {}
    for run in _runs(file.content, samples):
        for number in ranged:
            values = _value(run, number, sees_ends(observer))
            if values is not None:
                batches.setdefault(number, []).append(values)
    seen = [(ranged[number], values) for number, values in batches.items()]
    file.edit(lambda _: _set_ranges(seen, observer))


def _set_ranges(seen: Sequence[tuple[Record, list[Array]]], observer: str) -> None:
    for quantization, values in seen:
        if not _are_within(values, quantization):
            continue
        low, high = OBSERVERS[observer](values)
        low, high = min(low, 0.0), max(high, 0.0)
        if low < high:
            quantization["min"] = np.array([low], "float32")
            quantization["max"] = np.array([high], "float32")


def _are_within(batches: Sequence[Array], quantization: Record) -> bool:
    """Whether values lie in the range that the converter saw on the same samples.

    What a run leaves without values, such as outputs of loops that nothing reads, holds
    what happened to be in memory.
    """
    low, high = float(quantization["min"][0]), float(quantization["max"][0])
    slack = 1e-3 * max(high - low, abs(low), abs(high))
    return all(
        bool(np.isfinite(values).all())
        and float(values.min()) >= low - slack
        and float(values.max()) <= high + slack
        for values in batches
    )


def _has_range(tensor: Record) -> bool:
    quantization = tensor["quantization"]
    return bool(
        tensor["type"] == TensorType.FLOAT32
        and quantization
        and len(quantization["min"]) == 1
        and len(quantization["max"]) == 1
    )


def _runs(content: bytes, samples: Sequence[Array]) -> Iterator[Any]:
    """The interpreter after each batch of samples."""
    runtime = require_extra("ai_edge_litert.interpreter", "litert")
    interpreter = runtime.Interpreter(
        model_content=content,
        experimental_op_resolver_type=(
            runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        ),
        experimental_preserve_all_tensors=True,
    )
    details = interpreter.get_input_details()
    fixed = [int(d["shape_signature"][0]) for d in details if len(d["shape_signature"])]
    step = max(fixed) if max(fixed) > 0 else _BATCH
    if len(samples[0]) < max(fixed):
        samples = repeated(samples, step)
    for start in range(0, len(samples[0]), step):
        batch = [array[start : start + step] for array in samples]
        if step == max(fixed) and len(batch[0]) < step:
            return
        for detail, array in zip(details, batch, strict=True):
            interpreter.resize_tensor_input(detail["index"], array.shape)
        interpreter.allocate_tensors()
        for detail, array in zip(details, batch, strict=True):
            interpreter.set_tensor(detail["index"], array)
        interpreter.invoke()
        yield interpreter


def _value(interpreter: Any, number: int, ends: bool) -> Array | None:
    """Some values of a tensor, None where the run left none."""
    try:
        values = np.asarray(interpreter.get_tensor(number))
    except ValueError:
        return None
    return sampled(values.ravel(), _SAMPLED, ends) if values.size else None
