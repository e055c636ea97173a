"""A process that runs file after file, and is started anew where one needs more."""

from __future__ import annotations

from typing import ClassVar, Self

from penjing.runtime.file_bounds import bounds_for
from penjing.runtime.worker_process import WorkerProcess


class KeptWorker:
    """Keeps the process of a runtime from file to file; it ends with the block.

    Those who run files say what defines the process, as `WorkerProcess` takes it.
    """

    source: ClassVar[str]

    def __init__(self) -> None:
        self._worker: WorkerProcess | None = None
        self._largest = 0

    def start(self, room: int = 0) -> WorkerProcess:
        """Start the process if there is none, while this program does other things.

        It has room for files of so many bytes, as far as that is known.
        """
        if self._worker is None:
            self._largest = max(self._largest, room)
            self._worker = WorkerProcess(self.source, memory=self._memory())
        return self._worker

    def close(self) -> None:
        """End the process, if there is one."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None

    def _memory(self) -> int:
        """Bytes that the process may take."""
        return bounds_for(self._largest).memory

    def _make_room(self, content: bytes) -> None:
        """Let go of a process that may take less than a file needs."""
        if len(content) > self._largest:
            self.close()
            self._largest = len(content)

    def _stored(self, worker: WorkerProcess, content: bytes) -> str:
        """Write a file where the process reads it."""
        file = worker.folder / "model.tflite"
        file.write_bytes(content)
        return str(file)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
