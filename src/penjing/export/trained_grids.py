"""Int8 files with exactly the grids that a model was trained with.

The model is traced with TensorFlow's own fake quantization in the places where it was
trained to round; the converter turns these into the scales and integers of the file.
It takes a scale for each channel only where the channel is the last axis of a constant
that is used as it is. Other weights are traced as if they had one scale, with the bias
adjusted: the integers of weight and bias are those of the true scales, which are then
written into the file.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.engine.activations.activation_config import HIGHEST, LOWEST
from penjing.engine.compression_model import CompressionModel
from penjing.engine.transforms.quantization_config import HIGHEST_INTEGER
from penjing.engine.transforms.quantization_transform import FakeQuantize
from penjing.errors import ExportError
from penjing.export.weights.weight_grids import keep_weight_grids
from penjing.export.weights.weight_uses import CHANNEL_AXES
from penjing.models.layer_specs import find_weight_specs
from penjing.models.lending import Loan, all_lent
from penjing.models.selection import SelectedWeight
from penjing.numerics import Tensor
from penjing.tflite.graph_edits import own_input
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, make_scales

_NATIVE = ("Conv2D", "SeparableConv2D", "DepthwiseConv2D")
_ALMOST_ONE = 1 + 2.0**-23  # a factor of 1 would be optimized away
_APART = 1e-5  # relative, so far markers are told apart
_SAME_SCALE = 1e-6  # relative; the converter computes it from the ends of the range


def has_trained_grids(model: Any) -> bool:
    """Whether a model rounds its activations, so that its int8 file is known."""
    return isinstance(model, CompressionModel) and model.activations is not None


class TrainedGrids:
    """Traces a model with the grids it was trained with, and corrects the file.

    The model rounds weights and activations, on the TensorFlow backend. An ExportError
    says that a weight has no scale yet, a CompressionError that the ranges of the
    activations are not known yet.
    """

    def __init__(self, model: CompressionModel) -> None:
        if model.activations is None or model.activations.plan is None:
            raise ExportError(f"The model `{model.name}` has no trained activations.")
        self._model = model
        self._activations = model.activations
        self._grids = model.activations.grids()
        sites = model.activations.plan.sites
        self._operations = {id(site.operation): site.operation for site in sites}
        self._layers = {
            id(site.operation): site.operation for site in sites if site.in_integers
        }
        self._spread: list[_Spread] = []
        self._values = self._traced_values()

    def forward(self, inputs: Any) -> Any:
        """Trace the model on TensorFlow tensors, nested as its call takes them."""
        mapping = [
            (variable, make())
            for variable, make in self._values  # inside the trace
        ]
        with contextlib.ExitStack() as stack:
            stack.enter_context(keras.StatelessScope(state_mapping=mapping))
            operations = self._operations.values()
            stack.enter_context(all_lent(_convertible_parts(operations)))
            model = self._activations.rounding(
                self._model.model, self._rounded, _dense_on_rows
            )
            return model(inputs, training=False)

    def correct(self, model: Record) -> None:
        """Write the true scales into the table of the converted file, in place.

        Weights of what runs in float keep their grids too.
        """
        for spread in self._spread:
            _write_scales(model, spread)
        keep_weight_grids(model)

    def _rounded(
        self,
        values: Tensor,
        group: str,
        *,
        halves_away: bool = False,
        again: bool = False,
    ) -> Tensor:
        import tensorflow as tf

        if again:
            # Two roundings in a row the converter refuses. QUANTIZE from int8 to int8
            # has eight bits of precision in the runtime, a product has more.
            values = values * np.float32(_ALMOST_ONE)
        scale, zero_point = self._grids[group]
        return tf.quantization.fake_quant_with_min_max_vars(
            values, (LOWEST - zero_point) * scale, (HIGHEST - zero_point) * scale
        )

    def _traced_values(self) -> list[tuple[Any, Any]]:
        """Each variable that is replaced in the trace, and what makes its value."""
        values = {
            path: ops.convert_to_numpy(value)
            for path, value in self._model.transformed_values().items()
        }
        selected = self._model._selected()
        scales = {
            path: ops.convert_to_numpy(scale)
            for transform in self._model.transforms
            if isinstance(transform, FakeQuantize)
            for path, scale in transform.scales().items()
        }
        traced: list[tuple[Any, Any]] = []
        for path, value in values.items():
            weight = selected[path]
            if path in scales and id(weight.layer) in self._layers:
                traced += self._rounded_weight(weight, value, scales[path])
            else:
                traced.append((weight.variable, _Constant(value)))
        return traced

    def _rounded_weight(
        self, weight: SelectedWeight, value: np.ndarray, scale: np.ndarray
    ) -> list[tuple[Any, Any]]:
        if not scale.all():
            raise ExportError(
                f"The weight {weight.path!r} is not quantized yet: its `begin_step` "
                "was not reached. Train the model for longer."
            )
        layer = weight.layer
        if scale.size == 1:
            return [(weight.variable, _Constant(value, scale.reshape(())))]
        if type(layer).__name__ in _NATIVE:
            return [(weight.variable, _Constant(value, scale.reshape(-1)))]
        spread = self._new_spread(scale)
        pairs: list[tuple[Any, Any]] = [
            (
                weight.variable,
                _Constant(value / scale * spread.marker, np.array(spread.marker)),
            )
        ]
        if weight.variable is _last_weight(layer) and layer.use_bias:
            bias = ops.convert_to_numpy(layer.bias.value)
            pairs.append((layer.bias, _Constant(bias * spread.marker / spread.scales)))
        return pairs

    def _new_spread(self, scale: np.ndarray) -> _Spread:
        """A stand-in that no other weight has."""
        marker = float(scale.max())
        while any(abs(marker / other.marker - 1) < _APART for other in self._spread):
            marker *= 1 + 2 * _APART
        marker = float(np.float32(marker))
        spread = _Spread(marker=marker, scales=scale.reshape(-1))
        self._spread.append(spread)
        return spread


def _convertible_parts(layers: Iterable[Any]) -> list[Loan]:
    """What layers compute, with the operations that the converter makes integer.

    A dilated convolution is one operation. What pools a sequence adds another axis than
    convolutions do, as the converter fails on a tensor that both would share.
    """
    found: list[Loan] = []
    for layer in layers:
        if isinstance(layer, keras.layers.Conv2D) and set(layer.dilation_rate) != {1}:
            found.append((layer, "convolution_op", _dilated(layer)))
        elif isinstance(layer, keras.layers.AveragePooling1D):
            found.append((layer, "call", _pooled(layer)))
    return found


def _dense_on_rows(operation: Any, call: Callable[..., Any]) -> Callable[..., Any]:
    """A dense layer takes its inputs as a matrix, which the converter knows."""
    if not isinstance(operation, keras.layers.Dense):
        return call
    import tensorflow as tf

    def call_on_rows(inputs: Any, **kwargs: Any) -> Any:
        if inputs.shape.rank <= 2:
            return call(inputs, **kwargs)
        outputs = call(tf.reshape(inputs, (-1, inputs.shape[-1])), **kwargs)
        sizes = [n or tf.shape(inputs)[i] for i, n in enumerate(inputs.shape[:-1])]
        return tf.reshape(outputs, (*sizes, outputs.shape[-1]))

    return call_on_rows


def _dilated(layer: Any) -> Callable[..., Any]:
    import tensorflow as tf

    def convolution(inputs: Any, kernel: Any) -> Any:
        return tf.nn.conv2d(
            inputs,
            kernel,
            layer.strides,
            layer.padding.upper(),
            dilations=layer.dilation_rate,
        )

    return convolution


def _pooled(layer: Any) -> Callable[..., Any]:
    import tensorflow as tf

    def pooled(inputs: Any) -> Any:
        outputs = tf.nn.avg_pool2d(
            tf.expand_dims(inputs, 2),
            (*layer.pool_size, 1),
            (*layer.strides, 1),
            layer.padding.upper(),
        )
        return tf.squeeze(outputs, 2)

    return pooled


def _last_weight(layer: Any) -> Any:
    """The weight whose products the bias is added to."""
    return getattr(layer, find_weight_specs(layer)[-1].attribute)


@dataclasses.dataclass(frozen=True, eq=False)
class _Constant:
    """Makes a tensor in the trace, rounded by the converter where scales are given."""

    value: np.ndarray
    scales: np.ndarray | None = None

    def __call__(self) -> Any:
        import tensorflow as tf

        values = tf.constant(self.value.astype("float32"))
        if self.scales is None:
            return values
        highest = (self.scales * HIGHEST_INTEGER).astype("float32")
        options = {"num_bits": 8, "narrow_range": True}
        if highest.ndim == 0:
            return tf.quantization.fake_quant_with_min_max_vars(
                values, -highest, highest, **options
            )
        flat = tf.reshape(values, (*self._leading(), highest.size))
        rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
            flat, -highest, highest, **options
        )
        return tf.reshape(rounded, values.shape)

    def _leading(self) -> tuple[int, ...]:
        """Axes before the channels; those of a depthwise kernel are the last two."""
        shape = self.value.shape
        count = 1 if self.scales is None else self.scales.size
        assumed = 1 if shape[-1] == count else 2
        return shape[:-assumed]


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Spread:
    """Scales of the channels of a weight that is traced with one."""

    marker: float
    scales: np.ndarray


def _write_scales(model: Record, spread: _Spread) -> None:
    """Give each channel of a weight, and its biases, the scale of their own."""
    found = False
    for graph in model["subgraphs"]:
        weights = {
            number
            for number, tensor in enumerate(graph["tensors"])
            if _has_scale(tensor, spread.marker)
        }
        for operator in graph["operators"]:
            code = operator_code(model, operator)
            axis = CHANNEL_AXES.get((code, 1))
            if axis is None or int(operator["inputs"][1]) not in weights:
                continue
            found = True
            weight = graph["tensors"][int(operator["inputs"][1])]
            weight["quantization"] = make_scales(spread.scales, axis)
            place = 3 if code == Operator.TRANSPOSE_CONV else 2
            _scale_bias(graph, operator, place, spread)
    if not found:
        raise ExportError(
            "The converter changed a weight with a scale for each channel, so its "
            "scales cannot be kept. Train that layer with "
            'penjing.Grid(granularity="per_tensor"), by `grids_by_layer`.'
        )


def _scale_bias(
    graph: Record, operator: Record, position: int, spread: _Spread
) -> None:
    """Give the bias of an operator its true scales; the integers are right."""
    inputs = operator["inputs"]
    if len(inputs) <= position or inputs[position] < 0:
        return
    bias = own_input(graph, operator, position)
    steps = np.asarray(bias["quantization"]["scale"], "float64")[:1] / spread.marker
    bias["quantization"] = make_scales(steps * spread.scales.astype("float64"))


def _has_scale(tensor: Record, scale: float) -> bool:
    if tensor["type"] != TensorType.INT8 or not tensor["quantization"]:
        return False
    scales = tensor["quantization"]["scale"]
    near = np.abs(scales / np.float64(scale) - 1) < _SAME_SCALE
    return bool(len(scales) and near.all())
