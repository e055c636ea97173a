"""What the file of a trial costs to store and to run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import keras

from penjing.data.data_checks import first_batch
from penjing.data.data_sources import UserData
from penjing.measurement.latency import measure_latency
from penjing.measurement.macs import count_macs
from penjing.measurement.size import measure_size
from penjing.models.model_files import load_keras_model
from penjing.pipeline.file_stages import RESULT_FILE, RESULT_KERAS
from penjing.pipeline.staged_run import StagedRun
from penjing.runtime.tflm import FileInTflm, run_in_tflm
from penjing.specializing.data_sizes import at_sizes_of

_EXAMPLES = 8


def measure_costs(
    run: StagedRun, file: str, names: tuple[str, ...]
) -> dict[str, float]:
    """Measure the file to deploy; each cost is a stage of its own, kept when known.

    "raw" is always there, the others as `names` asks. A name that is none of `COSTS` is
    a ValueError.
    """
    costs: dict[str, float] = {}
    for name in dict.fromkeys(("raw", *names)):
        if name not in COSTS:
            raise ValueError(f"Unknown cost {name!r}. Allowed: {', '.join(COSTS)}.")
        measure = COSTS[name]
        paths = [run.folder / file]
        costs[name] = run.stage(f"Measuring {name}", paths, lambda: measure(run, file))  # noqa: B023
    return costs


def _raw(run: StagedRun, file: str) -> int:
    return measure_size(run.folder / file).raw


def _gzip(run: StagedRun, file: str) -> int:
    return measure_size(run.folder / file).gzip


def _latency(run: StagedRun, file: str) -> float:
    # LiteRT runs no packed file: the plain one that it is made of takes its place.
    inputs = functools.partial(example_inputs, run.model, run.data, "train")
    with at_sizes_of(run.folder / RESULT_FILE, inputs) as path:
        report = measure_latency(path, progress=False)
    return report.files[0].milliseconds / 1000


def _arena(run: StagedRun, file: str) -> int:
    content = Path(run.folder / file).read_bytes()
    samples = FileInTflm(content, file).rounds(1)[:1]
    return run_in_tflm(content, samples, where=file).arena.total


def _macs(run: StagedRun, file: str) -> int:
    model = load_keras_model(run.folder / RESULT_KERAS)
    return count_macs(model, input_shape=_free_shapes(model, run.data)).macs


def _free_shapes(model: keras.Model, data: UserData) -> Any:
    """Shapes of the data's examples, where the model leaves some sizes free."""
    inputs = getattr(model, "inputs", None)
    is_known = inputs and all(None not in tensor.shape[1:] for tensor in inputs)
    if is_known:
        return None
    x = example_inputs(model, data, "train")
    if isinstance(x, dict) and inputs:
        x = [x[tensor.name] for tensor in inputs]
    shapes = [array.shape[1:] for array in keras.tree.flatten(x)]
    return shapes if len(shapes) > 1 else shapes[0]


def example_inputs(model: keras.Model, data: Any, name: str) -> Any:
    """A few inputs of a part of the data, `"train"` or `"validation"`; None of none.

    Of a loader they are those of its first batch when it was first asked: shuffled, it
    has others each time, of other sizes too.
    """
    part = getattr(data, name, None)
    if part is None or isinstance(part, tuple):
        x = None if part is None else part[0]
    else:
        known = _first_inputs.setdefault(data, {})
        if name not in known:
            known[name] = first_batch(model, part, name)[0]
        x = known[name]
    return keras.tree.map_structure(lambda array: array[:_EXAMPLES], x)


_first_inputs: WeakKeyDictionary[UserData, dict[str, Any]] = WeakKeyDictionary()


COSTS: dict[str, Callable[[StagedRun, str], float]] = {
    "raw": _raw,
    "gzip": _gzip,
    "latency": _latency,
    "arena": _arena,
    "macs": _macs,
}
