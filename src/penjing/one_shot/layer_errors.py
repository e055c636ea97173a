"""What each layer's errors cost at several bits or sparsities, from one collection."""

from __future__ import annotations

import dataclasses
import numbers
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from penjing.arguments import check_choice
from penjing.export.weights.integer_weights import pack_int4
from penjing.files import gzip_bytes
from penjing.models.selection import (
    Filter,
    SelectedWeight,
    Selection,
    select_weights,
)
from penjing.numerics.grids import Grid
from penjing.one_shot.calibration_inputs import calibration_batches
from penjing.one_shot.layer_compression import (
    CompressedMatrix,
    LayerInputs,
    LayerTarget,
    compress_matrix,
    own_error,
)
from penjing.one_shot.layer_error_report import LayerErrorReport, LayerErrors
from penjing.one_shot.measured_model import MeasuredModel
from penjing.one_shot.model_opening import open_model, precision_of
from penjing.one_shot.one_shot_config import DAMPING, MAX_MEMORY, MOST_BITS
from penjing.one_shot.weight_matrix import read_matrix
from penjing.progress import Listener, Progress, ignore_progress

BITS = (2, 3, 4, 8)
HALF_BITS = (2, 2.5, 3, 3.5, 4, 8)  # what gzip leaves of grids is finer than bits
SPARSITIES = (0.25, 0.5, 0.75, 0.9)
KINDS = ("bits", "sparsity")
_LITTLE = 0.01  # of the outputs' variance: there changes grow as errors do


def measure_layer_errors(
    model: keras.Model,
    calibration_data: Any,
    *,
    of: str = "bits",
    levels: Sequence[float] | None = None,
    include: Filter = None,
    exclude: Filter = None,
    granularity: str = "per_channel",
    spare: bool = False,
    damping: float = DAMPING,
    max_memory: int = MAX_MEMORY,
    progress: Listener = ignore_progress,
) -> LayerErrorReport:
    """Compress each weight of a model alone, at several levels, and say what it costs.

    The model is left alone. `of` is "bits" or "sparsity", of which `levels` are numbers
    or fractions; `calibration_data`, `include` and `exclude` are as in
    `penjing.quantize_weights`. Depthwise kernels are among what is measured, unless
    `spare`. `granularity` is that of the grids.
    """
    levels = checked_levels(of, levels)

    def select(twin: keras.Model) -> Selection:
        return select_weights(twin, include, exclude, spare=spare, frozen=True)

    opened = open_model(model, select)
    selection = opened.selection
    batches = calibration_batches(opened.given, calibration_data)
    measured = MeasuredModel(
        opened.twin,
        selection.chosen,
        batches,
        damping=damping,
        max_memory=max_memory,
        listen=progress,
    )
    method = "gptq" if of == "bits" else "sparsegpt"
    grid = Grid(bits=MOST_BITS, granularity=granularity) if of == "bits" else None
    targets = {
        w.path: LayerTarget(
            method=method,
            grid=grid,
            precision=precision_of(w),
            lookups=measured.lookups.get(w.path),
        )
        for w in selection.chosen
    }
    return LayerErrorReport(
        model=model.name,
        of=of,
        levels=levels,
        rows=errors_of_layers(measured, targets, of, levels, progress),
        skipped=selection.skipped,
        samples=sum(len(keras.tree.flatten(batch)[0]) for batch in batches),
    )


def checked_levels(of: str, levels: Sequence[float] | None) -> tuple[float, ...]:
    """Bits or fractions, rising; what they cannot be is a ValueError."""
    check_choice("of", of, KINDS)
    if levels is None:
        return BITS if of == "bits" else SPARSITIES
    is_bits = of == "bits"
    kind = numbers.Integral if is_bits else numbers.Real
    given = list(levels) if isinstance(levels, Sequence | np.ndarray) else [levels]
    fitting = [
        int(level) if is_bits else float(level)
        for level in given
        if isinstance(level, kind)
        and not isinstance(level, bool)
        and (2 <= level <= MOST_BITS if is_bits else 0 < level < 1)
    ]
    if not given or len(fitting) < len(given):
        name, form = "ratios", "fractions between 0 and 1, such as (0.25, 0.5)"
        if is_bits:
            name, form = "bits", f"bits from 2 to {MOST_BITS}, such as (2, 4, 8)"
        raise ValueError(f"`{name}` must be a list of {form}, got {levels!r}.")
    return tuple(sorted(set(fitting)))


