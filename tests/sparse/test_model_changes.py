"""The layout of sparse kernels: the same outputs, and what does not fit by name."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.sparse.sparse_topologies import build_topology, image_samples

import penjing
from penjing.errors import CompressionWarning, UnsupportedModelError
from penjing.sparse.sparse_layers import place_layers

once = pytest.mark.once
CORNER = ((0, 1), (0, 1))


def separable_net(
    *,
    size=16,
    channels=3,
    stem="same",
    inner="same",
    head=None,
    kernel=3,
    nested=False,
):
    """A stem and two depthwise-separable blocks, all with stride 2."""
    image = keras.Input((size, size, channels), name="image")
    x = layers.Rescaling(0.5, offset=0.25)(image)
    x = strided(x, layers.Conv2D, stem, 3, filters=4)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    for number in range(2):
        x = strided(x, layers.DepthwiseConv2D, inner, kernel)
        x = layers.Activation("relu6")(x)
        block = [layers.Conv2D(6, 1), layers.BatchNormalization(), layers.ReLU()]
        x = keras.Sequential(block)(x) if nested and number else chain(x, block)
    x = (head or pooled)(x)
    model = keras.Model(image, x)
    rng = np.random.default_rng(0)
    model.set_weights(
        [
            rng.uniform(0.5, 1.5, w.shape)
            if w.name in ("gamma", "moving_variance")
            else rng.normal(size=w.shape) * 0.5
            for w in model.weights
        ]
    )
    return model


def chain(x, steps):
    for step in steps:
        x = step(x)
    return x


def strided(x, make, padding, kernel, **settings):
    if padding != "same":
        x = layers.ZeroPadding2D(padding)(x)
    mode = "same" if padding == "same" else "valid"
    return make(kernel_size=kernel, strides=2, padding=mode, **settings)(x)


def pooled(x):
    return layers.Dense(3)(layers.GlobalAveragePooling2D()(x))


def pooled_whole(x):
    """The head of MLPerf Tiny's visual wake words model."""
    return layers.Dense(3)(layers.Flatten()(layers.AveragePooling2D(x.shape[1])(x)))


def classified_by_convolution(x):
    """The head of MobileNet in keras.applications."""
    x = layers.Dropout(0.1)(layers.GlobalAveragePooling2D(keepdims=True)(x))
    return layers.Softmax()(layers.Reshape((3,))(layers.Conv2D(3, 1)(x)))


EQUIVALENT = {
    "same": {},
    "same, odd": {"size": 17},
    "as in keras.applications": {
        "stem": CORNER,
        "inner": CORNER,
        "head": classified_by_convolution,
    },
    "as in visual wake words": {"head": pooled_whole},
    "fits already": {"stem": 1, "inner": 1},
    "inner padding on two sides": {"stem": 1},
    "inner padding on all sides": {"inner": 1},
    "5x5": {"kernel": 5},
    "grey": {"channels": 1},
    "nested": {"nested": True},
}


# Every backend runs these; the others differ in shapes only.
ON_ALL_BACKENDS = ("as in keras.applications", "inner padding on all sides", "grey")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[] if name in ON_ALL_BACKENDS else once)
        for name in EQUIVALENT
    ],
)
def test_outputs_stay_the_same(name):
    model = separable_net(**EQUIVALENT[name])
    samples = image_samples(model)
    expected = keras.ops.convert_to_numpy(model(samples, training=False))
    layout = penjing.sparse_layout(model)
    assert not layout.obstacles and layout.is_equivalent
    prepared = penjing.prepare_for_sparse_inference(model)
    actual = keras.ops.convert_to_numpy(prepared(samples, training=False))
    np.testing.assert_allclose(actual, expected, atol=2e-5, rtol=1e-4)
    assert np.ptp(expected, axis=0).max() > 1e-3  # the images matter
    # Nothing is left to do, and nothing is left to turn.
    again = penjing.sparse_layout(prepared)
    assert not again.changes and not again.obstacles and not again.is_turned


def test_a_prepared_model_is_plain_keras(tmp_path):
    model = separable_net()
    before = [np.asarray(keras.ops.convert_to_numpy(w)) for w in model.weights]
    prepared = penjing.prepare_for_sparse_inference(model)
    prepared.save(tmp_path / "prepared.keras")
    loaded = keras.models.load_model(tmp_path / "prepared.keras")
    samples = image_samples(model)
    np.testing.assert_allclose(
        loaded.predict(samples, verbose=0), prepared.predict(samples, verbose=0)
    )
    for kept, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(kept, keras.ops.convert_to_numpy(weight))
    assert [x.name for x in prepared.inputs] == [x.name for x in model.inputs]


