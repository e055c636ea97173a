"""The data of one run: from what the user gave to what the stages use."""

from __future__ import annotations

import dataclasses
import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras
import numpy as np

from penjing.arguments import check_choice
from penjing.data.batches import loader_length
from penjing.data.data_checks import first_batch
from penjing.data.data_sources import PARTS, UserData, load_data
from penjing.data.data_spec import PIXELS
from penjing.data.data_splits import split_off
from penjing.data.datasets import Dataset
from penjing.errors import CompressionWarning, DataError, RecipeError
from penjing.measurement.scoring import Scorer
from penjing.models.keras_private import all_layers
from penjing.pipeline.recipe import TrainingRecipe
from penjing.pipeline.training import evaluation_metrics
from penjing.pipeline.training_data import count_samples
from penjing.report.documents import DataSummary

# Folders of a path, absolute or below here, up to its last part.
_PATH = re.compile(
    r"""(?<![^\s'"(])(?:[A-Za-z]:|~|\.{1,2})?[/\\](?:[^\s:()'"]*[/\\])?"""
)

_OF = {"train": "training", "test": "test"}


def as_user_data(
    data: Any, model: keras.Model, seed: int, pixels: str = "0-255"
) -> tuple[UserData, str]:
    """Turn what the user gave as data into parts with a name.

    It is what `load_data` takes, a `UserData` or a `Dataset`. Images are read in the
    size of the model's input, with pixels that go from and to what `PIXELS` names; the
    seed is that of a split.
    """
    check_choice("pixels", pixels, list(PIXELS))
    if isinstance(data, UserData):
        return data, data.source
    if isinstance(data, Dataset):
        pair = (data.x_validation, data.y_validation)
        parts = UserData(
            train=(data.x_train, data.y_train),
            test=(data.x_test, data.y_test),
            validation=None if data.x_validation is None else pair,
            source=data.source,
            class_names=data.class_names,
        )
        return parts, data.name
    parts = load_data(
        data,
        image_size=image_size_for(model, data, pixels),
        pixel_maximum=PIXELS[pixels],
        seed=seed,
        split=False,
    )
    if not isinstance(data, (str, os.PathLike)):
        return parts, parts.source
    name = os.fspath(data)
    return parts, Path(name).name or name


def with_validation(data: UserData, training: TrainingRecipe, seed: int) -> UserData:
    """The data with the validation part that a recipe asks for, split off if need be.

    A part of the data's own stays. A RecipeError says that there is none, and a
    DataError that none can be split off.
    """
    share = training.validation_split
    if data.validation is not None:
        return data
    if not share:
        if training.keep_best:
            raise RecipeError(
                "`keep_best` chooses by validation data, and there is none. Set "
                "`validation_split` = 0.1 below [training], or give a validation part "
                "(x_validation and y_validation, or `validation`)."
            )
        return data
    part = training.validation_from
    source = getattr(data, part)
    if not isinstance(source, tuple):
        raise _no_arrays(share, part, source)
    kept, (x, y, *_) = split_off(source, share, seed, part)
    validation = (x, y)  # weights of samples are for the training
    note = _held_out(count_samples(validation), count_samples(kept), part, seed)
    changed: dict[str, Any] = {part: kept, "validation": validation}
    return dataclasses.replace(data, **changed, notes=(*data.notes, note))


def _no_arrays(share: float, part: str, source: Any) -> DataError:
    """Say that a part of the data cannot be split."""
    if source is None:
        return DataError(
            f'`validation_from` = "{part}", and there is no {part} part to hold '
            "examples out of. Give a validation part, or leave it out."
        )
    return DataError(
        f"`validation_split` = {share} cannot split a loader, and the {_OF[part]} part "
        f"is a {type(source).__name__}. Give a loader of other examples as "
        "`validation` beside `train` and `test`, or hold none out of it."
    )


def _held_out(count: int, left: int, part: str, seed: int) -> str:
    """Say what is held out, and of what."""
    rest = f"; the other {left:,} are the test data" if part == "test" else ""
    return (
        f"{count:,} of {count + left:,} {_OF[part]} examples, chosen by the seed "
        f"{seed}, are held out for validation{rest}"
    )


