"""Layers and inputs that no file for TensorFlow Lite Micro can have.

They are known before a model is converted.
"""

from __future__ import annotations

import keras

from penjing.errors import ExportError
from penjing.export.trained_grids import has_trained_grids
from penjing.models.keras_private import all_layers
from penjing.models.signature import InputSignature
from penjing.tflite.modes import Mode

_VOLUMES = (
    "CONV_3D and its like, which TensorFlow Lite Micro has not: use two-dimensional "
    "layers, depth as channels or as images"
)
_LOOPS = 'LiteRT has no 16-bit kernels for its loop: use quantization="int8"'
_MOMENTS = (
    "LiteRT has no 16-bit kernels for the squared differences in it: use "
    'quantization="int8"'
)
# Names of classes in `keras.layers` -> why not, in any mode and with int16 activations.
_IN_ANY_MODE = {
    "Conv3D": _VOLUMES,
    "Conv3DTranspose": _VOLUMES,
    "ConvLSTM3D": _VOLUMES,
    "MaxPooling3D": _VOLUMES,
    "AveragePooling3D": _VOLUMES,
}
_IN_16_BITS = {
    "RNN": _LOOPS,
    "LayerNormalization": _MOMENTS,
    "GroupNormalization": _MOMENTS,
}

_INTEGER_END = (
    "Build the model with a keras.Input of floats, scaled within the model, and export "
    'it with quantization="int8" and input_type="uint8": that file takes bytes, and '
    "with representative_data from 0 to 255 they mean themselves (scale 1, zero point "
    '0). Or use keras.Input(..., dtype="int32")'
)
_INT32 = 'Use keras.Input(..., dtype="int32")'
_FLOATS = 'Use keras.Input(..., dtype="float32")'
# Types of inputs that its CAST and GATHER do not take -> what to do.
_INPUTS = {
    "uint8": _INTEGER_END,
    "uint16": _INT32,
    "uint32": _INT32,
    "int64": _INT32,
    "float16": _FLOATS,
    "bfloat16": _FLOATS,
    "float64": _FLOATS,
}


def check_inputs(model: keras.Model, signature: InputSignature) -> None:
    """Refuse a model with an input of a type that TFLM cannot read, naming it."""
    plain = model.model if has_trained_grids(model) else model
    try:
        types = [str(tensor.dtype) for tensor in plain.inputs]
    except (AttributeError, TypeError, ValueError):  # a subclassed model has none
        return
    for item, kind in zip(signature.inputs, types, strict=False):
        if kind in _INPUTS:
            raise ExportError(
                f"The input `{item.name}` of `{model.name}` takes {kind}, which "
                "TensorFlow Lite Micro cannot convert to what layers compute with. "
                f"{_INPUTS[kind]}."
            )


def check_layers(model: keras.Model, mode: Mode) -> None:
    """Refuse a model with a layer that TFLM cannot run in a mode, naming the layer."""
    table = dict(_IN_ANY_MODE)
    if mode.activations == "int16":
        table |= _IN_16_BITS
    for layer in all_layers(model):
        for name, why in table.items():
            kind = getattr(keras.layers, name, None)  # some came with later versions
            unrolled = name == "RNN" and getattr(layer, "unroll", False)
            if kind is not None and isinstance(layer, kind) and not unrolled:
                raise ExportError(
                    f"The layer `{layer.name}` ({type(layer).__name__}) of "
                    f"`{model.name}` cannot run in TensorFlow Lite Micro with "
                    f"quantization={mode.quantization!r}: {why}."
                )
