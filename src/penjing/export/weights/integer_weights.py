"""Weights as the integers that a `.tflite` file stores, of eight bits or of four."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np

from penjing.export.weights.fixed_weights import FixedWeight, lies_on_grid
from penjing.numerics.grid_detection import find_scale, find_scales, shares_values
from penjing.numerics.grids import Grid, mse_scale
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, make_scales, set_values

HIGHEST = {4: 7, 8: 127}  # Bits -> the largest integer; the lowest is its negative.
SMALLEST_WITHOUT_GRID = 1024  # elements; the converter leaves smaller ones in float

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class IntegerWeights:
    """A weight as integers: `real = scale * integer`, one scale or one a channel.

    The int8 array has the shape of the weight, the scales are float32; without an axis
    of channels there is one. `bits` of an integer in the file are 4 or 8.
    """

    integers: Array
    scales: Array
    channel_axis: int | None
    bits: int

    @property
    def rank(self) -> int:
        """Its number of axes."""
        return self.integers.ndim

    @property
    def tensor_type(self) -> int:
        """The schema's number of the type."""
        return TensorType.INT4 if self.bits == 4 else TensorType.INT8

    def stored(self) -> bytes:
        """The bytes of the file."""
        return pack_int4(self.integers) if self.bits == 4 else self.integers.tobytes()

    def put(self, model: Record, tensor: Record) -> None:
        """Store them as the values of a tensor."""
        set_values(model, tensor, np.frombuffer(self.stored(), "u1"))
        tensor["type"] = self.tensor_type
        tensor["quantization"] = make_scales(self.scales, self.channel_axis)

    def spread(self, channel_axis: int) -> IntegerWeights:
        """The same with a scale for each channel, if there is one for all."""
        if self.channel_axis is not None:
            return self
        scales = np.repeat(self.scales, self.integers.shape[channel_axis])
        return dataclasses.replace(self, scales=scales, channel_axis=channel_axis)


def as_integers(
    values: Array,
    axes: Collection[int],
    bits: int,
    fixed: Sequence[FixedWeight] = (),
) -> IntegerWeights | None:
    """The 4 or 8 bit integers of a float32 weight: on its grid, else one that fits it.

    `axes` count its channels, for one or another of its readers, and none asks for one
    scale where the weight is on no grid; `fixed` are the
    weights of the Keras model that it may have been folded from. `None` is a small
    weight on no grid, which is to stay as it is.
    """
    found = trained_integers(values, axes, bits, fixed)
    if found is not None:
        return found
    channel_axis = min(axes) if len(axes) == 1 else None
    if values.size < SMALLEST_WITHOUT_GRID:
        return None
    if bits == 4:
        return rounded_to_int4(values, channel_axis)
    if len(axes) > 1:
        return None
    return integers_at(values, _largest(values, channel_axis, 8), channel_axis, bits)


def trained_integers(
    values: Array,
    axes: Collection[int],
    bits: int,
    fixed: Sequence[FixedWeight] = (),
) -> IntegerWeights | None:
    """The integers of a float32 weight on a grid, or of few values that it shares.

    As `as_integers`; `None` where training left neither.
    """
    whole = _on_one_scale(values, bits)
    if whole is not None:
        return whole
    for axis in sorted(axes):
        folded = _folded_integers(values, axis, bits, fixed)
        if folded is not None:
            return folded
    by_channel = _on_channel_scales(values, axes, bits)
    if by_channel is not None or lies_on_grid(values):
        return by_channel  # none where the channels are those of another axis
    return _of_shared_values(values, bits)


def _on_one_scale(values: Array, bits: int) -> IntegerWeights | None:
    scale = find_scale(values, HIGHEST[bits])
    if scale is None:
        return None
    return integers_at(values, np.array([scale or 1.0], "float32"), None, bits)


def _of_shared_values(values: Array, bits: int) -> IntegerWeights | None:
    """With one scale, so that they are no more of them; zero stays zero."""
    if not np.isfinite(values).all() or not shares_values(values, 2**bits):
        return None
    if bits == 8:
        return integers_at(values, _largest(values, None, bits), None, bits)
    if values.size < SMALLEST_WITHOUT_GRID:
        return None
    return rounded_to_int4(values, None)


