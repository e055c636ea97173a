"""What the training tests share: a tiny model, its data, and what to check after."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

import penjing

BACKEND = keras.backend.backend()
BATCH, STEPS_PER_EPOCH = 16, 4


def make_data(outputs: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Four batches of inputs and labels, the same in every process."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(BATCH * STEPS_PER_EPOCH, 8)).astype("float32")
    rule = rng.normal(size=(8, outputs)).astype("float32")
    return x, np.argmax(x @ rule, axis=-1).astype("int32")


def make_model() -> keras.Model:
    """Two dense layers of 128 and 64 kernel weights; the head is always float32."""
    return keras.Sequential(
        [
            keras.Input((8,), name="features"),
            keras.layers.Dense(16, activation="relu", name="hidden"),
            keras.layers.Dense(4, dtype="float32", name="head"),
        ]
    )


def make_loss() -> keras.losses.Loss:
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def compiled(model: keras.Model, **options: Any) -> keras.Model:
    """The model, compiled for plain gradient descent unless said otherwise."""
    options = {"loss": make_loss(), "metrics": ["accuracy"], **options}
    model.compile(options.pop("optimizer", keras.optimizers.SGD(0.1)), **options)
    return model


def ramp(begin_step: int = 0, end_step: int = 7, frequency: int = 3) -> Any:
    """A schedule whose last step falls between two multiples of its frequency."""
    return penjing.PolynomialDecay(
        initial_sparsity=0.25,
        final_sparsity=0.75,
        begin_step=begin_step,
        end_step=end_step,
        frequency=frequency,
    )


def arrays(model: keras.layers.Layer) -> list[np.ndarray]:
    """Trainable weights, in the model's order."""
    return [to_array(variable) for variable in model.trainable_variables]


def to_array(value: Any) -> np.ndarray:
    value = getattr(value, "value", value)
    return keras.ops.convert_to_numpy(keras.ops.cast(value, "float32"))


def kernels(model: keras.layers.Layer) -> dict[str, np.ndarray]:
    """Kernels of a plain or compressed model by path."""
    return {
        variable.path: to_array(variable)
        for variable in model.trainable_variables
        if variable.path.endswith("kernel")
    }


def zeros(model: keras.layers.Layer) -> dict[str, float]:
    """Fraction of zeros of every kernel, by path."""
    return {path: float((value == 0).mean()) for path, value in kernels(model).items()}


def check_sparsity(model: keras.Model, sparsity: float = 0.75) -> keras.Model:
    """Exactly `sparsity` in the stripped model, which computes what `model` does."""
    stripped = penjing.strip(model)
    assert not penjing.is_compressed(stripped)
    assert set(zeros(stripped).values()) == {sparsity}
    x, _ = make_data()
    np.testing.assert_allclose(
        to_array(stripped(x[:4], training=False)),
        to_array(model(x[:4], training=False)),
        atol=1e-6,  # the same weights; only the compiler may fuse differently
    )
    return stripped


def assert_same_weights(left: Any, right: Any, atol: float = 1e-6) -> None:
    """Equal trainable weights, to what reordered float32 sums may differ by."""
    for mine, yours in zip(arrays(left), arrays(right), strict=True):
        np.testing.assert_allclose(mine, yours, atol=atol, rtol=1e-5)


def run_script(script: str, folder: Path, **environment: str) -> str:
    """Standard output of a Python script in a process of its own."""
    path = folder / "script.py"
    path.write_text(script)
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    search_path = os.pathsep.join(str(Path(each).resolve()) for each in given if each)
    done = subprocess.run(
        [sys.executable, str(path)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": search_path, **environment},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout
