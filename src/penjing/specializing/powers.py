"""Powers by the operators that TensorFlow Lite Micro has."""

from __future__ import annotations

import functools

import numpy as np

from penjing.specializing.composition import Composition
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType

_MOST_POWER = 1024


def compose_power(it: Composition) -> bool:
    """Of floats to one power: by products where it is whole, else by the logarithm."""
    x, power, output = *it.call.inputs, it.call.output
    exponent = it.values(power)
    if exponent is None or exponent.size != 1 or it.kind(x) != TensorType.FLOAT32:
        return False
    value = float(exponent.reshape(-1)[0])
    if value.is_integer():  # a logarithm of negative numbers there is not
        return _whole_power(it, int(value))
    logarithm = it.tensor(x)
    it.add(Operator.LOG, [x], logarithm)
    product = it.pair(Operator.MUL, logarithm, it.constant(value, "<f4"))
    it.add(Operator.EXP, [product], output, Record("ExpOptions"))
    return True


def _whole_power(it: Composition, power: int) -> bool:
    """By squares of squares; of a negative power the reciprocal."""
    x, output = it.call.input(0), it.call.output
    if abs(power) > _MOST_POWER:
        return False
    if power == 0:
        ones = it.constant(np.ones(it.shape(output)), "<f4")
        it.reshape(ones, it.shape(output), output)
        return True
    square, left, factors = x, abs(power), [x] if power % 2 else []
    while left := left // 2:
        square = it.pair(Operator.MUL, square, square)
        factors += [square] if left % 2 else []
    product = functools.reduce(functools.partial(it.pair, Operator.MUL), factors)
    if power > 0:
        it.reshape(product, it.shape(output), output)
        return True
    ones = it.constant(np.ones([1] * len(it.shape(x))), "<f4")
    it.pair(Operator.DIV, ones, product, output)
    return True
