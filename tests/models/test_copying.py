"""Copies of models: equal, independent, and refused where Keras cannot make one."""

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.model_cases import CASES, TwoLayers, WithoutConfig, built, sequential
from tests.engine.training_cases import to_array

import penjing
from penjing.errors import UnsupportedModelError
from penjing.models.copying import copy_model, copy_values, name_weights
from penjing.models.keras_private import all_layers

X = np.ones((2, 4), "float32")


def array(value):
    return keras.ops.convert_to_numpy(value).copy()


def described(model):
    return [(v.path, tuple(v.shape), v.dtype, v.trainable) for v in model.weights]


# The others are copied where they are trained, in test_architectures_matrix.py.
COPIED = (
    "nested",
    "subclassed",
    "shared_layer",
    "embedding_bidirectional_lstm",
    "stacked_cells",
    "attention",
    "time_distributed",
    "many_inputs_and_outputs",
)


@pytest.mark.parametrize("name", COPIED)
def test_a_copy_has_the_paths_and_values_and_shares_nothing(name):
    model = CASES[name].build()
    for variable in model.trainable_variables:
        variable.assign(np.ones(variable.shape))
    twin = copy_model(model)
    assert described(twin) == described(model)
    classes = [type(layer) for layer in model._flatten_layers()]
    assert [type(layer) for layer in twin._flatten_layers()] == classes
    for variable in twin.trainable_variables:
        np.testing.assert_array_equal(array(variable.value), 1)
        variable.assign(np.zeros(variable.shape))
    assert all(array(v.value).min() == 1 for v in model.trainable_variables)


def test_a_layer_used_twice_is_copied_once():
    twin = copy_model(CASES["shared_layer"].build())
    assert [layer.name for layer in twin.layers].count("twice") == 1
    assert len(twin.weights) == 4


def test_random_states_and_statistics_are_copied():
    model = sequential(
        layers.BatchNormalization(), layers.Dropout(0.5, seed=1), shape=(4,)
    )
    model(X, training=True)
    twin = copy_model(model)
    np.testing.assert_array_equal(
        array(twin(X, training=True)), array(model(X, training=True))
    )


def test_an_adapted_normalization_is_copied():
    x = np.random.default_rng(0).normal(3, 5, (64, 4)).astype("float32")
    adapted = layers.Normalization()
    adapted.adapt(x)
    model = keras.Sequential([keras.Input((4,)), adapted, layers.Dense(3)])
    whole = penjing.remove_channels(model, penjing.trace_channels(model), {})
    for twin in (copy_model(model), whole):
        np.testing.assert_allclose(to_array(twin(x)), to_array(model(x)), rtol=1e-5)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="takes text")
def test_an_adapted_vocabulary_is_copied():
    words = np.array(["pine", "maple", "juniper", "maple"])
    lookup = layers.StringLookup()
    lookup.adapt(words)
    model = keras.Sequential(
        [keras.Input((), dtype="string"), lookup, layers.Embedding(9, 2)]
    )
    text = keras.ops.convert_to_tensor(words)
    np.testing.assert_array_equal(
        to_array(copy_model(model)(text)), to_array(model(text))
    )


def test_frozen_parts_stay_frozen():
    inner = sequential(layers.Dense(3), layers.Dense(2), shape=(4,))
    inner.layers[0].trainable = False
    model = sequential(inner, layers.Dense(1), shape=(4,))
    twin = copy_model(model)
    assert [v.trainable for v in twin.weights] == [False] * 2 + [True] * 4
    twin.layers[0].layers[0].trainable = True
    assert not inner.layers[0].trainable


def test_a_model_in_mixed_precision_keeps_its_types():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = sequential(
        layers.Dense(3), layers.Dense(2, dtype="float32", name="head"), shape=(4,)
    )
    keras.config.set_dtype_policy("float32")
    twin = copy_model(model)
    policies = [layer.dtype_policy.name for layer in twin.layers]
    assert policies == ["mixed_bfloat16", "float32"]
    np.testing.assert_array_equal(array(twin(X)), array(model(X)))


def relu(x):
    """A function of the user's own with a name that Keras has too."""
    return keras.ops.maximum(x, 0.0) * 2


