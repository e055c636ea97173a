"""Small integer files, record by record, that TFLM runs."""

from __future__ import annotations

import numpy as np

from penjing.tflite.operators import Operator, code_index
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType
from penjing.tflite.writing import write_records

_TYPES = {
    "int8": TensorType.INT8,
    "int16": TensorType.INT16,
    "int32": TensorType.INT32,
    "float32": TensorType.FLOAT32,
}


class MicroFile:
    """A model of one graph, to which tensors and operators are added."""

    def __init__(self):
        self.graph = Record("SubGraph")
        self.model = Record(
            "Model", version=3, subgraphs=[self.graph], buffers=[Record("Buffer")]
        )

    def tensor(self, shape, kind="int8", values=None, scales=(0.5,), axis=0, name=b"t"):
        item = Record("Tensor", shape=np.array(shape, "<i4"), type=_TYPES[kind])
        item["name"] = name
        if len(scales):
            item["quantization"] = Record(
                "QuantizationParameters",
                scale=np.array(scales, "<f4"),
                zero_point=np.zeros(len(scales), "<i8"),
                quantized_dimension=axis,
            )
        if values is not None:
            data = np.ascontiguousarray(values, _TYPES[kind].numpy_type)
            self.model["buffers"] = [
                *self.model["buffers"],
                Record("Buffer", data=np.frombuffer(data.tobytes(), "u1")),
            ]
            item["buffer"] = len(self.model["buffers"]) - 1
        self.graph["tensors"] = [*self.graph["tensors"], item]
        return len(self.graph["tensors"]) - 1

    def operate(self, code, inputs, output, options=None):
        operator = Record(
            "Operator",
            opcode_index=code_index(self.model, code),
            inputs=np.array(inputs, "<i4"),
            outputs=np.array([output], "<i4"),
            builtin_options=options,
        )
        self.graph["operators"] = [*self.graph["operators"], operator]

    def dense(self, x, values, scales=(0.5,), kind="int8"):
        """A dense layer without bias; `values` are `(outputs, inputs)`."""
        weights = self.tensor(values.shape, kind, values, scales, name=b"dense/kernel")
        return self.dense_with(x, weights)

    def dense_with(self, x, weights):
        outputs = int(self.graph["tensors"][weights]["shape"][0])
        y = self.tensor((1, outputs), *self._like(x))
        options = Record("FullyConnectedOptions")
        self.operate(Operator.FULLY_CONNECTED, [x, weights, -1], y, options)
        return y

    def convolve(self, x, values, scales=(0.5,), depthwise=False):
        """A valid convolution with a bias, stride 1; channels of the outputs first."""
        axis = 3 if depthwise else 0
        axis = axis if len(scales) > 1 else 0
        weights = self.tensor(
            values.shape, "int8", values, scales, axis, b"conv/kernel"
        )
        count = values.shape[3 if depthwise else 0]
        steps = np.float32(0.5) * np.array(scales, "f4")
        bias = self.tensor(
            (count,), "int32", np.arange(count), steps, name=b"conv/bias"
        )
        size = self.graph["tensors"][x]["shape"][1:3] - values.shape[1:3] + 1
        y = self.tensor((1, *size, count), scales=(40.0,))
        kind = "DepthwiseConv2DOptions" if depthwise else "Conv2DOptions"
        options = Record(kind, padding=1, stride_w=1, stride_h=1)
        if depthwise:
            options["depth_multiplier"] = 1
        code = Operator.DEPTHWISE_CONV_2D if depthwise else Operator.CONV_2D
        self.operate(code, [x, weights, bias], y, options)
        return y

    def _like(self, x):
        is_float = self.graph["tensors"][x]["type"] == TensorType.FLOAT32
        return ("float32", None, ()) if is_float else ("int8", None, (40.0,))

    def end(self, inputs, outputs):
        self.graph["inputs"] = np.array(inputs, "<i4")
        self.graph["outputs"] = np.array(outputs, "<i4")
        return write_records(self.model)


def levels(shape, values, zeros=0.0, seed=0):
    """Numbers drawn from `values`, a part of them zero."""
    generator = np.random.default_rng(seed)
    drawn = generator.choice(values, shape)
    return np.where(generator.random(shape) < zeros, 0, drawn)


def dense_file(values, scales=(0.5,)):
    """A dense layer of int8."""
    file = MicroFile()
    x = file.tensor((1, values.shape[1]), name=b"x")
    return file.end([x], [file.dense(x, values, scales)])
