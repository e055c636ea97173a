"""Wrappers of layers: in graphs, lists and by themselves, and out of them again."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.tfmot.pruned_models import (
    Subclassed,
    arrays,
    compiled,
    data,
    dense_model,
    sparsity,
    summary_of,
    train,
)

import penjing


def test_graphs_with_operators_shared_layers_and_nested_models():
    shared = layers.Dense(6, name="shared")
    nested = keras.Sequential(
        [keras.Input((6,)), layers.Dense(6, name="in")], name="nest"
    )
    inputs = keras.Input((6,))
    x = nested(shared(shared(inputs)) + inputs)
    baseline = keras.Model(inputs, layers.Dense(2, name="out")(x))
    schedule = sparsity.ConstantSparsity(0.5, 0)
    pruned = compiled(sparsity.prune_low_magnitude(baseline, schedule))
    train(pruned)
    wrapper = pruned.get_layer("prune_low_magnitude_shared")
    assert int(ops.convert_to_numpy(wrapper.pruning_step)) == 8
    inner = pruned.get_layer("nest").layers[0]
    assert inner.name == "prune_low_magnitude_in"
    stripped = sparsity.strip_pruning(pruned)
    assert summary_of(stripped) == summary_of(baseline)
    x, _ = data()
    np.testing.assert_allclose(
        stripped.predict(x, verbose=0), pruned.predict(x, verbose=0), atol=1e-6
    )
    report = penjing.sparsity_report(stripped)
    assert {row.zeros for row in report.rows if row.status != "skipped"} == {18, 6}


@pytest.mark.once
def test_a_subclassed_model_inside_a_graph_goes_through_the_engine():
    inner = Subclassed()
    inputs = keras.Input((6,))
    pruned = sparsity.prune_low_magnitude(keras.Model(inputs, inner(inputs)))
    assert isinstance(pruned, penjing.CompressionModel)


@pytest.mark.once
def test_layers_and_lists_are_wrapped_as_they_are():
    dense = layers.Dense(3, name="d")
    wrapped = sparsity.prune_low_magnitude(dense)
    assert wrapped.layer is dense
    listed = sparsity.prune_low_magnitude(
        [layers.InputLayer((6,)), wrapped, layers.ReLU(name="r")]
    )
    assert listed[1] is wrapped
    assert [layer.name for layer in listed[1:]] == [
        "prune_low_magnitude_d",
        "prune_low_magnitude_r",
    ]
    model = keras.Sequential(listed)
    assert model.built
    assert [type(layer) for layer in sparsity.strip_pruning(model).layers] == [
        layers.Dense,
        layers.ReLU,
    ]


@pytest.mark.once
def test_a_wrapped_layer_takes_an_input_shape():
    with pytest.warns(UserWarning, match="input_shape"):
        wrapped = sparsity.prune_low_magnitude(layers.Dense(3), input_shape=(4,))
    assert keras.Sequential([wrapped]).built


def test_a_model_without_a_shape_is_built_by_its_first_batch():
    model = keras.Sequential([layers.Dense(4), layers.Dense(2)])
    pruned = compiled(
        sparsity.prune_low_magnitude(model, sparsity.ConstantSparsity(0.5, 0))
    )
    train(pruned)
    assert not model.built
    assert np.mean(arrays(pruned)[0] == 0) == 0.5


@pytest.mark.once
def test_pruning_twice_wraps_once():
    pruned = sparsity.prune_low_magnitude(dense_model())
    again = sparsity.prune_low_magnitude(pruned)
    assert [layer.name for layer in again.layers] == [
        "prune_low_magnitude_body",
        "prune_low_magnitude_head",
    ]


@pytest.mark.once
def test_frozen_layers_stay_frozen_and_whole():
    model = dense_model()
    model.layers[0].trainable = False
    pruned = sparsity.prune_low_magnitude(model, sparsity.ConstantSparsity(0.5, 0))
    assert [len(layer.pruning_vars) for layer in pruned.layers] == [0, 1]
    before = arrays(pruned)[0]
    train(compiled(pruned))
    np.testing.assert_array_equal(arrays(pruned)[0], before)


@pytest.mark.once
def test_a_plain_model_is_stripped_to_a_copy():
    model = dense_model()
    stripped = sparsity.strip_pruning(model)
    assert stripped is not model
    assert summary_of(stripped) == summary_of(model)
