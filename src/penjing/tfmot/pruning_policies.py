"""Policies: which layers of a model `prune_low_magnitude` prunes."""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable
from typing import Any

import keras

from penjing.errors import UnsupportedModelError
from penjing.tfmot.layer_graph import (
    LayerCall,
    LayerGraph,
    is_functional,
    read_layer_graph,
)

_ACTIVATIONS = frozenset({"relu", "relu6", "leaky_relu", "elu", "sigmoid"})
_OPERATIONS = frozenset(
    {"Add", "Elu", "Identity", "LeakyRelu", "Multiply", "Relu", "Relu6", "Subtract"}
)
_ANY_SETTINGS = (
    keras.layers.Add,
    keras.layers.Multiply,
    keras.layers.Subtract,
    keras.layers.Identity,
    keras.layers.ZeroPadding2D,
    keras.layers.ReLU,
    keras.layers.LeakyReLU,
    keras.layers.ELU,
    keras.layers.Dropout,
)


class PruningPolicy(abc.ABC):
    """Which layers are pruned, and which models are accepted at all.

    Example:
        >>> class DenseOnly(PruningPolicy):
        ...     def allow_pruning(self, layer):
        ...         return isinstance(layer, keras.layers.Dense)
        ...
        ...     def ensure_model_supports_pruning(self, model):
        ...         pass
        >>> DenseOnly().allow_pruning(keras.layers.Dense(3))
        True
    """

    @abc.abstractmethod
    def allow_pruning(self, layer: keras.layers.Layer) -> bool:
        """Say whether `layer` may be pruned.

        Args:
            layer: A layer of the model.

        Returns:
            False to leave the layer as it is.
        """

    @abc.abstractmethod
    def ensure_model_supports_pruning(self, model: keras.Model) -> None:
        """Refuse a model that this policy is not for.

        Args:
            model: The model that is to be pruned.

        Raises:
            ValueError: If the policy does not fit the model.
        """


class PruneForLatencyOnXNNPack(PruningPolicy):
    """Prune 1x1 convolutions only, in models that XNNPACK can run sparsely.

    Such a model begins with a 3x3 convolution of stride 2 on 3 channels, explicitly
    padded by 1, ends in global average pooling, and has in between only operations
    for which XNNPACK has kernels in the channels-first layout.

    Reference:
        Elsen et al., 2019, https://arxiv.org/abs/1911.09723
    """

    def allow_pruning(self, layer: keras.layers.Layer) -> bool:
        """Say whether `layer` is a 1x1 convolution."""
        return isinstance(layer, keras.layers.Conv2D) and layer.kernel_size == (1, 1)

    def ensure_model_supports_pruning(self, model: keras.Model) -> None:
        """Refuse a model in which zeros would not make XNNPACK faster.

        Raises:
            UnsupportedModelError: If the model is subclassed or not built, or has no
                sparse part, or an unsupported layer in it. It is a `ValueError`.
        """
        if not isinstance(model, keras.Sequential) and not is_functional(model):
            raise UnsupportedModelError(
                f"{type(self).__name__} follows the graph of a model, and the "
                f"subclassed model {model.name!r} has none. Use a Sequential or "
                "Functional model, or prune without a policy."
            )
        if not model.built:
            raise UnsupportedModelError(
                f"The model {model.name!r} is not built, so its graph is not known. "
                "Give it an input shape, for example with keras.Input as first layer."
            )
        graph = read_layer_graph(model)
        for call in self._sparse_part(graph):
            if not _is_supported(call):
                raise UnsupportedModelError(
                    f"{type(self).__name__} does not support the layer "
                    f"{getattr(call.layer, 'name', '')!r} of type "
                    f"{type(call.layer).__name__} with these settings, between the "
                    "first convolution and the global pooling. Replace it, or prune "
                    "without a policy."
                )

    def _sparse_part(self, graph: LayerGraph) -> Iterable[LayerCall]:
        starts = _search(graph.inputs, _is_start, lambda call: call.consumers)
        if starts is None:
            raise UnsupportedModelError(
                "Not every input of the model leads to a 3x3 Conv2D with strides 2, "
                'padding "valid" and 3 input channels behind a ZeroPadding2D(1), '
                "where sparse inference of XNNPACK begins. Begin the model with these "
                "two layers, or prune without a policy."
            )
        ends = _search(graph.outputs, _is_end, lambda call: call.producers)
        if ends is None:
            raise UnsupportedModelError(
                "Not every output of the model comes from a GlobalAveragePooling2D, "
                "where sparse inference of XNNPACK ends. Add one before the "
                "classifier, or prune without a policy."
            )
        between: dict[LayerCall, None] = {}
        pending = [consumer for start in starts for consumer in start.consumers]
        while pending:
            call = pending.pop()
            if call not in between and call not in ends:
                between[call] = None
                pending.extend(call.consumers)
        return between


