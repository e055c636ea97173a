"""What each layer alone costs in int8."""

from __future__ import annotations

import keras
import numpy as np

from penjing.errors import UnsupportedModelError
from penjing.export.conversion_config import ConversionConfig
from penjing.export.mode_conversion import converted
from penjing.export.samples import representative_samples
from penjing.export.trained_grids import has_trained_grids
from penjing.models.signature import input_signature


def int8_errors(model: keras.Model, inputs: np.ndarray | object) -> dict[str, float]:
    """How far outputs are off, in spreads, with one layer in int8 and all others not.

    By the paths of the layers in the order in which they run; "(all)", the last, is the
    file with all of them. Ranges are those of the inputs. A model that rounds its
    activations while it trains is an UnsupportedModelError.
    """
    if has_trained_grids(model):
        raise UnsupportedModelError(
            f"The activations of `{model.name}` are trained in all layers at once: "
            "strip the model first, to see what each layer costs without training."
        )
    signature = input_signature(model)
    samples = representative_samples(inputs, signature)
    config = ConversionConfig(quantization="int8", each_alone=True)
    return converted(model, signature, config, samples, ()).layer_errors
