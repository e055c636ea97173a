"""The Python of the README runs, on a small model and little data."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import keras
import numpy as np
import pytest

import penjing

README = Path(__file__).resolve().parents[1] / "README.md"


def checked(function):
    """Takes what the function takes, and does nothing: a recipe takes minutes."""

    def call(*args, **kwargs):
        inspect.signature(function).bind(*args, **kwargs)

    return call


@pytest.mark.once
def test_the_code_of_the_readme_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = README.read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```$", text, flags=re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    assert "end_step=2000" in blocks[0]
    code = "\n".join(blocks).replace("end_step=2000", "end_step=16")
    x = np.random.default_rng(0).normal(size=(96, 8)).astype("float32")
    y = (x.sum(axis=1) > 0).astype("int32")
    trained = keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(32, "relu"),
            keras.layers.Dense(2, "softmax"),
        ]
    )
    loss = "sparse_categorical_crossentropy"
    trained.compile("adam", loss, metrics=["accuracy"])
    monkeypatch.setattr(penjing, "compress", checked(penjing.compress))
    data = {"x_train": x, "y_train": y, "x_test": x[:32], "y_test": y[:32]}
    exec(compile(code, str(README), "exec"), {"trained": trained, "loss": loss, **data})
    assert "accuracy" in capsys.readouterr().out
    assert (tmp_path / "small.tflite").is_file()
