"""The rules for sparse kernels, asked of Keras layers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from penjing.errors import UnsupportedModelError
from penjing.models.graph_flow import Call, trace_flow
from penjing.sparse import sparse_rules
from penjing.sparse.sparse_rules import Convolution

_OPERATIONS = frozenset(
    {"Add", "Elu", "HardSilu", "Identity", "LeakyRelu", "Multiply"}
    | {"Relu", "Relu6", "Sigmoid", "Silu", "Tanh"}
)
_BINARY = ("Add", "Multiply")
_WITHOUT_EFFECT = (
    keras.layers.Identity,
    keras.layers.Dropout,
    keras.layers.SpatialDropout2D,
    keras.layers.GaussianDropout,
    keras.layers.GaussianNoise,
    keras.layers.ActivityRegularization,
)
_NO_KERNEL = "has no kernel with the channels first"

Padding = tuple[tuple[int, int], tuple[int, int]]


@dataclasses.dataclass(kw_only=True, eq=False)
class Placed:
    """A layer, where it stands, whose outputs it reads and what reads its own.

    `padding` is the ZeroPadding2D before a convolution that nothing else reads.
    `is_output` says that the model gives out what the layer gives.
    """

    call: Call
    producers: list[Placed] = dataclasses.field(default_factory=list)
    readers: list[Placed] = dataclasses.field(default_factory=list)
    padding: Placed | None = None
    is_output: bool = False

    @property
    def layer(self) -> Any:
        """The layer or operation."""
        return self.call.operation

    @property
    def name(self) -> str:
        """Its name, behind those of the models around it."""
        return self.call.source

    @property
    def shape(self) -> tuple[Any, ...]:
        """Shape of its first input."""
        return self.call.shape

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Height and width of what it reads, before padding."""
        source = self if self.padding is None else self.padding
        return source.shape[1], source.shape[2]

    def sides(self) -> Padding | None:
        """Padding that it adds itself or has before it; None at free sizes."""
        layer = self.layer
        before: Any = ((0, 0), (0, 0))
        if self.padding is not None:
            before = self.padding.layer.padding
        if layer.padding == "valid":
            return before[0], before[1]
        if None in self.shape[1:3]:
            return None
        added = [_same_sides(self.shape[1 + axis], layer, axis) for axis in (0, 1)]
        (top, bottom), (left, right) = np.add(before, added).tolist()
        return (top, bottom), (left, right)


