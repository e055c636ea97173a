"""Inputs of models of every kind, with names, shapes and nesting."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from penjing.errors import UnsupportedModelError
from penjing.models.signature import (
    InputSignature,
    input_signature,
    needed_arguments,
    output_names,
    signature_of_arguments,
)

pytestmark = pytest.mark.once


class Sum(keras.Model):
    """A subclassed model that takes what its inputs nest."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(sum(keras.tree.flatten(inputs)))


class Two(keras.Model):
    def call(self, first, second, training=False):
        return first + second


def found(model):
    signature = input_signature(model)
    return {item.name: (item.shape, item.dtype) for item in signature.inputs}


def test_names_are_the_users_or_places():
    named = keras.Input((3,), name="sensor", dtype="float16")
    other = keras.Input((None, 2), batch_size=4, dtype="int32")
    model = keras.Model([named, other], [named, other])
    assert found(model) == {
        "sensor": ((None, 3), "float32"),
        "input_1": ((4, None, 2), "int32"),
    }
    assert list(input_signature(model).pack("ab")) == ["a", "b"]


def test_dictionaries_name_their_inputs():
    given = {key: keras.Input((2,), name=key) for key in ("b", "a-1")}
    model = keras.Model(given, ops.add(*given.values()))
    signature = input_signature(model)
    packed = signature.pack([item.name for item in signature.inputs])
    assert packed == {"a-1": "a_1", "b": "b"}


def test_sequential_and_subclassed_models():
    assert found(keras.Sequential([keras.Input((3,)), layers.Dense(2)])) == {
        "input_0": ((None, 3), "float32")
    }
    model = Sum()
    model({"x": np.zeros((5, 3)), "y": np.zeros((5, 3))})
    assert found(model) == {
        "x": ((None, 3), "float32"),
        "y": ((None, 3), "float32"),
    }
    model = Sum()
    model([np.zeros((5, 3)), np.zeros((5, 3))])
    assert found(model) == {
        "input_0": ((None, 3), "float32"),
        "input_1": ((None, 3), "float32"),
    }


def test_it_survives_json():
    model = keras.Sequential([keras.Input((3, None)), layers.ReLU()])
    signature = input_signature(model)
    assert InputSignature.from_dict(signature.to_dict()) == signature


def test_several_arguments_are_named_by_the_call():
    model = Two()
    assert needed_arguments(model) == ["first", "second"]
    signature = signature_of_arguments({"first": (3,), "second": (4, 5)})
    assert [item.shape for item in signature.inputs] == [(None, 3), (None, 4, 5)]
    assert signature.pack("ab") == ["a", "b"]


def test_outputs_are_named_by_key_or_place():
    assert output_names(["x", "y"]) == ["output_0", "output_1"]
    assert output_names({"b": 1, "a": [2, 3]}) == ["a_0", "a_1", "b"]


def test_refusals():
    with pytest.raises(UnsupportedModelError, match="is not built, so its input"):
        input_signature(Sum())
    model = Two()
    model(np.zeros((1, 2)), np.zeros((1, 2)))
    with pytest.raises(UnsupportedModelError, match="`call` needs first, second"):
        input_signature(model)
    text = keras.Input((1,), dtype="string", name="words")
    with pytest.raises(UnsupportedModelError, match="`words` takes strings"):
        input_signature(keras.Model(text, text))