def _folded_integers(
    values: Array, axis: int, bits: int, fixed: Sequence[FixedWeight]
) -> IntegerWeights | None:
    """The integers of before a factor for each channel was folded into them."""
    for weight in fixed:
        found = weight.unfolded(values, axis) if weight.keeps_integers else None
        if found is None:
            continue
        whole = _on_one_scale(found[0], bits)
        if whole is None and not weight.is_on_grid:
            whole = _of_shared_values(found[0], bits)
        if whole is not None:
            return _times_factors(whole, found[1], axis)
    return None


def _times_factors(whole: IntegerWeights, factors: Array, axis: int) -> IntegerWeights:
    """Integers with one scale, times a factor for each channel, in its scale."""
    aligned = factors.reshape([-1 if i == axis else 1 for i in range(whole.rank)])
    signed = (whole.integers * np.sign(aligned)).astype("int8")
    if ((factors == 1) | (factors == 0)).all():
        return dataclasses.replace(whole, integers=signed)
    scales = whole.scales * np.where(factors == 0, 1, np.abs(factors))
    return dataclasses.replace(
        whole, integers=signed, scales=scales.astype("float32"), channel_axis=axis
    )


def weights_on_grid(
    values: Array, axes: Collection[int], bits: int
) -> IntegerWeights | None:
    """The integers of a float32 weight that was trained on a grid, and its scales.

    `axes` may count its channels. `None` where the values lie on no grid of 4 or 8
    `bits`.
    """
    return _on_one_scale(values, bits) or _on_channel_scales(values, axes, bits)


def _on_channel_scales(
    values: Array, axes: Collection[int], bits: int
) -> IntegerWeights | None:
    for axis in sorted(axes):
        scales = find_scales(values, axis, HIGHEST[bits])
        if scales is not None and scales.size < values.size:
            return integers_at(values, scales, axis, bits)
    return None


def _largest(values: Array, channel_axis: int | None, bits: int) -> Array:
    """Scales at which the largest value, of all or of a channel, just fits."""
    others = tuple(axis for axis in range(values.ndim) if axis != channel_axis)
    largest = np.abs(values).max(axis=others).astype("float32").reshape(-1)
    return np.where(largest > 0, largest / HIGHEST[bits], 1).astype("float32")


def rounded_to_int4(values: Array, channel_axis: int | None) -> IntegerWeights:
    """A float32 weight rounded to integers from -7 to 7 with the least squared error.

    Zeros stay zeros. `channel_axis` has a scale for each channel; None: one scale.
    """
    grid = Grid(bits=4)
    others = [axis for axis in range(values.ndim) if axis != channel_axis]
    scales = np.asarray(mse_scale(values, grid.lowest, grid.highest, others))
    return integers_at(values, scales.reshape(-1).astype("float32"), channel_axis, 4)


def integers_at(
    values: Array, scales: Array, channel_axis: int | None, bits: int
) -> IntegerWeights:
    """Round a float32 weight to integers of 4 or 8 bits with given scales.

    There is one scale, or with a `channel_axis` one for each channel.
    """
    aligned: Any = scales[0]
    if channel_axis is not None:
        shape = [-1 if i == channel_axis else 1 for i in range(values.ndim)]
        aligned = scales.reshape(shape)
    highest = HIGHEST[bits]
    integers = np.clip(np.rint(values / aligned), -highest, highest).astype("int8")
    return IntegerWeights(
        integers=integers, scales=scales, channel_axis=channel_axis, bits=bits
    )


def pack_int4(integers: Array) -> bytes:
    """Two integers from -8 to 7 in a byte, the first one in its lower half.

    The last half is 0 where their number is odd.

    Example:
        >>> pack_int4(np.int8([1, -1, 7])).hex()
        'f107'
    """
    halves = integers.reshape(-1).view("u1") & 15
    halves = np.append(halves, np.zeros(halves.size % 2, "u1"))
    return np.asarray(halves[0::2] | halves[1::2] << 4, "u1").tobytes()
