"""Small `.tflite` files: written by hand with the runtime's schema, or converted."""

from __future__ import annotations

import warnings

import flatbuffers
import keras
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from penjing.runtime.silence import captured_output


def make_tensor(name, shape, kind, buffer, zero_points=None, axis=0, sparsity=None):
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type, tensor.buffer = name, shape, kind, buffer
    if zero_points is not None:
        quantization = schema.QuantizationParametersT()
        quantization.scale = [0.5] * len(zero_points)
        quantization.zeroPoint = zero_points
        quantization.quantizedDimension = axis
        tensor.quantization = quantization
    tensor.sparsity = sparsity
    return tensor


def make_file(tensors, buffers):
    """Bytes of a file with one graph of `tensors` over `buffers`."""
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = tensors, [], [], []
    model = schema.ModelT()
    model.version, model.subgraphs, model.operatorCodes = 3, [graph], []
    model.buffers = []
    for data in buffers:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data, "u1") if data else None
        model.buffers.append(buffer)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def small_model():
    """Conv2D and two Dense layers: 6,027 weights, 3 outputs."""
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, activation="relu"),
            keras.layers.Flatten(),
            keras.layers.Dense(40, name="hidden"),
            keras.layers.Dense(3),
        ]
    )


def convert(model, *optimizations, samples=None):
    """Bytes of a `.tflite` file by TensorFlow's own converter."""
    import tensorflow as tf

    with warnings.catch_warnings(), captured_output():
        warnings.simplefilter("ignore")
        converter = tf.lite.TFLiteConverter.from_keras_model(model)
        converter.optimizations = [getattr(tf.lite.Optimize, o) for o in optimizations]
        if samples is not None:
            converter.representative_dataset = lambda: [[samples]]
        return converter.convert()