@once
def test_the_file_of_a_prepared_model_qualifies(tmp_path):
    for name in ("stem_same", "stride_2_same", "grey_image"):
        model = build_topology(name)
        prepared = penjing.prepare_for_sparse_inference(model)
        path = penjing.export_litert(
            prepared,
            tmp_path / "a.tflite",
            encoding="sparse",
            runtime="wasm",
            verify=False,
        )
        samples = image_samples(model)
        np.testing.assert_allclose(
            penjing.LiteRTModel(path).predict(samples),
            model.predict(samples, verbose=0),
            atol=1e-5,
        )


def _resized(x):
    return pooled(layers.MaxPooling2D(2)(x))


def _flattened(x):
    return layers.Dense(3)(layers.Flatten()(x))


def _gated(x):
    gate = layers.GlobalAveragePooling2D(keepdims=True)(x)
    gate = layers.Conv2D(x.shape[-1], 1, activation="sigmoid")(gate)
    return pooled(layers.Multiply()([x, gate]))


def _averaged(x):
    return pooled(layers.AveragePooling2D(x.shape[1], strides=1, padding="same")(x))


OBSTACLES = {
    "pooling between": ({"head": _resized}, "MaxPooling2D has no kernel .* stride 2"),
    "no pooling": ({"head": _flattened}, "no global average pooling follows"),
    "two channels": ({"channels": 2}, "2 input channels and must have 3"),
    "7x7": ({"kernel": 7}, "depthwise kernel is 7x7"),
    "squeeze and excite": ({"head": _gated}, "goes back into a map of features"),
    "averages with an edge": ({"head": _averaged}, "AveragePooling2D has no kernel"),
    "added to itself": ({"head": lambda x: pooled(x + x)}, "adds a value to itself"),
    "half an ELU": (
        {"head": lambda x: pooled(layers.ELU(0.5)(x))},
        "ELU with these settings",
    ),
}


@once
@pytest.mark.parametrize("name", OBSTACLES)
def test_what_does_not_fit_is_named(name):
    settings, reason = OBSTACLES[name]
    model = separable_net(**settings)
    with pytest.warns(CompressionWarning, match=reason):
        prepared = penjing.prepare_for_sparse_inference(model)
    samples = image_samples(model)
    np.testing.assert_allclose(
        prepared.predict(samples, verbose=0),
        model.predict(samples, verbose=0),
        atol=1e-5,
    )


def _joined():
    """Two images, one above the other."""
    image = keras.Input((16, 16, 3))
    halves = [layers.Cropping2D((rows, (0, 0)))(image) for rows in ((8, 0), (0, 8))]
    return image, layers.Concatenate(axis=1)(halves)


def _flat():
    pixels = keras.Input((16 * 16 * 3,))
    return pixels, layers.Reshape((16, 16, 3))(pixels)


def _calculated():
    image = keras.Input((16, 16, 3))
    return image, layers.Rescaling(2.0)(image / 127.5 - 1.0)


@once
@pytest.mark.parametrize("begin", [_joined, _flat, _calculated])
def test_what_stands_before_the_first_convolution_stays(begin):
    image, x = begin()
    x = strided(x, layers.Conv2D, "same", 3, filters=4, activation="relu")
    x = layers.SeparableConv2D(6, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.DepthwiseConv2D(3)(layers.ZeroPadding2D(1)(x))
    assert_prepared(keras.Model(image, pooled(x)), is_turned=True)


@once
def test_sequential_models_and_models_within_are_opened_up():
    inner = keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            layers.Conv2D(4, 3, strides=2, padding="same", activation="relu"),
            layers.Conv2D(6, 1),
            layers.GlobalAveragePooling2D(),
        ]
    )
    model = keras.Sequential([keras.Input((16, 16, 3)), inner, layers.Dense(3)])
    assert_prepared(model, is_turned=True)


@once
def test_sizes_are_those_in_the_model_itself():
    model = separable_net()
    x = keras.Input((17, 17, 3))
    other = x
    for layer in model.layers[1:]:
        other = layer(other)
    assert_prepared(model, is_turned=True)
    assert_prepared(keras.Model(x, other), is_turned=False)


@once
def test_padding_that_others_read_too_stays():
    image = keras.Input((16, 16, 3))
    padded = layers.ZeroPadding2D(CORNER)
    x = layers.Conv2D(4, 3, strides=2)(padded(image))
    y = layers.Flatten()(layers.Conv2D(2, 3)(padded(image)))
    model = keras.Model(image, [pooled(layers.Conv2D(4, 1)(x)), y])
    with pytest.warns(CompressionWarning, match="more than once"):
        prepared = penjing.prepare_for_sparse_inference(model)
    samples = image_samples(model)
    for actual, expected in zip(
        prepared.predict(samples, verbose=0),
        model.predict(samples, verbose=0),
        strict=True,
    ):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


