"""One of keras.applications, cut as `benchmarks/applications.py` cuts all of them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "applications.py"


@pytest.mark.once
@pytest.mark.slow
def test_cut_architecture_is_exact_at_every_ratio_and_runs_as_a_file():
    # Squeeze-and-excite, hard swish, residual sums and depthwise convolutions.
    worker = subprocess.run(
        [sys.executable, str(SCRIPT), "--worker", "MobileNetV3Small"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    result = json.loads(worker.stdout.splitlines()[-1])
    assert "ratios" in result, f"{result}\n{worker.stderr[-2000:]}"
    assert {row["exact"] for row in result["ratios"].values()} == {True}
    assert result["ratios"]["0.5"]["tflite_error"] < 1e-3
    assert result["ratios"]["0.7"]["macs"] < result["macs"] / 4
