"""What units are worth, by each importance, on weights that are written down."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from penjing.channels.scores import check_importance, score_channels
from penjing.channels.tracing import trace_channels
from penjing.errors import DataError, UnsupportedModelError


@pytest.fixture(scope="module")
def model():
    """Two units of three have a weight that is read; the third is half of them."""
    inputs = keras.Input((2,))
    x = layers.Dense(3, name="made", use_bias=False)(inputs)
    x = layers.BatchNormalization(name="norm")(x)
    made = keras.Model(inputs, layers.Dense(1, name="read", use_bias=False)(x))
    made.get_layer("made").kernel.assign([[2.0, 0, 1], [0, 2, 0]])
    made.get_layer("norm").gamma.assign([3.0, 1, 2])
    made.get_layer("read").kernel.assign([[4.0], [2], [0]])
    made.compile(loss="mse")
    return made


def scores(model, importance, data=None):
    groups = [g for g in trace_channels(model).groups if g.reason is None]
    return score_channels(model, groups, importance, data)["made"]


def samples(size=64):
    x = np.random.default_rng(0).normal(size=(size, 2)).astype("float32")
    return x, np.zeros((size, 1), "float32")


def relative(values):
    return pytest.approx(np.asarray(values) / np.mean(values), rel=1e-5)


def test_norms_of_all_kernels_that_a_unit_lies_on(model):
    norms = [(4 + 9 + 16) ** 0.5, (4 + 1 + 4) ** 0.5, (1 + 4 + 0) ** 0.5]
    assert scores(model, "l2") == relative(norms)


def test_scales_of_the_normalization(model):
    assert scores(model, "batch_norm") == relative([3, 1, 2])


def test_lamp_scores_are_fractions_of_what_is_not_smaller(model):
    found = scores(model, "lamp")
    assert found == pytest.approx([1, 9 / (9 + 29), 5 / (5 + 9 + 29)], rel=1e-5)


def test_what_nobody_reads_changes_no_loss(model):
    found = scores(model, "taylor", samples())
    assert found[2] == 0 < found[1] < found[0]


def test_deviations_of_what_is_handed_on(model):
    x, y = samples()
    inner = keras.Model(model.inputs, model.get_layer("norm").output)
    deviations = np.std(inner.predict(x, verbose=0), axis=0)
    actual = scores(model, "activation_variance", (x, y))
    np.testing.assert_allclose(actual, deviations / deviations.mean(), rtol=1e-3)
    np.testing.assert_allclose(scores(model, "activation_variance", x), actual)


@pytest.mark.once
def test_chance_is_the_same_each_time(model):
    found = scores(model, "random")
    assert found.tolist() == scores(model, "random").tolist()
    assert len(set(found.tolist())) == 3


@pytest.mark.once
def test_scores_of_the_users_own(model):
    def biggest(group, weights):
        assert set(weights) >= {"made/kernel", "norm/gamma", "read/kernel"}
        return np.abs(weights["made/kernel"]).max(axis=0)

    assert scores(model, biggest).tolist() == [2, 2, 1]
    assert scores(model, {"made": [1, 2, 3]}).tolist() == [1, 2, 3]


@pytest.mark.once
@pytest.mark.parametrize(
    ("importance", "kind", "message"),
    [
        ("taylor", DataError, "looks at data: pass"),
        ("activation_variance", DataError, "looks at data: pass"),
        ({"mad": [1, 2, 3]}, ValueError, "no scores for 'made'.* some for 'mad'"),
        ({"made": [1, 2]}, ValueError, r"each of the 3 units .* got shape \(2,\)"),
        ({"made": [1, 2, -3]}, ValueError, "of at least 0, got -3.0 to 2.0"),
        ({"made": [1, 2, np.nan]}, ValueError, "finite scores"),
        ({"made": "abc"}, ValueError, "must give numbers for 'made', got 'abc'"),
        ("l3", ValueError, "must be one of .* got 'l3'"),
    ],
)
def test_refusals(model, importance, kind, message):
    with pytest.raises(kind, match=message):
        scores(model, importance)


@pytest.mark.once
def test_a_group_without_scales_is_refused_with_the_way_out():
    inputs = keras.Input((2,))
    x = layers.Dense(2)(layers.Dense(3, name="made")(inputs))
    message = "pass through no normalization .*exclude='made'"
    with pytest.raises(UnsupportedModelError, match=message):
        scores(keras.Model(inputs, x), "batch_norm")


@pytest.mark.once
def test_data_of_three_parts_needs_a_loader(model):
    x, y = samples(4)
    with pytest.raises(DataError, match=r"must be \(x, y\) or a loader, got 3 parts"):
        scores(model, "taylor", (x, y, y))
    check_importance(lambda group, weights: [])
