"""Channel pruning: a smaller model, from which whole channels are gone."""

from __future__ import annotations

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from penjing.arguments import check_choice, check_integer
from penjing.channels.choice import choose_groups
from penjing.channels.constant_channels import fold_constant_channels
from penjing.channels.cut_costs import CutCosts
from penjing.channels.cut_search import (
    Candidates,
    Cost,
    CutSearch,
    KeptUnits,
    OutOfReachError,
    as_candidates,
    cut_within,
    find_cut,
    least_units,
)
from penjing.channels.flash_estimate import flash_estimate
from penjing.channels.peak_memory import (
    PLAIN_BITS,
    PeakMemory,
    within_arena,
)
from penjing.channels.removal import remove_channels
from penjing.channels.scores import ChannelImportance, check_importance, score_channels
from penjing.channels.target import (
    ChannelTarget,
    arena_limit,
    check_max_arena,
    check_weight_bits,
)
from penjing.channels.tracing import ChannelGraph, trace_channels
from penjing.errors import CompressionWarning
from penjing.files import temporary_folder
from penjing.measurement.latency import measure_latency
from penjing.measurement.latency_model import (
    LatencyModel,
    build_latency_model,
    export_to_time,
)
from penjing.measurement.sensitivity_table import SensitivityTable
from penjing.models.selection import Filter
from penjing.progress import Listener, Progress, listening


