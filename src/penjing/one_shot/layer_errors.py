"""What each layer's errors cost at several bits and sparsities, from one collection."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from penjing.errors import CompressionError
from penjing.json_values import JsonValue
from penjing.models.copying import copy_model
from penjing.models.selection import Filter, SelectedWeight, select_weights
from penjing.numerics.grids import Grid
from penjing.numerics.shares import cheapest_options
from penjing.one_shot.calibration_inputs import calibration_batches
from penjing.one_shot.layer_compression import (
    LayerInputs,
    LayerTarget,
    compress_matrix,
    own_error,
)
from penjing.one_shot.measured_model import MeasuredModel
from penjing.one_shot.one_shot_config import DAMPING, MAX_MEMORY
from penjing.one_shot.weight_matrix import read_matrix
from penjing.progress import Listener, Progress, ignore_progress


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerErrors(JsonValue):
    """What the model's outputs change by where one weight alone is compressed.

    They are Kullback-Leibler divergences of probabilities, else mean squared changes
    over the variance of the outputs: measured at the first level, and from there on in
    proportion to the error at the layer's own outputs.

    Attributes:
        path: Keras path of the weight.
        size: Number of its values.
        outputs: Its output channels, each of which has a scale.
        by_bits: Bits of its grid -> change.
        by_sparsity: Fraction of zeros -> change.
        reason: Why nothing is made up for, else empty.
    """

    path: str
    size: int
    outputs: int
    by_bits: Mapping[int, float]
    by_sparsity: Mapping[float, float]
    reason: str = ""


def measure_layer_errors(
    model: keras.Model,
    calibration_data: Any,
    *,
    bits: Sequence[int] = (2, 3, 4, 8),
    sparsities: Sequence[float] = (),
    include: Filter = None,
    exclude: Filter = None,
    damping: float = DAMPING,
    max_memory: int = MAX_MEMORY,
    progress: Listener = ignore_progress,
) -> tuple[LayerErrors, ...]:
    """Compress each weight of a model alone, at several levels, and say what it costs.

    The model is left alone. `calibration_data`, `include` and `exclude` are as in
    `penjing.quantize_weights`; depthwise kernels are among what is measured.
    """
    batches = calibration_batches(model, calibration_data)
    twin = copy_model(model)
    weights = select_weights(twin, include, exclude, spare=False, frozen=True).chosen
    measured = MeasuredModel(
        twin,
        weights,
        batches,
        damping=damping,
        max_memory=max_memory,
        listen=progress,
    )
    effect = measured.effects_at_outputs()
    found: dict[str, LayerErrors] = {}
    for turn, inputs_of in measured.turns():
        for weight in turn:
            done = Progress(
                stage="Measuring layers",
                detail=weight.path,
                done=len(found),
                total=len(weights),
            )
            progress(done)
            errors = _Errors(weight, inputs_of(weight.path), effect)
            found[weight.path] = LayerErrors(
                path=weight.path,
                size=weight.size,
                outputs=weight.matrix_shape[1],
                by_bits={b: errors.of(grid=Grid(bits=b)) for b in bits},
                by_sparsity={s: errors.of(sparsity=s) for s in sparsities},
                reason=measured.reasons.get(weight.path, ""),
            )
    return tuple(found[weight.path] for weight in weights)


class _Errors:
    """Changes at the outputs that errors of one weight make."""

    def __init__(
        self, weight: SelectedWeight, inputs: LayerInputs | None, effect: Any
    ) -> None:
        self._weight, self._inputs, self._effect = weight, inputs, effect
        self._matrix = read_matrix(weight)
        self._rates: dict[str, float] = {}

    def of(self, grid: Grid | None = None, sparsity: float | None = None) -> float:
        """At one level; each kind of error has a rate, which the first one tells."""
        method = "gptq" if sparsity is None else "sparsegpt"
        target = LayerTarget(method=method, grid=grid, sparsity=sparsity, refines=False)
        result = compress_matrix(self._matrix, target, self._inputs)
        error = own_error(self._matrix, result)
        if method not in self._rates:
            change = self._effect(self._weight, result.values)
            self._rates[method] = change / max(error, 1e-30)
        return self._rates[method] * error


def bytes_of_bits(errors: LayerErrors, bits: int) -> int:
    """What a weight takes in a file: its integers, packed, and a scale per channel."""
    return -(-errors.size * bits // 8) + 4 * errors.outputs


def bits_within(errors: Sequence[LayerErrors], max_bytes: int) -> dict[str, int]:
    """Path -> bits, of those that were measured, at which the model changes least.

    All weights together take at most `max_bytes` by `bytes_of_bits`. A CompressionError
    says what the fewest bits take where that is more.
    """
    options = [sorted(own.by_bits) for own in errors]
    pairs = list(zip(errors, options, strict=True))
    amounts = [[bytes_of_bits(own, bits) for bits in some] for own, some in pairs]
    costs = [[own.by_bits[bits] for bits in some] for own, some in pairs]
    found = cheapest_options(amounts, costs, max_bytes)
    if found is None:
        least = sum(min(own) for own in amounts)
        raise CompressionError(
            f"The weights cannot take {max_bytes:,} bytes: with the fewest bits that "
            f"were measured they take {least:,}. Allow more, or measure fewer bits."
        )
    places = zip(pairs, found, strict=True)
    return {own.path: some[option] for (own, some), option in places}


def bits_of_mean(errors: Sequence[LayerErrors], mean: float) -> dict[str, int]:
    """Path -> bits as `bits_within` chooses them, where a weight has `mean` of them."""
    weights = sum(own.size for own in errors)
    scales = sum(bytes_of_bits(own, 0) for own in errors)
    return bits_within(errors, int(mean * weights / 8) + len(errors) + scales)
