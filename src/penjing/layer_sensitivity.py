"""How much each layer can lose before the model notices, without training."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from penjing.arguments import check_choice
from penjing.channels.choice import choose_groups
from penjing.channels.groups import ChannelGroup
from penjing.channels.scores import ChannelImportance, score_channels
from penjing.channels.tracing import trace_channels
from penjing.data.batches import leaves, to_batches
from penjing.errors import DataError
from penjing.export.twins.layer_errors import int8_errors
from penjing.measurement.accuracy import evaluate
from penjing.measurement.sensitivity_table import SensitivityRow, SensitivityTable
from penjing.models.copying import copy_model, float_value
from penjing.models.keras_private import all_layers, compiled_config
from penjing.models.layer_calls import check_is_model
from penjing.models.selection import Filter, SelectedWeight, select_weights
from penjing.progress import Listener, Progress, listening

_RATIOS = (0.25, 0.5, 0.75, 0.9)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Trial:
    """Values, by path of a weight, to write into a twin before it is measured.

    The row has no scores yet. `gone` are units; empty where that follows from the
    weights.
    """

    row: SensitivityRow
    values: Callable[[], dict[str, np.ndarray]]
    gone: str = ""


def sensitivity(
    model: keras.Model,
    data: Any,
    *,
    of: str | None = None,
    method: str = "channels",
    ratios: Sequence[float] = _RATIOS,
    importance: ChannelImportance = "l2",
    metrics: Any = None,
    include: Filter = None,
    exclude: Filter = None,
    path: str | os.PathLike[str] | None = None,
    progress: Listener | bool = True,
) -> SensitivityTable:
    """Measure the model with each layer cut alone, at several ratios.

    Nothing is trained. Layers that lose much accuracy early should be cut little:
    `prune_channels(..., sensitivity=table, tolerance=0.02)` keeps to that.

    Args:
        model: A built Keras model; Sequential or Functional for `"channels"`. It is
            left alone.
        data: `(x, y)` or a loader to measure on; validation data, not the test data.
            With `of="int8"` inputs do, as `representative_data` of `export_litert`.
        of: None cuts layers. "int8": each layer alone computes in integers and all
            others in float; the metric is the error of the outputs in spreads, 0.1 for
            a tenth, and the row "(all)" has all layers in integers. None of the
            arguments below but `path` counts then.
        method: `"channels"`: units of a group of channels are silenced, those of the
            lowest importance first; `"weights"`: weights of the lowest magnitude of one
            layer become zero.
        ratios: Fractions that go, between 0 and 1.
        importance: As in `prune_channels`, for `"channels"`.
        metrics: As in `penjing.evaluate`. The first that is not the loss counts.
        include: What is measured: layers, or patterns matched against paths and names.
        exclude: What is left out.
        path: File in which the table grows while it is measured: a run that was killed
            goes on there. One of another model, data or setting is written anew.
        progress: True for a bar in terminals and notebooks, False for silence, or a
            function that is told each `penjing.Progress`.

    Returns:
        The table.

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
    """
    check_is_model(model)
    if of is not None:
        check_choice("of", of, ("int8",))
        return _int8_table(model, data, path)
    check_choice("method", method, ("channels", "weights"))
    ratios = _checked_ratios(ratios)
    x, y = _split(data)
    make = _channel_trials if method == "channels" else _weight_trials
    trials, skipped = make(model, ratios, importance, include, exclude, data)
    scored_by = _compiled_with(model) if metrics is None else {"metrics": metrics}
    cuts = [(trial.row.name, trial.row.ratio, trial.gone) for trial in trials]
    digest = measurement_digest(model, (method, cuts, scored_by), x, y)
    table = _kept_table(path, digest)
    score = _scorer(model, x, y, metrics, scored_by)
    if table is None:
        table = SensitivityTable(
            model=model.name,
            method=method,
            baseline=score({}),
            skipped=skipped,
            digest=digest,
        )
        _keep(table, path)
    with listening(progress) as listen:
        for number, trial in enumerate(trials):
            listen(
                Progress(
                    stage="Measuring",
                    detail=trial.row.name,
                    done=number,
                    total=len(trials),
                )
            )
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


def _channel_trials(
    model: keras.Model,
    ratios: Sequence[float],
    importance: ChannelImportance,
    include: Filter,
    exclude: Filter,
    data: Any,
) -> tuple[list[_Trial], dict[str, str]]:
    """Units silenced wherever they are read."""
    graph = trace_channels(model)
    groups = choose_groups(graph, include, exclude)
    scores = score_channels(model, groups, importance, data)
    variables = {v.path: v for v in model.weights}
    trials = []
    for group in groups:
        order = np.argsort(scores[group.name], kind="stable")
        for ratio in ratios:
            removed = min(round(ratio * group.size), group.size - 1)
            gone = np.zeros(group.size + 1, bool)  # -1, for no unit, is the last one
            gone[order[:removed]] = True
            trials.append(
                _Trial(
                    row=SensitivityRow(
                        name=group.name, ratio=ratio, removed=removed, size=group.size
                    ),
                    values=functools.partial(_silenced, group, gone, variables),
                    gone=np.packbits(gone).tobytes().hex(),
                )
            )
    return trials, dict(graph.skipped)


def _silenced(
    group: ChannelGroup, gone: np.ndarray, variables: Mapping[str, Any]
) -> dict[str, np.ndarray]:
    """The weights that read a group, with zeros for the units that go."""
    changed: dict[str, np.ndarray] = {}
    for member in group.members:
        if member.role == "input":
            if member.path not in changed:
                changed[member.path] = float_value(variables[member.path]).copy()
            value = np.moveaxis(changed[member.path], member.axis, 0)
            value[gone[member.units]] = 0
    return changed


def _weight_trials(
    model: keras.Model,
    ratios: Sequence[float],
    importance: ChannelImportance,
    include: Filter,
    exclude: Filter,
    data: Any,
) -> tuple[list[_Trial], dict[str, str]]:
    """Weights of the lowest magnitude set to zero."""
    selection = select_weights(model, include, exclude)
    trials = [
        _Trial(
            row=SensitivityRow(
                name=weight.path,
                ratio=ratio,
                removed=round(ratio * weight.size),
                size=weight.size,
            ),
            values=functools.partial(_cleared, weight, round(ratio * weight.size)),
        )
        for weight in selection.chosen
        for ratio in ratios
    ]
    return trials, dict(selection.skipped)


def _cleared(weight: SelectedWeight, count: int) -> dict[str, np.ndarray]:
    """A weight with zeros for its lowest magnitudes."""
    value = float_value(weight.variable).copy()
    lowest = np.argsort(np.abs(value), axis=None, kind="stable")[:count]
    value.reshape(-1)[lowest] = 0
    return {weight.path: value}


def _compiled_with(model: keras.Model) -> dict[str, Any]:
    """What says how a model is scored, of what it was compiled with."""
    if not model.compiled:
        return {}
    config = compiled_config(model)
    names = ("metrics", "weighted_metrics", "loss", "loss_weights")
    return {name: config[name] for name in names if config.get(name) is not None}


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


def measurement_digest(model: keras.Model, settings: Any, x: Any, y: Any) -> str:
    """Tell measurements apart that may give other scores, the same in the next process.

    The model's layers, their configs and its weights count. `settings` are nested lists
    and dicts; objects of Keras count by their configs, functions by their code. `x` and
    `y` are as in `penjing.evaluate`. The order of the samples does not matter, for
    loaders may shuffle them.
    """
    digest = hashlib.blake2b(digest_size=16)
    for variable in model.weights:
        digest.update(variable.path.encode())
        digest.update(np.ascontiguousarray(float_value(variable)).tobytes())
    digest.update(architecture_of(model).encode())
    digest.update(repr(_plain(settings, {})).encode())
    digest.update(_samples(x, y).encode())
    return digest.hexdigest()


def architecture_of(model: keras.Model) -> str:
    """Layers by their configs; where they stand in place of their automatic names."""
    layers = all_layers(model)
    places = {layer.name: number for number, layer in enumerate(layers)}
    return repr([_plain(layer, places) for layer in layers])


def _plain(value: Any, places: Mapping[str, int]) -> Any:
    """Nested lists of numbers and texts: nothing that has an address."""
    if isinstance(value, str):
        return places.get(value, value)
    if isinstance(value, (int, float, type(None))):
        return value
    if isinstance(value, Mapping):
        return [(str(key), _plain(item, places)) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [_plain(item, places) for item in value]
    if hasattr(value, "__code__"):
        code = value.__code__
        return value.__qualname__, code.co_code.hex(), _plain(code.co_consts, places)
    name = type(value).__qualname__
    try:
        return name, _plain(value.get_config(), places)
    except Exception:  # it has none, or its class was written without
        return name


def _samples(x: Any, y: Any) -> str:
    """All samples in any order: the sum of their digests."""
    total = 0
    for batch in to_batches(x, y).stream:
        arrays = [array for part in batch if part is not None for array in leaves(part)]
        for sample in zip(*arrays, strict=False):
            digest = hashlib.blake2b(digest_size=16)
            for value in sample:
                digest.update(np.ascontiguousarray(value).tobytes())
            total += int.from_bytes(digest.digest())
    return f"{total:x}"
