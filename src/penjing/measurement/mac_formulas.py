"""Multiply-accumulates of one call, by its kind: a table from layer class to formula.

One multiply-accumulate is a product of two values that is added to a sum. Products with
zeros of padding count; additions of biases, normalization, activations, pooling,
resizing and look-ups do not. Every formula is for the batch that the shapes have.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import keras

from penjing.models.keras_private import stored_variable
from penjing.models.layer_calls import LayerCall

Counts = dict[str | None, int]  # path of a weight, None for products of activations


def count_call(call: LayerCall) -> Counts:
    """Count the multiply-accumulates of one call, by weight.

    Those of products of activations stand under None; what multiplies nothing gives
    an empty table.
    """
    if call.product is not None:
        return _count_product(call)
    formula = find_formula(call.layer)
    return {} if formula is None else formula(call.layer, call)


def find_formula(layer: Any) -> Callable[[Any, LayerCall], Counts] | None:
    """The formula of a layer's class or its nearest base class, None without one."""
    for base in type(layer).__mro__:
        if base in _FORMULAS:
            return _FORMULAS[base]
    return None


def is_whole(layer: Any) -> bool:
    """Whether a layer's formula covers the layers within it too."""
    return find_formula(layer) is not None and not isinstance(layer, _WITH_PARTS)


def _as_product(name: str) -> Callable[[Any, LayerCall], Counts]:
    """The formula of layers that are one product of their input and their kernels."""

    def count(layer: Any, call: LayerCall) -> Counts:
        if hasattr(layer, "pointwise_kernel"):
            kernels = [layer.depthwise_kernel, layer.pointwise_kernel]
        else:
            kernels = [stored_variable(layer, "kernel")]
        operands = (call.operands[0], *(tuple(kernel.shape) for kernel in kernels))
        weights: tuple[str | None, ...] = (None, *(kernel.path for kernel in kernels))
        if name == "einsum":
            operands, weights = (layer.equation, *operands), (None, *weights)
        return _count_product(
            dataclasses.replace(call, product=name, operands=operands, weights=weights)
        )

    return count


def _cell(cell: Any, times: int) -> Counts:
    """Each matrix or kernel of a cell is used once in a time step and position."""
    matrices = [w for w in cell.weights if len(w.shape) >= 2 and w.name != "bias"]
    return {w.path: times * math.prod(w.shape) for w in matrices}


def _one_step(layer: Any, call: LayerCall) -> Counts:
    return _cell(layer, call.operands[0][0])


