"""A process that converts for many tests: TensorFlow takes five seconds to load."""

from __future__ import annotations

import tempfile

import pytest

from penjing.runtime.worker_process import WorkerProcess


class KeptConverter:
    """Stands for the process of one conversion on JAX and PyTorch: goes on to the next.

    `tests/export/test_isolation.py` starts one for each, as programs do.
    """

    def __init__(self):
        self._worker = None

    def __call__(self, *arguments, **options):
        if self._worker is None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(tempfile, "tempdir", None)  # a test may have its own
                self._worker = WorkerProcess(*arguments, **options)
        return self

    def __enter__(self):
        return self._worker

    def __exit__(self, *error):
        if self._worker.process.poll() is not None:
            self.close()

    def close(self):
        if self._worker is not None:
            self._worker.close()
            self._worker = None
