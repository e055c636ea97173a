"""A model's file in any mode: by the converter alone, or with weights rounded here."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import keras
import numpy as np

from penjing.export.conversion import convert_model
from penjing.export.conversion_config import ConversionConfig
from penjing.export.isolation import convert_in_subprocess
from penjing.export.weights.fixed_weights import fixed_weights, weights_of
from penjing.export.weights.weight_grids import (
    has_tables_twice,
    has_weight_grids,
    keep_weight_grids,
)
from penjing.models.signature import InputSignature
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.modes import Mode


def converted(
    model: keras.Model,
    signature: InputSignature,
    config: ConversionConfig,
    samples: list[np.ndarray] | None,
    imports: Sequence[str],
) -> EditedFile:
    """Convert a model, plain or with trained ranges, to a file of a mode.

    `samples`, for calibration, has an array for each input; `imports` are modules for
    the process that converts on JAX and PyTorch. What fails is an ExportError.
    """
    mode = config.mode
    arguments = (model, signature, config, samples, imports)
    if _rounds_weights_alone(model, mode):
        return _rounded(*arguments)
    calibration = samples if config.for_integers else None
    if keras.backend.backend() == "tensorflow":
        file = convert_model(model, signature, config, calibration)
    else:
        file = convert_in_subprocess(model, signature, config, calibration, imports)
    if mode.has_integer_weights and not mode.needs_calibration:
        return _rounded(*arguments) if has_tables_twice(file.model) else file
    return file


def _rounded(
    model: keras.Model,
    signature: InputSignature,
    config: ConversionConfig,
    samples: list[np.ndarray] | None,
    imports: Sequence[str],
) -> EditedFile:
    """The float32 file, whose weights become integers here."""
    file = converted(model, signature, ConversionConfig(), samples, imports)
    keep_grids = functools.partial(
        keep_weight_grids,
        bits=config.mode.weight_bits,
        weight_only=config.mode.weight_only,
        fixed=fixed_weights(weights_of(model)),
    )
    file.edit(keep_grids)
    return file


def _rounds_weights_alone(model: keras.Model, mode: Mode) -> bool:
    """Whether weights of a float32 file become integers here, not in the converter."""
    if mode.needs_calibration or not mode.has_integer_weights:
        return False
    return mode.weight_bits == 4 or has_weight_grids(model)
