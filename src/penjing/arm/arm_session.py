"""`.tflite` files in LiteRT on an emulated ARM processor: loaded and run on order."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penjing.arguments import check_counts
from penjing.arm import arm_worker
from penjing.arm.arm_packages import ArmFolder, find_arm
from penjing.arm.emulator import ENVIRONMENT, check_processor, python_command
from penjing.arm.pinned_files import pinned
from penjing.errors import CompressionError, DataError, FileFormatError
from penjing.files import raise_limits, temporary_folder
from penjing.runtime.file_bounds import bounds_for, most_output, said
from penjing.runtime.interpreter import described_tensors
from penjing.runtime.reference_model import fixed_description
from penjing.runtime.worker_process import (
    Bounds,
    OrderError,
    WorkerEndError,
    WorkerProcess,
)

_SLOWER = 40
"""How much slower a file may be in the emulator."""

Array = np.ndarray[Any, Any]


class ArmSession:
    """LiteRT on ARM in a process of its own; it is a context manager.

    The engine is one of `emulator.PROCESSORS`. `runtime` tells what runs the files, as
    "LiteRT 2.3.0 on cortex-a72 in QEMU". The process stays up for any number of files:
    starting it takes some seconds.

    Args:
        engine: The processor that QEMU plays.
        threads: Threads that the runtime may use.
        folder: Where all is. None: where `penjing setup-arm` put it.
        qemu: Another QEMU than the fetched one.
        options: What it is given besides.

    Raises:
        MissingDependencyError: If `penjing setup-arm` was not run, or this is not Linux
            on x86-64.
        CompressionError: If QEMU or LiteRT does not start.
        ValueError: If an argument is out of range.
    """

    def __init__(
        self,
        engine: str = "cortex-a72",
        *,
        threads: int = 1,
        folder: ArmFolder | None = None,
        qemu: str | None = None,
        options: Sequence[str] = (),
    ) -> None:
        check_processor(engine)
        check_counts(threads=threads)
        arm = folder or find_arm()
        self.threads = threads
        self.runtime = f"LiteRT {pinned()['litert']} on {engine} in QEMU"
        self._names = itertools.count()
        with contextlib.ExitStack() as stack:
            root = stack.enter_context(temporary_folder("penjing-arm"))
            python = python_command(arm, engine, root, qemu=qemu, options=options)
            self._worker = stack.enter_context(
                WorkerProcess(
                    arm_worker.__file__,
                    environment={**ENVIRONMENT, "PYTHONPATH": str(arm.modules)},
                    python=python,
                )
            )
            self._start()
            self._stack = stack.pop_all()

    def _start(self) -> None:
        try:
            self._worker.ask("start", seconds=bounds_for(0).seconds * _SLOWER)
        except (OrderError, WorkerEndError) as error:
            raise CompressionError(
                f"{self.runtime} does not start: {said(error)} Where files of it are "
                "damaged, penjing setup-arm fetches them anew."
            ) from error
        self._reserved = _reserved(self._worker.process.pid)

    def load(self, content: bytes, where: str) -> ArmModel:
        """Load the bytes of a `.tflite` file; `where` is what messages call it.

        What LiteRT cannot load there is a FileFormatError.
        """
        return ArmModel(self, content, where)

    def keep(self, content: bytes) -> tuple[str, Path]:
        """Write bytes where the process can read them; gives a new name and a path."""
        name = str(next(self._names))
        path = self._worker.folder / f"{name}.tflite"
        path.write_bytes(content)
        return name, path

    def ask(
        self, method: str, where: str, bounds: Bounds, **arguments: Any
    ) -> dict[str, Any]:
        """Give an order about a file; what fails is a FileFormatError."""
        longer = Bounds(memory=bounds.memory, seconds=bounds.seconds * _SLOWER)
        _limit_memory(self._worker.process.pid, self._reserved + bounds.memory)
        try:
            return self._worker.ask(method, bounds=longer, **arguments)
        except OrderError as error:
            raise FileFormatError(
                f"LiteRT on ARM cannot run {where}: {said(error)} The file is damaged, "
                f"or it needs what this runtime does not have. {raise_limits()}"
            ) from error
        except WorkerEndError as error:
            happened = (
                f"ended with exit code {error.exit_code}"
                if error.seconds is None
                else f"was ended after {error.seconds:g} seconds"
            )
            raise FileFormatError(
                f"LiteRT on ARM {happened} at {where}: the file is damaged, or it "
                f"takes more than it may. {error.last_words}{raise_limits()}"
            ) from error

    def close(self) -> None:
        """End the process."""
        self._stack.close()

    def __enter__(self) -> ArmSession:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class ArmModel:
    """A `.tflite` file in an `ArmSession`, or a FileFormatError if it does not load.

    `inputs` and `outputs` are in the order of the file's signature. Sizes that it
    leaves free are those that it stores: a batch of 1.
    """

    def __init__(self, session: ArmSession, content: bytes, where: str) -> None:
        self._session, self._where, self._size = session, where, len(content)
        self._name, path = session.keep(content)
        self._arrays: list[Array] = []
        described = self._ask("open", file=str(path), threads=session.threads)
        self.inputs, self.outputs, self._places = described_tensors(
            fixed_description(described)
        )

    def feed(self, arrays: Sequence[Array]) -> None:
        """Set the inputs of the next runs; a DataError if the arrays do not fit."""
        found = [(array.shape, array.dtype.name) for array in arrays]
        wanted = [(spec.shape, spec.dtype) for spec in self.inputs]
        fits = len(found) == len(wanted) and all(
            spec.dtype == array.dtype.name and spec.fits(array.shape)
            for spec, array in zip(self.inputs, arrays, strict=True)
        )
        if not fits:
            raise DataError(
                f"{self._where} takes inputs of the shapes and types {wanted} on ARM, "
                f"got {found}."
            )
        self._arrays = [np.ascontiguousarray(array) for array in arrays]

    def run(self) -> list[Array]:
        """Run it once; gives one array for each output, in the order of `outputs`."""
        most = most_output(self._fed)
        stored = self._ask("run", inputs=self._arrays, most=most)["outputs"]
        return [stored[place] for place in self._places]

    def count(self, runs: int, counter: Path) -> list[int]:
        """Instructions of each of `runs` runs on the inputs of the last `run`.

        `counter` is the file into which the emulator counts.
        """
        answer = self._ask("count", runs=runs, counter=str(counter))
        return [int(value) for value in answer["counts"]]

    def close(self) -> None:
        """Free its memory."""
        self._ask("close")

    @property
    def _fed(self) -> int:
        return sum(array.nbytes for array in self._arrays)

    def _ask(self, method: str, *, runs: int = 0, **arguments: Any) -> dict[str, Any]:
        bounds = bounds_for(self._size, inputs=self._fed, threads=self._session.threads)
        if runs:
            bounds = Bounds(memory=bounds.memory, seconds=bounds.seconds * runs)
            arguments["runs"] = runs
        return self._session.ask(
            method, self._where, bounds, name=self._name, **arguments
        )


def _reserved(process: int) -> int:
    """Bytes that a process has reserved."""
    pages = Path(f"/proc/{process}/statm").read_text().split()[0]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


def _limit_memory(process: int, most: int) -> None:
    """Limit what the emulator reserves; it does not do so for the program in it."""
    import resource  # which Windows has not

    kind = resource.RLIMIT_AS
    with contextlib.suppress(OSError, ValueError):  # it ended
        hard = resource.prlimit(process, kind)[1]
        if hard == resource.RLIM_INFINITY or most < hard:
            resource.prlimit(process, kind, (most, hard))
