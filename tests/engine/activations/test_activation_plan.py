"""Which tensors are rounded, and which share a range."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

from penjing.engine.activations.activation_plan import plan_activations
from penjing.models.graph_flow import trace_flow

pytestmark = pytest.mark.once


def plan(inputs, outputs, floats=()):
    model = keras.Model(inputs, outputs)
    weights = {id(w) for w in model.weights if not w.path.startswith(tuple(floats))}
    found = plan_activations(model, weights)
    return found, {site.operation.name: site for site in found.sites}


def image():
    return keras.Input((8, 8, 4), name="image")


def test_an_operator_and_its_rectifier_are_one_tensor():
    x = layers.Conv2D(4, 3, name="conv")(image_ := image())
    found, sites = plan(image_, layers.ReLU(max_value=6, name="relu6")(x))
    assert (sites["conv"].output, sites["relu6"].output) == (None, "relu6")
    assert found.groups == ("input_0", "relu6")
    assert sites["conv"].bias_input == "input_0"
    _, sites = plan(image_, [layers.ReLU(name="relu")(x), x])
    assert (sites["conv"].output, sites["relu"].output) == ("conv", "relu")
    _, sites = plan(image_, layers.ReLU(negative_slope=0.1, name="leaky")(x))
    assert sites["conv"].output == "conv"


def test_residual_adds_have_ranges_of_their_own():
    start = image()
    x = layers.Conv2D(4, 1, activation="relu", name="conv")(start)
    found, sites = plan(start, ops.relu(x + start))
    assert found.groups == ("input_0", "conv", "relu")
    assert sites["add"].output is None


def test_pooling_shares_and_concatenation_joins():
    start = image()
    left = layers.Conv2D(4, 1, name="left")(start)
    right = layers.Conv2D(4, 1, activation="sigmoid", name="right")(start)
    x = layers.Concatenate(name="join")([layers.MaxPooling2D(1)(left), right])
    x = layers.AveragePooling2D(2, name="mean")(x)
    found, sites = plan(start, layers.Flatten()(x))
    assert found.fixed == {"right": (1 / 256, -128)}
    assert sites["right"].before_activation == "right/before_activation"
    assert sites["join"].inputs == {1: "left"}
    assert sites["mean"].output == "left"
    assert sites["mean"].halves_away
    assert found.groups == ("input_0", "left", "right/before_activation")


def test_what_runs_in_float_is_rounded_only_for_integer_readers():
    start = keras.Input((6, 4))
    x = layers.LSTM(4, return_sequences=True, name="first")(start)
    x = layers.Dense(3, name="dense")(layers.Dropout(0.1)(x))
    found, sites = plan(start, layers.GRU(3, name="last")(x))
    assert found.inputs == (None,)
    assert sites["first"].output == "first"
    assert sites["dense"].output == "dense"
    assert sites["last"].output is None
    assert set(found.in_float) == {"first", "last"}
    found, sites = plan(start, x, floats=["dense/"])
    assert found.in_float["dense"] == "its weights are not quantized"
    assert not sites["dense"].rounds


def test_each_call_of_a_shared_layer_has_its_range():
    start = image()
    conv, pool = layers.Conv2D(4, 1, name="conv"), layers.MaxPooling2D(1, name="pool")
    x = pool(conv(pool(start)))
    found, _ = plan(start, conv(x))
    assert [site.output for site in found.sites] == [None, "conv", None, "conv:2"]


def test_nested_graphs_are_opened_and_integers_left_alone():
    inner = keras.Sequential(
        [keras.Input((8, 8, 4)), layers.Conv2D(4, 1, name="conv")], name="inner"
    )
    outer = keras.Sequential([keras.Input((8, 8, 4)), inner, layers.Flatten()])
    assert [call.source for call in trace_flow(outer).calls] == [
        "inner/conv",
        "flatten",
    ]
    words = keras.Input((5,), dtype="int32")
    x = layers.Dense(3, name="dense")(layers.Embedding(9, 4, name="table")(words))
    found, sites = plan(words, x)
    assert found.inputs == (None,)
    assert sites["table"].output == "table"


def test_code_of_ones_own_is_no_graph():
    class Own(keras.Model):
        def call(self, x):
            return x

    assert trace_flow(Own()) is None
    assert plan_activations(Own(), ()) is None


@pytest.mark.parametrize(
    "mask",
    [
        lambda scores, kept: ops.where(kept > 0, scores, -1e9),
        lambda scores, kept: scores + (1 - kept) * -1e9,
        lambda scores, kept: scores + np.float32([0, 0, -1e9]),
    ],
)
def test_masked_scores_have_no_range_that_their_fill_would_ruin(mask):
    inputs, kept = keras.Input((4,)), keras.Input((3,), name="kept")
    scores = layers.Dense(3, name="scores")(inputs)
    x = layers.Dense(2)(layers.Softmax(name="shares")(mask(scores, kept)))
    found, sites = plan([inputs, kept], x)
    assert found.in_float["shares"] == "its scores are masked"
    assert sites["scores"].output in (None, "scores")
    masks = {"where", "add", "add_1", "subtract", "multiply"}
    assert not masks & {name.rstrip("_0123456789") for name in found.groups}
