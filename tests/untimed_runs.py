"""Runs that do not time their files: seconds in each, and tested elsewhere."""

import contextlib

import pytest

from penjing.report.evidence import gathering, stored_weights


@contextlib.contextmanager
def runs_untimed():
    """Let runs time neither files nor operators."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "measure_times", lambda *arguments: ())
        patch.setattr(stored_weights, "times_of_tensors", lambda *arguments: {})
        yield
