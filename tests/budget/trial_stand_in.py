"""What stands in for a trial in tests of workers: the recipe says what happens."""

from __future__ import annotations

import json
import os
import signal
import time
import warnings
from pathlib import Path

import keras
import numpy as np

from penjing.budget.trial import TrialOutcome
from penjing.errors import CompressionError, CompressionWarning
from penjing.progress import Progress

RUN = f"{__name__}:run"


def run(order, model, data, folder, *, progress):
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "tries").open("a") as file:
        file.write(f"{os.getpid()}\n")
    progress(Progress(stage="Training", done=1, total=2))
    what = dict(order.recipe)
    for step in what.get("steps", ()):
        _STEPS[step](what)
    (folder / "model.tflite").write_bytes(what_is_there(model, data))
    outcome = TrialOutcome(
        name=order.name,
        status="finished",
        file="model.tflite",
        metrics={"accuracy": 0.5},
        costs={"raw": 3},
        steps=1,
        seconds=0.1,
        sparsity=0.0,
    )
    (folder / "outcome.json").write_text(json.dumps(outcome.to_dict()))
    return outcome


def what_is_there(model, data):
    """All that a trial is given, as bytes."""
    arrays = [keras.ops.convert_to_numpy(w.value) for w in model.weights]
    arrays += keras.tree.flatten([data.train, data.validation])
    told = [data.test, data.source, data.notes, data.class_names, model.compiled]
    told += [keras.config.epsilon(), keras.config.dtype_policy().name]
    told += [str(np.asarray(array).dtype) for array in arrays]
    content = b"".join(np.asarray(array).tobytes() for array in arrays)
    return json.dumps(told).encode() + content


def _wait_for(what):
    """Until somebody else has come as far."""
    folder, limit = Path(what["folder"]), time.monotonic() + 60
    (folder / what["own"]).touch()
    while not (folder / what["other"]).exists():
        if time.monotonic() > limit:
            raise TimeoutError
        time.sleep(0.02)


def _crash_once(what):
    marker = Path(what["folder"], "crashed")
    if not marker.exists():
        marker.touch()
        os.abort()


def _die_once(what):
    marker = Path(what["folder"], "died")
    if not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def _refuse(what):
    raise CompressionError("Cannot write: No space left on device.")


_STEPS = {
    "wait": _wait_for,
    "crash once": _crash_once,
    "die once": _die_once,
    "die": lambda what: os.kill(os.getpid(), signal.SIGKILL),
    "crash": lambda what: os.abort(),
    "warn": lambda what: warnings.warn("look", CompressionWarning, stacklevel=2),
    "refuse": _refuse,
    "sleep": lambda what: time.sleep(600),
}
