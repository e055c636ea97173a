"""Sums, products and functions of single values."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.rebuilding.step import (
    Apply,
    Array,
    NotRebuiltError,
    Step,
    activation_layer,
    with_fused,
)
from penjing.tflite.operators import Operator

_FUNCTIONS: dict[Operator, Callable[..., Any]] = {
    Operator.ADD: ops.add,
    Operator.SUB: ops.subtract,
    Operator.MUL: ops.multiply,
    Operator.DIV: ops.divide,
    Operator.MAXIMUM: ops.maximum,
    Operator.MINIMUM: ops.minimum,
    Operator.POW: ops.power,
    Operator.SQUARED_DIFFERENCE: lambda x, y: ops.square(ops.subtract(x, y)),
    Operator.FLOOR_DIV: ops.floor_divide,
    Operator.FLOOR_MOD: ops.mod,
    Operator.EQUAL: ops.equal,
    Operator.NOT_EQUAL: ops.not_equal,
    Operator.GREATER: ops.greater,
    Operator.GREATER_EQUAL: ops.greater_equal,
    Operator.LESS: ops.less,
    Operator.LESS_EQUAL: ops.less_equal,
    Operator.LOGICAL_AND: ops.logical_and,
    Operator.LOGICAL_OR: ops.logical_or,
}
_MERGING = {
    Operator.ADD: keras.layers.Add,
    Operator.SUB: keras.layers.Subtract,
    Operator.MUL: keras.layers.Multiply,
    Operator.MAXIMUM: keras.layers.Maximum,
    Operator.MINIMUM: keras.layers.Minimum,
}
_UNARY: dict[Operator, Callable[..., Any]] = {
    Operator.ABS: ops.abs,
    Operator.CEIL: ops.ceil,
    Operator.COS: ops.cos,
    Operator.EXP: ops.exp,
    Operator.FLOOR: ops.floor,
    Operator.LOG: ops.log,
    Operator.LOGICAL_NOT: ops.logical_not,
    Operator.LOG_SOFTMAX: ops.log_softmax,
    Operator.NEG: ops.negative,
    Operator.ROUND: ops.round,
    Operator.RSQRT: ops.rsqrt,
    Operator.SIGN: ops.sign,
    Operator.SIN: ops.sin,
    Operator.SQRT: ops.sqrt,
    Operator.SQUARE: ops.square,
    Operator.ZEROS_LIKE: ops.zeros_like,
}
_ACTIVATIONS = {
    Operator.ELU: "elu",
    Operator.HARD_SWISH: "hard_swish",
    Operator.LOGISTIC: "sigmoid",
    Operator.RELU: "relu",
    Operator.RELU6: "relu6",
    Operator.RELU_N1_TO_1: "relu_n1_to_1",
    Operator.TANH: "tanh",
}


def arithmetic(step: Step) -> Apply:
    """Operators on two tensors, of which one may be a constant."""
    if step.operator == Operator.DIV and step.computes_whole_numbers:
        raise NotRebuiltError("a quotient of whole numbers, whose rest LiteRT cuts off")
    if step.constant(0) is None and step.constant(1) is None:
        return with_fused(step, _of_two(step))
    place = 0 if step.constant(1) is None else 1
    constant = step.known(place, "a constant")
    scaled = _rescaling(step, constant, place)
    if scaled is not None:
        return with_fused(step, scaled)
    function, constant = _FUNCTIONS[step.operator], _plain(constant)
    if place == 0:
        return with_fused(step, lambda x: function(constant, x))
    return with_fused(step, lambda x: function(x, constant))


def unary(step: Step) -> Apply:
    """Operators on single values that are no activations."""
    return _UNARY[step.operator]


def activation(step: Step) -> Apply:
    """Activations as operators of their own."""
    return activation_layer(_ACTIVATIONS[step.operator], step.name)


def leaky_relu(step: Step) -> Apply:
    """LEAKY_RELU."""
    slope = float(step.call.option("alpha"))
    return keras.layers.LeakyReLU(negative_slope=slope, name=step.name)


def prelu(step: Step) -> Apply:
    """PRELU; a slope of length 1 on an axis is shared along it."""
    shape = step.shape()[1:]
    alpha = step.known(1, "a slope")
    alpha = alpha.reshape((1,) * (len(shape) - alpha.ndim) + alpha.shape)
    alpha = alpha.reshape(alpha.shape[-len(shape) :])
    shared = [
        axis + 1
        for axis, (mine, size) in enumerate(zip(alpha.shape, shape, strict=True))
        if mine == 1 and size != 1
    ]
    layer = keras.layers.PReLU(shared_axes=shared or None, name=step.name)
    return step.built(layer, [alpha])


def gelu(step: Step) -> Apply:
    """GELU, exact or by tanh."""
    if not step.option("approximate"):
        return keras.layers.Activation("gelu", name=step.name)
    return lambda x: ops.gelu(x, approximate=True)


def softmax(step: Step) -> Apply:
    """SOFTMAX along the last axis."""
    beta = float(step.call.option("beta"))
    layer = keras.layers.Softmax(name=step.name)
    return layer if beta == 1.0 else lambda x: layer(ops.multiply(x, beta))


def unit_norm(step: Step) -> Apply:
    """L2_NORMALIZATION along the last axis."""
    return with_fused(step, lambda x: ops.normalize(x, axis=-1, epsilon=1e-6))


def unchanged(step: Step) -> Apply:
    """Steps from one grid to another, of which real numbers know nothing."""
    return lambda x: x


def cast(step: Step) -> Apply:
    """CAST to the type of the output."""
    dtype = step.graph.kind(step.call.output).dtype
    return lambda x: ops.cast(x, dtype)


def chosen(step: Step) -> Apply:
    """SELECT and SELECT_V2: by a condition from one of two.

    A vector of conditions chooses rows in the first, and values along the last axis in
    the second.
    """
    operands = [step.constant(place) for place in range(3)]
    rank = len(step.output_shape)
    by_rows = step.operator == Operator.SELECT and len(step.shape()) == 1 < rank

    def apply(*tensors: Any) -> Any:
        given = iter(tensors)
        condition, *others = (next(given) if c is None else c for c in operands)
        if by_rows:
            condition = ops.reshape(condition, (-1, *(1,) * (rank - 1)))
        return ops.where(condition, *others)

    return apply


def sum_of_all(step: Step) -> Apply:
    """ADD_N of tensors, and of constants."""
    operands = [step.constant(place) for place in range(len(step.call.inputs))]
    if len(operands) == 1:
        return lambda x: x
    plain = all(values is None for values in operands)
    if plain and len(set(step.call.inputs)) == len(operands):
        layer = keras.layers.Add(name=step.name)
        return lambda *tensors: layer(list(tensors))

    def apply(*tensors: Any) -> Any:
        given = iter(tensors)
        return functools.reduce(
            ops.add, (next(given) if c is None else c for c in operands)
        )

    return apply


def _of_two(step: Step) -> Apply:
    merging = _MERGING.get(step.operator)
    ranks = {len(step.shape(place)) for place in (0, 1)}
    floats = step.graph.kind(step.call.output).dtype.startswith("float")
    if merging is None or len(ranks) > 1 or not (floats or _has_grid(step)):
        return _FUNCTIONS[step.operator]
    if step.call.input(0) == step.call.input(1):
        return _FUNCTIONS[step.operator]
    layer = merging(name=step.name)
    return lambda x, y: layer([x, y])


def _has_grid(step: Step) -> bool:
    return step.graph.grid(step.call.output) is not None


def _rescaling(step: Step, constant: Array, place: int) -> Apply | None:
    """The layer that multiplies by a factor and adds; None where it cannot."""
    if constant.dtype != np.float32 or len(step.shape(1 - place)) < constant.ndim:
        return None
    if constant.size != 1 and constant.size != constant.shape[-1]:
        return None
    if step.output_shape != step.shape(1 - place):
        return None
    flat = constant.reshape(-1)
    if flat.size > 1 and step.operator == Operator.MUL:
        return None  # where channels come first, Keras' layer takes them for those
    number = float(flat[0]) if flat.size == 1 else flat
    scale, offset = _factors(step.operator, number, place)
    if scale is None:
        return None
    return keras.layers.Rescaling(scale, offset, name=step.name)


def _factors(operator: Operator, number: Any, place: int) -> tuple[Any, Any]:
    if operator == Operator.ADD:
        return 1.0, number
    if operator == Operator.SUB:
        return (1.0, -number) if place else (-1.0, number)
    if operator == Operator.MUL:
        return number, 0.0
    return None, None


def _plain(constant: Array) -> Any:
    """A constant that survives the config of a model."""
    if constant.size == 1 and constant.ndim == 0:
        return constant.item()
    return constant
