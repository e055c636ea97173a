"""The weights in a file, found again as those of the layers that they came from.

Names are no help: small files have none. A file may hold a kernel with its axes in
another order, its channels in another order, scaled, and rounded. What stays is its
size, about how many zeros it has, and how its values are spread.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from penjing.measurement.inspection import inspect_file
from penjing.runtime.operator_files import single_operators
from penjing.runtime.timing import time_operators
from penjing.tflite.loading import load_records, read_litert
from penjing.tflite.records import Record
from penjing.tflite.stored_tensors import numbers_of
from penjing.tflite.tensors import TensorType, all_tensors, data_of

Array = np.ndarray[Any, Any]
Key = tuple[int, ...]

_QUANTILES = np.linspace(0.0, 1.0, 65)
_MAX_VALUES = 1_000_000
# Each operator is timed for 14 ms.
_MAX_OPERATORS = 120


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StoredWeight:
    """A matrix or kernel in a file.

    Attributes:
        spread: Quantiles of its values, over their root mean square.
        zeros: Fraction of zeros.
        levels: Distinct values as they are stored.
        flash: Bytes that it takes in a packed file, None in others.
        seconds: What the operators that read it take together.
    """

    key: Key
    spread: Array
    zeros: float
    levels: int
    bits: int
    bytes: int
    flash: int | None = None
    seconds: float | None = None


def shape_key(shape: tuple[int, ...]) -> Key:
    """What stays of a shape when axes change places, and ones come and go."""
    return tuple(sorted(int(size) for size in shape if size != 1))


def spread_of(values: Array) -> Array:
    """Quantiles of values, over their root mean square."""
    flat = values.reshape(-1)
    flat = flat[:: -(-flat.size // _MAX_VALUES)].astype("f4")
    size = float(np.sqrt(np.mean(np.square(flat)))) or 1.0
    return np.asarray(np.quantile(flat, _QUANTILES) / size)


def stored_weights(file: Path, deployed: Path | None) -> list[StoredWeight]:
    """The matrices and kernels of a plain file, in its order.

    `deployed` is the packed file that it was made of, or the file itself.
    """
    content = read_litert(file)
    model = load_records(content, file.name)
    packed = _packed_bytes(deployed) if deployed not in (None, file) else {}
    times = times_of_tensors(model, file)
    found = []
    seen: set[int] = set()
    number = -1
    for tensor in all_tensors(model):
        if not len(data_of(model, tensor)) or tensor["buffer"] in seen:
            continue
        seen.add(tensor["buffer"])
        number += 1
        numbers = numbers_of(model, tensor)
        if numbers is None or len(shape_key(numbers.shape)) < 2:
            continue
        values = _real_values(tensor, numbers)
        found.append(
            StoredWeight(
                key=shape_key(values.shape),
                spread=spread_of(values),
                zeros=float(np.mean(values == 0)),
                levels=int(np.unique(numbers).size),
                bits=TensorType(tensor["type"]).bits,
                bytes=len(data_of(model, tensor)),
                flash=packed.get(number),
                seconds=times.get(tensor["buffer"]),
            )
        )
    return found


def match_weights(
    values: Mapping[str, Array], stored: list[StoredWeight]
) -> dict[str, StoredWeight]:
    """Find each weight of a model in a file, by its path; some are not found."""
    pairs = []
    for number, (path, array) in enumerate(values.items()):
        spread, zeros = spread_of(array), float(np.mean(array == 0))
        for place, weight in enumerate(stored):
            if weight.key == shape_key(array.shape):
                away = float(np.sqrt(np.mean(np.square(weight.spread - spread))))
                pairs.append((away + abs(weight.zeros - zeros), number, place, path))
    found: dict[str, StoredWeight] = {}
    taken: set[int] = set()
    for _, _, place, path in sorted(pairs):
        if path not in found and place not in taken:
            found[path] = stored[place]
            taken.add(place)
    return found


def _real_values(tensor: Record, numbers: Array) -> Array:
    """What the stored numbers of a constant stand for."""
    values: Array = numbers.astype("f4")
    quantization = tensor["quantization"]
    scales = np.asarray(quantization["scale"] if quantization else (), "f4")
    if not scales.size:
        return values
    points = np.asarray(quantization["zero_point"], "f4")
    if not points.size:
        points = np.zeros_like(scales)
    axis = int(quantization["quantized_dimension"]) if scales.size > 1 else 0
    shape = [-1 if place == axis else 1 for place in range(values.ndim)]
    return np.asarray((values - points.reshape(shape)) * scales.reshape(shape))


def _packed_bytes(deployed: Path | None) -> dict[int, int]:
    """Bytes of each constant in a packed file, by its number."""
    if deployed is None:
        return {}
    rows = inspect_file(deployed).tensors
    return {number: row.bytes for number, row in enumerate(rows)}


def times_of_tensors(model: Record, file: Path) -> dict[int, float]:
    """Seconds of the operators that read each buffer with data, where they are few."""
    graph = model["subgraphs"][0]
    operators = graph["operators"]
    if len(operators) > _MAX_OPERATORS:
        return {}
    timed = single_operators(read_litert(file), str(file))
    # What unpacks a constant goes with the operator that reads it.
    unpacked = dict(enumerate(operators))
    for single in timed:
        del unpacked[single.number]
    packed = {int(o["outputs"][0]): int(o["inputs"][0]) for o in unpacked.values()}
    found: dict[int, float] = {}
    for single, time in zip(timed, time_operators(file), strict=True):
        if time.milliseconds is None:
            continue
        for number in map(int, operators[single.number]["inputs"]):
            while number in packed:
                number = packed[number]
            if number < 0:
                continue
            tensor = graph["tensors"][number]
            if len(data_of(model, tensor)):
                seconds = found.get(tensor["buffer"], 0.0)
                found[tensor["buffer"]] = seconds + time.milliseconds / 1000
    return found
