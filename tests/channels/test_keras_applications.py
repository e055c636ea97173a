"""One of keras.applications, cut as `benchmarks/applications.py` cuts all of them."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.once
@pytest.mark.slow
def test_cut_architecture_is_exact_at_every_ratio_and_runs_as_a_file(monkeypatch):
    # Squeeze-and-excite, hard swish, residual sums and depthwise convolutions.
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.setenv("XLA_FLAGS", "")  # which it would set
    applications = importlib.import_module("applications")
    monkeypatch.setattr(applications, "_RATIOS", (0.5, 0.7))
    result = applications.measure("MobileNetV3Small", None)
    assert {row["exact"] for row in result["ratios"].values()} == {True}
    assert result["ratios"]["0.5"]["tflite_error"] < 1e-3
    assert result["ratios"]["0.7"]["macs"] < result["macs"] / 4