def _recurrent_convolution(layer: Any, call: LayerCall) -> Counts:
    batch, steps = call.operands[0][:2]
    outputs = batch * layer.cell.filters * (steps if layer.return_sequences else 1)
    return _cell(layer.cell, batch * steps * (math.prod(call.output) // outputs))


def _spectrogram(layer: Any, call: LayerCall) -> Counts:
    kernels = layer.weights  # of the real part, of the imaginary one, or both
    bands = kernels[0].shape[-1] * (2 if layer.mode == "stft" else 1)
    frames = math.prod(call.output) // bands
    return {kernel.path: frames * math.prod(kernel.shape) for kernel in kernels}


def _reversible_embedding(layer: Any, call: LayerCall) -> Counts:
    """Looking up multiplies nothing; the way back is a dense layer."""
    reverse = call.operands[1:] and call.operands[1]
    if not reverse:
        return {}
    name = "embeddings" if layer.tie_weights else "reverse_embeddings"
    table = stored_variable(layer, name)
    return {table.path: math.prod(call.output) * call.operands[0][-1]}


def _multi_head_attention(layer: Any, call: LayerCall) -> Counts:
    query, value = call.operands[:2]
    key_dim, value_dim = layer.key_dim, layer.value_dim or layer.key_dim
    attended = math.prod(value[axis] for axis in layer.attention_axes)
    rows = math.prod(query[:-1])
    return {None: rows * attended * layer.num_heads * (key_dim + value_dim)}


def _grouped_query_attention(layer: Any, call: LayerCall) -> Counts:
    query, value = call.operands[:2]
    rows = math.prod(query[:-1])
    return {None: rows * value[1] * layer.num_query_heads * 2 * layer.head_dim}


def _attention(layer: Any, call: LayerCall) -> Counts:
    query, value = call.operands[0][:2]
    pairs = math.prod(query[:-1]) * value[1]
    scores = query[-1] if getattr(layer, "score_mode", "dot") == "dot" else 0
    return {None: pairs * (scores + value[-1])}


def _additive_attention(layer: Any, call: LayerCall) -> Counts:
    query, value = call.operands[0][:2]
    pairs = math.prod(query[:-1]) * value[1]
    counts: Counts = {None: pairs * value[-1]}
    if layer.scale is not None:
        counts[layer.scale.path] = pairs * query[-1]
    return counts


def _dot(layer: Any, call: LayerCall) -> Counts:
    first, second = call.operands[0]
    axes = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    sizes = math.prod(first[1:]) * math.prod(second[1:])
    return {None: first[0] * sizes // first[axes]}


_LAYERS: Mapping[str, Callable[[Any, LayerCall], Counts]] = {
    "Dense": _as_product("matmul"),
    "EinsumDense": _as_product("einsum"),
    **{f"Conv{n}D": _as_product("conv") for n in (1, 2, 3)},
    **{f"Conv{n}DTranspose": _as_product("conv_transpose") for n in (1, 2, 3)},
    **{f"DepthwiseConv{n}D": _as_product("depthwise_conv") for n in (1, 2)},
    **{f"SeparableConv{n}D": _as_product("separable_conv") for n in (1, 2)},
    "RNN": lambda layer, call: _cell(layer.cell, math.prod(call.operands[0][:2])),
    **dict.fromkeys(("SimpleRNNCell", "GRUCell", "LSTMCell"), _one_step),
    **{f"ConvLSTM{n}D": _recurrent_convolution for n in (1, 2, 3)},
    "STFTSpectrogram": _spectrogram,
    "ReversibleEmbedding": _reversible_embedding,
    "MultiHeadAttention": _multi_head_attention,
    "GroupQueryAttention": _grouped_query_attention,
    "Attention": _attention,
    "AdditiveAttention": _additive_attention,
    "Dot": _dot,
}
_FORMULAS = {
    getattr(keras.layers, name): formula
    for name, formula in _LAYERS.items()
    if hasattr(keras.layers, name)  # ReversibleEmbedding came with Keras 3.13.
}
# Their projections are layers of their own.
_WITH_PARTS = (keras.layers.MultiHeadAttention, keras.layers.GroupQueryAttention)


def _count_product(call: LayerCall) -> Counts:
    if call.product == "separable_conv":
        return _separable_product(call)
    macs = _PRODUCTS[str(call.product)](call)
    paths = [path for path in call.weights if path is not None]
    return {paths[0] if len(paths) == 1 else None: macs}


def _separable_product(call: LayerCall) -> Counts:
    depthwise, pointwise = call.operands[1:3]
    positions = math.prod(call.output) // pointwise[-1]
    counts: Counter[str | None] = Counter()
    for shape, path in zip((depthwise, pointwise), call.weights[1:3], strict=True):
        counts[path] += positions * math.prod(shape)
    return counts


def _contraction(call: LayerCall) -> int:
    """Two tensors without batch axes: what is summed over follows from the sizes."""
    shapes = [shape for shape in call.operands[:2] if isinstance(shape, tuple)]
    if len(shapes) < 2:  # a number: nothing is summed
        return 0
    return math.isqrt(math.prod(map(math.prod, shapes)) * math.prod(call.output))


def _attention_product(call: LayerCall) -> int:
    query, key, value = call.operands[:3]
    batch, rows, heads, size = query
    return int(batch * rows * key[1] * heads * (size + value[-1]))


_PRODUCTS: Mapping[str, Callable[[LayerCall], int]] = {
    "matmul": lambda call: math.prod(call.output) * call.operands[0][-1],
    **dict.fromkeys(("dot", "inner", "tensordot"), _contraction),
    "einsum": lambda call: einsum_macs(call.operands[0], call.operands[1:]),
    "conv": lambda call: math.prod(call.output) * math.prod(call.operands[1][:-1]),
    "depthwise_conv": lambda call: (
        math.prod(call.output) * math.prod(call.operands[1][:-2])
    ),
    "conv_transpose": lambda call: (
        math.prod(call.operands[0]) * math.prod(call.operands[1][:-1])
    ),
    "dot_product_attention": _attention_product,
}


def einsum_macs(equation: str, operands: tuple[tuple[int, ...], ...]) -> int:
    """Multiply-accumulates of an einsum: the product of the sizes of all its letters.

    `...` stands for leading axes. Each operand after the first takes one pass over all
    letters: a single one is multiplied with nothing and takes 0.
    """
    sizes: dict[str, int] = {}
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    for term, shape in zip(terms, operands, strict=True):
        before, dots, after = term.partition("...")
        free = len(shape) - len(before) - len(after)
        middle = [f".{free - n}" for n in range(free)] if dots else []
        for letter, size in zip([*before, *middle, *after], shape, strict=True):
            sizes[letter] = max(sizes.get(letter, 1), size)
    return math.prod(sizes.values()) * (len(operands) - 1)
