"""Batch normalization folded into the layer before it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.engine.compression_model import CompressionModel
from penjing.engine.transforms.pruning_transform import Prune
from penjing.errors import UnsupportedModelError
from penjing.models.copying import clone_graph, copy_values, name_weights, weight_paths
from penjing.models.graph_flow import Call, trace_flow
from penjing.models.keras_private import copy_frozen, set_path
from penjing.models.keras_quantized import plain_or_same
from penjing.models.layer_making import build_as, make_layer_again
from penjing.models.layer_specs import find_weight_specs

_LINEAR = frozenset(
    (
        "Conv1D",
        "Conv1DTranspose",
        "Conv2D",
        "Conv2DTranspose",
        "Conv3D",
        "Conv3DTranspose",
        "Dense",
        "DepthwiseConv1D",
        "DepthwiseConv2D",
        "SeparableConv1D",
        "SeparableConv2D",
    )
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Fold:
    """A layer and the normalization of its outputs."""

    layer: Any
    norm: Any


def fold_batch_normalization(model: keras.Model) -> keras.Model:
    """Fold each `BatchNormalization` into the convolution or Dense layer before it.

    The normalization that a trained model applies is a product and a sum for each
    channel: they become part of the kernel and the bias, and the layer goes. Outputs
    are the same but for rounding; zeros in kernels stay zeros. A normalization stays
    where the layer before it has an activation, other readers or several calls.

    Fold before clustering and quantization-aware training: the kernels that are
    trained are then those of the file. The folded model trains without batch
    statistics.

    Args:
        model: A built Sequential or Functional model, or one that is being pruned:
            its masks and steps stay. It is left alone.

    Returns:
        A new, uncompiled model; the given one where there is nothing to fold.

    Raises:
        UnsupportedModelError: If the model is subclassed or not built, or is being
            clustered or quantized, whose shared values folding would split.

    Example:
        >>> import keras, penjing
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4),
        ...     keras.layers.BatchNormalization()])
        >>> [layer.name for layer in penjing.fold_batch_normalization(model).layers]
        ['dense']
    """
    if isinstance(model, CompressionModel):
        return _fold_in_training(model)
    model = plain_or_same(model)
    flow = trace_flow(model) if model.built else None
    if flow is None:
        raise UnsupportedModelError(
            f"Batch normalization cannot be folded in the model {model.name!r} of "
            f"class {type(model).__name__}: it must be a built Sequential or "
            "Functional model, whose layers say what follows what."
        )
    folds = _find_folds(model)
    return _folded(model, folds) if folds else model


def can_fold(model: keras.Model) -> bool:
    """Whether `fold_batch_normalization` would fold something in a plain model."""
    return bool(_find_folds(model))


def _find_folds(model: keras.Model) -> list[_Fold]:
    flow = trace_flow(model) if model.built else None
    if flow is None:
        return []
    consumers = flow.consumers()
    calls = Counter(id(call.operation) for call in flow.calls)
    return [
        _Fold(layer=call.operation, norm=consumers[call.source][0].operation)
        for call in flow.calls
        if call.source not in flow.outputs
        and len(consumers.get(call.source, ())) == 1
        and _fits(call, consumers[call.source][0])
        and calls[id(call.operation)] == 1
        and calls[id(consumers[call.source][0].operation)] == 1
    ]


def _fits(call: Call, following: Call) -> bool:
    layer, norm = call.operation, following.operation
    if type(norm) is not keras.layers.BatchNormalization:
        return False
    if type(layer).__module__.partition(".")[0] != "keras":
        return False
    if type(layer).__name__ not in _LINEAR or getattr(layer, "lora_enabled", False):
        return False
    if getattr(layer, "data_format", None) == "channels_first":
        return False
    if layer.activation is not keras.activations.linear:
        return False
    return norm.axis in (-1, norm.input_spec.ndim - 1)


def _folded(model: keras.Model, folds: list[_Fold]) -> keras.Model:
    by_layer = {id(fold.layer): fold for fold in folds}
    dropped = {id(fold.norm) for fold in folds}
    twins: list[tuple[Any, Any]] = []

    def clone(layer: Any) -> Any:
        twin = _with_bias(layer) if id(layer) in by_layer else make_layer_again(layer)
        twins.append((layer, twin))
        return twin

    folded = clone_graph(model, clone, dropped)
    for layer, twin in twins:
        if id(layer) in dropped or not isinstance(layer, keras.layers.Layer):
            continue
        build_as(layer, twin)
        if id(layer) in by_layer:
            _write_folded(by_layer[id(layer)], twin)
            _name_weights(layer, twin)
        else:
            copy_values(layer, twin)
            name_weights(twin, weight_paths(layer))
    return folded


def _with_bias(layer: Any) -> Any:
    return make_layer_again(layer, use_bias=True)


def _write_folded(fold: _Fold, twin: Any) -> None:
    layer, norm = fold.layer, fold.norm
    factor, shift = _affine(norm)
    spec = find_weight_specs(layer)[-1]
    for variable in layer.weights:
        value = ops.convert_to_numpy(variable.value)
        getattr(twin, variable.name).assign(value)
    kernel = ops.convert_to_numpy(getattr(layer, spec.attribute).value)
    rank = kernel.ndim
    axes = sorted(axis % rank for axis in spec.output_axes)
    shape = [size if i in axes else 1 for i, size in enumerate(kernel.shape)]
    # Adding zero makes 0.0 of the -0.0 that zeros times a negative factor are.
    getattr(twin, spec.attribute).assign(kernel * factor.reshape(shape) + 0.0)
    bias = ops.convert_to_numpy(layer.bias.value) if layer.use_bias else 0.0
    twin.bias.assign(bias * factor + shift)
    copy_frozen(layer, twin)


def _affine(norm: Any) -> tuple[np.ndarray, np.ndarray]:
    """Factor and summand of each channel, in float64."""

    def values(variable: Any, default: float) -> Any:
        if variable is None:
            return default
        return ops.convert_to_numpy(variable.value).astype("float64")

    variance = values(norm.moving_variance, 1.0)
    factor = values(norm.gamma, 1.0) / np.sqrt(variance + norm.epsilon)
    return factor, values(norm.beta, 0.0) - values(norm.moving_mean, 0.0) * factor


def _name_weights(layer: Any, twin: Any) -> None:
    """Give the weights of `twin` the paths of those of `layer`, a new bias its own."""
    paths = {variable.name: variable.path for variable in layer.weights}
    for variable in twin.weights if layer.weights else ():
        folder = layer.weights[0].path.rpartition("/")[0]
        set_path(variable, paths.get(variable.name, f"{folder}/{variable.name}"))


def _fold_in_training(model: CompressionModel) -> CompressionModel:
    if not can_fold(model.model):
        return model
    others = [t for t in model.transforms if not isinstance(t, Prune)]
    if others or model.activations is not None:
        names = " and ".join(t.display_name for t in others)
        raise UnsupportedModelError(
            f"The model {model.name!r} is being {names} already, and folding batch "
            "normalization scales each channel, which splits shared values. Fold "
            "first: penjing.cluster(penjing.fold_batch_normalization(model), ...)."
        )
    return model.around(fold_batch_normalization(model.model))
