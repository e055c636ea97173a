"""Groups of channels, against groups found by hand, and what is refused."""

from __future__ import annotations

import re
import time

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.channels.test_removal import residual

import penjing
from penjing import trace_channels

pytestmark = pytest.mark.once


def test_residual_and_concatenation_by_hand():
    graph = trace_channels(residual())
    assert [group.name for group in graph.groups] == ["stem", "side", "hidden", "head"]
    stem, side, hidden, head = graph.groups
    assert (stem.size, side.size, hidden.size, head.size) == (8, 4, 10, 5)
    assert stem.layers == ("stem", "branch")
    assert head.reason == "it is an output of the model"
    assert stem.reason is side.reason is hidden.reason is None
    found = {(member.path, member.axis): member for member in stem.members}
    roles = {key: member.role for key, member in found.items()}
    assert roles == {
        ("stem/kernel", 3): "output",
        ("stem/bias", 0): "output",
        ("norm/gamma", 0): "scale",
        ("norm/beta", 0): "offset",
        ("norm/moving_mean", 0): "statistic",
        ("norm/moving_variance", 0): "statistic",
        ("branch/kernel", 2): "input",
        ("branch/kernel", 3): "output",
        ("branch/bias", 0): "output",
        ("side/kernel", 2): "input",
        ("hidden/kernel", 0): "input",
    }
    flat = found["hidden/kernel", 0].units.reshape(4, 4, 12)
    np.testing.assert_array_equal(flat[2, 3], [*range(8), -1, -1, -1, -1])
    assert graph.skipped == (("head", "it is an output of the model"),)


def test_units_of_several_positions_by_hand():
    inputs = keras.Input((6, 4))
    x = layers.LSTM(3, return_sequences=True, name="lstm")(inputs)
    x = layers.Conv1D(8, 1, name="wide")(x)
    x = layers.GroupNormalization(4, name="norm")(x)
    x = layers.MultiHeadAttention(2, 5, name="heads")(x, x)
    graph = trace_channels(keras.Model(inputs, layers.Dense(2)(x)))
    groups = {group.name: group for group in graph.groups}
    assert list(groups)[:4] == ["lstm", "wide", "heads", "heads/attention_output"]

    def units(group, path, axis):
        (member,) = [
            member
            for member in groups[group].members
            if (member.path, member.axis) == (path, axis)
        ]
        return member.units.tolist()

    assert units("lstm", "lstm/lstm_cell/kernel", 1) == [0, 1, 2] * 4
    assert units("lstm", "lstm/lstm_cell/recurrent_kernel", 0) == [0, 1, 2]
    assert groups["wide"].size == 4
    widths = [groups[name].width for name in ("lstm", "wide", "heads")]
    assert widths == [1, 2, 5]
    assert units("wide", "norm/gamma", 0) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert units("heads", "heads/query/kernel", 1) == [0, 1]
    assert units("heads", "heads/attention_output/kernel", 0) == [0, 1]


def test_a_bias_of_several_axes_is_cut_along_that_of_the_channels():
    inputs = keras.Input((5, 4))
    turned = layers.EinsumDense("abc,cd->adb", (8, 5), bias_axes="d", name="turned")
    model = keras.Model(inputs, layers.Flatten()(turned(inputs)))
    assert tuple(turned.bias.shape) == (8, 1)
    (group,) = trace_channels(model).groups
    found = {(member.path, member.axis) for member in group.members}
    assert found == {("turned/kernel", 1), ("turned/bias", 0)}


def test_what_makes_channels_of_an_input_and_is_not_followed_is_named():
    inputs = keras.Input((3, 5, 4))
    x = layers.EinsumDense("abcd,def->abcef", (3, 5, 2, 6), name="two")(inputs)
    inner = layers.TimeDistributed(layers.Dense(4), name="inner")
    y = layers.TimeDistributed(inner, name="outer")(inputs)
    skipped = dict(trace_channels(keras.Model(inputs, [x, y])).skipped)
    assert "makes 2 new axes" in skipped["two"]
    assert "not in the table" in skipped["outer"]


def test_attention_whose_projections_are_quantized_keeps_its_heads():
    inputs = keras.Input((5, 8))
    heads = layers.MultiHeadAttention(4, 2, name="heads")
    model = keras.Model(inputs, heads(inputs, inputs))
    heads._query_dense.quantize("int8")
    graph = trace_channels(model)
    assert all(group.reason for group in graph.groups)
    assert dict(graph.skipped)["heads"] == (
        "'heads' of class MultiHeadAttention is quantized"
    )


def test_only_the_rest_of_a_group_can_go():
    inputs = keras.Input((4,))
    left = layers.Dense(2, name="left")(inputs)
    right = layers.Dense(3, name="right")(inputs)
    x = layers.Dense(5, name="sum")(inputs) + layers.Concatenate()([left, right])
    model = keras.Model(inputs, [layers.Dense(1)(x), left])
    graph = trace_channels(model)
    (group,) = [group for group in graph.groups if group.reason is None]
    assert (group.size, group.layers) == (3, ("right", "sum"))
    units = {member.path: member.units for member in group.members}
    assert units["sum/bias"].tolist() == [-1, -1, 0, 1, 2]
    reason = "it is an output of the model"
    assert dict(graph.skipped)["sum"] == f"2 of 5 channels: {reason}"
    assert dict(graph.skipped)["left"] == reason


