"""How many multiply-accumulates a model takes, layer by layer."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from penjing.engine.compression_model import CompressionModel
from penjing.json_values import JsonValue
from penjing.measurement.mac_formulas import count_call, find_formula, is_whole
from penjing.models.copying import layers_by_place, name_apart
from penjing.models.keras_private import direct_layers
from penjing.models.keras_quantized import plain_or_same
from penjing.models.layer_calls import (
    LayerCall,
    check_is_model,
    known_signature,
    trace_calls,
)
from penjing.models.layer_making import defined_by_keras


@dataclasses.dataclass(frozen=True, kw_only=True)
class MacsRow(JsonValue):
    """What one layer takes for one sample.

    Attributes:
        path: Keras path of the layer, with the names of all models and layers that it
            is in, where Keras leaves them out or layers share one; of a product in the
            graph its name.
        type: Class of the layer.
        output_shape: Shape of its output at its last call, without the batch axis.
        macs: Multiply-accumulates of all its calls, for one sample.
        parameters: Numbers in its own weights, those of layers within it not.
        calls: How often it is called in a forward pass.
        kernels: The part of each weight in `macs`, by the weight's path. Products of
            activations, as in attention, are in `macs` alone.
        note: What is not counted, and why; else empty.
    """

    path: str
    type: str
    output_shape: tuple[int, ...]
    macs: int
    parameters: int
    calls: int
    kernels: dict[str, int]
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MacsReport(JsonValue):
    """What `count_macs` found.

    Attributes:
        model: Name of the model.
        input_shapes: Shapes that it was counted for, without the batch axis.
        rows: One row for each layer that is called, in the order of the first calls.
        parameters: Numbers in all weights of the model.
    """

    json_properties = ("macs",)

    model: str
    input_shapes: tuple[tuple[int, ...], ...]
    rows: tuple[MacsRow, ...]
    parameters: int

    @property
    def macs(self) -> int:
        """Multiply-accumulates of the whole model, for one sample."""
        return sum(row.macs for row in self.rows)

    @property
    def kernels(self) -> dict[str, int]:
        """Multiply-accumulates of each weight, by its path."""
        merged: Counter[str] = Counter()
        for row in self.rows:
            merged.update(row.kernels)
        return dict(merged)

    def __str__(self) -> str:
        lines = [
            f"{self.model}: {self.macs:,} multiply-accumulates, "
            f"{self.parameters:,} parameters"
        ]
        for row in self.rows:
            note = f" ({row.note})" if row.note else ""
            lines.append(
                f"  {row.path} {row.type} {row.output_shape}: {row.macs:,} "
                f"multiply-accumulates, {row.parameters:,} parameters{note}"
            )
        return "\n".join(lines)


def count_macs(
    model: keras.Model, *, input_shape: Sequence[Any] | None = None
) -> MacsReport:
    """Count the multiply-accumulates of a model for one sample, layer by layer.

    A multiply-accumulate is a product of two values that is added to a sum. Counted are
    those of dense layers, convolutions, recurrent layers (each time step), attention
    (projections and both products), and of `keras.ops` products, such as `matmul` and
    `einsum`, in code of the user's own. Products with the zeros of padding count;
    zeros among the weights too. Biases, normalization, activations, pooling, resizing
    and embeddings are listed with 0. A layer that is called twice counts twice. The
    operator `@` between tensors is not seen on every backend: use `keras.ops.matmul`.

    Args:
        model: A built Keras model of any kind. One that still carries transforms is
            counted as the model within.
        input_shape: Shape of the input without the batch axis, or a list of one for
            each input. Needed where the model leaves sizes free, and where the `call`
            of a subclassed one takes several arguments: one for each of them.

    Returns:
        The counts.

    Raises:
        UnsupportedModelError: If the model is not built, leaves a size free that
            `input_shape` does not give, or depends on the values of its inputs.
        ValueError: If `input_shape` does not fit the model.

    Example:
        >>> inputs = keras.Input((28, 28, 1))
        >>> model = keras.Model(inputs, keras.layers.Conv2D(12, 3)(inputs))
        >>> count_macs(model).macs == 26 * 26 * 12 * 9
        True
    """
    check_is_model(model)
    if isinstance(model, CompressionModel):
        model = model.model
    model = plain_or_same(model)
    signature = known_signature(model, input_shape)
    name_apart(model)
    calls = trace_calls(model, signature, is_whole)
    groups: dict[Any, list[LayerCall]] = {}
    for number, call in enumerate(calls):
        key = ("graph", number) if call.layer is None else id(call.layer)
        groups.setdefault(key, []).append(call)
    batch = signature.inputs[0].shape[0] or 1
    paths = _layer_paths(model)
    rows = [_row(group, batch, paths) for group in groups.values()]
    return MacsReport(
        model=model.name,
        input_shapes=tuple(
            tuple(size or 1 for size in item.shape[1:]) for item in signature.inputs
        ),
        rows=tuple(row for row in rows if row is not None),
        parameters=model.count_params(),
    )


def _layer_paths(model: keras.Model) -> dict[int, str]:
    """`id` of each layer -> its path, with the blocks that Keras leaves out."""
    by_place: dict[int, str] = {}
    by_keras: dict[int, str] = {}
    for place, layer in layers_by_place(model):
        by_place.setdefault(id(layer), place.removesuffix("/"))
        by_keras[id(layer)] = layer.path or layer.name
    counts = Counter(by_keras.values())
    return {
        key: by_place[key]
        if counts[path] > 1 or by_place[key].endswith(f"/{path}")
        else path
        for key, path in by_keras.items()
    }


def _row(
    calls: list[LayerCall], batch: int, paths: Mapping[int, str]
) -> MacsRow | None:
    """Sum up the calls of one layer; None for one that only holds others."""
    layer = calls[0].layer
    kernels: Counter[str | None] = Counter()
    for call in calls:
        kernels.update(count_call(call))
    own = _own_weights(layer)
    holds_layers = layer is not None and not is_whole(layer) and direct_layers(layer)
    if not kernels and not own and holds_layers:
        return None
    if isinstance(layer, keras.layers.InputLayer):
        return None
    product = calls[-1].product
    return MacsRow(
        path=str(product) if layer is None else paths[id(layer)],
        type=str(product) if layer is None else type(layer).__name__,
        output_shape=calls[-1].output[1:],
        macs=sum(kernels.values()) // batch,
        parameters=sum(math.prod(weight.shape) for weight in own),
        calls=sum(call.product is None for call in calls) or len(calls),
        kernels={path: n // batch for path, n in kernels.items() if path is not None},
        note=_note(layer, own, set(kernels)),
    )


def _own_weights(layer: Any) -> list[Any]:
    if layer is None:
        return []
    if is_whole(layer):
        return list(layer.weights)
    inner = {id(w) for part in direct_layers(layer) for w in part.weights}
    return [weight for weight in layer.weights if id(weight) not in inner]


def _note(layer: Any, own: list[Any], counted: set[str | None]) -> str:
    """Say which matrices of a layer of the user's own no product was seen to use."""
    keras_own = defined_by_keras(type(layer))
    if layer is None or keras_own or find_formula(layer) is not None:
        return ""
    left = [w.path for w in own if len(w.shape) >= 2 and w.path not in counted]
    if not left or None in counted:
        return ""
    return f"no product of keras.ops with {', '.join(left)} was seen"
