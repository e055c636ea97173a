"""What a run is given, checked whole before anything is written or trained."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import keras

from penjing.data.data_sources import UserData
from penjing.errors import CompressionError
from penjing.models.model_files import load_keras_model
from penjing.pipeline.inputs.baseline_check import check_baseline
from penjing.pipeline.inputs.run_data import as_user_data, check_scores, with_validation
from penjing.pipeline.recipe import TrainingRecipe
from penjing.pipeline.runs.noted_warnings import noted_warnings
from penjing.pipeline.training import loss_and_metrics


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RunInputs:
    """A model and its data, which fit each other.

    What the recipe holds out for validation is not in the training part any more. The
    data has `data_name` in a report; `warned` is what loading warned of.
    """

    model: keras.Model
    data: UserData
    data_name: str
    warned: tuple[str, ...]


def checked_inputs(
    model: keras.Model | Path,
    data: Any,
    training: TrainingRecipe,
    *,
    seed: int,
    pixels: str,
    accept_baseline: bool,
) -> RunInputs:
    """Load a model and its data, and refuse what a run would stumble on.

    A CompressionError says what is wrong: the model is none or not built, the data does
    not fit it, loss or metrics do not take the labels, or a classifier is at chance
    level, unless that is accepted.
    """
    with noted_warnings() as warned:
        loaded = load_keras_model(model) if isinstance(model, Path) else model
        _check_model(loaded)
        arguments = loss_and_metrics(loaded, training)
        user_data, name = as_user_data(data, loaded, seed, pixels)
        known_loss = _has_keras_loss(arguments)
        user_data.validate_against(loaded, labels_match_outputs=known_loss)
        check_scores(user_data, loaded, training, arguments["loss"])
        if known_loss and not accept_baseline:
            check_baseline(user_data, loaded)
        user_data = with_validation(user_data, training, seed)
    return RunInputs(model=loaded, data=user_data, data_name=name, warned=tuple(warned))


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise CompressionError(
            "`model` must be a Keras 3 model or the path of a `.keras` or `.h5` file, "
            f"got an object of type {type(model).__name__}."
        )
    if not model.built:
        raise CompressionError(
            f"The model {model.name!r} is not built, so it has no weights yet. Call "
            "it once on a batch, or `model.build(input_shape)`, first."
        )


def _has_keras_loss(arguments: dict[str, Any]) -> bool:
    return all(
        isinstance(loss, str) or type(loss).__module__.startswith("keras.")
        for loss in keras.tree.flatten(arguments["loss"])
        if loss is not None
    )
