"""Random graphs of random layers: what is cut computes what is silenced."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import layers, ops
from tests.channels.channel_cases import cut, start_with_zeros

_EXAMPLES = {"tensorflow": 12, "torch": 12, "jax": 3}[keras.backend.backend()]
_SIDE = 6


@pytest.fixture(autouse=True, scope="module")
def quick():
    with pytest.MonkeyPatch.context() as monkeypatch:
        start_with_zeros(monkeypatch)
        yield


def _size(draw):
    return 4 * draw(st.integers(1, 3))


def _convolution(draw, x, others):
    kernel = draw(st.sampled_from([1, 3, (1, 3)]))
    activation = draw(st.sampled_from([None, "relu", "gelu", "softmax"]))
    bias = draw(st.booleans())
    return layers.Conv2D(
        _size(draw), kernel, padding="same", activation=activation, use_bias=bias
    )(x)


def _grouped(draw, x, others):
    groups = draw(st.sampled_from([2, 4]))
    return layers.Conv2D(_size(draw), 1, groups=groups)(x)


def _depthwise(draw, x, others):
    multiplier = draw(st.integers(1, 2))
    return layers.DepthwiseConv2D(3, padding="same", depth_multiplier=multiplier)(x)


def _separable(draw, x, others):
    return layers.SeparableConv2D(_size(draw), 3, padding="same")(x)


def _transposed(draw, x, others):
    return layers.Conv2DTranspose(_size(draw), 3, padding="same")(x)


def _dense(draw, x, others):
    return layers.Dense(_size(draw), "tanh")(x)


def _normalized(draw, x, others):
    kind = draw(st.sampled_from(["batch", "group", "instance", "layer", "root"]))
    if kind == "batch":
        return layers.BatchNormalization()(x)
    if kind == "layer":
        return layers.LayerNormalization()(x)
    if kind == "root":
        return layers.RMSNormalization()(x)
    return layers.GroupNormalization(4 if kind == "group" else -1)(x)


def _activated(draw, x, others):
    kinds = [
        layers.ReLU(),
        layers.LeakyReLU(),
        layers.PReLU(shared_axes=[1, 2]),
        layers.PReLU(),
        layers.Activation("silu"),
        layers.Softmax(),
        layers.Dropout(0.5),
        layers.SpatialDropout2D(0.5),
    ]
    return draw(st.sampled_from(kinds))(x)


def _pooled(draw, x, others):
    kinds = [
        layers.MaxPooling2D(3, 1, padding="same"),
        layers.AveragePooling2D(3, 1, padding="same"),
    ]
    return draw(st.sampled_from(kinds))(x)


def _resized(draw, x, others):
    x = draw(
        st.sampled_from(
            [layers.UpSampling2D(2), layers.ZeroPadding2D(_SIDE // 2)],
        )
    )(x)
    return layers.Cropping2D(_SIDE // 2)(x)


def _merged(draw, x, others):
    fitting = [y for y in others if y.shape[-1] == x.shape[-1]]
    other = draw(st.sampled_from(fitting)) if fitting else x
    merge = draw(st.sampled_from([layers.Add, layers.Multiply, layers.Maximum]))
    return merge()([x, other])


def _residual(draw, x, others):
    y = layers.Conv2D(x.shape[-1], 3, padding="same", activation="relu")(x)
    return draw(st.sampled_from([x + y, x - y, ops.maximum(x, y), x + 0.5 * y]))


def _joined(draw, x, others):
    return layers.Concatenate()([x, draw(st.sampled_from(others))])


def _excited(draw, x, others):
    channels = x.shape[-1]
    y = layers.GlobalAveragePooling2D()(x)
    y = layers.Reshape((1, 1, channels))(y)
    y = layers.Conv2D(3, 1, activation="relu")(y)
    return x * layers.Conv2D(channels, 1, activation="sigmoid")(y)


def _gated(draw, x, others):
    first, second = ops.split(x, 2, axis=-1)
    return ops.concatenate([first * ops.sigmoid(second), second], axis=-1)


def _sliced(draw, x, others):
    at = draw(st.integers(1, x.shape[-1] - 1))
    head, tail = x[..., :at], x[..., at:]
    return ops.concatenate([tail, layers.ReLU()(head)], axis=-1)


def _shuffled(draw, x, others):
    channels = x.shape[-1]
    x = layers.Reshape((_SIDE, _SIDE, 2, channels // 2))(x)
    return layers.Reshape((_SIDE, _SIDE, channels))(layers.Permute((1, 2, 4, 3))(x))


def _attended(draw, x, others):
    rows = layers.Reshape((_SIDE * _SIDE, x.shape[-1]))(x)
    rows = layers.MultiHeadAttention(3, 2)(rows, rows)
    return x + layers.Reshape((_SIDE, _SIDE, x.shape[-1]))(rows)


def _repeated(draw, x, others):
    layer = layers.Conv2D(x.shape[-1], 3, padding="same", activation="relu")
    return layer(layer(x))


def _nested(draw, x, others):
    image = keras.Input((_SIDE, _SIDE, x.shape[-1]))
    y = layers.BatchNormalization()(layers.Conv2D(8, 1)(image))
    return keras.Model(image, y)(x)


def _unknown(draw, x, others):
    return ops.cumsum(x, axis=-1)


_BLOCKS = (
    _convolution,
    _grouped,
    _depthwise,
    _separable,
    _transposed,
    _dense,
    _normalized,
    _activated,
    _pooled,
    _resized,
    _merged,
    _residual,
    _joined,
    _excited,
    _gated,
    _sliced,
    _shuffled,
    _attended,
    _repeated,
    _nested,
    _unknown,
)


def _flattened(draw, x):
    return layers.Dense(_size(draw), "relu")(layers.Flatten()(x))


def _averaged(draw, x):
    return layers.GlobalAveragePooling2D()(x)


def _read_by_rows(draw, x):
    rows = layers.Reshape((_SIDE * _SIDE, x.shape[-1]))(x)
    kind = draw(st.sampled_from([layers.LSTM, layers.GRU, layers.SimpleRNN]))
    layer = kind(4, return_sequences=True)
    if draw(st.booleans()):
        layer = layers.Bidirectional(layer)
    return kind(3)(layer(rows))


def _regrouped(draw, x):
    x = layers.Dense(2 * 12)(layers.GlobalMaxPooling2D()(x))
    return layers.Flatten()(layers.Conv1D(4, 1)(layers.Reshape((2, 12))(x)))


def build(draw):
    """A graph of up to seven blocks, which may read any tensor before them."""
    keras.utils.clear_session(free_memory=False)
    inputs = keras.Input((_SIDE, _SIDE, 4))
    tensors = [layers.Conv2D(8, 3, padding="same")(inputs)]
    for _ in range(draw(st.integers(2, 7))):
        even = tensors[-1]
        if even.shape[-1] % 4 or even.shape[-1] > 32:
            even = layers.Conv2D(8, 1)(even)
        block = draw(st.sampled_from(_BLOCKS))
        tensors.append(block(draw, even, tensors))
    end = draw(st.sampled_from([_flattened, _averaged, _read_by_rows, _regrouped]))
    outputs = [layers.Dense(3)(end(draw, tensors[-1]))]
    if draw(st.booleans()):
        outputs.append(tensors[draw(st.integers(0, len(tensors) - 1))])
    return keras.Model(inputs, outputs)


@pytest.mark.costly_on_jax
@settings(
    max_examples=_EXAMPLES,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.data(), st.sampled_from([0.3, 0.5, 0.7]), st.integers(0, 99))
def test_any_graph_computes_what_is_silenced(data, ratio, seed):
    model = build(data.draw)
    # Products of disturbed weights over some layers add up to rounding errors.
    small, graph = cut(model, ratio, seed, tolerance=1e-4)
    assert small.count_params() <= model.count_params()
    assert len({group.name for group in graph.groups}) == len(graph.groups)
    for group in graph.groups:
        for member in group.members:
            assert member.units.dtype == np.int32
            assert member.units.max() < group.size
