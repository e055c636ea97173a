"""How much each layer can lose before the model notices, without training."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypedDict, Unpack, overload

import keras
import numpy as np

from penjing.arguments import check_choice
from penjing.channels.scores import ChannelImportance
from penjing.errors import DataError
from penjing.export.twins.layer_errors import int8_errors
from penjing.layer_sensitivity.cut_trials import (
    CutTrial,
    channel_trials,
    weight_trials,
)
from penjing.layer_sensitivity.measurement_digest import measurement_digest
from penjing.measurement.accuracy import evaluate
from penjing.measurement.metric_direction import LOWER, UNKNOWN, directions_of
from penjing.measurement.scoring import first_metric
from penjing.measurement.sensitivity_table import SensitivityRow, SensitivityTable
from penjing.models.copying import copy_model, float_value
from penjing.models.keras_private import compiled_config
from penjing.models.layer_calls import check_is_model
from penjing.models.selection import Filter
from penjing.one_shot.layer_error_report import LayerErrorReport
from penjing.one_shot.layer_errors import BITS, SPARSITIES, measure_layer_errors
from penjing.progress import Listener, Progress, listening

_COUNTED: dict[str | None, tuple[str, ...]] = {
    None: ("method", "ratios", "importance", "metrics", "include", "exclude"),
    "int8": (),
    "bits": ("bits", "include", "exclude"),
    "sparsity": ("ratios", "include", "exclude"),
}
_DEFAULTS = {
    "method": "channels",
    "ratios": SPARSITIES,
    "bits": BITS,
    "importance": "l2",
}  # that of the others is None


class _Settings(TypedDict, total=False):
    """The arguments by name, for type checkers."""

    method: str
    ratios: Sequence[float]
    bits: Sequence[int]
    importance: ChannelImportance
    metrics: Any
    include: Filter
    exclude: Filter
    path: str | os.PathLike[str] | None
    progress: Listener | bool


@overload
def sensitivity(
    model: keras.Model,
    data: Any,
    *,
    of: Literal["int8"] | None = None,
    **settings: Unpack[_Settings],
) -> SensitivityTable: ...


@overload
def sensitivity(
    model: keras.Model,
    data: Any,
    *,
    of: Literal["bits", "sparsity"],
    **settings: Unpack[_Settings],
) -> LayerErrorReport: ...


def sensitivity(
    model: keras.Model,
    data: Any,
    *,
    of: str | None = None,
    method: str = "channels",
    ratios: Sequence[float] = SPARSITIES,
    bits: Sequence[int] = BITS,
    importance: ChannelImportance = "l2",
    metrics: Any = None,
    include: Filter = None,
    exclude: Filter = None,
    path: str | os.PathLike[str] | None = None,
    progress: Listener | bool = True,
) -> SensitivityTable | LayerErrorReport:
    """Measure the model with each layer cut alone, at several ratios.

    Nothing is trained. Layers that lose much accuracy early should be cut little:
    `prune_channels(..., sensitivity=table, tolerance=0.02)` keeps to that. With `of`
    layers are rounded or pruned alone: no labels are needed then.

    Args:
        model: A built Keras model; Sequential or Functional for `"channels"`. It is
            left alone.
        data: `(x, y)` or a loader to measure on; validation data, not the test data.
            With `of` about a hundred inputs do.
        of: None cuts layers; with it arguments that count for cuts alone are refused.
            `"int8"`: each layer alone computes in integers and all
            others in float; the metric is the error of the outputs in spreads, 0.1 for
            a tenth, and the row "(all)" has all layers in integers. `"bits"`: the
            weights of each alone are rounded to so many `bits`, as `quantize_weights`
            does; `"sparsity"`: `ratios` of them become zero, as `prune_one_shot` does,
            of depthwise kernels too. Both take one pass over the inputs.
        method: `"channels"`: units of a group of channels are silenced, those of the
            lowest importance first; `"weights"`: weights of the lowest magnitude of one
            layer become zero.
        ratios: Fractions that go, between 0 and 1.
        bits: With `of="bits"`: from 2 to 8.
        importance: As in `prune_channels`, for `"channels"`.
        metrics: As in `penjing.evaluate`. The first that is not the loss counts.
        include: What is measured: layers, or patterns matched against paths and names.
        exclude: What is left out.
        path: File in which the table grows while it is measured: a run that was killed
            goes on there. One of another model, data or setting is written anew. With
            `of` it is written at the end.
        progress: True for a bar in terminals and notebooks, False for silence, or a
            function that is told each `penjing.Progress`.

    Returns:
        The table; for bits and sparsities a report, whose `bits_by_layer(max_bytes)`
        chooses what `quantize_weights` takes.

    Raises:
        UnsupportedModelError: If nothing can be cut, or the model is not built.
        DataError: If the data does not fit.
        ValueError: If an argument is out of range.

    Example:
        >>> import keras, numpy as np, penjing
        >>> model = keras.Sequential([keras.Input((4,)),
        ...     keras.layers.Dense(8, name="hidden"), keras.layers.Dense(2)])
        >>> x, y = np.eye(4), np.array([0, 1, 0, 1])
        >>> table = penjing.sensitivity(model, (x, y), ratios=(0.5,))
        >>> [row.removed for row in table.rows]
        [4]
        >>> report = penjing.sensitivity(model, x, of="bits", bits=(2, 8))
        >>> report.bits_by_layer(88)  # bytes of integers and scales
        {'sequential/hidden/kernel': 8, 'sequential/dense/kernel': 8}
    """
    check_is_model(model)
    if of is not None:
        check_choice("of", of, ("int8", "bits", "sparsity"))
    given = {"method": method, "ratios": ratios, "bits": bits, "metrics": metrics}
    given |= {"importance": importance, "include": include, "exclude": exclude}
    _check_counted(of, given)
    if of == "int8":
        return _int8_table(model, data, path)
    with listening(progress) as listen:
        if of is None:
            trials = _Cuts(method, ratios, importance, include, exclude)
            return _cut_table(model, data, trials, metrics, path, listen)
        report = measure_layer_errors(
            model,
            data,
            of=of,
            levels=bits if of == "bits" else ratios,
            include=include,
            exclude=exclude,
            progress=listen,
        )
    if path is not None:
        report.to_json(path)
    return report


def _check_counted(of: str | None, given: Mapping[str, Any]) -> None:
    """Refuse arguments that would be passed over, where they are not the default."""
    for name, value in given.items():
        default = _DEFAULTS.get(name)
        same = isinstance(value, type(default)) and value == default
        if name not in _COUNTED[of] and not same:
            shown = ", ".join(f"`{other}`" for other in _COUNTED[of]) or "none of them"
            raise ValueError(
                f"`{name}` counts for nothing with of={of!r}, got {value!r}. Leave it "
                f"out; what counts there is {shown}."
            )


@dataclasses.dataclass(frozen=True)
class _Cuts:
    """What is cut of layers, as `sensitivity` takes it."""

    method: str
    ratios: Sequence[float]
    importance: ChannelImportance
    include: Filter
    exclude: Filter

    def trials(
        self, model: keras.Model, data: Any
    ) -> tuple[list[CutTrial], dict[str, str]]:
        """Each cut, and why nothing is cut of other layers."""
        check_choice("method", self.method, ("channels", "weights"))
        ratios = _checked_ratios(self.ratios)
        make = channel_trials if self.method == "channels" else weight_trials
        return make(model, ratios, self.importance, self.include, self.exclude, data)


def _cut_table(
    model: keras.Model,
    data: Any,
    cuts: _Cuts,
    metrics: Any,
    path: str | os.PathLike[str] | None,
    listen: Listener,
) -> SensitivityTable:
    """The table of a model with layers cut alone, which grows in its file."""
    x, y = _split(data)
    trials, skipped = cuts.trials(model, data)
    scored_by = _compiled_with(model) if metrics is None else {"metrics": metrics}
    rows = [(trial.row.name, trial.row.ratio, trial.gone) for trial in trials]
    digest = measurement_digest(model, (cuts.method, rows, scored_by), x, y)
    table = _kept_table(path, digest)
    score = _scorer(model, x, y, metrics, scored_by)
    if table is None:
        baseline = score({})
        table = SensitivityTable(
            model=model.name,
            method=cuts.method,
            baseline=baseline,
            skipped=skipped,
            digest=digest,
            directions=_known_directions(baseline, scored_by),
        )
        _keep(table, path)
    for number, trial in enumerate(trials):
        name, total = trial.row.name, len(trials)
        listen(Progress(stage="Measuring", detail=name, done=number, total=total))
        if number < len(table.rows):  # measured by an earlier run
            continue
        row = dataclasses.replace(trial.row, scores=score(trial.values()))
        table = dataclasses.replace(table, rows=(*table.rows, row))
        _keep(table, path)
    return table


def _int8_table(
    model: keras.Model, data: Any, path: str | os.PathLike[str] | None
) -> SensitivityTable:
    """What each layer alone costs in int8."""
    inputs = data[0] if isinstance(data, tuple) else data
    rows = [
        SensitivityRow(name=name, ratio=1.0, removed=0, size=0, scores={"error": error})
        for name, error in int8_errors(model, inputs).items()
    ]
    table = SensitivityTable(
        model=model.name, method="int8", baseline={"error": 0.0}, rows=tuple(rows)
    )
    _keep(table, path)
    return table


def _checked_ratios(ratios: Sequence[float]) -> tuple[float, ...]:
    try:
        found = sorted({float(ratio) for ratio in ratios})
    except (TypeError, ValueError):
        found = []
    if not found or any(not 0.0 < ratio < 1.0 for ratio in found):
        raise ValueError(
            "`ratios` must be a list of fractions between 0 and 1, such as "
            f"(0.25, 0.5), got {ratios!r}."
        )
    return tuple(found)


def _split(data: Any) -> tuple[Any, Any]:
    if isinstance(data, Iterator):
        raise DataError(
            f"`data` is a {type(data).__name__}, which gives its batches only once: "
            "each measurement needs them. Give arrays, or a loader that can be gone "
            "through again, such as a tf.data.Dataset."
        )
    if not isinstance(data, (tuple, list)):
        return data, None
    if len(data) != 2:
        raise DataError(f"`data` must be (x, y) or a loader, got {len(data)} parts.")
    return data[0], data[1]


def _compiled_with(model: keras.Model) -> dict[str, Any]:
    """What says how a model is scored, of what it was compiled with."""
    if not model.compiled:
        return {}
    config = compiled_config(model)
    names = ("metrics", "weighted_metrics", "loss", "loss_weights")
    return {name: config[name] for name in names if config.get(name) is not None}


def _known_directions(
    scores: dict[str, float], scored_by: dict[str, Any]
) -> dict[str, str]:
    """Which values are better; a DataError where that is not known of the first."""
    given = [scored_by.get(key) for key in ("metrics", "weighted_metrics")]
    metrics = [metric for metric in keras.tree.flatten(given) if metric is not None]
    if metrics or not scored_by:
        directions = directions_of(scores, metrics)
    else:
        directions = dict.fromkeys(scores, LOWER)  # the loss
    first = first_metric(scores)
    if first is not None and directions[first] == UNKNOWN:
        raise DataError(
            f"Nothing says whether more or less of the metric {first!r} is better, so "
            "nobody knows what a cut costs. Name another one in `metrics` (--metric)."
        )
    return directions


def _scorer(
    model: keras.Model, x: Any, y: Any, metrics: Any, compiled_with: dict[str, Any]
) -> Callable[[dict[str, np.ndarray]], dict[str, float]]:
    """What measures one twin again and again: it is compiled by the backend once."""
    twin = copy_model(model)
    if metrics is None and compiled_with:
        twin.compile(optimizer=None, **compiled_with)
    variables = {variable.path: variable for variable in twin.weights}

    def score(values: dict[str, np.ndarray]) -> dict[str, float]:
        before = {path: float_value(variables[path]).copy() for path in values}
        for path, value in values.items():
            variables[path].assign(value)
        try:
            found = evaluate(twin, x, y, metrics=metrics)
        finally:
            for path, value in before.items():
                variables[path].assign(value)
        return {name: float(value) for name, value in found.items()}

    return score


def _keep(table: SensitivityTable, path: str | os.PathLike[str] | None) -> None:
    if path is not None:
        table.to_json(path)


def _kept_table(
    path: str | os.PathLike[str] | None, digest: str
) -> SensitivityTable | None:
    """The table of an earlier run of the same measurement, where there is one."""
    if path is None or not Path(path).exists():
        return None
    table = SensitivityTable.from_json(path)
    return table if table.digest == digest else None
