"""Layers that no file for TensorFlow Lite Micro can hold, known before converting."""

from __future__ import annotations

import keras

from penjing.errors import ExportError
from penjing.models.keras_private import all_layers
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
