"""What training fixed in the weights of a model: integers, shared values and zeros.

It is read off the values, so it is known of any model: after `strip`, save and load,
and where something else than penjing trained it. A file holds a weight in another
order of axes, and times a factor for each channel where a normalization was folded
into it; both are undone here, so that the two can be compared.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.numerics.grid_detection import find_scale, find_scales, shares_values

LOWEST_INTEGER = 128  # its magnitude: a grid that is not symmetric goes down to it
_FIRST = 2  # channels that show most weights to be others
_FEWEST_OF_CHANNEL = 4  # fewer lie on some grid by chance
_FEWEST_ZEROS = 1 / 16  # of a weight that was pruned, and not by chance
_ROUNDING = 2.0**-20  # relative; a factor that is folded in rounds twice more

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FixedWeight:
    """A weight of a Keras model in which training fixed something.

    `values` are float32, in the shape that Keras has.
    """

    path: str
    values: Array

    @functools.cached_property
    def is_on_grid(self) -> bool:
        """Whether its values are multiples of one step, or of one for each channel."""
        return lies_on_grid(self.values)

    @functools.cached_property
    def is_shared(self) -> bool:
        """Whether the whole tensor has few values, as clustering leaves it."""
        return shares_values(self.values)

    @functools.cached_property
    def num_values(self) -> int:
        """Distinct values."""
        return int(np.unique(self.values).size)

    @property
    def keeps_integers(self) -> bool:
        """Whether the converter's own rounding would undo what training fixed."""
        return bool(self.values.any()) and (self.is_shared or self.is_on_grid)

    def laid_out(self, shape: tuple[int, ...]) -> Iterator[Array]:
        """Its values in the orders that a file may hold them, in a file's shape.

        Nothing where the number of elements differs.
        """
        values = self.values
        if values.size != np.prod(shape):
            return
        for split in range(1, values.ndim):
            rows = values.reshape(int(np.prod(values.shape[:split])), -1)
            yield rows.T.reshape(shape)
        yield values.reshape(shape)
        if values.ndim > 2:
            yield np.moveaxis(values, -2, 0).reshape(shape)

    def unfolded(self, stored: Array, channel_axis: int) -> tuple[Array, Array] | None:
        """Its values in the order of the file's floats, and what they were scaled by.

        The factors are `(channels,)`, of either sign. None where the stored floats are
        something else than this weight.
        """
        for values in self.laid_out(stored.shape):
            factors = channel_factors(stored, values, channel_axis)
            if factors is not None:
                return values, factors
        return None


def fixed_weights(values: Mapping[str, Array]) -> list[FixedWeight]:
    """Those of a model's weights, by path, in which training fixed something."""
    found = [
        FixedWeight(path=path, values=np.asarray(value, "float32"))
        for path, value in values.items()
        if value.ndim > 1 and value.size
    ]
    return [weight for weight in found if _is_pruned(weight) or weight.keeps_integers]


def weights_of(model: keras.Model) -> dict[str, Array]:
    """The float weights of two axes or more of a model without transforms, by path."""
    return {
        variable.path: np.asarray(ops.convert_to_numpy(variable.value), "float32")
        for variable in model.weights
        if len(variable.shape) > 1
        and "float" in keras.backend.standardize_dtype(variable.dtype)
    }


def channel_factors(
    stored: Array, values: Array, channel_axis: int, rounding: float = _ROUNDING
) -> Array | None:
    """The factor of each channel that makes `stored` of `values`, both in one shape.

    It is 0 where a channel is all zeros in the file; None where there are no such
    factors. `rounding` is the relative error that is allowed.
    """
    pair = by_channel(stored, channel_axis), by_channel(values, channel_axis)
    if len(pair[0]) > _FIRST and _row_factors(*pair, rounding, _FIRST) is None:
        return None  # without a look at all of a large one
    return _row_factors(*pair, rounding)


def by_channel(values: Array, channel_axis: int) -> Array:
    """Values as rows, one for each channel."""
    rows = np.moveaxis(values, channel_axis, 0)
    return rows.reshape(values.shape[channel_axis], -1)


def _row_factors(
    stored: Array, values: Array, rounding: float, count: int | None = None
) -> Array | None:
    """`channel_factors` of rows, or of the first so many."""
    rows, base = (array[:count].astype("float64") for array in (stored, values))
    if ((rows != 0) & (base == 0)).any():
        return None
    largest = np.abs(base).argmax(axis=1)[:, None]
    tops = np.take_along_axis(base, largest, 1)
    factors = np.take_along_axis(rows, largest, 1) / np.where(tops == 0, 1, tops)
    wanted = base * factors
    if (np.abs(rows - wanted) > rounding * np.abs(wanted)).any():
        return None
    return np.asarray(factors[:, 0])


def _is_pruned(weight: FixedWeight) -> bool:
    return bool((weight.values == 0).mean() >= _FEWEST_ZEROS)


def lies_on_grid(values: Array) -> bool:
    """Whether values are multiples of one step, or of one for each channel."""
    if find_scale(values, LOWEST_INTEGER) is not None:
        return True
    shape = values.shape
    for channels in ((-1,), (-2,), (-2, -1)):
        rows = np.moveaxis(values, channels, range(len(channels)))
        rows = rows.reshape(int(np.prod([shape[axis] for axis in channels])), -1)
        if (
            rows.shape[1] >= _FEWEST_OF_CHANNEL
            and find_scales(rows, 0, LOWEST_INTEGER) is not None
        ):
            return True
    return False