def _same_sides(size: int, layer: Any, axis: int) -> tuple[int, int]:
    length = (layer.kernel_size[axis] - 1) * layer.dilation_rate[axis] + 1
    stride = layer.strides[axis]
    total = max((-(-size // stride) - 1) * stride + length - size, 0)
    return total // 2, total - total // 2


def place_layers(model: keras.Model) -> list[Placed]:
    """The layers of a built model as they run, those of nested models too."""
    flow = trace_flow(model)
    if flow is None:
        raise UnsupportedModelError(
            f"`{getattr(model, 'name', model)}` is no built Sequential or Functional "
            "model, so which layer reads what is not known. Build it with keras.Input, "
            "or write the layout yourself: see docs/sparse-inference.md."
        )
    by_source: dict[str, Placed] = {}
    for call in flow.calls:
        placed = Placed(call=call)
        placed.producers = [by_source[n] for n in call.inputs if n in by_source]
        placed.is_output = call.source in flow.outputs
        for producer in placed.producers:
            producer.readers.append(placed)
        by_source[call.source] = placed
    for placed in by_source.values():
        placed.padding = _padding_before(placed)
    return list(by_source.values())


def is_depthwise(layer: Any) -> bool:
    """Whether a layer is a depthwise convolution of images, or begins with one."""
    kinds = (keras.layers.DepthwiseConv2D, keras.layers.SeparableConv2D)
    return isinstance(layer, kinds)


def is_convolution(layer: Any) -> bool:
    """Whether a layer is an ordinary or depthwise convolution of images."""
    return isinstance(layer, keras.layers.Conv2D) or is_depthwise(layer)


def is_stem(placed: Placed) -> bool:
    """Whether a convolution is the first one, and no 1x1 convolution."""
    if not isinstance(placed.layer, keras.layers.Conv2D):
        return False
    return placed.layer.kernel_size != (1, 1) and not reads_convolution(placed)


def reads_convolution(placed: Placed) -> bool:
    """Whether a convolution stands anywhere before a layer."""
    return any(
        is_convolution(producer.layer) or reads_convolution(producer)
        for producer in placed.producers
    )


def reads_input(placed: Placed) -> bool:
    """Whether a layer reads an input of the model."""
    return len(placed.producers) < len(set(placed.call.inputs))


def describe(placed: Placed) -> Convolution:
    """A convolution in the words of the rules, as its file would have it.

    Where "same" comes to the same number on every side, as on odd sizes, that number
    stands for it; the export writes it so.
    """
    layer = placed.layer
    sides = placed.sides()
    padding = (sparse_rules.OTHER_PADDING,) * 4
    if sides is not None:
        padding = (*sides[0], *sides[1])
    depthwise = is_depthwise(layer)
    return Convolution(
        kernel=tuple(layer.kernel_size),
        strides=tuple(layer.strides),
        padding=padding,
        dilation=tuple(layer.dilation_rate),
        groups=1 if depthwise else layer.groups,
        channels=int(placed.shape[-1]),
        multiplier=layer.depth_multiplier if depthwise else 1,
    )


def convolution_failure(
    placed: Placed, *, if_padded: bool = False, channels: int | None = None
) -> str | None:
    """Which condition keeps a convolution and its activation off sparse kernels.

    `if_padded` takes it that it is padded as it has to be, `channels` that it reads so
    many.
    """
    layer = placed.layer
    if layer.data_format != "channels_last":
        return "it reads images with the channels first; LiteRT wants them last"
    found = describe(placed)
    if if_padded:
        found = dataclasses.replace(found, padding=(found.kernel[0] // 2,) * 4)
    if channels is not None:
        found = dataclasses.replace(found, channels=channels)
    if is_depthwise(layer):
        failure = sparse_rules.depthwise_failure(found)
    elif found.kernel == (1, 1):
        failure = sparse_rules.pointwise_failure(found)
    elif is_stem(placed):
        failure = sparse_rules.stem_failure(found)
    else:
        failure = sparse_rules.ORDINARY_FAILURE
    return failure or _activation_failure(layer)


def layer_failure(placed: Placed) -> str | None:
    """Why a layer, no convolution, cannot stand before the pooling, or None."""
    layer = placed.layer
    name = type(layer).__name__
    if isinstance(layer, _WITHOUT_EFFECT):
        return None
    sources = placed.call.inputs
    if name == "Add" and len(set(sources)) < len(sources):
        return "it adds a value to itself"
    if isinstance(layer, (keras.layers.Add, keras.layers.Multiply)):
        return None
    if isinstance(layer, keras.layers.ZeroPadding2D):
        taken = [reader.padding is placed for reader in placed.readers]
        return None if all(taken) else "nothing but a convolution can take it up"
    if isinstance(layer, keras.layers.BatchNormalization):
        return _normalization_failure(placed)
    if isinstance(layer, keras.layers.UpSampling2D):
        is_bilinear = layer.interpolation == "bilinear"
        return None if is_bilinear else 'only interpolation="bilinear" has a kernel'
    if isinstance(layer, keras.layers.GlobalAveragePooling2D):
        return None
    if _is_activation(layer):
        return _activation_failure(layer)
    if isinstance(layer, keras.layers.Layer) or name not in _OPERATIONS:
        hint = (
            "; use a depthwise convolution with stride 2" if "Pooling" in name else ""
        )
        return f"{name} {_NO_KERNEL}{hint}"
    if name in _BINARY and len(sources) < 2:
        return "it has a constant operand"
    return None


def _is_activation(layer: Any) -> bool:
    kinds = (keras.layers.ReLU, keras.layers.LeakyReLU, keras.layers.ELU)
    return isinstance(layer, (keras.layers.Activation, *kinds))


def _activation_failure(layer: Any) -> str | None:
    if isinstance(layer, keras.layers.ReLU):
        plain = layer.negative_slope == 0 and layer.threshold == 0
        if plain and layer.max_value in (None, 6):
            return None
        return f"ReLU with these settings {_NO_KERNEL}; use ReLU() or ReLU(6)"
    if isinstance(layer, keras.layers.ELU) and layer.alpha != 1:
        return f"ELU with these settings {_NO_KERNEL}; use ELU()"
    activation = getattr(layer, "activation", None)
    name = getattr(activation, "__name__", type(activation).__name__)
    if activation is None or name in sparse_rules.KERAS_ACTIVATIONS:
        return None
    if isinstance(activation, keras.layers.Layer) and _is_activation(activation):
        return _activation_failure(activation)
    return f"the activation {name} {_NO_KERNEL}"


def _normalization_failure(placed: Placed) -> str | None:
    if placed.layer.axis not in (-1, 3):
        return "it normalizes another axis than the channels"
    source = placed.producers[0] if placed.producers else None
    while source is not None and isinstance(source.layer, _WITHOUT_EFFECT):
        source = source.producers[0] if source.producers else None
    if (
        source is None
        or not is_convolution(source.layer)
        or len(source.readers) > 1
        or getattr(source.layer.activation, "__name__", "") != "linear"
    ):
        return "no convolution directly before it can take it up"
    return None


def _padding_before(placed: Placed) -> Placed | None:
    if not is_convolution(placed.layer) or len(placed.producers) != 1:
        return None
    (producer,) = placed.producers
    is_padding = isinstance(producer.layer, keras.layers.ZeroPadding2D)
    alone = len(producer.readers) == 1 and not producer.is_output
    return producer if is_padding and alone else None


def between_stem_and_pooling(layers: Sequence[Placed]) -> list[Placed]:
    """The layers that a global pooling depends on, from the stem on.

    Their settings decide whether sparse kernels run; none without such a pooling.
    """
    chosen: set[int] = set()
    pending = [p for p in layers if is_pooling(p)]
    while pending:
        placed = pending.pop()
        if id(placed) in chosen:
            continue
        chosen.add(id(placed))
        if not is_stem(placed):
            pending.extend(placed.producers)
    return [p for p in layers if id(p) in chosen]


def is_pooling(placed: Placed) -> bool:
    """Whether a layer takes the mean over the whole map."""
    layer = placed.layer
    kinds = (keras.layers.GlobalAveragePooling2D, keras.layers.AveragePooling2D)
    if not isinstance(layer, kinds) or layer.data_format != "channels_last":
        return False
    if isinstance(layer, keras.layers.GlobalAveragePooling2D):
        return True
    at_once = layer.padding == "valid" or layer.strides == layer.pool_size
    return at_once and tuple(layer.pool_size) == tuple(placed.shape[1:3])