def _search(
    sources: Iterable[LayerCall],
    found: Callable[[LayerCall], bool],
    neighbours: Callable[[LayerCall], Iterable[LayerCall]],
) -> set[LayerCall] | None:
    """First calls with a property on every way from `sources`; `None` at a dead end."""
    pending, seen, hits = list(sources), set(sources), set()
    while pending:
        call = pending.pop()
        if found(call):
            hits.add(call)
            continue
        following = list(neighbours(call))
        if not following:
            return None
        fresh = [near for near in following if near not in seen]
        seen.update(fresh)
        pending.extend(fresh)
    return hits


def _is_start(call: LayerCall) -> bool:
    layer = call.layer
    return (
        isinstance(layer, keras.layers.Conv2D)
        and tuple(layer.kernel.shape[:3]) == (3, 3, 3)
        and layer.strides == (2, 2)
        and layer.padding == "valid"
        and _padding_before(call) == 1
    )


def _is_end(call: LayerCall) -> bool:
    return isinstance(call.layer, keras.layers.GlobalAveragePooling2D)


def _padding_before(call: LayerCall) -> int | None:
    """Even padding that the only producer adds on all sides, or `None`."""
    layer = call.producers[0].layer if len(call.producers) == 1 else None
    if not isinstance(layer, keras.layers.ZeroPadding2D):
        return None
    sides = {side for pair in layer.padding for side in pair}
    return int(sides.pop()) if len(sides) == 1 else None


def _is_supported(call: LayerCall) -> bool:
    layer: Any = call.layer
    if isinstance(layer, _ANY_SETTINGS):
        return True
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return _is_supported_depthwise(call)
    if isinstance(layer, keras.layers.Conv2D):
        ones = (layer.kernel_size, layer.strides, layer.dilation_rate)
        return layer.groups == 1 and set(ones) == {(1, 1)}
    if isinstance(layer, keras.layers.GlobalAveragePooling2D):
        return bool(layer.keepdims)
    if isinstance(layer, keras.layers.BatchNormalization):
        return layer.axis in (-1, 3)
    if isinstance(layer, keras.layers.UpSampling2D):
        return bool(layer.interpolation == "bilinear")
    if isinstance(layer, keras.layers.Activation):
        return getattr(layer.activation, "__name__", "") in _ACTIVATIONS
    if isinstance(layer, keras.layers.Layer):
        return False
    return type(layer).__name__ in _OPERATIONS


def _is_supported_depthwise(call: LayerCall) -> bool:
    layer = call.layer
    if layer.depth_multiplier != 1 or layer.dilation_rate != (1, 1):
        return False
    if layer.kernel_size not in ((3, 3), (5, 5)):
        return False
    if layer.padding == "same":
        return bool(layer.strides == (1, 1))
    even = layer.kernel_size[0] // 2
    return layer.strides in ((1, 1), (2, 2)) and _padding_before(call) == even
