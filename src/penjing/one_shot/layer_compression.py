"""One layer's matrix, with weights that fall, are rounded, or both."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from penjing.numerics.grids import Grid, mse_scale
from penjing.numerics.mask_choices import (
    best_of_each,
    choice_in_turn,
    fixed_choice,
    kept_number,
    pattern_mask,
    side_by_side,
)
from penjing.numerics.optimal_brain import (
    InverseFactor,
    compensated,
    inverse_factor,
    layer_error,
    refined,
    saliency,
)
from penjing.numerics.patterns import Pattern, Unstructured
from penjing.one_shot.input_moments import InputMoments

Array: TypeAlias = np.ndarray[Any, Any]
Factors: TypeAlias = list[InverseFactor]

COMPENSATING = ("sparsegpt", "gptq")
_SWEEPS = 2
_SCALE_ROWS = 512  # by which errors are measured
_ROWS_LOOKED_UP = 4096  # and as many others tell what scale an embedding has
_SELDOM = 0.1  # look-ups that each row of an embedding is sure to have
_UNSEEN = 2.0**-22  # of the sum of squares: two of float32's steps
_ROWS_OF_INPUT = 4  # fewer rows than so many for each input ask for more damping


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerTarget:
    """What one matrix is to become.

    Attributes:
        method: "sparsegpt", "wanda", "magnitude", "gptq" or "rtn".
        pattern: Which weights fall together.
        sparsity: The part that falls, of the pattern's units; None: no more than now.
        grid: What is rounded to; None: nothing.
        precision: Significant bits that the weight's type holds.
        lookups: Of an embedding, how often the inputs look up each row.
        refines: Weights are gone through again, each given its best value; without it
            the error alone is measured.
    """

    method: str
    pattern: Pattern = Unstructured()
    sparsity: float | None = None
    grid: Grid | None = None
    precision: int = 24
    lookups: Array | None = dataclasses.field(default=None, compare=False)
    refines: bool = True


def factors_of(products: Array, damping: float) -> Factors:
    """The factor of each group of inputs, `(groups, inputs, inputs)`."""
    return [inverse_factor(part, damping) for part in products]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class LayerInputs:
    """What is known of a layer's inputs, for each of its groups.

    Attributes:
        products: Mean of `x^T x`, `(groups, inputs, inputs)`; about their mean where a
            bias can be moved.
        means: `(groups, inputs)`.
        damping: Part of the mean of the diagonal that is added to it.
        factored: Factors products with this damping, or knows them already.
    """

    products: Array
    means: Array
    damping: float
    factored: Callable[[Array, float], Factors] = factors_of

    @classmethod
    def from_moments(
        cls, moments: InputMoments, damping: float, *, centred: bool
    ) -> LayerInputs:
        """What sums over rows say; with few rows for each input, more damping."""
        means = moments.totals / max(moments.count, 1)
        products = moments.products.astype("float64") / max(moments.count, 1)
        if centred:
            # They were summed up in float32. Where the rows are nearly all one, little
            # is left but its rounding, of either sign: so much more is not seen.
            unseen = _UNSEEN * np.trace(products, axis1=1, axis2=2)
            products = products - means[:, :, None] * means[:, None, :]
            products += unseen[:, None, None] * np.eye(products.shape[-1])
        # With few rows what is made up for on them is partly chance.
        short = _ROWS_OF_INPUT * products.shape[-1] / max(moments.count, 1)
        return cls(products=products, means=means, damping=damping * max(1.0, short))

    @functools.cached_property
    def factors(self) -> Factors:
        """That of each group."""
        return self.factored(self.products, self.damping)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class CompressedMatrix:
    """A matrix in place of another.

    Attributes:
        values: `(inputs, outputs)` in float32; on a grid, exactly.
        error: Mean over rows of the squared change of the outputs, summed up over them,
            of an embedding over those that are looked up; None where the inputs are not
            known.
        plain_error: The same for the same mask and grid with nothing made up for.
        size: Mean over rows of the squared outputs, summed up over them.
        damping: The largest that was used.
        shift: What the bias gains, `(outputs,)`.
        scales: Of its grid, `(1, outputs)`; None where it lies on none.
    """

    values: Array
    error: float | None = None
    plain_error: float | None = None
    size: float | None = None
    damping: float = 0.0
    shift: Array | None = None
    scales: Array | None = None


def compress_matrix(
    matrix: Array, target: LayerTarget, inputs: LayerInputs | None
) -> CompressedMatrix:
    """Compress a float32 matrix of `(inputs, outputs)`."""
    matrix = matrix.astype("float64")
    scales = None if target.grid is None else _scales(matrix, target, inputs)
    if inputs is None:
        mask = _mask(np.square(matrix), target, matrix)
        values = _exact(matrix * mask, scales, target)
        error = None
        if target.lookups is not None:
            rows = _importance(matrix, target, None) / target.lookups.sum()
            error = float((rows * np.square(matrix - values)).sum())
        return CompressedMatrix(values=values, error=error, scales=scales)
    if target.method in COMPENSATING:
        return _compensated(matrix, target, inputs, scales)
    weights = np.ones(matrix.shape)
    if target.method == "wanda":
        weights = _by_output(np.diagonal(inputs.products, 0, 1, 2), matrix.shape[1])
    mask = _mask(np.square(matrix) * weights, target, matrix)
    values = _exact(matrix * mask, scales, target)
    found = _measured(matrix, values, values, inputs)
    return dataclasses.replace(found, scales=scales)


def _compensated(
    matrix: Array, target: LayerTarget, inputs: LayerInputs, scales: Array | None
) -> CompressedMatrix:
    factors = inputs.factors
    scores, cuts = _scored(matrix, inputs)
    mask = _mask(scores, target, matrix)
    values = np.empty_like(matrix)
    fits = _by_channel(target) or len(cuts) == 1  # groups may share one scale
    for cut, factor, products in zip(cuts, factors, inputs.products, strict=True):
        part = None if scales is None else scales[:, cut]
        values[:, cut], found = _one_group(
            matrix[:, cut], mask[:, cut], factor, products, target, part, fits=fits
        )
        if scales is not None and found is not None:
            scales[:, cut] = found
    exact = _exact(values, scales, target)
    if not target.refines:
        change = matrix - exact
        error, shift = _error(change, inputs), _shift(change, inputs)
        return CompressedMatrix(values=exact, error=error, shift=shift, scales=scales)
    plain = _exact(matrix * (exact != 0), scales, target)
    damping = max(factor.damping for factor in factors)
    return _measured(matrix, exact, plain, inputs, damping)


def errors_of_sparsities(
    matrix: Array, target: LayerTarget, inputs: LayerInputs, levels: Sequence[float]
) -> list[float]:
    """The errors of a float32 matrix at several sparsities, unrounded: all at once.

    Weights make up for those that fall, whatever the method. Each step of the way costs
    little more for many outputs than for few, so the levels go side by side.
    """
    matrix = matrix.astype("float64")
    scores, cuts = _scored(matrix, inputs)
    masks = [
        _mask(scores, dataclasses.replace(target, sparsity=level), matrix)
        for level in levels
    ]
    errors = np.zeros(len(levels))
    for cut, factor, products in zip(
        cuts, inputs.factors, inputs.products, strict=True
    ):
        choices = [choice_in_turn(mask[:, cut], target.pattern) for mask in masks]
        wide = np.tile(matrix[:, cut], len(levels))
        values = compensated(wide, factor.upper, side_by_side(choices))
        parts = np.split(wide - values, len(levels), axis=1)
        errors += [layer_error(part, products) for part in parts]
    return [float(error) for error in errors]


def _scored(matrix: Array, inputs: LayerInputs) -> tuple[Array, list[Array]]:
    """Scores of all weights, and the outputs of each group."""
    cuts = np.split(np.arange(matrix.shape[1]), len(inputs.factors))
    pairs = zip(cuts, inputs.factors, strict=True)
    return np.concatenate([saliency(matrix[:, c], f.upper) for c, f in pairs], 1), cuts


def _one_group(
    matrix: Array,
    mask: Array,
    factor: InverseFactor,
    products: Array,
    target: LayerTarget,
    scales: Array | None,
    *,
    fits: bool,
) -> tuple[Array, Array | None]:
    choice = None
    if target.sparsity is not None:
        choice = choice_in_turn(mask, target.pattern)
    elif not mask.all():  # zeros of before
        choice = fixed_choice(mask)
    values = compensated(matrix, factor.upper, choice, _rounder(scales, target))
    for _ in range(_SWEEPS if target.refines else 0):
        if scales is not None and fits:
            scales = _fitted(scales, values, matrix, products, target)
        rounded = _rounder(scales, target)
        values = refined(values, matrix, products, rounded, damping=factor.damping)
    return values, scales


def _fitted(
    scales: Array,
    values: Array,
    matrix: Array,
    products: Array,
    target: LayerTarget,
) -> Array:
    """Scales with the least error at the layer's outputs, given the integers."""
    steps = np.rint(values / scales)
    weighed = products @ steps
    axis = 0 if _by_channel(target) else None
    own = np.sum(weighed * steps, axis=axis, keepdims=True)
    both = np.sum(weighed * matrix, axis=axis, keepdims=True)
    found = np.where((own > 0) & (both > 0), both / np.where(own > 0, own, 1), scales)
    return _held(np.broadcast_to(found, scales.shape), target)


