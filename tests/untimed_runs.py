"""Runs without what takes seconds in each, and is tested elsewhere."""

import contextlib

import pytest

from penjing.pipeline import stages
from penjing.report.evidence import gathering, stored_weights
from penjing.report.evidence_rows import Evidence


@contextlib.contextmanager
def runs_untimed():
    """Let runs time neither files nor operators."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathering, "measure_times", lambda *arguments: ())
        patch.setattr(stored_weights, "times_of_tensors", lambda *arguments: {})
        yield


@contextlib.contextmanager
def runs_without_evidence():
    """Let runs look at no layers, weights and samples, nor time anything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stages, "gather_evidence", lambda sources: Evidence())
        yield
