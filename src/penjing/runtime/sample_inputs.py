"""Inputs to try a file on, from its own description or from the user's data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from penjing.errors import DataError
from penjing.runtime.interpreter import TensorSpec

_SEEDS = 4
_BATCH = 4
_FREE_SIZE = 32  # Of an axis whose size the file leaves free.
_ID_BOUND = 2  # Integers that are not quantized may be ids, with a small vocabulary.
MAX_SAMPLES = 64


def make_rounds(inputs: Sequence[dict[str, Any]], *, free: bool) -> list[list[Any]]:
    """Make seeded random inputs, and those at the bounds of the types.

    Args:
        inputs: Descriptions of the file's inputs.
        free: Use other sizes than the stored ones where the file leaves them free.

    Returns:
        For each run one array for each input, in the stored type.

    Raises:
        DataError: If an input takes texts or the like.
    """
    rounds = []
    for seed in range(_SEEDS):
        generator = np.random.default_rng(seed)
        batch = _BATCH if seed % 2 == 0 else 1
        rounds.append(
            [_random(item, _shape(item, free, batch), generator) for item in inputs]
        )
    for bound in ("zero", "low", "high"):
        rounds.append([_bound(item, _shape(item, free, 1), bound) for item in inputs])
    return rounds


def make_inputs(inputs: Sequence[dict[str, Any]], batch: int) -> list[Any]:
    """Make seeded random inputs of a given batch for one run.

    Args:
        inputs: Descriptions of the file's inputs.
        batch: Samples of an input whose batch is free. Other free axes have 32.

    Returns:
        One array for each input, in the stored type.

    Raises:
        DataError: If an input takes texts or the like.
    """
    generator = np.random.default_rng(0)
    return [_random(item, _shape(item, True, batch), generator) for item in inputs]


def encode_rounds(
    inputs: Sequence[dict[str, Any]], data: Any, where: str
) -> list[list[Any]]:
    """Cut the user's real inputs into runs.

    Args:
        inputs: Descriptions of the file's inputs.
        data: Array `(samples, ...)`, or a list of them in the order of the inputs.
        where: What the file is called in messages.

    Returns:
        For each run one array for each input, in the stored type.

    Raises:
        DataError: If the data does not fit.
    """
    arrays = list(data) if isinstance(data, list | tuple) else [data]
    arrays = [np.asarray(array) for array in arrays]
    wanted = [("samples", *item["signature"][1:]) for item in inputs]
    found = [array.shape for array in arrays]
    fits = len(wanted) == len(found) and all(
        len(w) == len(f)
        and all(a in (-1, b) for a, b in zip(w[1:], f[1:], strict=True))
        for w, f in zip(wanted, found, strict=True)
    )
    if not fits or len({len(array) for array in arrays}) > 1 or not len(arrays[0]):
        raise DataError(
            f"`representative_data` must hold one array for each input of {where}, of "
            f"the shapes {wanted}, got {found}."
        )
    step = inputs[0]["signature"][0]
    if step == -1:
        step = min(len(arrays[0]), MAX_SAMPLES)
    count = max(step, min(len(arrays[0]), MAX_SAMPLES))
    encoded = [
        _spec(item).encode(np.resize(array, (count, *array.shape[1:])))
        for item, array in zip(inputs, arrays, strict=True)
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


def _random(item: dict[str, Any], shape: Any, generator: np.random.Generator) -> Any:
    dtype = _checked_type(item)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(bool)
    if dtype.kind == "f":
        return generator.normal(size=shape).astype(dtype)
    if item["scales"] or dtype == np.uint8:
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return generator.integers(0, _ID_BOUND, shape).astype(dtype)


def _bound(item: dict[str, Any], shape: Any, bound: str) -> Any:
    dtype = _checked_type(item)
    values = {"zero": 0, "low": 0, "high": 1}
    if dtype.kind == "f":
        values = {"zero": 0, "low": -3, "high": 3}
    elif item["scales"]:
        limits = np.iinfo(dtype)
        zero = item["zero_points"][0] if item["zero_points"] else 0
        values = {"zero": zero, "low": limits.min, "high": limits.max}
    return np.full(shape, values[bound], dtype)


def _checked_type(item: dict[str, Any]) -> np.dtype[Any]:
    dtype: np.dtype[Any] = np.dtype(str(item["dtype"]))
    if dtype.kind not in "biuf":
        raise DataError(
            f"The input {item['name']!r} takes {item['dtype']} values, for which no "
            "samples can be made. Use verify=False: only steps that cannot change the "
            "outputs are taken then."
        )
    return dtype