def _by_channel(target: LayerTarget) -> bool:
    return target.grid is not None and target.grid.granularity == "per_channel"


def _mask(scores: Array, target: LayerTarget, matrix: Array) -> Array:
    """Which weights stay: those that are zero already are the first to fall."""
    if target.sparsity is None:
        return np.asarray(matrix != 0)
    if target.method == "wanda" and type(target.pattern) is Unstructured:
        return best_of_each(scores, kept_number(len(scores), target.sparsity))
    return pattern_mask(scores, target.pattern, target.sparsity)


def _by_output(values: Array, outputs: int) -> Array:
    """`(groups, inputs)` -> `(inputs, outputs)`."""
    return np.asarray(np.repeat(values, outputs // len(values), axis=0).T)


def _scales(matrix: Array, target: LayerTarget, inputs: LayerInputs | None) -> Array:
    """Float32 scales with the least squared error, `(1, outputs)`, held in float64.

    Errors count by what they cost where all others make up for them.
    """
    grid = target.grid
    if grid is None:
        return np.ones((1, matrix.shape[1]))
    axes = [0] if _by_channel(target) else [0, 1]
    shown = matrix.astype("float32")
    importance = _importance(matrix, target, inputs)
    if not target.refines or target.lookups is not None:
        most = _SCALE_ROWS if not target.refines else _ROWS_LOOKED_UP
        rows = _some_rows(matrix, target.lookups, most)
        shown, importance = shown[rows], importance[rows]
    found = mse_scale(shown, grid.lowest, grid.highest, axes, importance)
    return _held(np.broadcast_to(found, (1, matrix.shape[1])), target)


def _importance(
    matrix: Array, target: LayerTarget, inputs: LayerInputs | None
) -> Array:
    """What a squared error of each weight costs, `(inputs, outputs)` in float32."""
    if inputs is None:
        rows = 1.0 if target.lookups is None else target.lookups[:, None] + _SELDOM
        return np.broadcast_to(np.float32(rows), matrix.shape)
    if target.method in COMPENSATING:
        parts = [np.diagonal(factor.upper) ** -2.0 for factor in inputs.factors]
    else:
        parts = [np.diagonal(part) for part in inputs.products]
    means = [max(float(part.mean()), 1e-30) for part in parts]
    shares = [part / mean for part, mean in zip(parts, means, strict=True)]
    return _by_output(np.stack(shares), matrix.shape[1]).astype("float32")


def _some_rows(matrix: Array, lookups: Array | None, most: int) -> Array:
    """So many inputs that their weights tell what scale fits them all.

    The largest weight of each output is among them: most of a range is its end. So are
    the rows that are looked up most.
    """
    places = np.linspace(0, len(matrix) - 1, min(len(matrix), most)).astype(int)
    if lookups is not None:
        places = np.union1d(places, np.argsort(-lookups, kind="stable")[:most])
    return np.union1d(places, np.abs(matrix).argmax(axis=0))


def _held(scales: Array, target: LayerTarget) -> Array:
    """Scales whose multiples the weight's type holds exactly."""
    if target.precision >= 24 or target.grid is None:
        return scales.astype("float32").astype("float64")
    bits = target.precision - math.ceil(math.log2(target.grid.highest + 1))
    mantissa, exponent = np.frexp(scales.astype("float64"))
    steps = 2.0 ** max(bits, 1)
    return np.asarray(np.ldexp(np.rint(mantissa * steps) / steps, exponent))


def _rounder(
    scales: Array | None, target: LayerTarget
) -> Callable[[Array], Array] | None:
    grid = target.grid
    if scales is None or grid is None:
        return None

    def rounded(values: Array) -> Array:
        steps = np.clip(np.rint(values / scales[0]), grid.lowest, grid.highest)
        return np.asarray(steps * scales[0])

    return rounded


def _exact(values: Array, scales: Array | None, target: LayerTarget) -> Array:
    """Float32 values; on a grid as its integers times its float32 scale."""
    if scales is None or target.grid is None:
        return values.astype("float32")
    steps = np.clip(np.rint(values / scales), target.grid.lowest, target.grid.highest)
    return np.asarray(steps.astype("float32") * scales.astype("float32"))


def _measured(
    matrix: Array,
    values: Array,
    plain: Array,
    inputs: LayerInputs,
    damping: float = 0.0,
) -> CompressedMatrix:
    change = matrix - values
    return CompressedMatrix(
        values=values,
        error=_error(change, inputs),
        plain_error=_error(matrix - plain, inputs),
        size=_error(matrix, inputs),
        damping=damping,
        shift=_shift(change, inputs),
    )


def _shift(change: Array, inputs: LayerInputs) -> Array:
    """What a bias gains so that the mean of the outputs stays."""
    means = _by_output(inputs.means, change.shape[1])
    return np.asarray(np.sum(means * change, axis=0))


def _error(change: Array, inputs: LayerInputs) -> float:
    parts = np.split(change, len(inputs.products), axis=1)
    pairs = zip(parts, inputs.products, strict=True)
    return sum(layer_error(part, products) for part, products in pairs)


def own_error(matrix: Array, result: CompressedMatrix) -> float:
    """The error at a layer's own outputs, or of its weights where that is not known."""
    if result.error is not None:
        return result.error
    return float(np.square(matrix - result.values).sum())