def errors_of_layers(
    measured: MeasuredModel,
    targets: Mapping[str, LayerTarget],
    of: str,
    levels: Sequence[float],
    listen: Listener,
) -> tuple[LayerErrors, ...]:
    """What each weight costs alone at each level, all else being as its target says."""
    effect = measured.effects_at_outputs()
    found: dict[str, LayerErrors] = {}
    for turn, inputs_of in measured.turns():
        for weight in turn:
            done, total = len(found), len(measured.weights)
            listen(
                Progress(
                    stage="Measuring layers", detail=weight.path, done=done, total=total
                )
            )
            target, inputs = targets[weight.path], inputs_of(weight.path)
            reason = measured.reasons.get(weight.path, "")
            row = _row(weight, target, inputs, of, levels, effect)
            found[weight.path] = dataclasses.replace(row, reason=reason)
    return tuple(found[weight.path] for weight in measured.weights)


def _row(
    weight: SelectedWeight,
    target: LayerTarget,
    inputs: LayerInputs | None,
    of: str,
    levels: Sequence[float],
    effect: Callable[[SelectedWeight, CompressedMatrix], float],
) -> LayerErrors:
    """Changes of the outputs are measured from the worst level on.

    Where little changes, levels that are better follow in proportion to the error at
    the layer's own outputs.
    """
    matrix, rate = read_matrix(weight), None
    changes: dict[float, float] = {}
    stored: dict[float, tuple[int, int]] = {}
    for level in levels if of == "bits" else reversed(levels):
        result = compress_matrix(matrix, _at(target, of, level), inputs)
        error = max(own_error(matrix, result), 1e-30)
        if rate is None:
            changes[level] = effect(weight, result)
            rate = changes[level] / error if changes[level] < _LITTLE else None
        else:
            changes[level] = rate * error
        if of == "bits":
            packs = level <= 4 and not _is_depthwise(weight)
            stored[level] = _stored_bytes(result, packs)
    return LayerErrors(
        path=weight.path,
        size=weight.size,
        is_embedding=isinstance(weight.layer, keras.layers.Embedding),
        changes=tuple(changes[level] for level in levels),
        bytes=tuple(stored[level][0] for level in levels if stored),
        compressed=tuple(stored[level][1] for level in levels if stored),
    )


def _at(target: LayerTarget, of: str, level: float) -> LayerTarget:
    if of == "sparsity":
        return dataclasses.replace(target, sparsity=level, refines=False)
    grid = grid_of_bits(target.grid, level)
    return dataclasses.replace(target, grid=grid, refines=False)


def grid_of_bits(like: Grid | None, bits: float) -> Grid:
    """A grid of so many bits, with as many scales as another one has.

    Half a bit more has the levels in the middle: 5 between 3 and 7, 11 between 7 and
    15.
    """
    granularity = "per_channel" if like is None else like.granularity
    if bits != int(bits):
        return Grid(levels=3 * 2 ** (int(bits) - 1) - 1, granularity=granularity)
    return Grid(bits=int(bits), granularity=granularity)


def _is_depthwise(weight: SelectedWeight) -> bool:
    """Whether it is a kernel that no kernel of LiteRT takes in int4."""
    layers = keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D
    return isinstance(weight.layer, layers) or weight.path.endswith("/depthwise_kernel")


def _stored_bytes(result: CompressedMatrix, packs: bool) -> tuple[int, int]:
    """What a weight takes in an "int4" file, and gzipped: integers and scales."""
    scales = np.ones(1) if result.scales is None else result.scales
    integers = np.rint(result.values / scales).astype("int8")
    data = pack_int4(integers) if packs else integers.tobytes()
    scale_bytes = 4 * np.unique(scales).size
    return len(data) + scale_bytes, gzip_bytes(data) + scale_bytes