def test_functions_of_the_user_are_copied_as_they_are():
    model = sequential(
        layers.Dense(3, activation=relu),
        layers.Dense(3, activation=lambda x: x * 3),
        layers.Activation(lambda x: x + 1),
        shape=(4,),
    )
    twin = copy_model(model)
    assert twin.layers[0].activation is relu
    np.testing.assert_array_equal(array(twin(X)), array(model(X)))


class Calibrated(layers.Layer):
    """Reads its function from its config by itself."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, inputs):
        return self.function(inputs)

    def get_config(self):
        return {"function": self.function.__name__}

    @classmethod
    def from_config(cls, config):
        return cls(globals()[config["function"]])


def test_a_class_with_its_own_from_config_gets_its_own_config():
    model = sequential(Calibrated(relu), shape=(4,))
    assert copy_model(model).layers[0].function is relu


def test_blocks_made_from_one_input_are_copied():
    shared = keras.Input((4,))
    blocks = [keras.Sequential([shared, layers.Dense(4)]) for _ in range(2)]
    inputs = keras.Input((4,))
    model = keras.Model(inputs, blocks[1](blocks[0](inputs)))
    np.testing.assert_array_equal(array(copy_model(model)(X)), array(model(X)))


def test_a_compiled_model_is_copied_uncompiled():
    model = sequential(layers.Dense(2), shape=(4,))
    model.compile("adam", lambda y, y_pred: y_pred)
    assert not copy_model(model).compiled
    assert model.compiled


class Scaled(keras.Model):
    """Its `scale` has a default, which Keras would put in place of what was passed."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale
        self.dense = layers.Dense(2)

    def build(self, input_shape):
        self.dense.build(input_shape)

    def call(self, inputs):
        return self.dense(inputs) * self.scale


def test_a_class_whose_arguments_keras_does_not_know_is_refused():
    model = built(Scaled(scale=5.0), 4)
    with pytest.raises(
        penjing.UnsupportedModelError,
        match=r"does not know which `scale` it was made with.*copy=False",
    ):
        copy_model(model)
    with pytest.raises(penjing.UnsupportedModelError, match="`function`"):
        copy_model(built(WithoutConfig(keras.ops.tanh), 4))


