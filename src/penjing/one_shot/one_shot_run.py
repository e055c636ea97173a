"""One pass over a model: inputs collected, shares chosen, layers compressed."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import keras

from penjing.models.selection import (
    SelectedWeight,
    Selection,
    check_all_match,
    matches_layer,
    select_weights,
)
from penjing.numerics.grids import Grid
from penjing.numerics.patterns import Block, Pattern
from penjing.one_shot.calibration_inputs import calibration_batches
from penjing.one_shot.layer_compression import (
    COMPENSATING,
    Array,
    CompressedMatrix,
    LayerInputs,
    LayerTarget,
    compress_matrix,
    own_error,
)
from penjing.one_shot.layer_error_report import bits_within
from penjing.one_shot.layer_errors import (
    BITS,
    HALF_BITS,
    errors_of_layers,
    grid_of_bits,
)
from penjing.one_shot.layer_rows import find_rows
from penjing.one_shot.measured_model import MeasuredModel
from penjing.one_shot.model_opening import OpenedModel, open_model, precision_of
from penjing.one_shot.norm_correction import correct_normalizations
from penjing.one_shot.one_shot_config import OneShotConfig
from penjing.one_shot.one_shot_report import OneShotReport, OneShotRow
from penjing.one_shot.sparsity_shares import LEVELS, by_magnitude, error_curve, even_out
from penjing.one_shot.weight_matrix import read_matrix
from penjing.progress import Listener, Progress, listening

_PLAIN = {"sparsegpt": "magnitude", "wanda": "magnitude", "gptq": "rtn"}


def compress_once(
    model: keras.Model, data: Any, config: OneShotConfig, progress: Listener | bool
) -> tuple[keras.Model, OneShotReport]:
    """Compress a copy of a model as the config says, and say what became of it."""
    with listening(progress) as listen:
        opened = open_model(model, lambda twin: _select(twin, config))
        run = _Run(opened, data, config, listen)
        return run.compressed(), run.report()


class _Run:
    """A copy of the model, what each weight is to become, and what it became."""

    def __init__(
        self, opened: OpenedModel, data: Any, config: OneShotConfig, listen: Listener
    ) -> None:
        self._given, self._twin = opened.given, opened.twin
        self._selection, self._config, self._listen = opened.selection, config, listen
        used = data is not None or config.needs_data
        self._batches = calibration_batches(self._given, data) if used else []
        self._measured = MeasuredModel(
            self._twin,
            self._selection.chosen,
            self._batches,
            damping=config.damping,
            max_memory=config.max_memory,
            listen=listen,
        )
        self._targets = {w.path: self._target(w) for w in self._selection.chosen}
        self._rows: dict[str, OneShotRow] = {}

    def compressed(self) -> keras.Model:
        """The copy, with its new weights."""
        if self._config.prunes and self._config.scope != "layer":
            self._share_sparsity()
        if self._config.max_bytes is not None:
            self._choose_bits(self._config.max_bytes)
        sequential = self._config.sequential
        model = self._measured
        for turn, inputs_of in (
            model.turns_in_sequence() if sequential else model.turns()
        ):
            for weight in turn:
                self._compress(weight, inputs_of(weight.path))
        correct_normalizations(self._twin, self._given, self._batches)
        return self._twin

    def report(self) -> OneShotReport:
        """What became of each weight, in the model's order."""
        skipped = self._selection.skipped
        rows = []
        for variable in self._twin.weights:
            path, size = variable.path, math.prod(variable.shape)
            left = OneShotRow(path=path, size=size, reason=skipped.get(path, ""))
            rows.append(self._rows.get(path, left))
        samples = sum(len(keras.tree.flatten(batch)[0]) for batch in self._batches)
        return OneShotReport(rows=tuple(rows), samples=samples)

    def _target(self, weight: SelectedWeight) -> LayerTarget:
        config = self._config
        return LayerTarget(
            method=config.method,
            pattern=config.pattern.for_channels(weight.input_channels),
            sparsity=config.sparsity,
            grid=_grid_of(weight, config),
            precision=precision_of(weight),
            lookups=self._measured.lookups.get(weight.path),
        )

    def _share_sparsity(self) -> None:
        weights, sparsity = self._selection.chosen, self._config.sparsity or 0.0
        if self._config.scope == "global":
            shares = by_magnitude([read_matrix(w) for w in weights], sparsity)
        else:
            shares = self._least_costly_shares(sparsity)
        for weight, share in zip(weights, shares, strict=True):
            target = self._targets[weight.path]
            self._targets[weight.path] = dataclasses.replace(target, sparsity=share)

    def _least_costly_shares(self, sparsity: float) -> list[float]:
        effect_of = self._measured.effects_at_outputs()
        curves: dict[str, list[float]] = {}
        effects: dict[str, float] = {}
        weights = self._selection.chosen
        for turn, inputs_of in self._measured.turns():
            for weight in turn:
                self._tell("Measuring layers", weight, len(curves))
                known = inputs_of(weight.path)
                matrix, target = read_matrix(weight), self._alone(weight)
                curves[weight.path] = error_curve(matrix, target, known)
                result = _least_lossy(matrix, target, known)
                change = effect_of(weight, result)
                effects[weight.path] = change / max(own_error(matrix, result), 1e-30)
        return even_out(
            [weight.size for weight in weights],
            [curves[weight.path] for weight in weights],
            [effects[weight.path] for weight in weights],
            sparsity,
        )

    def _choose_bits(self, max_bytes: int) -> None:
        compressed = self._config.compressed
        levels = HALF_BITS if compressed else BITS
        rows = errors_of_layers(
            self._measured, self._targets, "bits", levels, self._listen
        )
        found = bits_within(rows, levels, max_bytes, compressed)
        for row, bits in zip(rows, found, strict=True):
            target = self._targets[row.path]
            grid = grid_of_bits(target.grid, bits)
            self._targets[row.path] = dataclasses.replace(target, grid=grid)

    def _alone(self, weight: SelectedWeight) -> LayerTarget:
        """What tells how much an error of a layer costs: its even share, unrounded."""
        target = self._targets[weight.path]
        return dataclasses.replace(target, grid=None, refines=False)

    def _compress(self, weight: SelectedWeight, inputs: LayerInputs | None) -> None:
        self._tell("Compressing", weight, len(self._rows))
        target, matrix = self._targets[weight.path], read_matrix(weight)
        result = compress_matrix(matrix, target, inputs)
        self._measured.write(weight, result)
        method = target.method if inputs else _PLAIN.get(target.method, target.method)
        self._rows[weight.path] = _row(
            weight, target, result, method, self._reason(weight, result)
        )

    def _reason(self, weight: SelectedWeight, result: CompressedMatrix) -> str:
        reason = self._measured.reasons.get(weight.path, "")
        if reason or result.damping <= 1.001 * self._config.damping:
            return reason
        return (
            f"damping {result.damping:.3g} in place of {self._config.damping:g}: few "
            "rows for each input, or inputs that follow from each other"
        )

    def _tell(self, stage: str, weight: SelectedWeight, done: int) -> None:
        total = len(self._selection.chosen)
        self._listen(Progress(stage=stage, detail=weight.path, done=done, total=total))