def assert_prepared(model, *, is_turned):
    samples = image_samples(model)
    layout = penjing.sparse_layout(model)
    assert not layout.obstacles and layout.is_turned == is_turned
    prepared = penjing.prepare_for_sparse_inference(model)
    expected = model.predict(samples, verbose=0)
    np.testing.assert_allclose(
        prepared.predict(samples, verbose=0), expected, atol=2e-5, rtol=1e-4
    )
    assert np.ptp(expected, axis=0).max() > 1e-4  # the images matter


@once
def test_a_net_without_a_first_convolution_is_told():
    image = keras.Input((16, 16, 3))
    x = layers.Conv2D(4, 1)(layers.DepthwiseConv2D(3, padding="same")(image))
    layout = penjing.sparse_layout(keras.Model(image, pooled(x)))
    (obstacle,) = layout.obstacles.values()
    assert "none is before it" in obstacle
    image = keras.Input((None, None, 3))
    x = layers.Conv2D(4, 3, strides=2, padding="same")(image)
    layout = penjing.sparse_layout(keras.Model(image, pooled(x)))
    (obstacle,) = layout.obstacles.values()
    assert "size of its image is free" in obstacle


@once
def test_training_goes_on_as_before():
    image = keras.Input((16, 16, 3))
    x = strided(image, layers.Conv2D, "same", 3, filters=4)
    inner = keras.Model(image, layers.BatchNormalization(name="normal")(x))
    image = keras.Input((16, 16, 3))
    x = layers.GlobalAveragePooling2D(keepdims=True)(inner(image, training=False))
    x = layers.Conv2D(3, 1, kernel_regularizer="l2", name="head")(x)
    model = keras.Model(image, layers.Flatten()(x))
    prepared = penjing.prepare_for_sparse_inference(model)
    assert prepared.get_layer("head").kernel_regularizer is not None
    samples = image_samples(model)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(prepared(samples, training=True)),
        keras.ops.convert_to_numpy(model(samples, training=True)),
        atol=1e-5,
    )


@once
def test_a_shared_layer_is_told_apart_and_left_alone():
    image = keras.Input((16, 16, 3))
    x = strided(image, layers.Conv2D, 1, 3, filters=4)
    shared = layers.DepthwiseConv2D(3, strides=2, padding="same", name="shared")
    x = layers.Conv2D(4, 1)(shared(shared(x)))
    model = keras.Model(image, layers.GlobalAveragePooling2D()(x))
    first, second = [p for p in place_layers(model) if p.layer is shared]
    assert second.producers == [first] and first.readers == [second]
    layout = penjing.sparse_layout(model)
    assert not layout.changes and "more than once" in layout.obstacles["shared"]


@once
def test_images_are_not_turned_where_an_output_would_show_it():
    image = keras.Input((16, 16, 3))
    x = strided(image, layers.Conv2D, "same", 3, filters=4)
    x = layers.Conv2D(4, 1, name="features")(x)
    model = keras.Model(image, [layers.GlobalAveragePooling2D()(x), x])
    layout = penjing.sparse_layout(model)
    assert not layout.is_turned
    assert "cannot be turned" in layout.obstacles["conv2d"]
    assert "the outputs read what it gives" in layout.obstacles["features"]


@once
def test_the_variant_for_training_keeps_shapes_and_says_what_moves():
    model = separable_net()
    layout = penjing.sparse_layout(model, equivalent=False)
    assert not layout.is_equivalent and not layout.is_turned
    assert "train the model" in layout.changes["conv2d"]
    prepared = penjing.prepare_for_sparse_inference(model, equivalent=False)
    kernels = [w for w in prepared.weights if w.name == "kernel"]
    assert [w.shape for w in kernels] == [
        w.shape for w in model.weights if w.name == "kernel"
    ]
    samples = image_samples(model)
    difference = prepared.predict(samples, verbose=0) - model.predict(
        samples, verbose=0
    )
    assert np.abs(difference).max() > 1e-4
    assert not penjing.sparse_layout(prepared).obstacles


@once
def test_zeros_stay_zeros():
    model = build_topology("asymmetric_padding")
    prepared = penjing.prepare_for_sparse_inference(model)
    zeros = [
        sum(row.zeros for row in penjing.sparsity_report(m).rows)
        for m in (model, prepared)
    ]
    assert zeros[0] == zeros[1] > 0


def test_models_with_code_of_their_own_are_refused():
    class Own(keras.Model):
        def call(self, x):
            return x

    with pytest.raises(UnsupportedModelError, match="which layer reads what"):
        penjing.prepare_for_sparse_inference(Own())