@pytest.mark.parametrize(
    ("reader", "reason"),
    [
        (layers.LayerNormalization(name="x"), "'x' .* mixes its channels"),
        (layers.Softmax(name="x"), "'x' .* mixes its channels"),
        (
            lambda x: ops.abs(layers.Softmax(1, name="x")(x, mask=x > 0.0)),
            "'x' .* takes it for a mask",
        ),
        (
            lambda x: ops.abs(layers.Softmax(1)(x, mask=ops.ones((2, 5, 6)) > 0.0)),
            "mixes its channels",
        ),
        (layers.Activation("softmax"), "the activation 'softmax' mixes"),
        (lambda x: ops.sum(x, axis=-1, keepdims=True), "Sum reads all its channels"),
        (lambda x: ops.average(x, axis=-1), "Average cannot be followed"),
        (lambda x: ops.cumsum(x, axis=-1), "the operation Cumsum cannot be followed"),
        (lambda x: ops.matmul(x, ops.swapaxes(x, 1, 2)), "Matmul cannot be followed"),
        (lambda x: x * np.arange(6.0), "constant array over its channels"),
        (lambda x: x[..., ::2], "picks single channels"),
        (layers.Lambda(lambda x: x, name="x"), "'x' of class Lambda hides"),
        (
            layers.SpectralNormalization(layers.Dense(2), name="x"),
            "'x' .* not in the table.*register_channel_rule",
        ),
        (
            layers.RNN([layers.LSTMCell(2), layers.LSTMCell(3)]),
            "StackedRNNCells .* are not followed",
        ),
        (layers.LSTM(2, stateful=True), "keeps its states"),
        (
            lambda x: ops.concatenate([x, np.ones((2, 5, 4), "float32")], axis=-1),
            "Concatenate takes a constant array",
        ),
        (
            lambda x: ops.stack([x, np.ones((2, 5, 6), "float32")]),
            "Stack takes a constant array",
        ),
    ],
)
def test_what_reads_all_channels_keeps_them(reader, reason):
    inputs = keras.Input((5, 3), batch_size=2)
    x = reader(layers.Dense(6, name="read")(inputs))
    graph = trace_channels(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))))
    group = graph.groups[0]
    assert group.name == "read"
    assert re.search(reason, str(group.reason))
    assert dict(graph.skipped)["read"] == group.reason


class Twins(layers.Layer):
    """Two layers of one name in one place."""

    def __init__(self):
        super().__init__(name="twins")
        self.parts = [layers.Dense(4, name="same") for _ in range(2)]

    def call(self, x):
        return self.parts[1](self.parts[0](x))


def test_models_that_cannot_be_followed_are_refused():
    class Own(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(2)

        def call(self, x):
            return self.dense(x)

    def refused(model, text):
        with pytest.raises(penjing.UnsupportedModelError, match=text):
            trace_channels(model)

    model = Own()
    model(np.zeros((1, 3), "float32"))
    refused(model, "Make it a Functional model.*remove the channels of that part")
    refused(keras.Sequential([layers.Dense(2)]), "give it an Input first")
    plain = keras.Sequential([keras.Input((4,)), layers.Dense(3), layers.Dense(2)])
    refused(penjing.prune(plain, penjing.OneShot(0.5)), r"penjing.strip\(model\)")
    twins = keras.Sequential([keras.Input((4,)), Twins(), layers.Dense(2)])
    refused(twins, "share the path 'twins/same/kernel'")


def blocks():
    """Blocks with equal inner names, which Keras does not keep apart."""
    x = inputs = keras.Input((4,))
    for number in (1, 2):
        part = keras.Input((4,))
        block = keras.Model(part, layers.Dense(4, name="same")(part))
        block.name = f"block{number}"
        x = block(x)
    return keras.Model(inputs, layers.Dense(2, name="head")(x))


def test_blocks_with_equal_inner_names_are_told_apart(tmp_path):
    blocks().save(tmp_path / "blocks.keras")
    model = keras.models.load_model(tmp_path / "blocks.keras")
    assert [group.name for group in trace_channels(model).groups] == [
        "block1/same",
        "block2/same",
        "head",
    ]
    assert [variable.path for variable in model.weights[::2]] == [
        "block1/same/kernel",
        "block2/same/kernel",
        "head/kernel",
    ]


def test_a_large_graph_is_traced_within_seconds():
    model = keras.applications.MobileNetV2(weights=None, input_shape=(32, 32, 3))
    started = time.perf_counter()
    graph = trace_channels(model)
    assert time.perf_counter() - started < 3
    whole = [group.name for group in graph.groups if group.reason is not None]
    assert whole == ["predictions"]
    assert sum(group.size for group in graph.groups) > 6000