def prune_channels(
    model: keras.Model,
    *,
    ratio: float | None = None,
    macs: float | int | None = None,
    parameters: float | int | None = None,
    flash: float | int | None = None,
    weight_bits: float = 8.0,
    latency: float | str | None = None,
    max_arena: float | int | None = None,
    importance: ChannelImportance = "l2",
    scope: str = "global",
    round_to: int = 8,
    min_channels: int = 1,
    include: Filter = None,
    exclude: Filter = None,
    data: Any = None,
    sensitivity: SensitivityTable | None = None,
    tolerance: float = 0.02,
    quantization: str | None = None,
    progress: Listener | bool = True,
) -> keras.Model:
    """Remove whole channels: a new, plain, smaller Keras model.

    What falls together falls together: a channel with all that is added to it, whole
    heads of attention, whole groups of grouped convolutions. Layers whose channels
    cannot be followed stay whole; `penjing.channel_report` names them with the reason.
    What removed units add to their readers is lost, but for units that give the same
    value for every input, as after group lasso: that goes into the readers' biases.
    The smaller model has the surviving weights and trains on, saves and exports as any
    other. Compile it and train it: accuracy comes back.

    Exactly one of `ratio`, `macs`, `parameters`, `flash` and `latency` says how much is
    cut.

    Args:
        model: A built, plain Sequential or Functional model. It is left alone.
        ratio: Fraction of the channels that go, of those that can: 0.3 removes about
            30 %, as near as `round_to` allows.
        macs: Multiply-accumulates that stay, at most: a fraction between 0 and 1 of the
            model's, or an integer, which is a number of them. 0.5 keeps half.
        parameters: The same for the numbers in all weights.
        flash: The same for the bytes of the finished int8 file on a microcontroller,
            estimated from weights, biases and what layers take besides. Units go that
            are worth least for each byte.
        weight_bits: For `flash` and `max_arena`: bits that a number of a weight will
            take, up to 8. In plain int8 files these are 8; in those of
            `penjing.pack_litert` 4 with 16 levels, and about 1.4 with 90 % zeros and 7
            levels.
        latency: The same for the time: a fraction of the model's, or "0.5 ms".
        max_arena: In addition to the target: the most RAM that the finished int8 file,
            with int8 inputs and outputs, may take in TensorFlow Lite Micro, estimated:
            bytes, or a fraction, up to 1.0, of what the model's own plain int8 file
            takes. It is what activations take at once; with `weight_bits` below 8 the
            weight of a layer as well, which is decoded there. Units go first where
            memory is fullest. With `ratio=0.0` it is all that is bounded.
        importance: Which channels stay: `"l2"`, the norm of all weights that fall with
            one; `"batch_norm"`, the scales of its normalizations; `"taylor"`, what the
            loss changes by without it (needs `data` and a compiled loss); `"lamp"`;
            `"activation_variance"` (needs `data`); `"random"` (a control); a function
            of (group, weights by path) to scores; or a mapping from group names to
            scores. Scores have the shape `(group.size,)` and are at least 0.
        scope: `"global"`: all channels compete, layers that matter less give more;
            `"layer"`: every group gives the same fraction.
        round_to: Channels that stay are a multiple of it, in groups that have more:
            kernels run in blocks of 8. 1 allows every number.
        min_channels: Channels that stay in each group, at least.
        include: What to cut: layers, or patterns matched against layer paths and names
            (`"conv*"`). Default: all that can be.
        exclude: What to leave whole, in the same form; wins over `include`.
        data: `(x, y)` or a loader, for importances that look at data.
        sensitivity: What `penjing.sensitivity` measured on the model's channels: no
            group loses a larger fraction than it stood.
        tolerance: What a single group's cut may have cost in that table, in its first
            metric.
        quantization: Kind of file whose time counts, for `latency`: None for float32,
            "dynamic" or "int8". Kernels are timed one by one on this machine, units go
            that are worth least for each millisecond, and the finished file is
            measured; where it is too slow, the search is repeated.
        progress: For `latency`. True for a bar in terminals and notebooks, False for
            silence, or a function that is told each `penjing.Progress`; the last one
            says the measured times.

    Returns:
        A new uncompiled model.

    Raises:
        UnsupportedModelError: If the model is subclassed, not built or compressed, or a
            named layer cannot be cut.
        CompressionError: If the target cannot be met; it says what can.
        DataError: If data is needed and missing, or does not fit.
        ValueError: If an argument is out of range.

    Example:
        >>> import keras, penjing
        >>> model = keras.Sequential([keras.Input((8,)),
        ...     keras.layers.Dense(32, name="hidden"), keras.layers.Dense(2)])
        >>> smaller = penjing.prune_channels(model, ratio=0.5)
        >>> smaller.layers[0].units
        16
    """
    target = ChannelTarget(
        ratio=ratio,
        macs=macs,
        parameters=parameters,
        flash=flash,
        latency=latency,
    )
    check_weight_bits(weight_bits)
    check_max_arena(max_arena)
    check_importance(importance)
    check_choice("scope", scope, ("global", "layer"))
    check_integer("round_to", round_to, least=1)
    check_integer("min_channels", min_channels, least=1)
    graph = trace_channels(model)
    groups = choose_groups(graph, include, exclude)
    scores = score_channels(model, groups, importance, data)
    floors = least_units(groups, sensitivity, tolerance)
    candidates = [
        as_candidates(group, scores[group.name], round_to, min_channels, floor)
        for group, floor in zip(groups, floors, strict=True)
    ]
    costs = CutCosts(model, graph)
    if max_arena is not None:
        candidates = _with_room(candidates, graph, costs, max_arena, weight_bits)
    if target.kind == "flash":
        size = functools.partial(flash_estimate, costs, weight_bits=weight_bits)
        candidates = per_cost(candidates, size)
    if target.kind != "latency":
        search = CutSearch(candidates, scope)
        return _without(
            model, graph, find_cut(model, target, search, costs, weight_bits)
        )
    with listening(progress) as listen:
        times = build_latency_model(model, quantization=quantization, progress=listen)
        kept = functools.partial(_without, model, graph)
        return _cut_by_time(
            model, target, times, candidates, scope, costs, kept, listen
        )


def _with_room(
    candidates: Sequence[Candidates],
    graph: ChannelGraph,
    costs: CutCosts,
    max_arena: float,
    weight_bits: float,
) -> list[Candidates]:
    plain = PeakMemory(graph, costs, weight_bits=PLAIN_BITS)
    memory = PeakMemory(graph, costs, weight_bits=weight_bits)
    return within_arena(candidates, memory, arena_limit(max_arena, plain.arena({})))


