"""Integer files whose ranges are those of samples."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np

from penjing.export.conversion_config import CONVERTED, ConversionConfig
from penjing.export.moved_values import keep_moved_values
from penjing.export.observed_ranges import observe_ranges
from penjing.export.weights.calibrated_weights import keep_calibrated_weights
from penjing.export.weights.fixed_weights import fixed_weights, weights_of
from penjing.tflite.cleaning import share_buffers
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.records import Record


def calibrated_file(
    model: keras.Model,
    converter: Any,
    make_floats: Callable[[], Record],
    in_order: Callable[[bytes], bytes],
    config: ConversionConfig,
    samples: Sequence[np.ndarray] | None,
) -> EditedFile:
    """Convert a model to integers, and keep what training fixed in its weights.

    `make_floats` gives the float32 file where its weights are needed, and `in_order`
    puts inputs and outputs in the model's order.
    """
    fixed = fixed_weights(weights_of(model))
    bits = config.mode.weight_bits
    rewritten = bits == 4 or any(weight.keeps_integers for weight in fixed)
    floats = None
    observed = config.observer != "min_max"
    if config.mode.has_int8_activations and (observed or rewritten):
        converter._experimental_calibrate_only = True
        floats = EditedFile(in_order(converter.convert()), "the calibrated file")
        if observed:
            observe_ranges(floats, samples or (), config.observer)
        file = EditedFile(in_order(_quantized(floats.content, config)), CONVERTED)
    else:
        file = EditedFile(in_order(converter.convert()), CONVERTED)
    if rewritten:
        source = floats.model if floats else make_floats()
        keep = functools.partial(
            keep_calibrated_weights,
            floats=source,
            bits=bits,
            fixed=fixed,
            dense_one_scale=config.is_micro,
        )
        file.edit(keep)
    file.edit(keep_moved_values)
    # The converter writes files of many scales a third larger than they need be.
    file.edit(functools.partial(share_buffers, keep_order=True))
    return file


def _quantized(calibrated: bytes, config: ConversionConfig) -> bytes:
    """What the converter makes of a float model with ranges."""
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    return bytes(
        mlir_quantize(
            calibrated,
            input_data_type=getattr(tf, config.input_type),
            output_data_type=getattr(tf, config.output_type),
        )
    )
