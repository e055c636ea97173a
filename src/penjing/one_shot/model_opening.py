"""Which models may be measured and compressed: a copy, and what is chosen of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import keras

from penjing.engine.stripping import is_compressed
from penjing.engine.transforms.weight_transform import check_values
from penjing.engine.wrapping import taken_over
from penjing.errors import UnsupportedModelError
from penjing.models.copying import copy_model
from penjing.models.layer_calls import check_is_model
from penjing.models.selection import SelectedWeight, Selection
from penjing.one_shot.weight_matrix import read_matrix

_PRECISIONS = {"float16": 11, "bfloat16": 8}  # significant bits; float32 has 24


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class OpenedModel:
    """A model of floats, a copy of it, and the copy's weights.

    Attributes:
        given: The user's model; one of floats in its place where Keras quantized it.
        twin: A copy, which may be changed.
        selection: The weights of the copy that are compressed.
    """

    given: keras.Model
    twin: keras.Model
    selection: Selection


def open_model(
    model: keras.Model, select: Callable[[keras.Model], Selection]
) -> OpenedModel:
    """Copy a model, and choose weights of the copy by `select`.

    An UnsupportedModelError says why it cannot be taken, a CompressionError which of
    the chosen weights is NaN or infinite.
    """
    check_is_model(model)
    if is_compressed(model):
        raise UnsupportedModelError(
            f"The model {model.name!r} is being compressed already. Strip it first: "
            "penjing.strip(model)."
        )
    if not model.built:
        raise UnsupportedModelError(
            f"The model {model.name!r} is not built, so it has no weights yet. Call it "
            "on data first."
        )
    given = taken_over(model)
    twin = copy_model(given)
    selection = select(twin)
    for weight in selection.chosen:
        check_values(weight, read_matrix(weight))
    return OpenedModel(given=given, twin=twin, selection=selection)


def precision_of(weight: SelectedWeight) -> int:
    """Significant bits that the type of a weight holds."""
    return _PRECISIONS.get(keras.backend.standardize_dtype(weight.variable.dtype), 24)
