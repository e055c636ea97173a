"""Classes, bounds and keys before integer layers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import penjing
from penjing.export.verification import output_error

pytestmark = pytest.mark.once
RNG = np.random.default_rng(0)
IDS = RNG.integers(0, 7, (40, 4))
REALS = RNG.normal(size=(40, 4)).astype("float32")
KEYS = [1, 2, 3, 5]


def lookup(**kwargs):
    return layers.IntegerLookup(vocabulary=KEYS, **kwargs)


def classes(mode):
    return layers.CategoryEncoding(7, output_mode=mode)


def bounds(mode):
    return layers.Discretization([-1.0, 0.0, 1.0], output_mode=mode)


def table(ids):
    return layers.Flatten()(layers.Embedding(9, 3)(ids))


# What is before the dense layer, and the type of its inputs.
CASES = {
    "one_hot": (lambda x: layers.Flatten()(ops.one_hot(x, 7)), "int32"),
    "multi_hot": (classes("multi_hot"), "int32"),
    "count": (classes("count"), "int32"),
    "one class": (lambda x: classes("one_hot")(x[:, :1]), "int32"),
    "bins": (lambda x: table(bounds("int")(x)), "float32"),
    "bin vectors": (lambda x: bounds("multi_hot")(x), "float32"),
    "keys": (lambda x: table(lookup()(x)), "int64"),
    "keys and masks": (lambda x: table(lookup(mask_token=0)(x)), "int64"),
    "key vectors": (lookup(output_mode="multi_hot"), "int64"),
    "masked vectors": (lookup(output_mode="multi_hot", mask_token=0), "int64"),
    "masked counts": (lookup(output_mode="count", mask_token=0), "int64"),
    "key counts": (
        lookup(output_mode="count", max_tokens=8, pad_to_max_tokens=True),
        "int64",
    ),
}


def model_of(case):
    make, dtype = CASES[case]
    keras.utils.set_random_seed(0)
    inputs = keras.Input((4,), dtype=dtype)
    data = REALS if dtype == "float32" else IDS.astype(dtype)
    return keras.Model(inputs, layers.Dense(3)(make(inputs))), data


@pytest.mark.parametrize("case", CASES)
def test_what_prepares_inputs_converts_before_an_integer_layer(case, tmp_path):
    model, data = model_of(case)
    path = tmp_path / "m.tflite"
    penjing.export_litert(model, path, "int8", representative_data=data)
    found, wanted = penjing.LiteRTModel(path).predict(data), model(data)
    assert output_error(found, ops.convert_to_numpy(wanted)) < 0.1
    np.testing.assert_array_equal(wanted, model(data))  # its calls are as before


# A table that is looked up has one scale in a file, and one for each row in training.
@pytest.mark.filterwarnings("ignore:.* does not hold all:penjing.CompressionWarning")
@pytest.mark.parametrize("case", ["one_hot", "multi_hot", "keys"])
def test_it_does_in_a_model_in_training(case, tmp_path):
    model, data = model_of(case)
    trained = penjing.quantize_aware(model, activations="int8", calibration_data=data)
    path = tmp_path / "m.tflite"
    penjing.export_litert(trained, path, "int8")
    found, wanted = penjing.LiteRTModel(path).predict(data), trained(data)
    assert output_error(found, ops.convert_to_numpy(wanted)) < 0.01