def cut_to_arena(model: keras.Model, max_arena: int, weight_bits: float) -> keras.Model:
    """Cut a model for the sake of RAM alone, as far as can be; see `prune_channels`."""
    same: dict[str, Any] = {"ratio": 0.0, "weight_bits": weight_bits}
    try:
        return prune_channels(model, max_arena=max_arena, **same)
    except OutOfReachError as error:
        return prune_channels(model, max_arena=int(error.in_reach), **same)


def _without(model: keras.Model, graph: ChannelGraph, kept: KeptUnits) -> keras.Model:
    """The smaller model; what constant units added stays in biases."""
    folded = fold_constant_channels(model, graph, kept)
    if folded is not model:
        graph = trace_channels(folded)
    return remove_channels(folded, graph, kept)


ATTEMPTS = 3
_SLACK = 1.03  # times of the same file differ by as much
_ROUNDS = 15


def per_cost(candidates: Sequence[Candidates], cost: Cost) -> list[Candidates]:
    """Scores over what a unit of the group costs: cheap losses go first.

    The cost is in milliseconds or bytes of what is kept.
    """
    weighed = []
    whole = cost({})
    for group in candidates:
        count = max(group.allowed[0], group.size // 2)
        kept = {group.name: group.best(count)}
        saved = whole - cost(kept)
        unit = max(saved / max(group.size - count, 1), 1e-3 * whole / group.size)
        weighed.append(dataclasses.replace(group, scores=group.scores / unit))
    return weighed


def _cut_by_time(
    model: keras.Model,
    target: ChannelTarget,
    times: LatencyModel,
    candidates: Sequence[Candidates],
    scope: str,
    costs: CutCosts,
    build: Callable[[KeptUnits], keras.Model],
    progress: Listener,
) -> keras.Model:
    """Let units go that are worth least for each millisecond."""

    def cost(kept: KeptUnits) -> float:
        return times.milliseconds(costs.input_and_output(kept))

    search = CutSearch(per_cost(candidates, cost), scope)

    def find(limit: float) -> KeptUnits:
        return cut_within(search, cost, limit, target, times.measured)

    return cut_to_time(model, target, times, find, build, progress)


def cut_to_time(
    model: keras.Model,
    target: ChannelTarget,
    times: LatencyModel,
    find: Callable[[float], KeptUnits],
    build: Callable[[KeptUnits], keras.Model],
    progress: Listener,
) -> keras.Model:
    """Cut until the finished file takes as long as asked.

    Where the kernels' times foretold too little, the search is repeated with a limit
    in milliseconds for `find` that is lower by as much as the file was too slow. A
    `CompressionWarning` says the measured time where it is still more than was asked.
    """
    goal = target.amount(times.measured)
    limit = goal
    for attempt in range(1, ATTEMPTS + 1):
        try:
            smaller = build(find(limit))
        except OutOfReachError:
            if attempt == 1:
                raise
            break  # what the kernels foretell goes no lower
        before, after = measured_pair(model, smaller, times)
        wanted = target.amount(before)
        said = f"{after:.4g} ms measured, {wanted:.4g} asked, {before:.4g} before"
        progress(Progress(stage="Cutting", detail=said, done=attempt, total=ATTEMPTS))
        if after <= wanted * _SLACK:
            return smaller
        limit *= wanted / after
    warnings.warn(
        f"latency={target.value!r} was not quite met: {said}. "
        "Lower `round_to`, or let more layers be cut.",
        CompressionWarning,
        stacklevel=4,
    )
    return smaller


def measured_pair(
    model: keras.Model, smaller: keras.Model, times: LatencyModel
) -> tuple[float, float]:
    """Milliseconds of the files of two models, of the kind of `times`, in turns."""
    with temporary_folder("penjing-times") as folder:
        files = [Path(folder, name) for name in ("before.tflite", "after.tflite")]
        for one, file in zip((model, smaller), files, strict=True):
            export_to_time(one, file, times.quantization)
        report = measure_latency(
            files, threads=times.threads, rounds=_ROUNDS, progress=False
        )
    before, after = (row.milliseconds for row in report.files)
    return before, after
