"""`prune_low_magnitude` and `strip_pruning`: into the wrappers and out of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras

from penjing.engine.compression_model import CompressionModel
from penjing.engine.pruning import apply_pruning
from penjing.engine.schedules import Schedule
from penjing.engine.stripping import is_compressed
from penjing.errors import UnsupportedModelError
from penjing.models.keras_private import all_layers
from penjing.models.layer_specs import find_weight_specs
from penjing.tfmot.layer_wrapper import strip_wrappers, wrap
from penjing.tfmot.pruning_policies import PruningPolicy
from penjing.tfmot.pruning_schedules import (
    ConstantSparsity,
    PolynomialDecay,
    PruningSchedule,
)
from penjing.tfmot.pruning_wrapper import PruneLowMagnitude, make_pruning_config


def prune_low_magnitude(
    to_prune: Any,
    pruning_schedule: PruningSchedule | Schedule | None = None,
    block_size: Sequence[int] = (1, 1),
    block_pooling_type: str = "AVG",
    pruning_policy: PruningPolicy | None = None,
    sparsity_m_by_n: Sequence[int] | None = None,
    **kwargs: Any,
) -> Any:
    """Make a model, a layer or a list of layers prune itself in training.

    A Sequential or Functional model is copied, with every layer inside a
    `PruneLowMagnitude`; the given model stays as it is. A subclassed model, or one
    that holds such a model, is copied into a `penjing.CompressionModel`. Layers are
    wrapped as they are.

    Args:
        to_prune: A Keras model, a layer or a list of layers.
        pruning_schedule: When to prune, and how much; by default
            `ConstantSparsity(0.5, begin_step=0)`.
        block_size: Height (inputs) and width (outputs) of the blocks that fall
            together.
        block_pooling_type: `"AVG"` or `"MAX"`: the score of a block.
        pruning_policy: Which layers are wrapped; by default all.
        sparsity_m_by_n: `(m, n)` for m zeros in every n neighbouring inputs, such as
            `(2, 4)`. Where n does not divide the inputs, their rest is filled up with
            zeros, which fall first. A constant sparsity beside it is taken as m / n,
            a schedule that rises must end there.
        **kwargs: For a single layer, passed on to the wrapper.

    Returns:
        A model to compile and train, a layer, or a list of layers.

    Raises:
        ValueError: If an argument is out of range, a layer is of a class whose
            prunable weights are not known, or nothing can be pruned.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> pruned = prune_low_magnitude(model)
        >>> [layer.name[:24] for layer in pruned.layers]
        ['prune_low_magnitude_dens']
    """
    settings: dict[str, Any] = {
        "pruning_schedule": pruning_schedule,
        "block_size": block_size,
        "block_pooling_type": block_pooling_type,
        "sparsity_m_by_n": sparsity_m_by_n,
    }
    config = make_pruning_config(**settings)
    if pruning_policy is not None and isinstance(to_prune, keras.Model):
        pruning_policy.ensure_model_supports_pruning(to_prune)

    def wrap_layer(layer: Any, **further: Any) -> Any:
        if isinstance(layer, PruneLowMagnitude):
            return layer
        if pruning_policy is not None and not pruning_policy.allow_pruning(layer):
            return layer
        return PruneLowMagnitude(layer, **settings, **further)

    def compress(model: keras.Model) -> keras.Model:
        exclude = _left_out(model, pruning_policy)
        return apply_pruning(model, dataclasses.replace(config, exclude=exclude))

    wrapped = wrap(
        to_prune,
        wrap_layer,
        compress,
        call="prune_low_magnitude",
        argument="to_prune",
        done="pruned",
        further=kwargs,
    )
    if wrapped is to_prune and not is_compressed(wrapped):
        raise UnsupportedModelError(
            f"{type(pruning_policy).__name__} does not allow to prune the layer "
            f"{to_prune.name!r} of type {type(to_prune).__name__}. Leave it as it is, "
            "or prune it without a policy."
        )
    return wrapped


def strip_pruning(model: keras.Model) -> keras.Model:
    """Copy a model without its pruning wrappers, its weights masked.

    Args:
        model: What `prune_low_magnitude` made, or a model with such layers; at any
            time, after any batch.

    Returns:
        A plain Keras model, not compiled.

    Raises:
        ValueError: If `model` is not a Keras model.

    Example:
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> type(strip_pruning(prune_low_magnitude(model)).layers[0]).__name__
        'Dense'
    """
    return strip_wrappers(model)


def prune_scope() -> Any:
    """Make the wrapper and the schedules known to Keras by their bare names.

    They are registered as soon as this module is imported, so that the scope is needed
    for some `.h5` files only: those of tfmot itself, of a model still in its wrappers,
    loaded with `compile=False`; and those of subclassed models being pruned.

    Returns:
        A `keras.saving.CustomObjectScope`.
    """
    known = (PruneLowMagnitude, ConstantSparsity, PolynomialDecay, CompressionModel)
    return keras.saving.custom_object_scope({kind.__name__: kind for kind in known})


def _left_out(
    model: keras.Model, policy: PruningPolicy | None
) -> list[keras.layers.Layer] | None:
    if policy is None:
        return None
    return [
        layer
        for layer in all_layers(model)
        if find_weight_specs(layer) and not policy.allow_pruning(layer)
    ]
