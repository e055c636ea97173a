"""How far values are apart, and what of that an operator may round."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from penjing.json_values import JsonValue
from penjing.tflite.operators import Operator
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType

FLOAT_TOLERANCE = 1e-5
"""Difference of floats over their largest magnitude that is taken for rounding."""

# They round as LiteRT's reference kernels do; the others may round another way.
_CONVOLUTIONS = (Operator.CONV_2D, Operator.DEPTHWISE_CONV_2D, Operator.TRANSPOSE_CONV)
_STEPS = {TensorType.INT8: 2, TensorType.UINT8: 2, TensorType.INT16: 4}

Array = np.ndarray[Any, Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distance:
    """How far two arrays are apart: at most, and over the largest magnitude.

    It is infinite where shapes or not-a-numbers differ.
    """

    absolute: float
    relative: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class OperatorDifference(JsonValue):
    """How far what an operator gives in TFLM is from LiteRT's reference kernels.

    Attributes:
        number: Its place in the main graph, from 0.
        operator: Its name in the schema, as "CONV_2D".
        tensor: Name of the tensor that it gives, which has that of the layer in it.
        steps: Largest difference in steps of its integers; None for floats.
        relative: The same over the largest magnitude of the tensor.
        allowed: Steps, for floats the relative difference, that are rounding.
        same_inputs: Whether it differs on inputs that are the same in both.
    """

    number: int
    operator: str
    tensor: str
    steps: int | None
    relative: float
    allowed: float
    same_inputs: bool

    @property
    def is_wrong(self) -> bool:
        """Whether it is more than rounding, and not that of operators before it."""
        found = self.relative if self.steps is None else self.steps
        return self.same_inputs and (
            found > self.allowed or not np.isfinite(self.relative)
        )

    def __str__(self) -> str:
        found = f"{self.relative:.2g} of its largest magnitude"
        if self.steps is not None and np.isfinite(self.relative):
            found = count_steps(self.steps)
        return f"{self.operator} {self.tensor!r} (operator {self.number}) by {found}"


def count_steps(steps: float) -> str:
    """Steps of integers in words."""
    return "1 step" if steps == 1 else f"{steps:,.0f} steps"


def distance(mine: Array, other: Array | None) -> Distance:
    """Measure how far values as a file stores them are apart; None is not looked at."""
    if other is None:
        return Distance(absolute=0.0, relative=0.0)
    if mine.size != other.size:
        return Distance(absolute=np.inf, relative=np.inf)
    a = np.asarray(mine, "f8").reshape(-1)
    b = np.asarray(other, "f8").reshape(-1)
    if np.array_equal(a, b, equal_nan=True):
        return Distance(absolute=0.0, relative=0.0)
    if not (np.isfinite(a).all() and np.isfinite(b).all()):
        return Distance(absolute=np.inf, relative=np.inf)
    largest = float(np.abs(a - b).max())
    scale = float(max(np.abs(a).max(), np.abs(b).max()))
    return Distance(absolute=largest, relative=largest / scale)


def is_float(tensor: Record) -> bool:
    """Whether a tensor holds floats, not integers or booleans."""
    return TensorType(tensor["type"]).numpy_type in ("<f4", "<f2", "<f8")


def has_steps(tensor: Record) -> bool:
    """Whether the integers of a tensor stand for real values."""
    table = tensor["quantization"]
    return bool(table) and len(table["scale"]) > 0 and not is_float(tensor)


def step_of(tensor: Record) -> float:
    """The real value of one step; 1.0 where integers stand for themselves."""
    return float(tensor["quantization"]["scale"][0]) if has_steps(tensor) else 1.0


def rounding(code: int | None, tensor: Record) -> float:
    """What an operator, by the schema's number, may round: steps, or a relative share.

    Indices, counts and booleans are exact. None is any operator.
    """
    if is_float(tensor):
        return FLOAT_TOLERANCE
    if not has_steps(tensor):
        return 0
    if code in _CONVOLUTIONS and tensor["type"] != TensorType.INT16:
        return 0
    return _STEPS.get(TensorType(tensor["type"]), 0)


def excess(found: Distance, code: int | None, tensor: Record) -> float:
    """By how much a distance is more than rounding, in what `rounding` gives.

    Magnitudes do not rank integers: one step of small numbers is a large share of them.
    """
    if not np.isfinite(found.absolute):
        return float(np.inf)
    size = found.absolute if has_steps(tensor) else found.relative
    return size - rounding(code, tensor)