def test_a_class_without_arguments_needs_no_config():
    class Plain(keras.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = layers.Dense(2, name="dense")

        def call(self, inputs):
            return self.dense(inputs)

    model = Plain()
    model(X)
    twin = copy_model(model)
    np.testing.assert_array_equal(array(twin(X)), array(model(X)))
    assert described(twin) == described(model)


class OwnLoss(keras.Model):
    """Functional inside, with a constructor and a loss of its own."""

    def __init__(self, units=2):
        inputs = layers.Input((4,))
        super().__init__(inputs, layers.Dense(units)(inputs))

    def compute_loss(self, **kwargs):
        return 7.0


class Residual(layers.Layer):
    """As tutorials write layers: nothing but `self` in the constructor."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4, activation="relu")

    def call(self, inputs):
        return inputs + self.dense(inputs)


class Tutorial(keras.Model):
    """As tutorials write models."""

    def __init__(self):
        super().__init__()
        self.first = Residual()
        self.second = Residual()

    def call(self, inputs):
        return self.second(self.first(inputs))


def test_classes_whose_constructors_take_nothing_are_copied_with_their_names():
    model = Tutorial()
    model(X)
    twin = copy_model(model)
    assert twin.name == model.name and twin.built
    assert described(twin) == described(model)
    np.testing.assert_array_equal(array(twin(X)), array(model(X)))
    inputs = keras.Input((4,))
    graph = keras.Model(inputs, Residual()(Residual()(inputs)))
    assert described(copy_model(graph)) == described(graph)


def test_such_a_class_is_pruned_trained_and_stripped():
    model = Tutorial()
    model(X)
    pruned = penjing.prune(model, penjing.OneShot(0.5, step=1))
    pruned.compile("sgd", "mse")
    pruned.fit(X, X, epochs=2, verbose=0)
    plain = penjing.strip(pruned)
    assert np.mean(array(plain.weights[0]) == 0) == 0.5
    assert [w.path for w in plain.weights] == [w.path for w in model.weights]


def test_methods_combine_on_what_keras_could_not_load():
    """Code that no file holds, and classes and functions that only the user knows."""

    class Schedule(penjing.Schedule):
        begin_step, end_step, frequency, final_sparsity = 0, 1, 1, 0.5

        def __call__(self, step):
            return 0.5

    model = sequential(
        Residual(),
        layers.Lambda(lambda x: 2 * x),
        layers.Dense(4, activation=lambda x: x + 1),
        shape=(4,),
    )
    model = penjing.prune(model, Schedule(), importance=lambda w: keras.ops.abs(w))
    model(X, training=True)
    model = penjing.quantize_aware(penjing.cluster(model, 4))
    assert int(array(model.step)) == 1
    rows = penjing.sparsity_report(penjing.strip(model)).rows
    assert [row.zeros for row in rows if row.size == 16] == [8, 8]
    assert all(row.distinct <= 5 for row in rows if row.size == 16)


def test_a_copy_that_would_compute_in_another_type_is_refused():
    keras.config.set_dtype_policy("mixed_bfloat16")
    model = Tutorial()
    model(X)
    keras.config.set_dtype_policy("float32")
    with pytest.raises(penjing.UnsupportedModelError, match="takes no `dtype`"):
        copy_model(model)


def test_a_functional_subclass_that_would_lose_its_methods_is_refused():
    with pytest.raises(
        penjing.UnsupportedModelError, match="without its own methods.*copy=False"
    ):
        copy_model(OwnLoss(2))


def test_a_functional_subclass_with_a_config_is_copied_through_it():
    class Configured(OwnLoss):
        def get_config(self):
            return {"units": self.outputs[0].shape[-1]}

    model = Configured(3)
    twin = copy_model(model)
    assert type(twin) is Configured
    np.testing.assert_array_equal(array(twin(X)), array(model(X)))


def test_a_config_that_makes_another_model_is_refused():
    class Wrong(TwoLayers):
        def get_config(self):
            return {**super().get_config(), "units": 3}

    with pytest.raises(penjing.UnsupportedModelError, match="or other shapes"):
        copy_model(built(Wrong(8), 4))


def test_values_of_another_architecture_are_refused():
    with pytest.raises(
        penjing.UnsupportedModelError, match="has 2 variables where the original has 4"
    ):
        copy_values(
            sequential(layers.Dense(2), layers.Dense(2), shape=(4,)),
            sequential(layers.Dense(2), shape=(4,)),
        )


def test_paths_are_given_only_where_all_weights_have_one():
    model = sequential(layers.Dense(2, name="dense"), shape=(4,))
    name_weights(model, ["a/kernel"])
    assert model.weights[0].path.endswith("dense/kernel")
    name_weights(model, ["a/kernel", "a/bias"])
    assert [v.path for v in model.weights] == ["a/kernel", "a/bias"]


def test_layers_beside_the_graph_are_named():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(2)])
    graph = keras.Model(model.inputs, model.outputs)
    graph.extra = keras.layers.Rescaling(1 / 255.0, name="forgotten")
    if graph.extra not in all_layers(graph):
        pytest.skip("this Keras lists no layer beside a graph")
    with pytest.raises(UnsupportedModelError, match="graph does not use.*'forgotten'"):
        copy_model(graph)


def test_a_single_variable_stays_frozen():
    model = sequential(layers.Dense(2, name="a"), layers.Dense(2), shape=(4,))
    model.get_layer("a").kernel.trainable = False
    assert [v.trainable for v in copy_model(model).weights] == [False, True, True, True]
    pruned = penjing.prune(model, penjing.ConstantSparsity(0.5))
    pruned.compile("sgd", "mse")
    pruned.fit(X, np.ones((len(X), 2)), verbose=0)
    kept = penjing.strip(pruned).get_layer("a").kernel
    np.testing.assert_array_equal(array(kept), array(model.get_layer("a").kernel))


def test_a_layer_that_is_wrapped_and_called_is_refused_with_what_to_do():
    shared = layers.Dense(4)
    x = keras.Input((3, 4))
    model = keras.Model(x, [layers.TimeDistributed(shared)(x), shared(x)])
    with pytest.raises(UnsupportedModelError, match="give each its own"):
        copy_model(model)
