"""What a rule is given about one operator, and what it gives back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, TypeAlias

import keras
import numpy as np

from penjing.rebuilding.source_graph import SourceGraph
from penjing.tflite.operators import Call, Operator, operators

Array = np.ndarray[Any, Any]
# From the tensors that an operator computes on to what it gives: a function, or a layer
# of Keras, which has no types.
Apply: TypeAlias = Any
# What gives nothing below 0 where nothing that it reads is.
_KEEP_SIGNS = operators(
    "ADD MUL DIV POW MAXIMUM MINIMUM CONCATENATION AVERAGE_POOL_2D MAX_POOL_2D "
    "L2_NORMALIZATION BATCH_MATMUL SQUARED_DIFFERENCE"
)
_ACTIVATIONS = {1: "relu", 2: "relu_n1_to_1", 3: "relu6"}  # LiteRT runs no others


class NotRebuiltError(Exception):
    """What of an operator no rule covers; the text says what."""


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Step:
    """One operator of a file.

    Attributes:
        name: A name for the layer, free in the model.
        fixed_batch: Whether the model keeps the batch size of the file.
        layers: What rules have built: layers with weights.
    """

    graph: SourceGraph
    call: Call
    name: str
    fixed_batch: bool = False
    layers: list[Any] = dataclasses.field(default_factory=list)

    @property
    def operator(self) -> Operator:
        """Which operator it is."""
        return Operator(self.call.code)

    def shape(self, place: int = 0) -> tuple[int, ...]:
        """Stored shape of an input."""
        return self.graph.shape(self.call.input(place))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Stored shape of the first output."""
        return self.graph.shape(self.call.output)

    @property
    def computes_whole_numbers(self) -> bool:
        """Whether its result is of integers that stand for themselves."""
        number = self.call.output
        is_float = self.graph.kind(number).dtype.startswith("float")
        return not is_float and self.graph.grid(number) is None

    @property
    def has_batch(self) -> bool:
        """Whether input and output have the batch as their first axis."""
        shapes = (self.shape(), self.output_shape)
        return all(shape and shape[0] == self.graph.batch for shape in shapes)

    def has(self, place: int) -> bool:
        """Whether there is an input at a place."""
        return self.call.input(place) >= 0

    def constant(self, place: int) -> Array | None:
        """Real numbers of an input that is a constant; None for others."""
        number = self.call.input(place)
        return self.graph.constant(number) if number >= 0 else None

    def known(self, place: int, what: str) -> Array:
        """A constant input, which has to be one."""
        values = self.constant(place)
        if values is None:
            raise NotRebuiltError(f"{what} that is computed")
        return values

    def option(self, name: str) -> int:
        """A whole number among the options."""
        return int(self.call.option(name))

    @property
    def fused(self) -> str | None:
        """Name of the activation that the operator applies to its result.

        Many converters leave a rectifier out where the least integer stands for 0.
        """
        number = self.option("fused_activation_function")
        if number and number not in _ACTIVATIONS:
            raise NotRebuiltError(f"the fused activation {number}")
        return _ACTIVATIONS.get(number) or self._rectifier_of_range()

    def _rectifier_of_range(self) -> str | None:
        """The rectifier that the range of a result of integers is; None for none."""
        ends = self.graph.ends(self.call.output)
        if ends is None or ends[0] != 0:
            return None
        given = [n for n in self.call.inputs if n >= 0]
        if self.operator in _KEEP_SIGNS and not any(map(self._goes_below_0, given)):
            return None
        step = ends[1] / 255
        return "relu6" if abs(ends[1] - 6) < step else "relu"

    def _goes_below_0(self, number: int) -> bool:
        values = self.graph.constant(number)
        if values is not None:
            return bool(values.min(initial=0) < 0)
        ends = self.graph.ends(number)
        return ends is None or ends[0] < 0

    @property
    def padding(self) -> str:
        """Padding of a window."""
        return "valid" if self.option("padding") else "same"

    @property
    def batch_size(self) -> int | None:
        """The first axis of what layers are built on."""
        return self.graph.batch if self.fixed_batch else None

    def built(
        self,
        layer: Any,
        weights: Sequence[Array | None],
        place: int = 0,
        shape: tuple[int, ...] | None = None,
    ) -> Any:
        """Build a layer on the shape of an input, and give it its weights.

        `shape` is another one, without the batch.
        """
        inner = self.shape(place)[1:] if shape is None else shape
        layer.build((self.batch_size, *inner))
        layer.set_weights([w for w in weights if w is not None])
        self.layers.append(layer)
        return layer


def with_fused(step: Step, apply: Apply) -> Apply:
    """The operation, and behind it the layer that its fused activation is."""
    if step.fused is None:
        return apply
    layer = activation_layer(step.fused)
    return lambda *tensors: layer(apply(*tensors))


def activation_layer(name: str, layer_name: str | None = None) -> Any:
    """The layer of a rectifier or another activation by name."""
    if name == "relu":
        return keras.layers.ReLU(name=layer_name)
    if name == "relu6":
        return keras.layers.ReLU(6.0, name=layer_name)
    if name == "relu_n1_to_1":
        return lambda x: keras.ops.clip(x, -1.0, 1.0)
    return keras.layers.Activation(name, name=layer_name)
