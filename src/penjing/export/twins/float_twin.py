"""The float32 file that a file of a model is compared with, made by the same road."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import keras
import numpy as np

from penjing.engine.stripping import is_compressed, strip
from penjing.export.conversion_config import ConversionConfig
from penjing.export.mode_conversion import converted
from penjing.models.keras_quantized import make_plain, quantized_by_keras
from penjing.models.signature import InputSignature
from penjing.tflite.edited_file import EditedFile


def float_twin(
    model: keras.Model,
    signature: InputSignature,
    samples: list[np.ndarray],
    imports: Sequence[str] = (),
    *,
    for_integers: bool,
) -> EditedFile:
    """Convert a model, also one in training, to the float32 file it could be.

    With `for_integers` masks and one-hot vectors are as in a file of integers, whose
    samples they depend on. What fails is an ExportError.
    """
    if quantized_by_keras(model):
        model = make_plain(model).model
    if is_compressed(model):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it was not trained is no news here
            model = strip(model)
    config = ConversionConfig(as_for_integers=for_integers)
    return converted(model, signature, config, samples, imports)
