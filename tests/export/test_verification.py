"""The error measure by hand."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import ops

import penjing
from penjing.export import verification
from penjing.export.verification import output_error
from penjing.tflite.tensors import TensorType


def test_the_error_is_relative_to_the_spread():
    expected = np.array([100.0, 104.0, 100.0, 104.0])  # Standard deviation 2.
    assert output_error(expected + 1.0, expected) == pytest.approx(0.5)
    assert output_error(expected, expected) == 0.0


def test_a_constant_output_is_measured_against_its_size():
    expected = np.full(4, 10.0)  # One percent of its size is 0.1.
    assert output_error(expected + 0.01, expected) == pytest.approx(0.1)
    assert output_error(np.zeros(4), np.zeros(4)) == 0.0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_gives_nan(value):
    assert np.isnan(output_error(np.array([1.0, value]), np.array([1.0, 2.0])))


def test_integers_count_differences():
    assert output_error(np.array([1, 2, 3, 4]), np.array([1, 2, 3, 5])) == 0.25


@pytest.mark.once
@pytest.mark.parametrize(
    ("kind", "scale", "is_mask"),
    [
        (TensorType.INT8, 1e9 / 255, True),
        (TensorType.INT16, 1e9 / 32767, True),
        (TensorType.INT8, 2.4e38 / 255, True),
        (TensorType.INT8, 1e7 / 255, False),  # prices
        (TensorType.INT32, 0.3, False),  # a bias
    ],
)
def test_masks_are_blamed_for_what_they_did(kind, scale, is_mask, monkeypatch):
    tensor = {
        "name": np.frombuffer(b"scores", np.uint8),
        "type": kind,
        "quantization": {"scale": np.array([scale], "float32")},
    }
    model = {"subgraphs": [{"tensors": [tensor]}]}
    monkeypatch.setattr(verification, "load_graphs", lambda *_: model)
    said = verification._of_masks(Path(__file__))
    assert ("a mask fills it" in said) is is_mask


@pytest.mark.once
@pytest.mark.parametrize(
    ("kind", "is_named"), [(TensorType.FLOAT32, True), (TensorType.INT32, False)]
)
def test_16_bits_are_advised_where_the_inputs_allow_them(kind, is_named, monkeypatch):
    graph = {"tensors": [{"type": kind}], "inputs": np.array([0])}
    monkeypatch.setattr(verification, "load_graphs", lambda *_: {"subgraphs": [graph]})
    said = verification._advice(Path(__file__), "int8")
    assert ("int16x8" in said) is is_named
    assert "dynamic" in said


@keras.saving.register_keras_serializable("penjing-tests")
class AwayFromTheOthers(keras.layers.Layer):
    def call(self, x):
        return x - ops.mean(x, axis=0, keepdims=True)


def test_a_model_whose_samples_depend_on_each_other_runs_in_the_same_batches(tmp_path):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, AwayFromTheOthers()(inputs))
    path = penjing.export_litert(model, tmp_path / "m.tflite")
    x = np.arange(12, dtype="float32").reshape(3, 4)
    found = penjing.LiteRTModel(path).predict(x)
    np.testing.assert_allclose(found, x - x.mean(axis=0), atol=1e-6)


def two_towers():
    first, second = keras.Input((3,)), keras.Input((3,))
    codes = [keras.layers.Dense(4)(first), keras.layers.Dense(4)(second)]
    logits = ops.matmul(codes[0], ops.transpose(codes[1]))
    return keras.Model([first, second], logits)


class WithScale(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(2)
        self.scale = self.add_weight(name="scale", initializer="ones")

    def call(self, inputs):
        return {"codes": self.dense(inputs), "scale": self.scale * 2.0}


@pytest.mark.once
def test_outputs_without_a_batch_axis_are_compared(tmp_path):
    towers = two_towers()
    penjing.export_litert(towers, tmp_path / "towers.tflite")
    scaled = WithScale()
    scaled(np.zeros((2, 3), "float32"))
    path = penjing.export_litert(scaled, tmp_path / "scaled.tflite")
    codes, scale = penjing.LiteRTModel(path).predict(np.ones((4, 3), "float32"))
    assert codes.shape == (4, 2)
    assert scale == 2


@pytest.mark.once
@pytest.mark.parametrize(
    "names", [("boxes", "output_1", "scores"), ("output_0", "output_1", "tail")]
)
def test_names_that_look_numbered_do_not_change_the_order(names, tmp_path):
    inputs = keras.Input((3,))
    units = zip(names, (2, 5, 3), strict=True)
    outputs = {name: keras.layers.Dense(n)(inputs) for name, n in units}
    path = penjing.export_litert(keras.Model(inputs, outputs), tmp_path / "m.tflite")
    small = penjing.shrink_litert(path, tmp_path / "small.tflite").path
    for file in (path, small):
        found = penjing.LiteRTModel(file).outputs
        assert [spec.shape[1] for spec in found] == [2, 5, 3]
