"""The k-th highest of many scores, found by counting, without a sort or a copy.

The bit pattern of a non-negative float, read as an integer, has the order of the
floats. So the k-th highest score is found by searching integers: each pass counts the
scores at or above a probe. Two probes in three are interpolated between the counts at
both ends of the bracket, the third halves the bracket, so that smooth score
distributions take about 10 passes and no distribution takes more than 93. In a large
tensor a sample says first between which two integers the threshold probably lies.
Scores of several tensors are counted one by one, and never joined.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import keras
from keras import ops

from penjing.numerics import Tensor

_BISECT_EVERY = 3
_ALL_BUT_SIGN = 0x7FFFFFFF
_BEYOND = 0x7F800001  # above the pattern of infinity
SAMPLED = 2**20  # scores from which a sample is worth its time
_SAMPLE = 2**14
_SPREADS = 4  # standard deviations of a sample's count, on both sides
_INT32 = 2**31 - 1
_UINT32 = 2**32 - 1


def bit_pattern(scores: Tensor) -> Tensor:
    """Integers in the order of non-negative floats, subnormal ones told apart too."""
    pattern = ops.view(ops.cast(scores, "float32"), "int32")
    return ops.bitwise_and(pattern, _ALL_BUT_SIGN)  # -0.0 is 0.0


def count_dtype(size: int) -> str:
    """An integer type of the backend that counts up to `size` values.

    A ValueError says that there is none: JAX has no int64 by default.
    """
    if size <= _INT32:
        return "int32"
    if keras.backend.backend() != "jax":
        return "int64"
    if size > _UINT32:
        raise ValueError(
            f"On JAX at most {_UINT32:,} values are ranked together, got {size:,}. "
            'Rank each weight by itself (scope="layer"), leave some out, or prune on '
            "another backend."
        )
    return "uint32"


class Bracket(NamedTuple):
    """Two bit patterns, and how many scores lie at or above each.

    Fewer than k at `high`, k or more at `low`.
    """

    low: Any
    n_low: Any
    high: Any
    n_high: Any


class Counts:
    """How many scores of several tensors lie at or above a bit pattern.

    Counts are Python integers on PyTorch, where nothing is fused, else tensors. The
    `floors` are how many of each tensor count at any pattern.
    """

    def __init__(
        self, patterns: Sequence[Tensor], floors: Sequence[Any] | None = None
    ) -> None:
        self.patterns = patterns
        self.floors = floors
        self.size = sum(math.prod(pattern.shape) for pattern in patterns)

    def number(self, value: Any) -> Any:
        """A count in the type of these."""
        if keras.backend.backend() == "torch":
            return int(value)
        dtype = count_dtype(self.size)
        if isinstance(value, int):
            return ops.convert_to_tensor(value, dtype)
        return ops.cast(value, dtype)

    def of(self, i: int, probe: Any) -> Any:
        """How many of one tensor, whatever its floor."""
        above = self.patterns[i] >= probe
        if keras.backend.backend() == "torch":
            return int(above.count_nonzero())
        # `count_nonzero` takes 8 times as long on TensorFlow.
        wide = count_dtype(math.prod(above.shape))
        return self.number(ops.sum(ops.cast(above, wide)))

    def at_least(self, probe: Any) -> Any:
        """How many of all."""
        counts = [self.of(i, probe) for i in range(len(self.patterns))]
        if self.floors is not None:
            counts = [higher(*pair) for pair in zip(counts, self.floors, strict=True)]
        return sum(counts[1:], counts[0])

    def bracket(self) -> Bracket:
        """From the lowest pattern to above the highest."""
        lowest = [ops.min(pattern) for pattern in self.patterns]
        highest = [ops.max(pattern) for pattern in self.patterns]
        low = functools.reduce(ops.minimum, lowest)
        high = functools.reduce(ops.maximum, highest)
        least = self.number(0)
        for floor in self.floors or ():
            least = least + floor
        if keras.backend.backend() == "torch":
            low, high = int(low), int(high)
        return Bracket(low, self.number(self.size), high + 1, least)


def likely_bracket(counts: Counts, k: Any) -> Bracket:
    """The bracket of k scores of one tensor that a sample tells; else the widest.

    Both ends are counted, so that it is right wherever the sample is not.
    """
    flat = ops.reshape(counts.patterns[0], (-1,))
    # An odd stride does not stay in a few columns of a matrix.
    sample = ops.sort(flat[:: counts.size // _SAMPLE | 1])
    many = int(sample.shape[0])
    place = ops.cast(counts.size - k, "float32") * (many / counts.size)
    margin = _SPREADS * math.sqrt(many) / 2
    first = ops.clip(ops.cast(place - margin, "int32"), 0, many - 1)
    last = ops.clip(ops.cast(place + margin, "int32"), 0, many - 1)
    low = ops.where(first > 0, ops.take(sample, first), 0)
    high = ops.where(last < many - 1, ops.take(sample, last) + 1, _BEYOND)
    if keras.backend.backend() == "torch":
        low, high = int(low), int(high)
    n_low, n_high = counts.of(0, low), counts.of(0, high)
    if keras.backend.backend() == "torch":
        is_right = n_low >= k > n_high
    else:
        is_right = ops.logical_and(n_low >= k, n_high < k)
    found = (low, n_low, high, n_high)
    whole = (0, counts.number(counts.size), _BEYOND, counts.number(0))
    return Bracket(
        *(choice(is_right, *pair) for pair in zip(found, whole, strict=True))
    )


def search(counts: Counts, k: Any, start: Bracket) -> Bracket:
    """The bracket whose `low` is a threshold of k scores, `1 <= k <= counts.size`.

    Either k scores lie at or above it, or more, of which some at the threshold itself
    are ties; then fewer than k lie above it.
    """
    if keras.backend.backend() == "torch":
        return _search_eagerly(counts, k, start)

    def unfinished(i: Tensor, *bracket: Tensor) -> Tensor:
        low, n_low, high, _ = bracket
        return ops.logical_and(ops.not_equal(n_low, k), high - low > 1)

    def narrow(i: Tensor, *bracket: Tensor) -> tuple[Tensor, ...]:
        low, n_low, high, n_high = bracket
        excess = ops.cast(n_low - k, "float32")
        fraction = excess / ops.cast(n_low - n_high, "float32")
        fraction = ops.where(ops.equal(i % _BISECT_EVERY, 2), 0.5, fraction)
        stride = ops.cast(ops.cast(high - low, "float32") * fraction, "int32")
        probe = ops.clip(low + stride, low + 1, high - 1)
        count = counts.at_least(probe)
        enough = count >= k
        return (
            i + 1,
            ops.where(enough, probe, low),
            ops.where(enough, count, n_low),
            ops.where(enough, high, probe),
            ops.where(enough, n_high, count),
        )

    _, *found = ops.while_loop(unfinished, narrow, (ops.cast(0, "int32"), *start))
    return Bracket(*found)


def _search_eagerly(counts: Counts, k: int, start: Bracket) -> Bracket:
    """`search` for PyTorch: Python integers, two tensor operations a pass."""
    low, n_low, high, n_high = start
    i = 0
    while n_low != k and high - low > 1:
        fraction = 0.5 if i % _BISECT_EVERY == 2 else (n_low - k) / (n_low - n_high)
        probe = min(max(low + int((high - low) * fraction), low + 1), high - 1)
        count = counts.at_least(probe)
        if count >= k:
            low, n_low = probe, count
        else:
            high, n_high = probe, count
        i += 1
    return Bracket(low, n_low, high, n_high)


def choice(condition: Any, left: Any, right: Any) -> Any:
    """`left` where a condition holds, of Python numbers or of tensors."""
    if isinstance(condition, bool):
        return left if condition else right
    return ops.where(condition, left, right)


def lower(left: Any, right: Any) -> Any:
    """The lower of two counts."""
    return choice(left < right, left, right)


def higher(left: Any, right: Any) -> Any:
    """The higher of two counts."""
    return choice(left < right, right, left)
