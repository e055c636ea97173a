"""What is lent is given back: after errors, in nested blocks, in the right order."""

import types

import keras
import numpy as np
import pytest
from keras import ops

from penjing.models.lending import all_lent, lent, watched_calls


class Owner:
    def name(self):
        return "class"


def test_the_method_of_the_class_is_back_behind_the_block():
    owner = Owner()
    with lent(owner, "name", lambda: "lent"):
        assert owner.name() == "lent"
        assert Owner().name() == "class"
    assert owner.name() == "class"
    assert not vars(owner)


def test_an_attribute_of_the_object_is_what_it_was():
    owner = types.SimpleNamespace(value=1)
    with lent(owner, "value", None), lent(owner, "other", 2):
        assert (owner.value, owner.other) == (None, 2)
    assert vars(owner) == {"value": 1}


def test_blocks_of_the_same_name_stand_in_one_another():
    owner = Owner()
    with lent(owner, "name", lambda: "outer"):
        with lent(owner, "name", lambda: "inner"):
            assert owner.name() == "inner"
        assert owner.name() == "outer"
    assert owner.name() == "class"


def test_one_block_that_lends_twice_gives_back_the_first():
    owner = types.SimpleNamespace(value=1)
    with all_lent([(owner, "value", 2), (owner, "value", 3)]):
        assert owner.value == 3
    assert owner.value == 1


def test_an_error_in_the_block_gives_back_too():
    owner = Owner()
    with pytest.raises(KeyError), lent(owner, "name", lambda: "lent"):
        raise KeyError
    assert owner.name() == "class"


def test_an_error_among_the_loans_gives_back_those_before():
    owner = Owner()

    def loans():
        yield owner, "name", lambda: "lent"
        raise KeyError("second")

    with pytest.raises(KeyError, match="second"), all_lent(loans()):
        pytest.fail("the block must not run")  # pragma: no cover
    assert owner.name() == "class"


def test_keras_does_not_track_what_is_lent():
    layer = keras.layers.Dense(2)
    layer.build((None, 3))
    with lent(layer, "helper", keras.layers.Dense(4)):
        assert len(list(layer._flatten_layers())) == 1
    assert not hasattr(layer, "helper")


def test_calls_of_layers_are_told_with_what_went_in_and_came_out():
    dense = keras.layers.Dense(2, kernel_initializer="ones")
    model = keras.Sequential([keras.Input((3,)), dense, keras.layers.ReLU()])
    told = []
    with watched_calls(
        [dense, dense], lambda layer, given, made: told.append((layer, given, made))
    ):
        model(np.ones((1, 3), "float32"))
    model(np.zeros((1, 3), "float32"))
    [(layer, given, made)] = told
    assert layer is dense
    assert ops.convert_to_numpy(given).tolist() == [[1, 1, 1]]
    assert ops.convert_to_numpy(made).tolist() == [[3, 3]]