def check_scores(
    data: UserData, model: keras.Model, training: TrainingRecipe, loss: Any
) -> None:
    """Refuse labels that loss or metrics do not take; a few of each part are tried."""
    for name in PARTS:
        part = getattr(data, name)
        if part is None:
            continue
        x, y = few_examples(model, part, name)
        scorer = Scorer(
            evaluation_metrics(model, training),
            loss=loss,
            output_names=getattr(model, "output_names", None),
        )
        scorer.update(y, model.predict_on_batch(x))


def few_examples(model: keras.Model, part: Any, name: str) -> tuple[Any, Any]:
    """Two examples of a part of the data, or as many as the model's batch has."""
    fixed = [tensor.shape[0] for tensor in getattr(model, "inputs", None) or []]
    count = max([size for size in fixed if size is not None], default=2)
    pair = part if isinstance(part, tuple) else first_batch(model, part, name)
    few = keras.tree.map_structure(lambda array: array[:count], tuple(pair[:2]))
    return few  # type: ignore[no-any-return]


def image_size_for(
    model: keras.Model, data: Any, pixels: str = "0-255"
) -> tuple[int, ...] | None:
    """Give the size in which a folder of images is to be read for a model.

    A `CompressionWarning` says where the model divides by 255 itself, but pixels are
    read from 0 to 1.
    """
    if pixels == "0-1":
        _warn_of_rescaling(model, data)
    return image_size(getattr(model, "input_shape", None))


def _warn_of_rescaling(model: keras.Model, data: Any) -> None:
    if not isinstance(data, (str, os.PathLike)) or not Path(data).expanduser().is_dir():
        return
    for layer in all_layers(model):
        if isinstance(layer, keras.layers.Rescaling) and np.max(layer.scale) < 0.1:
            warnings.warn(
                f"Pixels of the images in {os.fspath(data)} are read as 0 to 1, but "
                f"the layer {layer.name!r} multiplies by {np.max(layer.scale):.4g}, "
                'which is for 0 to 255. Leave out pixels="0-1" (--pixels 0-1).',
                CompressionWarning,
                stacklevel=4,
            )


def image_size(input_shape: Any) -> tuple[int, ...] | None:
    """Give the input shape of an image model without the batch, else None."""
    if not isinstance(input_shape, tuple) or len(input_shape) not in (3, 4):
        return None
    size = input_shape[1:]
    return size if all(isinstance(length, int) for length in size) else None


def data_parts(data: UserData, spec: Any) -> list[Any]:
    """Give what stands for the data in a digest: arrays, or the name of a loader."""
    parts: list[Any] = []
    known = [data.train, data.test, data.validation]
    for part in [part for part in known if part is not None]:
        if isinstance(part, tuple):
            parts += [np.asarray(array) for array in keras.tree.flatten(part)]
        else:
            name = str(spec) if isinstance(spec, (str, os.PathLike)) else ""
            length = loader_length(part)
            parts.append([type(part).__name__, name, data.source, length])
    return parts


def summarize(data: UserData, name: str, notes: Iterable[str] = ()) -> DataSummary:
    """Count the data and say where it came from, without folders.

    The notes are on what was chosen by it; those of the data stand before them.
    """
    parts = (data.train, data.test)
    units = ["samples" if isinstance(part, tuple) else "batches" for part in parts]
    return DataSummary(
        name=name,
        source=without_folders(data.source),
        train=_length(data.train),
        test=_length(data.test),
        unit=units[0],
        test_unit=units[1] if units[1] != units[0] else "",
        notes=(*data.notes, *notes),
    )


def without_folders(text: str) -> str:
    """Keep the last part of every path in a text, so that no folder is published.

    Paths begin with a folder or a drive; those of layers, which do not, stay whole.

    Example:
        >>> without_folders("file '/home/me/a.npz', weight net/dense/kernel")
        "file 'a.npz', weight net/dense/kernel"
    """
    return _PATH.sub("", text)


def _length(part: Any) -> int:
    if isinstance(part, tuple):
        return count_samples(part)
    try:
        return len(part)
    except TypeError:
        return 0
