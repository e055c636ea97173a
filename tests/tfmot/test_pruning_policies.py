"""Policies: the models and layers that XNNPACK can run sparsely."""

from __future__ import annotations

import keras
import pytest
from keras import layers, ops

from penjing.tfmot.prune_low_magnitude import prune_low_magnitude
from penjing.tfmot.pruning_policies import PruneForLatencyOnXNNPack, PruningPolicy

pytestmark = pytest.mark.once


def mobile_net(middle=(), *, stem=None, padding=1, pooling=True):
    """A small net of the accepted kind, with layers of the test's choice inside."""
    inputs = keras.Input((16, 16, 3))
    x = layers.ZeroPadding2D(padding)(inputs)
    x = (stem or layers.Conv2D(8, 3, strides=2))(x)
    x = layers.ReLU(6.0)(x)
    for layer in middle:
        x = layer(x)
    x = layers.Conv2D(8, 1, name="pointwise")(x)
    if pooling:
        x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(3)(x))


def residual(x):
    return ops.relu(x + layers.Conv2D(8, 1)(x)) * x


ACCEPTED = {
    "plain": lambda: [],
    "depthwise 3x3 same": lambda: [layers.DepthwiseConv2D(3, padding="same")],
    "depthwise 5x5 same": lambda: [layers.DepthwiseConv2D(5, padding="same")],
    "depthwise 3x3 stride 2": lambda: [
        layers.ZeroPadding2D(1),
        layers.DepthwiseConv2D(3, strides=2),
    ],
    "depthwise 5x5 valid": lambda: [layers.ZeroPadding2D(2), layers.DepthwiseConv2D(5)],
    "activations": lambda: [
        layers.Activation(name) for name in ("relu6", "sigmoid", "elu", "swish")
    ],
    "norm and dropout": lambda: [
        layers.Conv2D(8, 1),
        layers.BatchNormalization(),
        layers.Dropout(0.1),
    ],
    "up-sampling": lambda: [layers.UpSampling2D(interpolation="bilinear")],
    "operators": lambda: [residual],
    "nested": lambda: [keras.Sequential([layers.Conv2D(8, 1), layers.LeakyReLU()])],
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_supported_models_are_accepted(name):
    PruneForLatencyOnXNNPack().ensure_model_supports_pruning(
        mobile_net(ACCEPTED[name]())
    )


REFUSED = {
    "depthwise stride 2 same": lambda: layers.DepthwiseConv2D(
        3, strides=2, padding="same"
    ),
    "depthwise without padding": lambda: layers.DepthwiseConv2D(3),
    "depthwise 7x7": lambda: layers.DepthwiseConv2D(7, padding="same"),
    "depth multiplier": lambda: layers.DepthwiseConv2D(
        3, padding="same", depth_multiplier=2
    ),
    "dilation": lambda: layers.DepthwiseConv2D(3, padding="same", dilation_rate=2),
    "3x3 convolution": lambda: layers.Conv2D(8, 3, padding="same"),
    "strided 1x1": lambda: layers.Conv2D(8, 1, strides=2),
    "groups": lambda: layers.Conv2D(8, 1, groups=2),
    "softplus": lambda: layers.Activation("softplus"),
    "ReLU with a threshold": lambda: layers.ReLU(threshold=1.0),
    "global pooling": lambda: layers.GlobalAveragePooling2D(keepdims=True),
    "norm that nothing takes up": lambda: layers.BatchNormalization(),
    "nearest": lambda: layers.UpSampling2D(),
    "norm of rows": lambda: layers.BatchNormalization(axis=1),
    "max pooling": lambda: layers.MaxPooling2D(),
    "operator": lambda: ops.exp,
    "difference": lambda: lambda x: x - ops.relu(x),
    "constant": lambda: lambda x: x * 2.0,
    "nested": lambda: keras.Sequential([layers.Conv2D(8, 3, padding="same")]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_unsupported_layers_are_refused_by_name(name):
    with pytest.raises(ValueError, match="PruneForLatencyOnXNNPack does not support"):
        PruneForLatencyOnXNNPack().ensure_model_supports_pruning(
            mobile_net([REFUSED[name]()])
        )


NO_SPARSE_PART = {
    "no stem": (lambda: keras.Sequential([keras.Input((8,)), layers.Dense(3)]), "3x3"),
    "stride 1": (lambda: mobile_net(stem=layers.Conv2D(8, 3)), "ZeroPadding2D"),
    "5x5 stem": (lambda: mobile_net(stem=layers.Conv2D(8, 5, strides=2)), "3x3"),
    "padded by 2": (lambda: mobile_net(padding=2), "ZeroPadding2D"),
    "one side": (lambda: mobile_net(padding=((0, 1), (0, 1))), "ZeroPadding2D"),
    "no pooling": (lambda: mobile_net(pooling=False), "GlobalAveragePooling2D"),
    "not built": (lambda: keras.Sequential([layers.Dense(3)]), "not built"),
}


@pytest.mark.parametrize("name", NO_SPARSE_PART)
def test_models_without_a_sparse_part_are_refused(name):
    make, message = NO_SPARSE_PART[name]
    with pytest.raises(ValueError, match=message):
        PruneForLatencyOnXNNPack().ensure_model_supports_pruning(make())


def test_a_subclassed_model_is_refused():
    class Subclassed(keras.Model):
        def call(self, inputs):
            return inputs

    with pytest.raises(ValueError, match="subclassed model"):
        PruneForLatencyOnXNNPack().ensure_model_supports_pruning(Subclassed())


def test_every_input_must_lead_to_the_sparse_part():
    model = mobile_net()
    aside = keras.Input((3,))
    both = keras.Model([*model.inputs, aside], [*model.outputs, layers.Dense(2)(aside)])
    with pytest.raises(ValueError, match="Not every input"):
        PruneForLatencyOnXNNPack().ensure_model_supports_pruning(both)


def test_only_pointwise_convolutions_are_wrapped():
    pruned = prune_low_magnitude(
        mobile_net([layers.DepthwiseConv2D(3, padding="same")]),
        pruning_policy=PruneForLatencyOnXNNPack(),
    )
    wrapped = [layer.name for layer in pruned.layers if "prune_low" in layer.name]
    assert wrapped == ["prune_low_magnitude_pointwise"]


class NotTheHead(PruningPolicy):
    def allow_pruning(self, layer):
        return layer.name != "head"

    def ensure_model_supports_pruning(self, model):
        pass


def test_a_policy_of_ones_own_chooses_layers():
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="body"), layers.Dense(2, name="head")]
    )
    pruned = prune_low_magnitude(model, pruning_policy=NotTheHead())
    assert [layer.name for layer in pruned.layers] == [
        "prune_low_magnitude_body",
        "head",
    ]
    listed = prune_low_magnitude(
        [layers.Dense(3, name="body"), layers.Dense(2, name="head")],
        pruning_policy=NotTheHead(),
    )
    assert [layer.name for layer in listed] == ["prune_low_magnitude_body", "head"]
    with pytest.raises(ValueError, match="NotTheHead does not allow.*'head'"):
        prune_low_magnitude(layers.Dense(2, name="head"), pruning_policy=NotTheHead())


def test_the_base_policy_is_abstract():
    with pytest.raises(TypeError, match="abstract"):
        PruningPolicy()
