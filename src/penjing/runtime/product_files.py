"""`.tflite` files with one product in them: a layer's kernel at a chosen size.

They are written record by record, in milliseconds and without TensorFlow, for timing.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np

from penjing.tflite.modes import MODES, find_mode
from penjing.tflite.operators import Operator, make_operator_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType
from penjing.tflite.writing import write_records

# Modes that files can be written in.
PRODUCT_MODES = tuple(
    mode
    for mode in MODES
    if mode.weights in ("float32", "int8") and mode.activations != "int16"
)
# The converter leaves smaller weights in float beside float activations.
_LEAST_QUANTIZED = 1024
_OPERATORS = {
    "dense": Operator.FULLY_CONNECTED,
    "conv": Operator.CONV_2D,
    "depthwise": Operator.DEPTHWISE_CONV_2D,
}
_INPUT_SCALE, _WEIGHT_SCALE, _OUTPUT_SCALE = 0.02, 0.01, 0.05


@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelProduct:
    """A product of a kernel with activations, as the runtime computes it.

    Attributes:
        kind: "dense", "conv" or "depthwise".
        inputs: What is summed over: features, or channels of one group. 1 for
            "depthwise".
        outputs: Features or channels.
        rows: Rows of a "dense" product; 1 for the others.
        size: Height and width of the input of the others, as for all pairs.
        dilation: Distances of what the kernel reads.
        padding: "same" or "valid".
        groups: Groups of channels of a "conv".
        multiplier: Outputs for each channel of a "depthwise".
    """

    kind: str
    inputs: int
    outputs: int
    rows: int = 1
    size: tuple[int, int] = (1, 1)
    kernel: tuple[int, int] = (1, 1)
    strides: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    padding: str = "valid"
    groups: int = 1
    multiplier: int = 1

    @property
    def macs(self) -> int:
        """Multiply-accumulates, with those of padding."""
        if self.kind == "dense":
            return self.rows * self.inputs * self.outputs
        positions = math.prod(self._positions())
        return positions * math.prod(self.kernel) * self.inputs * self.outputs

    def shapes(self) -> tuple[list[int], list[int], list[int]]:
        """Shapes of the input, of the weights and of the output in the file."""
        if self.kind == "dense":
            weights = [self.outputs, self.inputs]
            return [self.rows, self.inputs], weights, [self.rows, self.outputs]
        output = [1, *self._positions(), self.outputs]
        if self.kind == "depthwise":
            channels = self.outputs // self.multiplier
            return [1, *self.size, channels], [1, *self.kernel, self.outputs], output
        weights = [self.outputs, *self.kernel, self.inputs]
        return [1, *self.size, self.inputs * self.groups], weights, output

    def _positions(self) -> tuple[int, int]:
        found = []
        for axis in (0, 1):
            reach = (self.kernel[axis] - 1) * self.dilation[axis]
            room = self.size[axis] - (0 if self.padding == "same" else reach)
            found.append(-(-room // self.strides[axis]))
        return found[0], found[1]


def write_product(product: KernelProduct, quantization: str | None) -> bytes:
    """Give the bytes of a `.tflite` file that computes one product and adds a bias.

    `quantization` is that of one of `PRODUCT_MODES`.
    """
    given, weights, output = product.shapes()
    mode = find_mode(quantization)
    is_int8 = mode.has_int8_activations
    random = np.random.default_rng(0)
    values = random.integers(-127, 128, weights, "i1")
    rounded = mode.has_integer_weights and not is_int8
    dynamic = rounded and values.size >= _LEAST_QUANTIZED
    axis = 3 if product.kind == "depthwise" else 0
    scales = 1 if product.kind == "dense" and is_int8 else product.outputs
    data = values if is_int8 or dynamic else values.astype("<f4") * _WEIGHT_SCALE
    bias = np.zeros(product.outputs, "<i4" if is_int8 else "<f4")
    activation_type = TensorType.INT8 if is_int8 else TensorType.FLOAT32
    tensors = [
        _tensor(given, activation_type, 0, [_INPUT_SCALE] if is_int8 else []),
        _tensor(
            weights,
            TensorType.INT8 if is_int8 or dynamic else TensorType.FLOAT32,
            1,
            [_WEIGHT_SCALE] * scales if is_int8 or dynamic else [],
            axis if scales > 1 else 0,
        ),
        _tensor(
            [product.outputs],
            TensorType.INT32 if is_int8 else TensorType.FLOAT32,
            2,
            [_INPUT_SCALE * _WEIGHT_SCALE] * scales if is_int8 else [],
        ),
        _tensor(output, activation_type, 0, [_OUTPUT_SCALE] if is_int8 else []),
    ]
    buffers = [_buffer(None), _buffer(data), _buffer(bias)]
    return write_records(_model(product, tensors, buffers, dynamic))


def _model(
    product: KernelProduct, tensors: list[Record], buffers: list[Record], dynamic: bool
) -> Record:
    operator = Record(
        "Operator",
        opcode_index=0,
        inputs=np.array([0, 1, 2], "<i4"),
        outputs=np.array([3], "<i4"),
        builtin_options=_options(product, dynamic),
    )
    graph = Record(
        "SubGraph",
        tensors=tensors,
        inputs=np.array([0], "<i4"),
        outputs=np.array([3], "<i4"),
        operators=[operator],
    )
    known = make_operator_code(_OPERATORS[product.kind])
    return Record(
        "Model", version=3, operator_codes=[known], subgraphs=[graph], buffers=buffers
    )


def _options(product: KernelProduct, dynamic: bool) -> Record:
    if product.kind == "dense":
        return Record("FullyConnectedOptions", asymmetric_quantize_inputs=int(dynamic))
    options: dict[str, Any] = {
        "padding": 0 if product.padding == "same" else 1,
        "stride_h": product.strides[0],
        "stride_w": product.strides[1],
        "dilation_h_factor": product.dilation[0],
        "dilation_w_factor": product.dilation[1],
    }
    if product.kind == "conv":
        return Record("Conv2DOptions", **options)
    multiplier = product.multiplier
    return Record("DepthwiseConv2DOptions", depth_multiplier=multiplier, **options)


def _tensor(
    shape: list[int], kind: int, buffer: int, scales: list[float], axis: int = 0
) -> Record:
    quantization = None
    if scales:
        quantization = Record(
            "QuantizationParameters",
            scale=np.array(scales, "<f4"),
            zero_point=np.zeros(len(scales), "<i8"),
            quantized_dimension=axis,
        )
    return Record(
        "Tensor",
        shape=np.array(shape, "<i4"),
        type=kind,
        buffer=buffer,
        name=f"tensor_{buffer}".encode(),
        quantization=quantization,
    )


def _buffer(values: np.ndarray | None) -> Record:
    if values is None:
        return Record("Buffer")
    return Record("Buffer", data=np.frombuffer(values.tobytes(), "u1"))
