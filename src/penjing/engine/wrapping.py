"""What all methods share: a model, plain or in training already, gets a transform."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from penjing.engine.activations.activation_grids import ActivationGrids
from penjing.engine.compression_model import CompressionModel
from penjing.engine.stripping import find_compressed_layers
from penjing.engine.transforms.weight_transform import Transform
from penjing.errors import CompressionWarning, UnsupportedModelError
from penjing.models.copying import copy_model
from penjing.models.keras_quantized import make_plain, quantized_by_keras


def add_transform(
    model: keras.Model,
    transform: Transform,
    *,
    activations: ActivationGrids | None = None,
    copy: bool = True,
) -> CompressionModel:
    """Make a model train through one more transform, and give it to compile and train.

    A model that carries transforms already keeps their state, and its steps go on;
    those of the transform, not attached yet, count from now on. `activations` round the
    tensors between the layers, where the model has none yet. Without `copy` the weights
    of the given model are trained. One that Keras quantized is taken over as floats on
    the same grids, with a warning. An UnsupportedModelError says that the model carries
    a transform of that class, holds compressed layers or cannot be copied.
    """
    model = taken_over(model, copy=copy)
    if isinstance(model, CompressionModel):
        if any(type(earlier) is type(transform) for earlier in model.transforms):
            raise UnsupportedModelError(
                f"The model {model.name!r} is being {transform.display_name} already. "
                "Strip it first, or ask for everything in one call."
            )
    elif find_compressed_layers(model):
        raise UnsupportedModelError(
            f"The model {model.name!r} holds compressed layers. Strip it first."
        )
    deferred = isinstance(model, keras.Sequential)
    if copy and isinstance(model, CompressionModel):
        model = model.around(copy_model(model.model))
    elif copy and isinstance(model, keras.Model) and (model.built or deferred):
        model = copy_model(model)
    if not isinstance(model, CompressionModel):
        return CompressionModel(model, [transform], activations=activations)
    transform.start_step = model.count_steps()
    extended = CompressionModel(
        model.model,
        [*model.transforms, transform],
        activations=activations or model.activations,
    )
    extended.step.assign(transform.start_step)
    return extended


def taken_over(model: Any, *, copy: bool = True) -> Any:
    """A model of floats in place of one that Keras quantized, with a warning.

    Any other is given as it is. Without `copy` there can be no other model, which is an
    UnsupportedModelError.
    """
    layers = quantized_by_keras(model)
    if not layers:
        return model
    if not copy:
        raise UnsupportedModelError(
            f"Keras quantized `{layers[0].path}` of the model {model.name!r}, so its "
            "own weights are integers that cannot be trained. Leave `copy=True`, which "
            "makes a model of floats on the same grids."
        )
    twin = make_plain(model)
    warnings.warn(f"{twin}.", CompressionWarning, stacklevel=4)
    return twin.model
