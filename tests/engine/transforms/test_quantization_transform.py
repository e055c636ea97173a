"""Grids in training: scales that learn or follow, first steps, gradients."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.grid_cases import (
    FEW,
    check_grids,
    compiled,
    scales,
    steps,
    transform_of,
)
from tests.engine.small_net import data, kernels, net
from tests.engine.training_cases import arrays, to_array
from tests.jax_cases import few_on_jax

import penjing
from penjing import Grid, OneShot


def test_eight_bits_change_a_weight_by_half_a_step_at_most():
    model = net()
    plain = check_grids(penjing.quantize_aware(model), 127)
    for path, before in kernels(model).items():
        step = np.abs(before).max(axis=0) / 127
        assert (np.abs(plain[path] - before) <= 1.5 * step).all()


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


@pytest.mark.parametrize("learn_scale", few_on_jax([True, False], True))
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


def test_a_channel_too_small_for_a_scale_is_rounded_to_zero():
    model = net()
    kernel = to_array(model.layers[0].kernel)
    kernel[:, 0] *= 1e-38
    model.layers[0].kernel.assign(kernel)
    rounded = arrays(penjing.strip(penjing.quantize_aware(model)))[0]
    assert (rounded[:, 0] == 0).all()
    np.testing.assert_allclose(rounded[:, 1:], kernel[:, 1:], atol=0.01)
