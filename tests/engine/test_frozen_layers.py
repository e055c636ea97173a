"""Frozen layers: rounded, but not pruned or clustered, before the method and after."""

from __future__ import annotations

import copy

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.small_net import compiled, data, net, steps
from tests.engine.training_cases import arrays, to_array
from tests.jax_cases import few_on_jax

import penjing

PATHS = ("net/hidden/kernel", "net/head/kernel")


def frozen():
    model = net()
    model.layers[0].trainable = False
    return model


def ramp():
    return penjing.PolynomialDecay(
        final_sparsity=0.75, begin_step=0, end_step=6, frequency=1
    )


METHODS = {
    "prune": lambda model: penjing.prune(model, ramp()),
    "prune_globally": lambda model: penjing.prune(model, ramp(), scope="global"),
    "cluster": lambda model: penjing.cluster(model, 4),
    "quantize": penjing.quantize_aware,
    "following": lambda model: penjing.quantize_aware(model, learn_scale=False),
    "int8": lambda model: penjing.quantize_aware(
        model, activations="int8", calibration_data=data()[0]
    ),
}


def kernel(model, path):
    stripped = penjing.strip(model)
    [found] = [v for v in stripped.variables if v.path == path]
    return to_array(found)


def test_frozen_kernels_get_grids_whose_scales_stay():
    quantized = penjing.quantize_aware(frozen())
    assert set(quantized.transforms[0].weights_by_path) == set(PATHS)
    scales = quantized.transforms[0].scales()
    before = to_array(scales[PATHS[0]])
    trained = [v.path for v in quantized.trainable_variables]
    assert not any("hidden" in path for path in trained)
    steps(compiled(quantized, keras.optimizers.Adam(0.01)), 3)
    scale = to_array(quantized.transforms[0].scales()[PATHS[0]])
    np.testing.assert_array_equal(scale, before)
    rounded = kernel(quantized, PATHS[0]) / scale
    np.testing.assert_allclose(rounded, np.rint(rounded), atol=1e-4)


def test_a_frozen_base_runs_in_integers():
    x, _ = data()
    base = keras.Sequential(
        [
            layers.Input((8,)),
            layers.Dense(20),
            layers.BatchNormalization(),
            layers.ReLU(),
        ],
        name="base",
    )
    base.trainable = False
    model = keras.Sequential([layers.Input((8,)), base, layers.Dense(4)], name="net")
    quantized = penjing.quantize_aware(model, activations="int8", calibration_data=x)
    assert quantized.activations.plan.in_float == {}
    assert all(site.in_integers for site in quantized.activations.plan.sites[:1])
    before = arrays(quantized.model.layers[0])
    steps(quantized, 2)
    for old, new in zip(before, arrays(quantized.model.layers[0]), strict=True):
        np.testing.assert_array_equal(new, old)


def test_a_wholly_frozen_model_is_rounded():
    model = net()
    model.trainable = False
    quantized = penjing.quantize_aware(model)
    assert len(np.unique(kernel(quantized, PATHS[1])[:, 0])) <= 255
    assert not quantized.trainable_variables


def test_low_rank_adapters_are_left_in_float():
    model = net()
    model.layers[0].enable_lora(2)
    quantized = penjing.quantize_aware(model)
    assert "LoRA" in quantized.skipped_weights()[PATHS[0]]


@pytest.mark.parametrize("method", ["prune", "cluster"])
def test_frozen_kernels_are_neither_pruned_nor_clustered(method):
    model = frozen()
    compressed = METHODS[method](model)
    assert "frozen" in compressed.skipped_weights()[PATHS[0]]
    steps(compressed, 2)
    before = to_array(model.layers[0].kernel)
    np.testing.assert_array_equal(kernel(compressed, PATHS[0]), before)


@pytest.mark.parametrize(
    "method",
    few_on_jax(
        ["prune", "prune_globally", "cluster", "following", "int8"],
        *("prune_globally", "int8"),
    ),
)
def test_what_is_frozen_later_does_not_change_until_it_is_not_frozen(method):
    compressed = METHODS[method](net())

    def train(count):
        traced = method in ("prune_globally", "int8")
        adam = keras.optimizers.Adam(0.02)
        steps(compiled(compressed, adam, traced=traced), count)

    train(2)
    compressed.model.layers[0].trainable = False
    before, head = (kernel(compressed, path) for path in PATHS)
    train(4)
    np.testing.assert_array_equal(kernel(compressed, PATHS[0]), before)
    assert (kernel(compressed, PATHS[1]) != head).any()
    compressed.model.layers[0].trainable = True
    train(1)
    assert (kernel(compressed, PATHS[0]) != before).any()
    if method == "prune":
        assert (kernel(compressed, PATHS[1]) == 0).mean() == 0.75


def changed(model, layer, trainable):
    model.model.layers[layer].trainable = trainable
    return model


@pytest.mark.parametrize(
    ("method", "freeze"),
    [
        ("cluster", True),
        ("int8", False),
        pytest.param("prune", True, marks=pytest.mark.costly_on_jax),
        pytest.param("quantize", False, marks=pytest.mark.costly_on_jax),
        pytest.param("int8", True, marks=pytest.mark.costly_on_jax),
    ],
)
def test_a_model_is_saved_as_it_is_after_freezing(method, freeze, tmp_path):
    traced = method == "cluster"
    compressed = METHODS[method](net() if freeze else frozen())
    steps(compiled(compressed, traced=traced), 2)
    changed(compressed, 0, not freeze)
    x, _ = data()
    right = to_array(compressed(x))
    compressed.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for twin in (loaded, copy.deepcopy(compressed)):
        np.testing.assert_allclose(to_array(twin(x)), right, atol=1e-6)
        trained = [v.path for v in twin.trainable_variables]
        assert len(trained) == len(compressed.trainable_variables)
        assert (PATHS[0] in trained) is not freeze
        steps(compiled(twin, traced=traced), 1)


def test_a_plan_is_saved_not_made_anew():
    quantized = METHODS["int8"](net())
    config = quantized.activations.get_config()
    config["saved_plan"]["in_float"] = {"noted": "here"}
    grids = type(quantized.activations).from_config(config)
    grids.attach(quantized.model, set())
    assert grids.plan.groups == quantized.activations.plan.groups
    assert grids.plan.in_float == {"noted": "here"}
    other = keras.Sequential([layers.Input((8,)), layers.Dense(4)], name="other")
    again = type(grids).from_config(config)
    with pytest.raises(penjing.CompressionError, match="'other' has other operations"):
        again.attach(other, set())
