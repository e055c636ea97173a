"""Inputs to try a file on, from its own description or from the user's data."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from penjing.errors import DataError
from penjing.files import limit, raise_limits
from penjing.runtime.interpreter import TensorSpec
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, tensor_name

_SEEDS = 4
_BATCH = 4
_FREE_SIZE = 32  # Of an axis whose size the file leaves free.
_ID_BOUND = 2  # Integers that are not quantized may be ids, with a small vocabulary.
MAX_SAMPLES = 64
_MOST_VALUES = 2**23  # of all inputs of one run


def make_rounds(
    inputs: Sequence[dict[str, Any]], *, free: bool, seeds: int = _SEEDS
) -> list[list[Any]]:
    """Make seeded random inputs, and those at the bounds of the types.

    `inputs` describes the file's; with `free`, sizes that the file leaves free are
    others than the stored ones. Gives for each run one array for each input, in the
    stored type. Inputs of texts or the like are a DataError.
    """
    rounds = []
    specs = [_spec(item) for item in inputs]
    for seed in range(seeds):
        batch = _BATCH if seed % 2 == 0 else 1
        shapes = [_shape(item, free, batch) for item in inputs]
        rounds.append(random_inputs(specs, seed, shapes))
    shapes = [_shape(item, free, 1) for item in inputs]
    return rounds + bound_inputs(specs, shapes)


def bound_inputs(
    specs: Sequence[TensorSpec], shapes: Sequence[tuple[int, ...]]
) -> list[list[Any]]:
    """Make inputs at the bounds of the types: all zero, all low, all high."""
    return [
        [_bound(spec, shape, bound) for spec, shape in zip(specs, shapes, strict=True)]
        for bound in ("zero", "low", "high")
    ]


def spec_of(tensor: Record, shape: Sequence[int] | None = None) -> TensorSpec:
    """A tensor of a file as inputs are made for it; its stored shape by default."""
    table = tensor["quantization"] or Record("QuantizationParameters")
    scales, points = table["scale"], table["zero_point"]
    return TensorSpec(
        name=tensor_name(tensor),
        shape=tuple(int(n) for n in (tensor["shape"] if shape is None else shape)),
        dtype=TensorType(tensor["type"]).dtype,
        scale=float(scales[0]) if len(scales) else 0.0,
        zero_point=int(points[0]) if len(points) else 0,
    )


def make_inputs(inputs: Sequence[dict[str, Any]], batch: int) -> list[Any]:
    """Make seeded random inputs for one run: an array for each, in the stored type.

    `batch` is for inputs whose batch is free; other free axes have 32. Inputs of texts
    or the like are a DataError.
    """
    shapes = [_shape(item, True, batch) for item in inputs]
    return random_inputs([_spec(item) for item in inputs], 0, shapes)


def random_inputs(
    specs: Sequence[TensorSpec],
    seed: int,
    shapes: Sequence[tuple[int, ...]] | None = None,
) -> list[Any]:
    """Make seeded random inputs for one run: an array for each, in the stored type.

    `shapes` of None are those of `specs`, which then leave no size free. Inputs of
    texts or the like are a DataError.
    """
    generator = np.random.default_rng(seed)
    shapes = [spec.shape for spec in specs] if shapes is None else shapes
    _check_sizes(shapes)
    pairs = zip(specs, shapes, strict=True)
    return [_random(spec, shape, generator) for spec, shape in pairs]


def encode_rounds(
    inputs: Sequence[dict[str, Any]], data: Any, where: str
) -> list[list[Any]]:
    """Cut the user's real inputs into runs.

    `data` is an array `(samples, ...)`, or a list of them in the order of the file's
    inputs, which `inputs` describes; `where` is what messages call the file. Gives for
    each run one array for each input, in the stored type; a DataError if the data does
    not fit.
    """
    arrays = list(data) if isinstance(data, list | tuple) else [data]
    arrays = [np.asarray(array) for array in arrays]
    specs = [_spec(item) for item in inputs]
    wanted = [("samples", *spec.shape[1:]) for spec in specs]
    found = [array.shape for array in arrays]
    fits = len(wanted) == len(found) and all(
        spec.fits(shape) for spec, shape in zip(specs, found, strict=True)
    )
    if not fits or len({len(array) for array in arrays}) > 1 or not len(arrays[0]):
        raise DataError(
            f"`representative_data` must hold one array for each input of {where}, of "
            f"the shapes {wanted}, got {found}."
        )
    step = specs[0].shape[0]
    if step == -1:
        step = min(len(arrays[0]), MAX_SAMPLES)
    count = max(step, min(len(arrays[0]), MAX_SAMPLES))
    encoded = [
        spec.encode(np.resize(array, (count, *array.shape[1:])))
        for spec, array in zip(specs, arrays, strict=True)
    ]
    starts = range(0, len(encoded[0]) - step + 1, step)
    return [[array[start : start + step] for array in encoded] for start in starts]


def _spec(item: dict[str, Any]) -> TensorSpec:
    return TensorSpec(
        name=item["name"],
        shape=tuple(item["signature"]),
        dtype=item["dtype"],
        scale=item["scales"][0] if item["scales"] else 0.0,
        zero_point=item["zero_points"][0] if item["zero_points"] else 0,
    )


def _shape(item: dict[str, Any], free: bool, batch: int) -> tuple[int, ...]:
    if not free or len(item["signature"]) != len(item["shape"]):
        return tuple(item["shape"])
    return tuple(
        size if size != -1 else batch if axis == 0 else _FREE_SIZE
        for axis, size in enumerate(item["signature"])
    )


def _check_sizes(shapes: Sequence[tuple[int, ...]]) -> None:
    """Refuse inputs that a file declares, and for which there is no memory."""
    values = sum(math.prod(int(size) for size in shape) for shape in shapes)
    if values > limit(_MOST_VALUES):
        raise DataError(
            f"Inputs of {values:,} values do not fit into the memory that a file may "
            f"take. Where a batch can be chosen, choose a smaller one. {raise_limits()}"
        )


def _random(spec: TensorSpec, shape: Any, generator: np.random.Generator) -> Any:
    dtype = _checked_type(spec)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(bool)
    if dtype.kind == "f":
        return generator.normal(size=shape).astype(dtype)
    if spec.is_quantized or dtype == np.uint8:
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return generator.integers(0, _ID_BOUND, shape).astype(dtype)


def _bound(spec: TensorSpec, shape: Any, bound: str) -> Any:
    dtype = _checked_type(spec)
    values = {"zero": 0, "low": 0, "high": 1}
    if dtype.kind == "f":
        values = {"zero": 0, "low": -3, "high": 3}
    elif spec.is_quantized:
        limits = np.iinfo(dtype)
        values = {"zero": spec.zero_point, "low": limits.min, "high": limits.max}
    return np.full(shape, values[bound], dtype)


def _checked_type(spec: TensorSpec) -> np.dtype[Any]:
    dtype: np.dtype[Any] | None
    try:
        dtype = np.dtype(spec.dtype)
    except TypeError:  # "string", "resource", "int4" and the like
        dtype = None
    if dtype is None or dtype.kind not in "biuf":
        raise DataError(
            f"The input {spec.name!r} takes {spec.dtype} values, and samples can be "
            "made of numbers and booleans alone."
        )
    return dtype
