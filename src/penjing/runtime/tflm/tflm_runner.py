"""Runs `.tflite` files in TensorFlow Lite Micro, and says what its arena holds."""

from __future__ import annotations

import dataclasses
import importlib.util
import platform
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from penjing.errors import FileFormatError, MissingDependencyError
from penjing.files import limit, raise_limits
from penjing.json_values import JsonValue
from penjing.runtime.file_bounds import bounds_for, ended, said
from penjing.runtime.kept_worker import KeptWorker
from penjing.runtime.tflm import tflm_worker
from penjing.runtime.worker_process import OrderError, WorkerEndError

TFLM = "TensorFlow Lite Micro"
# More than a microcontroller has; what nobody writes to takes no memory.
_ARENA = 2**28
_ADVICE = (
    "Write one for it with penjing.export_litert(model, path, quantization, "
    "runtime='micro')."
)

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Arena(JsonValue):
    """The one block of memory that TFLM works in, in bytes, on a 64-bit machine.

    It is that of TFLM's reference kernels. Pointers are half as wide on a
    microcontroller: somewhat less is needed there. Kernels for a processor, as those
    of CMSIS-NN, take scratch memory on top: about a tenth.

    Attributes:
        head: Activations, which take each other's place, and decoded weights.
        tail: What stays: descriptions of tensors, and what kernels prepared.
        total: The smallest arena with which the file starts and runs, in steps of 16.
            It was tried. It is more than head and tail where there are many tensors and
            small activations: see `planning`.
    """

    head: int
    tail: int
    total: int

    @property
    def planning(self) -> int:
        """Bytes beside head and tail that TFLM takes for a while, as the file starts.

        It plans the places of tensors with them; they are free again once it runs.
        """
        return self.total - self.head - self.tail

    def __str__(self) -> str:
        plan = f", {self.planning:,} while it starts" if self.planning > 0 else ""
        return (
            f"an arena of {self.total:,} bytes of RAM ({self.head:,} for activations, "
            f"{self.tail:,} that stay{plan}), with reference kernels somewhat less on "
            "a 32-bit device"
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TflmRun:
    """What a file gave in TFLM.

    Attributes:
        outputs: For each sample one array for each output, as the file stores them.
        arena: What it took.
        kept: For each sample that they were asked for, the values of tensors.
        kept_outputs: The outputs of that run, in which no tensor takes the place of
            another.
    """

    outputs: list[list[Array]]
    arena: Arena
    kept: list[list[Array]]
    kept_outputs: list[list[Array]]


def has_tflm() -> bool:
    """Whether TFLM is installed."""
    return importlib.util.find_spec("tflite_micro") is not None


def require_tflm() -> None:
    """Raise a MissingDependencyError that says how TFLM is installed, if it is not."""
    if has_tflm():
        return
    system, machine = platform.system(), platform.machine()
    if (system, machine) == ("Linux", "x86_64") and sys.version_info < (3, 15):
        raise MissingDependencyError(
            f"{TFLM} comes with the package `tflite-micro`, which is not installed. "
            'Install it with: pip install "penjing[micro]"'
        )
    raise MissingDependencyError(
        f"{TFLM} comes with the package `tflite-micro`, the extra penjing[micro], "
        "which exists for Linux on x86-64 and Python up to 3.14 alone; this is "
        f"{system} on {machine} with Python {platform.python_version()}. Files for "
        "microcontrollers can be written here, but proven there alone, in a container "
        "say."
    )


class TflmRunner(KeptWorker):
    """Runs `.tflite` files in TFLM, one after the other, in a process of its own.

    It is a context manager: the process ends with the block. A file that ends it does
    not harm the next, which gets a new one. Where TFLM is not installed, it is a
    MissingDependencyError.
    """

    source = tflm_worker.__file__

    def __init__(self) -> None:
        super().__init__()
        require_tflm()

    def run(
        self,
        content: bytes,
        inputs: Sequence[Sequence[Array]],
        *,
        where: str = "the file",
        tensors: Sequence[int] = (),
        kept: int = 0,
    ) -> TflmRun:
        """Run a file on samples.

        Args:
            content: The file.
            inputs: For each sample one array for each input of the file, in its order,
                of the shape and type that the file stores.
            where: What messages call the file.
            tensors: Numbers of tensors of the main graph whose values are wanted.
            kept: For how many samples, the first ones.

        Returns:
            Outputs, arena and tensors.

        Raises:
            FileFormatError: If TFLM refuses the file, with its own reason; if the file
                crashes it, or takes more time or memory than a file may.
        """
        self._make_room(content)
        rounds = [list(arrays) for arrays in inputs]
        try:
            answer = self._asked(content, rounds, tensors=list(tensors), kept=kept)
        except OrderError as error:
            raise _refused(where, error) from error
        except WorkerEndError as error:
            self.close()
            raise ended(where, error, runtime=TFLM) from error
        watched = answer["kept"] or {"tensors": [], "outputs": []}
        return TflmRun(
            outputs=answer["outputs"],
            arena=Arena(**answer["arena"]),
            kept=watched["tensors"],
            kept_outputs=watched["outputs"],
        )

    def _memory(self) -> int:
        return super()._memory() + limit(_ARENA)

    def _asked(
        self, content: bytes, rounds: list[list[Array]], **watched: Any
    ) -> dict[str, Any]:
        worker = self.start()
        sizes = [sum(array.nbytes for array in arrays) for arrays in rounds]
        bounds = bounds_for(self._largest, declared=sum(sizes))
        bounds = dataclasses.replace(bounds, memory=bounds.memory + limit(_ARENA))
        return worker.ask(
            "run",
            bounds=bounds,
            file=self._stored(worker, content),
            rounds=rounds,
            arena=limit(_ARENA),
            **watched,
        )


def run_in_tflm(
    content: bytes, inputs: Sequence[Sequence[Array]], *, where: str = "the file"
) -> TflmRun:
    """Run a file on samples in a new process; see `TflmRunner.run`.

    A MissingDependencyError where TFLM is not installed.
    """
    with TflmRunner() as runner:
        return runner.run(content, inputs, where=where)


def _refused(where: str, error: OrderError) -> Exception:
    if error.kind in ("ImportError", "ModuleNotFoundError"):
        return MissingDependencyError(
            f"The package `tflite-micro` does not load: {said(error)} Install it anew, "
            'with: pip install "penjing[micro]"'
        )
    text = said(error)
    lacks = "Failed to resize buffer" in text or "Failed to allocate" in text
    advice = f" {_ADVICE}" if error.kind == "RuntimeError" else ""
    if lacks or error.kind == "MemoryError":
        advice = f" {raise_limits()}"
    return FileFormatError(f"{TFLM} cannot run {where}: {text}{advice}")
