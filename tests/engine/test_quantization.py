"""Quantization-aware training: grids, zeros, scales that learn, steps, and files."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.training_cases import to_array

import penjing
from penjing import Grid, OneShot, QuantizationConfig
from penjing.engine.quantization import apply_quantization
from penjing.engine.transforms.quantization_transform import FakeQuantize

ROWS = 32
JIT = keras.backend.backend() == "jax"
FEW = Grid(levels=7, granularity="per_tensor")


def compiled(model, optimizer=None):
    model.compile(optimizer or keras.optimizers.Adam(0.01), "mse", jit_compile=JIT)
    return model


def data(inputs=(8,), outputs=(4,)):
    rng = np.random.default_rng(0)
    make = [rng.normal(size=(ROWS, *shape)) for shape in (inputs, outputs)]
    return [array.astype("float32") for array in make]


def net(units=20):
    return keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(units, activation="relu", name="hidden"),
            layers.Dense(4, name="head"),
        ],
        name="net",
    )


def every_layer():
    """Each kind of layer whose weights are quantized, in one graph."""
    image = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, name="conv")(image)
    x = layers.Conv2D(5, 1, name="pointwise")(x)
    x = layers.SeparableConv2D(4, 3, padding="same", name="separable")(x)
    x = layers.DepthwiseConv2D(3, depth_multiplier=2, name="depthwise")(x)
    x = layers.Conv2DTranspose(6, 2, name="transposed")(x)
    x = layers.Reshape((9, 6))(x)
    x = layers.Conv1D(8, 2, name="conv1d")(x)
    x = layers.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = layers.LSTM(5, name="lstm")(x)
    return keras.Model(image, layers.Dense(4, name="dense")(x), name="all")


def kernels(model):
    """Weights of two and more axes by path, without the engine's own."""
    model = getattr(model, "model", model)
    values = {v.path: to_array(v) for v in model.trainable_variables}
    return {
        path: value
        for path, value in values.items()
        if value.ndim > 1 and not path.endswith("bias")
    }


def transform_of(model):
    return next(t for t in model.transforms if isinstance(t, FakeQuantize))


def scales(model):
    return {path: to_array(s) for path, s in transform_of(model).scales().items()}


def steps(model, count, x=None, y=None):
    x, y = (x, y) if x is not None else data()
    if not model.compiled:
        compiled(model)
    for _ in range(count):
        model.train_on_batch(x, y)
    return model


def check_grids(model, highest):
    """Every stripped weight is its scale times integers within the grid."""
    plain = kernels(penjing.strip(model))
    for path, scale in scales(model).items():
        integers = np.rint(plain[path] / scale)
        np.testing.assert_array_equal(plain[path], integers * scale)
        assert np.abs(integers).max() <= highest, path
        assert np.count_nonzero(integers), path
    return plain


# On the grid


def test_every_kind_of_layer_lands_on_its_grid():
    model = every_layer()
    for variable in model.trainable_variables:
        values = to_array(variable)
        variable.assign(np.where(np.abs(values) < 0.1, 0, values))
    before = kernels(model)
    quantized = penjing.quantize_aware(model, weights=Grid(levels=15))
    plain = check_grids(quantized, 7)
    assert set(scales(quantized)) == set(before)
    channels = {"transposed": -2, "depthwise": 8, "query": 6, "key": 6, "value": 6}
    for path, scale in scales(quantized).items():
        assert (plain[path][before[path] == 0] == 0).all(), path
        wanted = channels.get(path.split("/")[-2], -1)
        if path.endswith("depthwise_kernel"):
            wanted = -2
        assert scale.size == (wanted if wanted > 0 else before[path].shape[wanted])
        np.testing.assert_array_equal(
            to_array(dict((v.path, v) for v in model.weights)[path]), before[path]
        )
    x = data((6, 6, 3))[0]
    found = to_array(quantized(x)), to_array(penjing.strip(quantized)(x))
    np.testing.assert_allclose(*found, atol=1e-5)  # sums in another order


def test_eight_bits_change_a_weight_by_half_a_step_at_most():
    model = net()
    plain = check_grids(penjing.quantize_aware(model), 127)
    for path, before in kernels(model).items():
        step = np.abs(before).max(axis=0) / 127
        assert (np.abs(plain[path] - before) <= 1.5 * step).all()


def test_grids_by_layer_and_reasons():
    quantized = penjing.quantize_aware(
        net(), weights=Grid(bits=4), grids_by_layer={"head": FEW}
    )
    found = scales(quantized)
    assert found["net/hidden/kernel"].shape == (1, 20)
    assert found["net/head/kernel"].shape == ()
    plain = check_grids(quantized, 7)
    assert np.unique(plain["net/head/kernel"]).size <= 7
    reasons = quantized.skipped_weights()
    assert reasons["net/hidden/bias"] == "a bias, a scale or another vector"
    narrow = keras.Sequential(
        [keras.Input((1,)), layers.Dense(5, name="a"), layers.Dense(2, name="b")]
    )
    reasons = penjing.quantize_aware(narrow).skipped_weights()
    assert "one value, which needs no scale" in reasons["sequential/a/kernel"]


def test_shared_values_stay_shared():
    pruned = penjing.prune(net(), OneShot(0.5))
    pruned(data()[0], training=True)
    quantized = penjing.quantize_aware(penjing.cluster(pruned, 4))
    for kernel in check_grids(quantized, 127).values():
        assert np.unique(kernel).size <= 5
        assert (kernel == 0).mean() >= 0.5
    steps(quantized, 3)
    for kernel in check_grids(quantized, 127).values():
        assert np.unique(kernel).size <= 5
        assert (kernel == 0).mean() >= 0.5


