"""Layers are made again from their configs, or refused where these do not say how."""

import keras
import numpy as np
import pytest
from keras import layers

from penjing.models.layer_making import (
    build_as,
    defined_by_keras,
    layers_but_inputs,
    make_layer_again,
)

pytestmark = pytest.mark.once


class Bare(layers.Layer):
    """A class whose constructor takes nothing."""

    def __init__(self):
        super().__init__()
        self.inner = layers.Dense(3)


class Sized(keras.Model):
    """A model whose config lacks what it was made with."""

    def __init__(self, size=2):
        super().__init__()
        self.dense = layers.Dense(size)


def test_the_twin_has_the_config_and_none_of_the_weights():
    dense = layers.Dense(3, activation="relu", name="own")
    dense.build((None, 2))
    twin = make_layer_again(dense)
    assert twin is not dense and not twin.built
    assert twin.get_config() == dense.get_config()


def test_functions_of_the_user_are_taken_as_they_are():
    def doubled(x):
        return 2 * x

    assert make_layer_again(layers.Dense(2, activation=doubled)).activation is doubled
    layer = layers.Lambda(doubled, name="twice")
    twin = make_layer_again(layer)
    assert (twin.function, twin.name) == (doubled, "twice")


@pytest.mark.filterwarnings("ignore:The object being serialized includes a `la")
def test_functions_in_layers_within_are_taken_as_they_are():
    factor = {"by": 3.0}  # a global of the lambda would be lost too

    def own(x):
        return x * factor["by"]

    cells = [layers.GRUCell(2, activation=lambda x: own(x)), layers.GRUCell(2)]
    for layer, shape in (
        (layers.TimeDistributed(layers.Dense(2, activation=lambda x: own(x))), (3, 4)),
        (layers.TimeDistributed(layers.Dense(2, activation=own)), (3, 4)),
        (layers.RNN(cells), (3, 4)),
    ):
        layer.build((None, *shape))
        twin = make_layer_again(layer)
        build_as(layer, twin)
        twin.set_weights(layer.get_weights())
        x = np.random.default_rng(0).normal(size=(2, *shape)).astype("float32")
        ours, theirs = (keras.ops.convert_to_numpy(each(x)) for each in (twin, layer))
        np.testing.assert_array_equal(ours, theirs)


def test_entries_of_the_config_can_be_changed():
    dense = layers.Dense(3, use_bias=False, kernel_initializer=lambda s, dtype: 0)
    twin = make_layer_again(dense, use_bias=True)
    assert twin.use_bias and twin.kernel_initializer is dense.kernel_initializer


def test_a_constructor_without_arguments_is_called_without():
    layer = Bare()
    layer.name = "mine"
    assert make_layer_again(layer).name == "mine"


class Computed(layers.Layer):
    """A class whose config says what the constructor does not take."""

    def __init__(self, side, scale=1, **options):
        super().__init__(**options)
        self.side, self.scale = side, scale

    def get_config(self):
        return {**super().get_config(), "side": self.side, "area": self.side**2}


def test_what_a_config_says_beyond_the_constructor_must_come_out_again():
    twin = make_layer_again(Computed(3, name="own"))
    assert twin.get_config() == Computed(3, name="own").get_config()
    layer = Computed(3)
    layer.side = 4  # now its area is that of no constructor's argument
    assert make_layer_again(layer).side == 4

    class Lies(Computed):
        def get_config(self):
            return {**super().get_config(), "area": id(self)}

    with pytest.raises(Exception, match="Unrecognized keyword arguments.*area"):
        make_layer_again(Lies(3))


class Lossy(layers.Layer):
    """A layer whose config leaves out some of what it was made with."""

    def __init__(self, units, window=4, shape=None, gain=1.0, **kwargs):
        super().__init__(**kwargs)
        self.units, self.window = units, window
        self.shape = shape and tuple(shape)
        self.gain = 2 * gain

    def get_config(self):
        return {**super().get_config(), "units": self.units}


class Faulty(Lossy):
    """A layer whose config asks for what it does not have."""

    def __init__(self, units, window=4, activation="relu", **kwargs):
        super().__init__(units, window, **kwargs)
        self.activation = keras.activations.get(activation)

    def get_config(self):
        return {**super().get_config(), "scale": self.no_such_scale}


def test_what_a_config_leaves_out_is_read_off_the_layer():
    twin = make_layer_again(Lossy(3, window=8, shape=(2, 2)), units=5)
    assert (twin.units, twin.window, twin.shape, twin.gain) == (5, 8, (2, 2), 2.0)


def test_what_a_config_leaves_out_and_the_layer_does_not_hold_is_refused():
    with pytest.raises(ValueError, match="does not say `gain`, which is 6.0 in it and"):
        make_layer_again(Lossy(3, gain=3.0))


def test_a_config_that_fails_is_made_of_the_arguments():
    layer = Faulty(3, window=8, activation="tanh", name="own", dtype="float16")
    twin = make_layer_again(layer, units=5)
    assert (twin.units, twin.window, twin.name) == (5, 8, "own")
    assert twin.activation is keras.activations.tanh
    assert twin.dtype_policy.name == "float16"
    del layer.window
    with pytest.raises(AttributeError, match="no_such_scale"):
        make_layer_again(layer)


def test_a_twin_under_another_policy_is_refused():
    layer = Bare()
    keras.config.set_dtype_policy("mixed_float16")
    with pytest.raises(ValueError, match="takes no `dtype`"):
        make_layer_again(layer)


def test_a_model_whose_config_does_not_say_its_arguments_is_refused():
    with pytest.raises(ValueError, match="which `size` it was made with"):
        make_layer_again(Sized(5))


def test_a_twin_is_built_for_the_same_shapes():
    dense = layers.Dense(3)
    dense.build((None, 2))
    twin = make_layer_again(dense)
    build_as(dense, twin)
    assert twin.built and tuple(twin.kernel.shape) == (2, 3)
    again = layers.Dense(3)
    build_as(layers.Dense(3), again)  # of one that is not built nothing is known
    assert not again.built


def test_what_is_of_keras_is_told_from_what_is_not():
    assert defined_by_keras(layers.Dense) and defined_by_keras(layers.Dense.call)
    assert not defined_by_keras(Bare) and not defined_by_keras(np.mean)


def test_inputs_are_no_layers_of_a_graph():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3, name="only")])
    assert [layer.name for layer in layers_but_inputs(model)] == [model.name, "only"]
