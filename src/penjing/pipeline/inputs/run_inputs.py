"""What a run is given, checked whole before anything is written or trained."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from penjing.data.data_checks import output_shapes
from penjing.data.data_sources import UserData
from penjing.data.data_spec import PIXELS
from penjing.data.unlabeled_data import UnlabeledDataError, inputs_by_part
from penjing.errors import CompressionError, DataError
from penjing.files import temporary_folder
from penjing.models.copying import copy_model
from penjing.models.model_files import load_keras_model
from penjing.pipeline.inputs.baseline_check import check_baseline
from penjing.pipeline.inputs.given_model import given_model, is_litert
from penjing.pipeline.inputs.run_data import as_user_data, check_scores, with_validation
from penjing.pipeline.inputs.teacher import judged_by_labels, taught_by_itself
from penjing.pipeline.recipe import TrainingRecipe
from penjing.pipeline.runs.noted_warnings import noted_warnings
from penjing.pipeline.training import loss_and_metrics

# Inputs that something is chosen by where nothing is trained.
_MOST_INPUTS = 4_096


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judge:
    """What is right: the labels, or what the model itself gives.

    Args:
        takes_labels: Whether labels are looked at.
        needs_labels: Whether they have to be there; else the model gives them.
        metric: By which what is compared with the model's outputs is judged, one of
            `teacher.FIDELITIES`; None chooses.
        trains: Whether anything is trained. Else few inputs are enough, and a model
            without a loss.
    """

    takes_labels: bool = True
    needs_labels: bool = True
    metric: str | None = None
    trains: bool = True


def judge_for(metric: str | None = None, *, training: bool, labels: bool) -> Judge:
    """What is right, by the arguments of `penjing.compress`."""
    needed = labels and training
    return Judge(
        takes_labels=labels, needs_labels=needed, metric=metric, trains=training
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class RunInputs:
    """A model and its data, which fit each other.

    What the recipe holds out for validation is not in the training part any more. The
    data has `data_name` in a report; `warned` is what loading warned of. Where
    `is_taught`, the labels are what the model gave.
    """

    model: keras.Model
    data: UserData
    data_name: str
    warned: tuple[str, ...]
    is_taught: bool = False


def checked_inputs(
    model: keras.Model | Path,
    data: Any,
    training: TrainingRecipe,
    *,
    seed: int,
    pixels: str,
    accept_baseline: bool,
    judge: Judge = Judge(),
) -> RunInputs:
    """Load a model and its data, and refuse what a run would stumble on.

    Where labels are not taken or not there, or the model has no loss, what is given
    back is a copy of the model with loss and metric. A CompressionError says what is
    wrong: the model is none or not built, the data does not fit it, loss or metrics do
    not take the labels, or a classifier is at chance level, unless that is accepted.
    """
    with noted_warnings() as warned:
        loaded = given_model(model)
        _check_model(loaded)
        if not isinstance(model, Path):
            _check_saves(loaded)
        if judge.needs_labels and not is_litert(model):
            loss_and_metrics(loaded, training)
        user_data, name = _read(data, loaded, seed, pixels, judge)
        if not judge.trains:
            user_data = _with_fewer_inputs(user_data)
        is_taught = not (judge.takes_labels and _has_labels(user_data))
        if is_taught:
            user_data.validate_against(loaded, labels_match_outputs=False)
            user_data = _without_other_classes(user_data, loaded)
            loaded, user_data = taught_by_itself(loaded, user_data, judge.metric)
        elif not loaded.compiled and training.loss is None:
            loaded = judged_by_labels(loaded, user_data)
        arguments = loss_and_metrics(loaded, training)
        known_loss = _has_keras_loss(arguments)
        user_data.validate_against(loaded, labels_match_outputs=known_loss)
        check_scores(user_data, loaded, training, arguments["loss"])
        if known_loss and not accept_baseline:
            check_baseline(user_data, loaded)
        user_data = with_validation(user_data, training, seed)
    return RunInputs(
        model=loaded,
        data=user_data,
        data_name=name,
        warned=tuple(warned),
        is_taught=is_taught,
    )


def _read(
    data: Any, model: keras.Model, seed: int, pixels: str, judge: Judge
) -> tuple[UserData, str]:
    """The data and its name; parts without labels are `(x, None)`."""
    try:
        return as_user_data(data, model, seed, pixels)
    except UnlabeledDataError as error:
        if judge.needs_labels:
            raise
        inputs, notes = inputs_by_part(error.read(), seed)
        parts: dict[str, Any] = {name: (x, None) for name, x in inputs.items()}
        is_path = isinstance(data, (str, os.PathLike))
        name = Path(data).name if is_path else error.source
        if is_path and Path(data).expanduser().is_dir():
            white = PIXELS[pixels]
            notes = (f"pixels are read from 0 to {white:g}", *notes)
        user_data = UserData(**parts, source=error.source, notes=notes)
        return user_data, name or error.source


def _has_labels(data: UserData) -> bool:
    return not isinstance(data.test, tuple) or data.test[1] is not None


def _without_other_classes(data: UserData, model: keras.Model) -> UserData:
    """The data without names of classes where the labels, a model's, are others."""
    try:
        data.check_classes(output_shapes(model))
    except DataError:
        return dataclasses.replace(data, class_names=None)
    return data


def _with_fewer_inputs(data: UserData) -> UserData:
    """The data with as much of the training part as is looked at, spread evenly."""
    part = data.train
    if not isinstance(part, tuple):
        return data
    count = len(keras.tree.flatten(part[0])[0])
    if count <= _MOST_INPUTS:
        return data
    rows = np.linspace(0, count - 1, _MOST_INPUTS).astype(int)
    fewer = tuple(
        None if field is None else keras.tree.map_structure(lambda a: a[rows], field)
        for field in part
    )
    return dataclasses.replace(data, train=fewer)


def _check_model(model: Any) -> None:
    if not isinstance(model, keras.Model):
        raise CompressionError(
            "`model` must be a Keras 3 model or the path of a `.keras`, `.h5` or "
            "`.tflite` file, "
            f"got an object of type {type(model).__name__}."
        )
    if not model.built:
        raise CompressionError(
            f"The model {model.name!r} is not built, so it has no weights yet. Call "
            "it once on a batch, or `model.build(input_shape)`, first."
        )


def _check_saves(model: keras.Model) -> None:
    """Refuse a model that its own file does not give again: runs go on from files."""
    copy = copy_model(model)
    try:
        with temporary_folder("penjing-model") as folder:
            copy.save(folder / "model.keras")
            load_keras_model(folder / "model.keras", compile=False)
    except OSError:
        return  # a full disk is told of where results are written
    except CompressionError as error:
        raise CompressionError(
            f"The model {model.name!r} can be saved, but not loaded again, which every "
            "result has to be. Make functions and layers of your own classes that are "
            "registered with keras.saving.register_keras_serializable, in place of a "
            "Lambda too, before anything is trained."
        ) from error


def _has_keras_loss(arguments: dict[str, Any]) -> bool:
    """Whether classes are numbered from 0 to those of the output, as usual losses do.

    In CTC they are a sequence, in Circle they are as many as there are, and one may be
    left out.
    """
    unusual = (keras.losses.CTC, keras.losses.Circle)
    return all(
        isinstance(loss, str)
        or (
            type(loss).__module__.startswith("keras.")
            and not isinstance(loss, unusual)
            and loss.get_config().get("ignore_class") is None
        )
        for loss in keras.tree.flatten(arguments["loss"])
        if loss is not None
    )
