"""Cuts to a time: chosen by times of kernels, checked on the finished file."""

from __future__ import annotations

import dataclasses
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from penjing.errors import CompressionWarning
from penjing.export.litert import export_litert
from penjing.export.samples import random_samples
from penjing.measurement.latency import measure_latency
from penjing.measurement.latency_model import LatencyModel
from penjing.measurement.layer_calls import known_signature
from penjing.methods.channel_costs import CutCosts
from penjing.methods.channel_search import Candidates, KeptUnits
from penjing.methods.channel_target import ChannelTarget
from penjing.progress import Listener, Progress

ATTEMPTS = 3
_SLACK = 1.03  # times of the same file differ by as much
_CALIBRATION_SAMPLES = 8
_ROUNDS = 15


def per_millisecond(
    candidates: Sequence[Candidates], costs: CutCosts, times: LatencyModel
) -> list[Candidates]:
    """Scores over the time that a unit of the group takes: cheap losses go first.

    Args:
        candidates: The groups that can be cut.
        costs: Sizes after a cut.
        times: Times of the model's kernels.
    """
    weighed = []
    whole = times.milliseconds()
    for group in candidates:
        count = max(group.allowed[0], group.size // 2)
        kept = {group.name: group.best(count)}
        saved = whole - times.milliseconds(costs.input_and_output(kept))
        unit = max(saved / max(group.size - count, 1), 1e-3 * whole / group.size)
        weighed.append(dataclasses.replace(group, scores=group.scores / unit))
    return weighed


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
    that is lower by as much as the file was too slow.

    Args:
        model: The whole model.
        target: The time that stays.
        times: Times of the model's kernels.
        find: Gives the cut whose foretold time is at most a number of milliseconds.
        build: Makes the smaller model.
        progress: Is told what was measured.

    Returns:
        The smaller model. A `CompressionWarning` says the measured time where it is
        still more than was asked for.
    """
    goal = target.amount(times.measured)
    limit = goal
    for attempt in range(1, ATTEMPTS + 1):
        smaller = build(find(limit))
        before, after = measured_pair(model, smaller, times)
        wanted = target.amount(before)
        said = f"{after:.4g} ms measured, {wanted:.4g} asked, {before:.4g} before"
        progress(Progress(stage="Cutting", detail=said, done=attempt, total=ATTEMPTS))
        if after <= wanted * _SLACK:
            return smaller
        limit *= wanted / after
    warnings.warn(
        f"latency={target.value!r} was not quite met in {ATTEMPTS} attempts: {said}. "
        "Ask for less time, or lower `round_to`.",
        CompressionWarning,
        stacklevel=3,
    )
    return smaller


def measured_pair(
    model: keras.Model, smaller: keras.Model, times: LatencyModel
) -> tuple[float, float]:
    """Milliseconds of the files of two models, measured in turns.

    Args:
        model: The whole model.
        smaller: The cut one.
        times: Says the kind of file and the threads.
    """
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder, name) for name in ("before.tflite", "after.tflite")]
        for one, file in zip((model, smaller), files, strict=True):
            samples = None
            if times.quantization == "int8":
                signature = known_signature(one)
                samples = random_samples(signature, one, _CALIBRATION_SAMPLES)
            export_litert(
                one,
                file,
                times.quantization,
                representative_data=samples,
                verify=False,
            )
        report = measure_latency(
            files, threads=times.threads, rounds=_ROUNDS, progress=False
        )
    before, after = (row.milliseconds for row in report.files)
    return before, after
