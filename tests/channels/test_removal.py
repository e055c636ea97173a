"""Smaller models compute what the silenced ones do, and stay plain models."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.channels.channel_cases import (
    choose,
    cut,
    disturb,
    outputs,
    samples,
    start_with_zeros,
)
from tests.jax_cases import few_on_jax

import penjing
from penjing import remove_channels, silence_channels, trace_channels
from penjing.models.model_files import load_keras_model

DATA = Path(__file__).parents[1] / "data/mlperf_tiny"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    start_with_zeros(monkeypatch)


def residual():
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(8, 3, padding="same", name="stem")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = x + layers.Conv2D(8, 3, padding="same", name="branch")(x)
    y = layers.Conv2D(4, 1, name="side")(x)
    x = layers.MaxPooling2D()(layers.Concatenate()([x, y]))
    x = layers.Dense(10, "relu", name="hidden")(layers.Flatten()(x))
    return keras.Model(inputs, layers.Dense(5, name="head")(x))


def convolutions():
    inputs = keras.Input((8, 8, 4))
    x = layers.Conv2D(8, 3, use_bias=False)(inputs)
    x = layers.GroupNormalization(4)(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu")(x)
    x = layers.PReLU(shared_axes=[1, 2])(layers.Conv2D(12, 1)(x))
    y = layers.Reshape((1, 1, 12))(layers.GlobalAveragePooling2D()(x))
    y = layers.Conv2D(3, 1, activation="relu")(y)
    x = x * layers.Conv2D(12, 1, activation="sigmoid")(y)
    x = layers.SeparableConv2D(10, 3, depth_multiplier=2)(x)
    x = layers.UpSampling2D()(layers.Conv2DTranspose(5, 2)(x))
    x = layers.ZeroPadding2D()(layers.Cropping2D()(x))
    x = layers.AveragePooling2D(2)(layers.LeakyReLU()(x))
    x = layers.Conv2D(6, 1)(layers.Dropout(0.3)(x))
    x = layers.GlobalMaxPooling2D()(x)
    return keras.Model(inputs, [layers.Dense(3)(x), layers.Dense(2)(x)])


def volumes_and_sequences():
    inputs = keras.Input((4, 6, 6, 2))
    x = layers.Conv3DTranspose(5, 2)(layers.Conv3D(4, 2)(inputs))
    x = layers.Reshape((-1, 5))(layers.MaxPooling3D(2)(x))
    x = layers.DepthwiseConv1D(2, depth_multiplier=2)(layers.Conv1D(6, 2)(x))
    x = layers.Conv1DTranspose(4, 2)(layers.SeparableConv1D(7, 2)(x))
    x = layers.Reshape((-1, 3, 4))(layers.Dense(12)(x))
    x = layers.Reshape((-1, 12))(layers.Permute((1, 3, 2))(x))
    x = layers.EinsumDense("abc,cd->abd", (None, 5), bias_axes="d")(x)
    x = layers.RepeatVector(3)(ops.max(x, axis=1))
    return keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x)))


def recurrent():
    inputs = keras.Input((6, 8))
    x = layers.Bidirectional(layers.LSTM(6, return_sequences=True))(inputs)
    gru = layers.GRU(4, return_sequences=True)
    x = layers.Bidirectional(gru, merge_mode="sum")(x)
    x, *states = layers.LSTM(5, return_sequences=True, return_state=True)(x)
    x = layers.LSTM(5, return_sequences=True)(x, initial_state=states)
    x = layers.TimeDistributed(layers.Dense(6, "relu"))(x)
    x = layers.RNN(layers.GRUCell(7, reset_after=False), return_sequences=True)(x)
    return keras.Model(inputs, layers.Dense(2)(layers.SimpleRNN(7)(x)))


def attention():
    words = keras.Input((7,), dtype="int32")
    matrix = keras.initializers.Constant(np.ones((9, 8), "float32"))
    x = layers.Embedding(9, 8, mask_zero=True, embeddings_initializer=matrix)(words)
    x = x + layers.MultiHeadAttention(4, 3)(x, x)
    x = x + layers.GroupQueryAttention(4, 4, 2)(x, x)
    x = x + layers.Dense(8)(layers.Dense(16, "gelu")(x))
    return keras.Model(words, layers.Dense(2)(layers.GlobalAveragePooling1D()(x)))


def operations():
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(10, 1)(inputs)
    first, second = ops.split(x, 2, axis=-1)
    x = layers.Conv2D(6, 1)(ops.silu(first) * second)
    head, tail = x[..., :4], x[..., 4:]
    x = ops.concatenate([ops.relu(head) * 0.5, tail], axis=-1)
    first, second, third = ops.split(layers.Conv2D(6, 1)(x), [2, 4], axis=-1)
    x = ops.concatenate([first * second, third], axis=-1)
    x = ops.where(x > 0.0, x, 0.1 * x)
    y = ops.pad(layers.Conv2D(4, 1)(x), [(0, 0), (0, 0), (0, 0), (1, 1)])
    x = layers.Conv2D(6, 1)(x) + y
    x = ops.squeeze(ops.mean(x, axis=1, keepdims=True), 1)
    x = ops.stack([x, 2.0 * x], axis=1)
    x = ops.squeeze(ops.expand_dims(x, -1), -1)
    x = layers.Conv2D(5, (1, 2))(ops.swapaxes(x, 1, 2))
    return keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))


def nested():
    def block():
        image = keras.Input((None, None, 6))
        x = layers.Conv2D(6, 3, padding="same", name="inner")(image)
        x = layers.BatchNormalization(name="inner_norm")(x)
        return keras.Model(image, [x, layers.Conv2D(3, 1, name="side")(x)])

    one, other = (keras.Input((8, 8, 2), name=name) for name in ("one", "other"))
    shared, both = layers.Conv2D(6, 3, name="shared"), block()
    parts = [layers.Conv2D(5, 1), layers.ReLU(), layers.Conv2D(6, 1)]
    x, y = shared(one), shared(other)
    (p, q), (r, s) = both(x), both(keras.Sequential(parts, name="sequence")(y))
    z = layers.Add()([p, r, x])
    frames = keras.Sequential([keras.Input((6, 5)), layers.Conv1D(4, 3)])
    q = layers.TimeDistributed(frames, name="frames")(
        layers.Conv2D(5, 1)(layers.Concatenate()([q, s, z]))
    )
    return keras.Model([one, other], [layers.Dense(2)(q), layers.Conv2D(1, 1)(z)])


def masked():
    inputs = keras.Input((6, 4))
    mask = layers.Dense(6, name="mask")(layers.Flatten()(inputs)) > 0.0
    x = layers.TimeDistributed(layers.Dense(16))(layers.Dense(16)(inputs), mask=mask)
    attended = layers.MultiHeadAttention(4, 2)
    x = attended(x, x, attention_mask=ops.expand_dims(mask, 1))
    y = layers.GlobalAveragePooling1D()(x, mask=mask)
    x = layers.LSTM(8)(x, mask=mask)
    return keras.Model(inputs, layers.Dense(2)(ops.concatenate([x, y], axis=-1)))


CASES = (
    residual,
    convolutions,
    volumes_and_sequences,
    recurrent,
    attention,
    operations,
    nested,
    masked,
)


@pytest.mark.parametrize("case", few_on_jax(CASES, attention, nested))
def test_a_smaller_model_computes_what_the_silenced_one_does(case):
    model = case()
    small, _ = cut(model)
    assert small.count_params() < 0.75 * model.count_params()
    assert [v.path for v in small.weights] == [v.path for v in model.weights]
    names = [[layer.name for layer in part.layers] for part in (small, model)]
    assert names[0] == names[1]


@pytest.mark.parametrize("ratio", few_on_jax([0.3, 0.5, 0.7], 0.5))
@pytest.mark.parametrize("name", ["image_classification", "keyword_spotting"])
def test_trained_models_of_mlperf_tiny(name, ratio):
    model = load_keras_model(DATA / f"{name}.h5")
    last = model.layers[-1]
    assert last.activation is keras.activations.softmax
    last.activation = keras.activations.linear  # probabilities would hide differences
    small, graph = cut(model, ratio, disturbed=False)
    assert len(graph.skipped) == 1
    assert small.count_params() < (1.2 - ratio) * model.count_params()


def test_one_channel_is_removed_by_hand():
    model = keras.Sequential([keras.Input((2,)), layers.Dense(3), layers.Dense(1)])
    first = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
    weights = [first, np.array([0.1, 0.2, 0.3]), np.array([[1.0], [10.0], [100.0]])]
    model.set_weights([*weights, np.array([0.5])])
    graph = trace_channels(model)
    kept = {graph.groups[0].name: np.array([True, False, True])}
    small = remove_channels(model, graph, kept)
    for found, wanted in zip(
        small.get_weights(),
        [first[:, [0, 2]], [0.1, 0.3], [[1.0], [100.0]], [0.5]],
        strict=True,
    ):
        np.testing.assert_allclose(found, wanted)
    silenced = silence_channels(model, graph, kept)
    np.testing.assert_allclose(silenced.get_weights()[2], [[1.0], [0.0], [100.0]])
    np.testing.assert_array_equal(silenced.get_weights()[0], model.get_weights()[0])


def test_a_gated_unit_loses_its_place_in_every_gate():
    inputs = keras.Input((4, 2))
    model = keras.Model(inputs, layers.Dense(1)(layers.LSTM(3, name="lstm")(inputs)))
    disturb(model)
    graph = trace_channels(model)
    small = remove_channels(model, graph, {"lstm": np.array([True, False, True])})
    kernel, recurrent_kernel, bias, head, _ = model.get_weights()
    places = [0, 2, 3, 5, 6, 8, 9, 11]
    for found, wanted in zip(
        small.get_weights()[:4],
        [
            kernel[:, places],
            recurrent_kernel[[0, 2]][:, places],
            bias[places],
            head[[0, 2]],
        ],
        strict=True,
    ):
        np.testing.assert_array_equal(found, wanted)


@pytest.mark.skipif(
    keras.backend.backend() == "tensorflow", reason="needs kernels for the first axis"
)
def test_channels_may_come_first():
    inputs = keras.Input((3, 6, 6))
    first = {"data_format": "channels_first"}
    x = layers.Conv2D(8, 3, **first)(inputs)
    x = layers.BatchNormalization(axis=1)(x)
    x = layers.GroupNormalization(4, axis=1)(layers.DepthwiseConv2D(2, **first)(x))
    x = layers.Conv2D(6, 1, **first)(layers.MaxPooling2D(2, **first)(x))
    y = layers.Reshape((6, 1, 1))(layers.GlobalAveragePooling2D(**first)(x))
    x = layers.Flatten(**first)(x * y)
    cut(keras.Model(inputs, layers.Dense(2)(x)))


def test_grouped_convolutions_lose_whole_groups():
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 1, name="before")(inputs)
    x = layers.Conv2D(12, 3, groups=4, name="grouped")(x)
    model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
    graph = trace_channels(model)
    assert [group.size for group in graph.groups] == [4, 2]
    small, _ = cut(model)
    grouped = small.get_layer("grouped")
    assert grouped.groups < 4
    assert grouped.filters == 3 * grouped.groups
    assert small.get_layer("before").filters == 2 * grouped.groups


@pytest.mark.once
def test_everything_else_of_the_layers_stays():
    inputs = keras.Input((6,), name="features")
    hidden = layers.Dense(
        8,
        "relu",
        name="hidden",
        kernel_regularizer=keras.regularizers.L2(0.1),
        activity_regularizer=keras.regularizers.L1(0.2),
        kernel_constraint=keras.constraints.MaxNorm(3),
    )
    x = layers.BatchNormalization(name="norm")(hidden(inputs))
    x = layers.Dense(6, dtype="mixed_bfloat16", name="mixed")(x)
    model = keras.Model(inputs, layers.Dense(2, name="head")(x), name="mine")
    model.get_layer("norm").trainable = False
    model.compile("sgd", "mse")
    small, _ = cut(model, tolerance=1e-2)  # bfloat16 has 8 bits
    twin = small.get_layer("hidden")
    assert (small.name, small.compiled, model.compiled) == ("mine", False, True)
    assert isinstance(twin.kernel_regularizer, keras.regularizers.L2)
    assert isinstance(twin.activity_regularizer, keras.regularizers.L1)
    assert isinstance(twin.kernel_constraint, keras.constraints.MaxNorm)
    assert small.get_layer("mixed").dtype_policy.name == "mixed_bfloat16"
    assert not small.get_layer("norm").trainable
    assert len(small.trainable_weights) == len(model.trainable_weights)


def test_a_smaller_model_trains_saves_loads_and_is_cut_again(tmp_path):
    small, _ = cut(residual(), ratio=0.4)
    small.compile(keras.optimizers.SGD(1e-4), "mse")
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 8, 8, 3)).astype("float32")
    small.fit(x, np.zeros((8, 5)), batch_size=8, epochs=1, verbose=0)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras", safe_mode=True)
    np.testing.assert_allclose(
        outputs(loaded, [x])[0], outputs(small, [x])[0], atol=1e-5
    )
    smaller, _ = cut(loaded, ratio=0.4)
    assert smaller.count_params() < small.count_params()


@pytest.mark.once
def test_a_smaller_model_is_exported(tmp_path):
    small, _ = cut(residual())
    penjing.export_litert(small, tmp_path / "small.tflite")
    inputs = samples(small)
    found = penjing.LiteRTModel(tmp_path / "small.tflite").predict(inputs[0])
    np.testing.assert_allclose(found, outputs(small, inputs)[0], atol=1e-4)


@pytest.mark.once
def test_a_lambda_is_left_whole_and_copied():
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(6, 1, name="before")(inputs)
    x = layers.Lambda(lambda value: 2 * value, name="doubled")(x)
    x = layers.Conv2D(6, 1, name="after")(x)
    small, graph = cut(keras.Model(inputs, layers.Conv2D(2, 1)(x)))
    assert "'doubled' of class Lambda hides" in dict(graph.skipped)["before"]
    assert small.get_layer("before").filters == 6 > small.get_layer("after").filters


@pytest.mark.once
def test_wrong_choices_are_refused():
    model = residual()
    graph = trace_channels(model)

    def refused(kept, text, error=ValueError):
        for function in (remove_channels, silence_channels):
            with pytest.raises(error, match=text):
                function(model, graph, kept)

    refused({"sten": np.ones(8, bool)}, "'sten'.*Did you mean 'stem'")
    refused({"stem": np.ones(7, bool)}, r"'stem' must be .* shape \(8,\), got bool")
    refused({"stem": np.ones(8)}, "booleans.*got float64")
    refused({"stem": np.zeros(8, bool)}, "remove all 8 units of the group 'stem'")
    head = np.array([True] * 4 + [False])
    refused({"head": head}, "'head' cannot be removed: it is an output of the model")
    with pytest.raises(ValueError, match="that of another model"):
        remove_channels(residual(), graph, {})


@pytest.mark.once
def test_no_part_of_a_group_may_be_emptied():
    inputs = keras.Input((4,))
    parts = [
        layers.Dense(2, name="left")(inputs),
        layers.Dense(2, name="right")(inputs),
    ]
    x = layers.Dense(4, name="sum")(inputs) + layers.Concatenate()(parts)
    model = keras.Model(inputs, layers.Dense(1)(x))
    graph = trace_channels(model)
    assert graph.groups[0].size == 4
    kept = {graph.groups[0].name: np.array([True, True, False, False])}
    with pytest.raises(ValueError, match="all 2 channels of the layer '(left|right)'"):
        remove_channels(model, graph, kept)


@pytest.mark.once
def test_a_layer_that_only_fits_its_channels_is_refused():
    class Fixed(layers.Layer):
        def call(self, x):
            return x * ops.ones((6,))

    penjing.register_channel_rule(Fixed, layers.ReLU)
    inputs = keras.Input((3,))
    x = Fixed()(layers.Dense(6)(inputs))
    model = keras.Model(inputs, layers.Dense(2)(x))
    graph = trace_channels(model)
    with pytest.raises(penjing.UnsupportedModelError, match="any number of channels"):
        remove_channels(model, graph, choose(graph, 0.5))


@pytest.mark.once
def test_own_training_steps_are_not_lost_silently():
    class Own(keras.Model):
        def __init__(self, size):
            inputs = keras.Input((3,))
            x = layers.Dense(size)(inputs)
            super().__init__(inputs, layers.Dense(2)(x))

        def train_step(self, data):
            return super().train_step(data)

    model = Own(6)
    graph = trace_channels(model)
    with pytest.raises(penjing.UnsupportedModelError, match="without its own methods"):
        remove_channels(model, graph, choose(graph, 0.5))


def test_draws_no_weights_and_keeps_initializers(monkeypatch):
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(8, name="hidden"), layers.Dense(2)]
    )
    graph = trace_channels(model)
    kept = {graph.groups[0].name: np.arange(8) < 5}

    def refuse(self, shape, dtype=None):
        raise AssertionError("drawn")

    monkeypatch.setattr(keras.initializers.VarianceScaling, "__call__", refuse)
    small = remove_channels(model, graph, kept)
    assert [layer.get_config()["kernel_initializer"] for layer in small.layers] == [
        layer.get_config()["kernel_initializer"] for layer in model.layers
    ]


class InAnotherOrder(keras.Model):
    """A Functional model of a class of its own, as keras-hub's backbones are."""

    def __init__(self, name=None, **options):
        self.last = layers.Dense(8, name="last")
        self.first = layers.Dense(8, "relu", name="first")
        inputs = keras.Input((8,), name="given")
        outputs = self.last(self.first(inputs))
        super().__init__(inputs=inputs, outputs=outputs, name=name)

    def get_config(self):
        return {"name": self.name}


@pytest.mark.skipif(
    keras.backend.backend() == "torch",
    reason="PyTorch takes no layers before a module is initialized",
)
@pytest.mark.parametrize("frozen", [False, True])
def test_layers_that_a_class_holds_in_another_order_keep_their_weights(frozen):
    model = InAnotherOrder(name="own")
    model.first.trainable = not frozen
    small, graph = cut(model)
    assert [group.name for group in graph.groups if group.reason is None] == ["first"]
    assert small.get_layer("first").units < 8
    assert small.get_layer("first").trainable is not frozen
    assert small.get_layer("last").trainable
    assert [v.path for v in small.get_layer("last").weights] == [
        v.path for v in model.last.weights
    ]
