"""The examples, run as their users run them, on less data."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(script, *arguments):
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.once
def test_the_article_runs(tmp_path):
    output = run(
        "article.py",
        *("--images", 640, "--epochs", 2, "--pruning-epochs", 1, "--out", tmp_path),
    )
    assert "Total params: 40,805" in output
    assert "First kernel, 80% zeros" in output
    assert "Total params: 20,410" in output
    sizes = dict(re.findall(r"(\S+): [\d,]+ bytes gzipped, ([\d,]+) zipped", output))
    zipped = {name: int(size.replace(",", "")) for name, size in sizes.items()}
    assert list(zipped) == ["baseline.h5", "pruned.h5", "pruned.tflite"]
    assert zipped["baseline.h5"] > 3 * zipped["pruned.h5"]
    assert zipped["baseline.h5"] > 8 * zipped["pruned.tflite"]
    accuracies = dict(re.findall(r"(\w[\w ]+) accuracy: (\d\.\d+)", output))
    assert list(accuracies) == ["Baseline", "Pruned", "Pruned and quantized"]
    assert float(accuracies["Baseline"]) > 0.3
    pruned = float(accuracies["Pruned"])
    # Eight bits move a few images over the border.
    assert float(accuracies["Pruned and quantized"]) == pytest.approx(pruned, abs=0.03)
    assert (tmp_path / "logs" / "metrics").is_dir()
