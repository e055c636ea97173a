"""Evenly spaced values: scale, zero point, rounding, and the gradients through it.

Everywhere `real = scale * (integer - zero_point)`, integers are rounded half to even,
and zero is exactly on the grid. A scale broadcasts against the values: it keeps their
rank, with length 1 on the axes that share a scale.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from penjing.arguments import quoted
from penjing.numerics import Tensor

GRANULARITIES = ("per_channel", "per_tensor")
MIN_BITS, MAX_BITS = 2, 16
CANDIDATES = 41
POLISHING_ROUNDS = 6
FACTOR_FLOOR = 1 / 1024
_RATIO = 2.0 ** (-1 / 8)  # from one candidate to the next: down to 1/32 of the largest


@keras.saving.register_keras_serializable(package="penjing")
@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
    """Evenly spaced values that a tensor is rounded to.

    Args:
        bits: Width of the integers, 2 to 16.
        levels: How many integers are used, where that is fewer than `bits` allow:
            `levels=15` gives -7 to 7, `levels=3` gives -1 to 1.
        granularity: `"per_channel"`: a scale for each output channel;
            `"per_tensor"`: one for the whole tensor, which compresses better.
        symmetric: The zero point is 0.
        narrow_range: Leave the lowest integer out: -127 to 127 with 8 bits. Default:
            as `symmetric`. It says nothing where `levels` is given.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> Grid(bits=4).lowest, Grid(bits=4).highest
        (-7, 7)
        >>> Grid(bits=8, symmetric=False).lowest
        -128
        >>> Grid(levels=7, granularity="per_tensor").highest
        3
    """

    bits: int = 8
    levels: int | None = None
    granularity: str = "per_channel"
    symmetric: bool = True
    narrow_range: bool | None = None

    def __post_init__(self) -> None:
        if not _is_integer(self.bits) or not MIN_BITS <= self.bits <= MAX_BITS:
            raise ValueError(
                f"`bits` must be an integer from {MIN_BITS} to {MAX_BITS}, got "
                f"{self.bits!r}."
            )
        if self.granularity not in GRANULARITIES:
            raise ValueError(
                f"`granularity` must be one of {quoted(GRANULARITIES)}, got "
                f"{self.granularity!r}."
            )
        if not isinstance(self.symmetric, bool):
            raise ValueError(f"`symmetric` must be a bool, got {self.symmetric!r}.")
        if self.narrow_range is None:
            object.__setattr__(self, "narrow_range", self.symmetric)
        if not isinstance(self.narrow_range, bool):
            raise ValueError(
                f"`narrow_range` must be a bool or None, got {self.narrow_range!r}."
            )
        if self.levels is not None:
            _check_levels(self.levels, self.bits)

    @property
    def lowest(self) -> int:
        """The lowest integer."""
        return -(self._count // 2)

    @property
    def highest(self) -> int:
        """The highest integer."""
        return self.lowest + self._count - 1

    @property
    def _count(self) -> int:
        return self.levels or 2**self.bits - bool(self.narrow_range)

    def get_config(self) -> dict[str, Any]:
        """JSON-ready fields."""
        return dataclasses.asdict(self)

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Grid from the dictionary that `get_config` gave."""
        return cls(**config)


def quantize_affine(
    values: Tensor, scale: Tensor, zero_point: int | Tensor, lowest: int, highest: int
) -> Tensor:
    """Nearest integers on the grid, int32; halves go to the even one, on every backend.

    Values below `lowest` and above `highest` become these. The positive float32 scale
    and the integer that stands for zero broadcast against the values.

    Example:
        >>> integers = quantize_affine([-9.0, 0.25, 0.75, 1.25], 0.5, 0, -7, 7)
        >>> keras.ops.convert_to_numpy(integers).tolist()
        [-7, 0, 2, 2]
    """
    shift = ops.cast(zero_point, "float32")
    steps = ops.cast(values, "float32") / ops.cast(scale, "float32")
    # Cut before it is rounded: no value is too large for an integer then.
    rounded = ops.round(ops.clip(steps, lowest - shift, highest - shift))
    return ops.cast(rounded + shift, "int32")