# Training


@pytest.fixture(scope="module")
def trained():
    """A network that learned another one's answers with integers from -3 to 3."""
    x, _ = data()
    y = x[:, :4] * 2 - x[:, 4:]
    quantized = compiled(penjing.quantize_aware(net(), weights=FEW))
    first = scales(quantized)
    losses = [float(quantized.train_on_batch(x, y)) for _ in range(150)]
    return quantized, first, losses, (x, y)


def test_weights_and_scales_learn(trained):
    quantized, first, losses, _ = trained
    assert losses[-1] < 0.25 * losses[0]
    for path, scale in scales(quantized).items():
        assert 0.3 < scale / first[path] < 3
        assert scale != first[path]
    for kernel in check_grids(quantized, 3).values():
        assert np.unique(kernel).size <= 7


def test_training_goes_on_after_saving(trained, tmp_path):
    quantized, _, _, (x, y) = trained
    quantized.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(to_array(loaded(x)), to_array(quantized(x)))
    found = scales(loaded)
    for path, scale in scales(quantized).items():
        assert scale == found[path]
    loaded.train_on_batch(x, y)
    check_grids(loaded, 3)
    assert scales(loaded) != found
    assert transform_of(loaded).config == transform_of(quantized).config


def least_squares(kernel, scale, highest):
    integers = np.clip(np.rint(kernel / scale), -highest, highest)
    return (kernel * integers).sum() / (integers**2).sum()


def test_a_scale_that_is_not_learned_follows_the_weights():
    model = penjing.quantize_aware(net(), weights=FEW, learn_scale=False)
    assert not transform_of(model).trainable_variables
    raw, before = kernels(model), scales(model)
    steps(model, 1)
    for path, scale in scales(model).items():
        wanted = least_squares(raw[path], before[path], 3)
        # Sums of 160 products in another order.
        np.testing.assert_allclose(scale, wanted, rtol=1e-5)
    raw, before = kernels(model), scales(model)
    model(data()[0])
    assert scales(model) == before
    steps(model, 1)
    for path, scale in scales(model).items():
        assert scale != before[path]
    check_grids(model, 3)


@pytest.mark.parametrize("learn_scale", [True, False])
def test_it_begins_at_its_step_on_what_pruning_left(learn_scale):
    model = penjing.quantize_aware(
        penjing.prune(net(), OneShot(0.75, step=2)),
        weights=FEW,
        begin_step=3,
        learn_scale=learn_scale,
    )
    x, _ = data()
    np.testing.assert_array_equal(to_array(model(x)), to_array(model.model(x)))
    steps(model, 2)
    assert not any(scale.any() for scale in scales(model).values())
    for kernel in kernels(penjing.strip(model)).values():
        assert np.unique(kernel).size > 8
    raw = kernels(penjing.strip(model))
    steps(model, 1)
    for path, kernel in raw.items():
        scale = to_array(transform_of(model).references[list(raw).index(path)])
        errors = [
            ((kernel - np.clip(np.rint(kernel / s), -3, 3) * s) ** 2).sum()
            for s in [scale, *np.geomspace(0.1, 1, 200) * np.abs(kernel).max() / 3]
        ]
        assert errors[0] <= 1.1 * min(errors)
    for kernel in check_grids(model, 3).values():
        assert np.unique(kernel).size <= 7
        assert (kernel == 0).mean() >= 0.75


def test_a_beginning_that_is_never_reached_is_reported():
    model = compiled(penjing.quantize_aware(net(), begin_step=50))
    with pytest.warns(penjing.CompressionWarning, match="begins at step 50, so no wei"):
        model.fit(*data(), epochs=1, verbose=0)
    with pytest.warns(penjing.CompressionWarning, match="not trained since it was"):
        penjing.strip(penjing.quantize_aware(net(), begin_step=50))


def test_a_model_that_its_first_batch_builds():
    model = keras.Sequential([layers.Dense(6), layers.Dense(4)])
    quantized = compiled(penjing.quantize_aware(model, weights=FEW))
    quantized.fit(*data(), epochs=2, batch_size=16, verbose=0)
    for kernel in check_grids(quantized, 3).values():
        assert np.unique(kernel).size <= 7
    assert transform_of(quantized).config.begin_step == 1


def test_weights_outside_the_grid_get_no_gradient_and_zeros_stay():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, use_bias=False)])
    kernel = np.full((8, 4), 0.5, "float32")
    kernel[0] = 0.0
    model.layers[0].kernel.assign(kernel)
    quantized = compiled(
        penjing.quantize_aware(model, weights=Grid(bits=2)), keras.optimizers.SGD(0.1)
    )
    quantized.model.layers[0].kernel.assign(np.where(kernel > 0, 0.9, 0))
    x, y = data()
    quantized.train_on_batch(np.abs(x), y)
    np.testing.assert_array_equal(
        to_array(quantized.model.layers[0].kernel)[1:], np.float32(0.9)
    )
    assert (np.abs(to_array(quantized.model.layers[0].kernel)[0]) > 0).all()


# Configs and refusals


@pytest.mark.once
def test_config_survives_json():
    config = QuantizationConfig(
        weights=FEW,
        learn_scale=False,
        begin_step=7,
        include="head",
        exclude=["hidden"],
        grids_by_layer={"head": Grid(bits=4)},
    )
    again = keras.saving.deserialize_keras_object(
        json.loads(json.dumps(keras.saving.serialize_keras_object(config)))
    )
    assert again.get_config() == config.get_config()
    assert again.grids_by_layer == {"head": Grid(bits=4)}
    quantized = apply_quantization(net(), again)
    assert set(scales(quantized)) == {"net/head/kernel"}
