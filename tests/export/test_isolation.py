"""Conversion in another process: what it gives, and what is said where it fails."""

from __future__ import annotations

import tempfile

import keras
import numpy as np
import pytest
from keras import layers
from tests.export.kept_converter import KeptConverter

import penjing
from penjing.errors import DataError, ExportError
from penjing.export import isolation
from penjing.export.conversion_config import ConversionConfig
from penjing.export.isolation import convert_in_subprocess
from penjing.models.signature import input_signature
from penjing.runtime.interpreter import LiteRTModel
from penjing.runtime.loaded_file import end_idle

pytestmark = pytest.mark.once

# What happens in the converting process alone.
MODULE = """
import keras, os, sys

if sys.argv[0].endswith("worker_process.py"):
    {there}

@keras.saving.register_keras_serializable("{name}")
class Own(keras.layers.Layer):
    def call(self, inputs):
        return inputs * 3.0
"""


@pytest.fixture(autouse=True)
def temporary(tmp_path, monkeypatch):
    """Nothing may be left in the folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    end_idle()
    assert not list(folder.iterdir())


@pytest.fixture
def with_module(tmp_path, monkeypatch):
    """Makes a model with a class of a module that does something over there."""

    def make(name, there):
        (tmp_path / f"{name}.py").write_text(MODULE.format(there=there, name=name))
        monkeypatch.syspath_prepend(tmp_path)
        own = __import__(name).Own()
        return keras.Sequential([keras.Input((4,)), layers.Dense(3), own])

    return make


@pytest.fixture(scope="module")
def kept():
    converter = KeptConverter()
    yield converter
    converter.close()


@pytest.fixture
def one_process(kept, monkeypatch):
    """For tests of what is asked and answered, not of the process itself."""
    monkeypatch.setattr(isolation, "WorkerProcess", kept)


def converted(model, config=None, samples=None, imports=()):
    signature = input_signature(model)
    config = config or ConversionConfig()
    return convert_in_subprocess(model, signature, config, samples, imports).content


def test_a_class_is_found_and_noise_does_not_matter(with_module, tmp_path):
    model = with_module("noisy", "print('x' * 100_000); os.write(2, b'noise')")
    path = tmp_path / "model.tflite"
    path.write_bytes(converted(model))
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    np.testing.assert_allclose(
        LiteRTModel(path).predict(x), model.predict(x, verbose=0), atol=1e-5
    )


@pytest.mark.usefixtures("one_process")
def test_samples_calibrate(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    x = np.random.default_rng(0).uniform(0, 2, (50, 4)).astype("float32")
    path = tmp_path / "model.tflite"
    config = ConversionConfig(quantization="int8", input_type="int8")
    path.write_bytes(converted(model, config, [x]))
    (given,) = LiteRTModel(path).inputs
    assert given.dtype == "int8"
    assert given.scale == pytest.approx(x.max() / 255, rel=0.01)


def test_the_last_words_of_a_process_that_ends_are_said(with_module):
    model = with_module("farewell", "print('farewell', flush=True); os._exit(5)")
    with pytest.raises(ExportError, match=r"(?s)exit code 5\).*\nfarewell"):
        converted(model)


@pytest.mark.usefixtures("one_process")
def test_a_module_that_cannot_be_imported_there_is_named(with_module):
    model = with_module("broken_there", "import no_such")
    message = "`broken_there`.* cannot be imported .*No module named 'no_such"
    with pytest.raises(ExportError, match=f"(?s){message}"):
        converted(model)


@pytest.mark.usefixtures("one_process")
def test_a_class_that_cannot_be_made_again_is_said():
    class Local(layers.Layer):
        def __init__(self, factor):
            super().__init__()
            self.factor = factor

        def call(self, inputs):
            return inputs * self.factor

    model = keras.Sequential([keras.Input((4,)), Local(2.0)])
    with pytest.raises(ExportError, match="(?s)cannot (load|be saved).*`get_config`"):
        converted(model)


@pytest.mark.usefixtures("one_process")
def test_what_tensorflow_cannot_convert_is_said_as_it_says_it():
    model = keras.Sequential([keras.Input((4, 4)), layers.LSTM(2)])
    with pytest.raises(ExportError, match="16-bit kernels") as said:
        converted(
            model,
            ConversionConfig(quantization="int16x8"),
            [np.zeros((4, 4, 4), "float32")],
        )
    assert "cannot load the model" not in str(said.value)


def test_strangers_modules_in_the_current_folder_are_not_run(
    with_module, monkeypatch, tmp_path
):
    """The user's own module there is, by its name, and what it imports."""
    (tmp_path / "beside_it.py").write_text("factor = 3.0")
    for name in ("numpy", "tensorflow", "colorsys"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('a stranger ran')")
    model = with_module("named_here", "import beside_it")
    monkeypatch.chdir(tmp_path)
    assert converted(model)


def test_what_penjing_says_over_there_is_said_here():
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(3),
            layers.Activation("gelu"),
        ]
    )
    x = np.ones((8, 4), "float32")
    trained = penjing.quantize_aware(model, activations="int8", calibration_data=x)
    config = ConversionConfig(quantization="int8", output_type="int8")
    with pytest.raises(DataError, match="Integer inputs or outputs were asked for"):
        convert_in_subprocess(trained, input_signature(trained.model), config)