def dequantize_affine(
    integers: Tensor, scale: Tensor, zero_point: int | Tensor
) -> Tensor:
    """Real values of integers on the grid: `scale * (integer - zero_point)`, float32.

    Scale (float32) and zero point broadcast against the integers, of any shape.
    """
    shifted = ops.cast(integers, "float32") - ops.cast(zero_point, "float32")
    return shifted * ops.cast(scale, "float32")


def fake_quantize(
    values: Tensor,
    scale: Tensor,
    zero_point: int | Tensor,
    lowest: int,
    highest: int,
    *,
    scale_gradient: float | Tensor = 0.0,
) -> Tensor:
    """Values rounded to the grid, with gradients that training can use.

    The values are exactly `dequantize_affine(quantize_affine(...))`. The gradient
    passes straight through to those within the range and stops at those outside. That
    of the scale is LSQ's: the rounding error, in steps, of a value within the range,
    and the outermost integer outside. A value of zero stays exactly zero and adds
    nothing to it. `scale_gradient` is a factor on it, such as `lsq_gradient_scale`
    gives; 0 leaves the scale without one.

    Reference:
        Esser et al., 2020, Learned step size quantization,
        https://arxiv.org/abs/1902.08153
    """
    values = ops.cast(values, "float32")
    scale = ops.cast(scale, "float32")
    fixed, step = ops.stop_gradient(values), ops.stop_gradient(scale)
    shift = ops.cast(zero_point, "float32")
    steps = fixed / step
    clipped = ops.clip(steps, lowest - shift, highest - shift)
    inside = ops.cast(clipped == steps, "float32")
    integers = ops.round(clipped)
    # What is added is zero, but has the gradient.
    result = integers * step + (values - fixed) * inside
    if isinstance(scale_gradient, int | float) and scale_gradient == 0:
        return result
    error = (integers - inside * steps) * scale_gradient
    return result + (scale - step) * error


def lsq_gradient_scale(size: int, highest: int) -> float:
    """`1 / sqrt(size * highest)`, for a scale that `size` values share.

    It brings the gradient of the scale to the size of those of its weights.

    Reference:
        Esser et al., 2020, https://arxiv.org/abs/1902.08153
    """
    return 1.0 / math.sqrt(max(size, 1) * max(highest, 1))


def relative_scale(reference: Tensor, factor: Tensor) -> Tensor:
    """A scale as a trained multiple of a fixed one.

    It is `reference * max(abs(factor), 1/1024)`: never negative, and zero only where
    the reference is, which has the shape of the factor and is 0 or above.

    Optimizers such as Adam move every weight by about the learning rate in a step,
    which is more than many a scale. A factor near 1 moves by that fraction instead. Its
    gradient is set so that plain gradient descent changes the scale, relatively, as it
    would change LSQ's own.
    """
    fixed = ops.stop_gradient(factor)
    scale = reference * ops.maximum(ops.abs(fixed), FACTOR_FLOOR)
    direction = ops.where(fixed < 0, -1.0, 1.0) / _or_one(reference)
    return scale + (factor - fixed) * direction  # adds zero, and the gradient


def range_to_scale(
    minimum: Tensor,
    maximum: Tensor,
    lowest: int,
    highest: int,
    *,
    symmetric: bool = False,
) -> tuple[Tensor, Tensor]:
    """Scale and zero point of a range, as LiteRT's int8 specification defines them.

    The range is widened to hold zero, and zero falls on an integer exactly, on 0 if
    `symmetric`. Scale (float32, 1 where the range is empty) and zero point (int32)
    are both of the shape of the range.

    Example:
        >>> scale, zero_point = range_to_scale(0.0, 255.0, -128, 127)
        >>> float(scale), int(zero_point)
        (1.0, -128)
    """
    minimum = ops.minimum(ops.cast(minimum, "float32"), 0.0)
    maximum = ops.maximum(ops.cast(maximum, "float32"), 0.0)
    if symmetric:
        scale = _or_one(ops.maximum(-minimum, maximum) / highest)
        return scale, ops.zeros_like(scale, dtype="int32")
    scale = _or_one((maximum - minimum) / (highest - lowest))
    zero_point = ops.clip(ops.round(lowest - minimum / scale), lowest, highest)
    return scale, ops.cast(zero_point, "int32")


def least_squares_scale(
    values: Tensor,
    scale: Tensor,
    lowest: int,
    highest: int,
    reduce_axes: Sequence[int],
) -> Tensor:
    """The scale with the least squared error, given the integers of another scale.

    Repeated, it comes to a local minimum of the error of rounding to a symmetric grid.
    The given scale is positive, of the rank of the values, and of length 1 on
    `reduce_axes`, which share one. It stays where every integer is zero.
    """
    library = _library(values)
    axes = tuple(reduce_axes)
    integers = _integers(values, scale, lowest, highest)
    products = library.sum(values * integers, axis=axes, keepdims=True)
    squares = library.sum(library.square(integers), axis=axes, keepdims=True)
    found = products / library.maximum(squares, 1.0)
    return library.where(found > 0, found, scale)


SMALLEST = 1e-36
"""Values below it have no scale in float32, whose own end at 1e-38."""


def mse_scale(
    values: Tensor,
    lowest: int,
    highest: int,
    reduce_axes: Sequence[int],
    importance: Tensor | None = None,
) -> Tensor:
    """The scale of a symmetric grid that rounds values with the least squared error.

    Candidates are spread evenly, on a logarithmic scale, from the one at which the
    largest value just fits down to a 32nd of it; the best is polished by
    `least_squares_scale`. An array of NumPy is searched on the host, where nothing has
    to be compiled.

    Errors count by `importance`, of the shape of `values`; None: all alike.

    Gives a positive float32 tensor of the rank of `values`, length 1 on `reduce_axes`.
    Where all values are zero, or below `SMALLEST` and so rounded to zero, it is the
    largest of the other scales, or 1.
    """
    library = _library(values)
    axes = tuple(reduce_axes)
    largest = library.max(library.abs(values), axis=axes, keepdims=True)
    empty = largest < SMALLEST
    largest = library.where(empty, library.ones_like(largest), largest / highest)

    def better(scale: Tensor, best: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        off = values - _integers(values, scale, lowest, highest) * scale
        error = library.square(off)
        if importance is not None:
            error = importance * error
        error = library.sum(error, axis=axes, keepdims=True)
        wins = error < best[0]
        return (
            library.where(wins, error, best[0]),
            library.where(wins, scale, best[1]),
        )

    def search(i: Any, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return state[0] * _RATIO, *better(state[0], state[1:])

    def polish(i: Any, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        found = least_squares_scale(values, state[1], lowest, highest, axes)
        return better(found, state)

    start = (largest, library.full_like(largest, float("inf")), largest)
    best = _repeat(CANDIDATES, search, start, library)[1:]
    scale = _repeat(POLISHING_ROUNDS, polish, best, library)[1]
    others = library.max(library.where(empty, library.zeros_like(scale), scale))
    return library.where(empty, _or_one(others), scale)


def _integers(values: Tensor, scale: Tensor, lowest: int, highest: int) -> Tensor:
    """Integers of a symmetric grid, as float32."""
    library = _library(values)
    return library.round(library.clip(values / scale, lowest, highest))


def _library(values: Tensor) -> Any:
    """NumPy for its arrays, which need no compilation, else `keras.ops`."""
    return np if isinstance(values, np.ndarray | np.generic) else ops


def _repeat(
    count: int,
    body: Callable[[Any, tuple[Tensor, ...]], tuple[Tensor, ...]],
    state: tuple[Tensor, ...],
    library: Any,
) -> tuple[Tensor, ...]:
    if library is ops:
        return tuple(ops.fori_loop(0, count, body, state))
    for i in range(count):
        state = body(i, state)
    return state


def _or_one(scale: Tensor) -> Tensor:
    library = _library(scale)
    return library.where(scale > 0, scale, library.ones_like(scale))


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _check_levels(levels: int, bits: int) -> None:
    if not _is_integer(levels) or not 3 <= levels <= 2**bits:
        raise ValueError(
            f"`levels` must be an integer from 3 to 2**bits = {2**bits}, got "
            f"{levels!r}. 15 gives -7 to 7."
        )
