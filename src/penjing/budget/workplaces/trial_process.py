"""A process that runs trials, and what it takes over from the one that started it."""

from __future__ import annotations

import dataclasses
import json
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import keras
import numpy as np

from penjing.budget.trial import TrialOrder
from penjing.budget.workplaces.shared_inputs import SharedInputs
from penjing.budget.workplaces.workplace import RunTrial, function_named
from penjing.errors import CompressionWarning
from penjing.models.own_classes import looking_in
from penjing.progress import Progress

_MODEL, _INDEX = "model.keras", "inputs.json"
# The threads of OpenMP, BLAS, TensorFlow, and of JAX on a CPU.
_THREADS = (
    *("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"),
    *("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "NPROC"),
)


class Worker:
    """The end of `runtime.worker_process` that works; it tells events and warnings."""

    tell: Callable[[Any], None]

    def open(self, folder: str, run: str) -> dict[str, Any]:
        """Load model and data from the files of `write_inputs`."""
        inputs = read_inputs(Path(folder))
        self._model, self._data = inputs.load()
        with looking_in(inputs.index["places"]):
            self._run: RunTrial = function_named(run)
        return {}

    def run(self, order: dict[str, Any], folder: str) -> dict[str, Any]:
        """Run one trial in its folder."""
        with telling_warnings(lambda text: self.tell({"warning": text})):
            outcome = self._run(
                TrialOrder.from_dict(order),
                self._model,
                self._data,
                Path(folder),
                progress=lambda event: self.tell({"event": dataclasses.asdict(event)}),
            )
        return {"outcome": outcome.to_dict(), "bytes": _resident()}


def _resident() -> int:
    """Bytes of memory that this process takes; 0 where nobody tells."""
    pages = Path("/proc/self/statm")
    if not pages.exists():
        return 0
    return int(pages.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def write_inputs(inputs: SharedInputs, folder: Path) -> None:
    """Write what `read_inputs` reads; arrays as files that are mapped into memory."""
    (folder / _MODEL).write_bytes(inputs.model)
    kinds = []
    for number, array in enumerate(inputs.arrays):
        plain = array.dtype.kind in "biuf"  # NumPy's files do not know bfloat16
        np.save(folder / f"{number}.npy", array if plain else array.view("u2"))
        kinds.append(str(array.dtype))
    index = {"kinds": kinds, "index": inputs.index}
    (folder / _INDEX).write_text(json.dumps(index), "utf-8")


def read_inputs(folder: Path) -> SharedInputs:
    """Read what `write_inputs` wrote; what is written to an array stays here."""
    table = json.loads((folder / _INDEX).read_text("utf-8"))
    arrays = [
        np.asarray(np.load(folder / f"{number}.npy", mmap_mode="c")).view(kind)
        for number, kind in enumerate(table["kinds"])
    ]
    model = (folder / _MODEL).read_bytes()
    return SharedInputs(index=table["index"], model=model, arrays=arrays)


@contextmanager
def telling_warnings(tell: Callable[[str], None]) -> Iterator[None]:
    """Tell what penjing warns of in the block, instead of showing it here."""
    with warnings.catch_warnings():
        warnings.simplefilter("always", CompressionWarning)
        shown = warnings.showwarning

        def show(
            message: Warning | str, category: type[Warning], *rest: Any, **more: Any
        ) -> None:
            if issubclass(category, CompressionWarning):
                tell(str(message))
            else:
                shown(message, category, *rest, **more)

        warnings.showwarning = show
        yield


def surroundings(processes: int) -> dict[str, str]:
    """Variables for one of so many processes: the backend, and its share of cores."""
    return surroundings_with(max(1, _cores() // processes))


def surroundings_with(share: int) -> dict[str, str]:
    """Variables for a process that may have so many threads."""
    return {
        "KERAS_BACKEND": keras.backend.backend(),
        "TF_CPP_MIN_LOG_LEVEL": os.environ.get("TF_CPP_MIN_LOG_LEVEL", "3"),
        # Each takes what it needs of an accelerator's memory, not all of it.
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        **{name: str(_fewer(os.environ, name, share)) for name in _THREADS},
    }


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _fewer(environment: Mapping[str, str], name: str, share: int) -> int:
    """The share, or what the user allows where that is less."""
    said = environment.get(name, "")
    return min(share, int(said)) if said.isdecimal() and int(said) else share


def event_of(told: Mapping[str, Any]) -> Progress:
    """The message that a worker told of."""
    return Progress(**told["event"])