def _least_lossy(
    matrix: Array, target: LayerTarget, inputs: LayerInputs | None
) -> CompressedMatrix:
    """At the sparsity of the target, or the next one of which anything is seen.

    Where enough weights are zero already, nothing would be lost, nor learnt.
    """
    first = target.sparsity or 0.0
    sparsities = [first, *(s for s in LEVELS if s > first)]
    for sparsity in sparsities:
        there = dataclasses.replace(target, sparsity=sparsity)
        result = compress_matrix(matrix, there, inputs)
        if own_error(matrix, result) > 0:
            break
    return result


def _select(model: keras.Model, config: OneShotConfig) -> Selection:
    """What is compressed; frozen weights too, as nothing trains here."""

    def obstacle(weight: SelectedWeight) -> str | None:
        parted = config.method in COMPENSATING  # others choose in the whole matrix
        problem = _across_groups(weight, config.pattern) if parted else None
        return problem or config.pattern.obstacle(
            *weight.matrix_shape, input_channels=weight.input_channels
        )

    check_all_match(model, tuple(config.grids_by_layer or ()), "bits_by_layer")
    return select_weights(
        model,
        config.include,
        config.exclude,
        obstacle if config.prunes else None,
        spare=config.prunes,
        frozen=True,
    )


def _grid_of(weight: SelectedWeight, config: OneShotConfig) -> Grid | None:
    for pattern, grid in (config.grids_by_layer or {}).items():
        if matches_layer(weight.layer, weight.path, pattern):
            return grid
    return config.weights


def _row(
    weight: SelectedWeight,
    target: LayerTarget,
    result: CompressedMatrix,
    method: str,
    reason: str,
) -> OneShotRow:
    size = result.size or 0.0
    errors = (result.error, result.plain_error)
    relative = [None if e is None or not size else e / size for e in errors]
    return OneShotRow(
        path=weight.path,
        size=weight.size,
        method=method,
        sparsity=float((result.values == 0).mean()),
        bits=None if target.grid is None else target.grid.highest.bit_length() + 1,
        error=relative[0],
        plain_error=relative[1],
        damping=result.damping if target.method in COMPENSATING else 0.0,
        reason=reason,
    )


def _across_groups(weight: SelectedWeight, pattern: Pattern) -> str | None:
    """Why no blocks fall in a layer whose groups of outputs have rows of their own."""
    if not isinstance(pattern, Block):
        return None
    rows = find_rows(weight)
    if isinstance(rows, str):
        return None
    own = weight.matrix_shape[1] // rows.groups
    if rows.groups == 1 or own % pattern.columns == 0:
        return None
    return (
        f"the {own} outputs of each of its {rows.groups} groups are no multiple of the "
        f"{pattern.columns} columns of a block"
    )
