"""A user's own data: arrays, an `.npz` file, a Python function, a folder of images."""

from __future__ import annotations

import dataclasses
import importlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from penjing.arguments import did_you_mean
from penjing.data.array_files import read_npz
from penjing.data.data_checks import (
    UNNAMED,
    as_named,
    check_class_count,
    check_inputs,
    check_labels,
    check_lengths,
    check_training_loader,
    first_batch,
    output_shapes,
    to_array,
)
from penjing.data.data_spec import (
    FILES,
    FORMS,
    check_pixels,
    kind_of_data,
    look_in_current_folder,
    where_modules_are,
)
from penjing.data.data_splits import split_off
from penjing.data.image_folders import (
    how_read,
    lies_flat,
    read_image_folder,
    read_unlabeled_images,
)
from penjing.data.unlabeled_data import UnlabeledDataError, refuse_unlabeled
from penjing.errors import DataError

PARTS = ("train", "validation", "test")
VALIDATION_FRACTION = 0.1
_KEY = re.compile(r"([xy])_(train|validation|test)(?:_(.+))?")
_VALUES = (
    "Allowed: ((x_train, y_train), (x_test, y_test)); a tuple of those four; a mapping "
    "or object with these names; {'train': ..., 'test': ...} with loaders or (x, y)"
)


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class UserData:
    """Data to train and measure a model with.

    A part is `(x, y)`, both an array or a mapping from the name of an input or
    output to its array, for training `(x, y, sample_weight)` too; or a loader that can
    be iterated again and again and gives such batches (`tf.data.Dataset`, PyTorch
    `DataLoader`, `keras.utils.PyDataset`).

    Attributes:
        train: The training part.
        test: The test part.
        validation: The validation part. Where none is given, `load_data` splits 10 %
            of the training arrays off, of each class alike where there are classes;
            None where `train` is a loader: a loader cannot be split.
        source: Where the data comes from, for people to read.
        class_names: Names of the classes in the order of their labels, or None.
        notes: How it was read and split, for people to read.
        pixel_maximum: The value of a white pixel, where images were read.
    """

    train: Any
    test: Any
    validation: Any = None
    source: str
    class_names: tuple[str, ...] | None = None
    notes: tuple[str, ...] = ()
    pixel_maximum: float | None = None

    def check_classes(self, outputs: Sequence[Sequence[int | None]]) -> None:
        """Refuse other classes than a model with outputs of these shapes has."""
        check_class_count(
            self.class_names,
            outputs,
            self.source,
            are_folders=self.pixel_maximum is not None,
        )

    def validate_against(
        self, model: keras.Model, *, labels_match_outputs: bool = True
    ) -> None:
        """Find out before any training whether a model can use this data.

        Arrays are looked at whole, loaders in their first batch. A model whose
        inputs and outputs are not known in advance (subclassed) is run on two
        examples.

        Args:
            model: The model.
            labels_match_outputs: False for a loss of one's own that compares
                outputs with labels of another form.

        Raises:
            DataError: If names, shapes, types or the range of labels do not fit;
                the message says which part and what the model takes.

        Example:
            >>> load_data("data.npz").validate_against(model)  # doctest: +SKIP
        """
        if labels_match_outputs:
            self.check_classes(output_shapes(model))
        for name in PARTS:
            part = getattr(self, name)
            if part is None:
                continue
            where = name if isinstance(part, tuple) else f"{name}, in its first batch"
            if name == "train" and not isinstance(part, tuple):
                check_training_loader(part, name)
            is_arrays = isinstance(part, tuple)
            x, y = part[:2] if is_arrays else first_batch(model, part, name)
            check_inputs(model, x, where)
            if labels_match_outputs:
                check_labels(model, x, y, where)


def load_data(
    spec: Any,
    *,
    image_size: Sequence[int] | None = None,
    pixel_maximum: float = 255.0,
    seed: int = 0,
    split: bool = True,
) -> UserData:
    """Load a user's data.

    | spec | what is there |
    |---|---|
    | `data.npz` | `x_train`, `y_train`, `x_test`, `y_test`, perhaps `x_validation`, \
`y_validation` and `class_names`; several inputs as `x_train_<input name>` |
    | a folder | images in class folders, see `read_image_folder` |
    | arrays | `((x_train, y_train), (x_test, y_test))`, those four in one tuple, a \
mapping or object with the names above, or `{"train": ..., "test": ...}` with loaders \
or `(x, y)` |
    | `module:function` | imported with the current folder on the path; gives arrays |

    Args:
        spec: One of the above.
        image_size: For images, the input shape of the model without the batch.
        pixel_maximum: For images, the value of a white pixel: 255 as in Keras' own
            loader, or 1.
        seed: Chooses the examples of a part that has to be split off.
        split: Split a validation part off the training arrays where there is none.

    Returns:
        The data, checked on its own; see `UserData.validate_against`.

    Raises:
        DataError: If it is not there or not usable; the message says why.
        MissingDependencyError: If images are given and Pillow is not installed.

    Example:
        >>> load_data("my_module:load").train  # doctest: +SKIP
    """
    seed_of_split = seed if split else None
    check_pixels(spec, pixel_maximum)
    if not isinstance(spec, (str, os.PathLike)):
        raw = _as_mapping(spec, f"The data is a {type(spec).__name__}.", FILES)
        return _assemble(raw, "data in memory", seed_of_split)
    text = os.fspath(spec)
    path = Path(text).expanduser()
    kind = kind_of_data(text)
    if kind == "file":
        return _assemble(read_npz(path), f"file {path}", seed_of_split)
    if kind == "function":
        return _assemble(_call(text), f"function {text}", seed_of_split)
    if lies_flat(path):
        raise UnlabeledDataError(
            f"The folder {path}",
            "images that are in no folders of classes",
            lambda: read_unlabeled_images(path, image_size, pixel_maximum),
        )
    parts, names = read_image_folder(path, image_size, pixel_maximum, seed)
    notes = how_read(path, pixel_maximum, seed)
    raw = {**parts, "class_names": names}
    data = _assemble(raw, f"images in {path}", seed_of_split, notes)
    return dataclasses.replace(data, pixel_maximum=pixel_maximum)


def _call(text: str) -> dict[str, Any]:
    """Import and call a user's function; the current folder stays on the path."""
    module_name, function_name = text.split(":")
    look_in_current_folder()
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise DataError(
            f"Cannot import {module_name!r} for the data {text!r}: "
            f"{type(error).__name__}: {error}. {where_modules_are()}"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        hint = did_you_mean(function_name, dir(module))
        raise DataError(
            f"{module_name!r} ({module.__file__}) has no function "
            f"{function_name!r}.{hint}"
        )
    try:
        result = function()
    except Exception as error:
        raise DataError(
            f"The data function {text!r} failed with {type(error).__name__}: {error}."
        ) from error
    given = f"The data function {text!r} gave a {type(result).__name__}."
    return _as_mapping(result, given)


def _as_mapping(result: Any, given: str, files: str = "") -> dict[str, Any]:
    if isinstance(result, Mapping):
        return dict(result)
    if isinstance(result, (tuple, list)):
        pairs = [pair for pair in result if isinstance(pair, (tuple, list))]
        if [len(pair) for pair in pairs] == [2, 2] == [len(result)] * 2:
            result = [*pairs[0], *pairs[1]]  # Keras' ((x, y), (x, y))
        if len(result) == 4:
            order = ("x_train", "y_train", "x_test", "y_test")
            return dict(zip(order, result, strict=True))
    names = [f"{axis}_{part}" for part in PARTS for axis in "xy"]
    found = {
        name: getattr(result, name)
        for name in (*names, *PARTS, "class_names")
        if getattr(result, name, None) is not None
    }
    if found:
        return found
    pair = isinstance(result, (tuple, list)) and len(result) == 2
    lacks = " A single (x, y) lacks the test part." if pair else ""
    others = f"; the name of {files}" if files else "."
    raise DataError(f"{given}{lacks} {_VALUES}{others}")


def _grouped(raw: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Gather `x_train`, `x_train_<name>`, ... into `{"train": (x, y), ...}`."""
    groups: dict[str, Any] = {}
    fields: dict[str, dict[str, Any]] = {}
    for key, value in raw.items():
        match = _KEY.fullmatch(str(key))
        if key in PARTS:
            groups[key] = value
        elif match is None:
            raise DataError(_unknown_key(str(key), source))
        else:
            axis, part, name = match.groups()
            fields.setdefault(f"{axis}_{part}", {})[name or UNNAMED] = value
    for field, named in fields.items():
        if UNNAMED in named and len(named) > 1:
            others = ", ".join(f"{field}_{name}" for name in named if name)
            raise DataError(
                f"{source} has both {field} and {others}. Name all of them or none."
            )
    present = {field[2:] for field in fields}
    for part in PARTS:
        if part not in present and (part in groups or part == "validation"):
            continue
        if part in groups:
            raise DataError(f"{source} has {part!r} twice. Give it once.")
        for field in (f"x_{part}", f"y_{part}"):
            if field not in fields:
                got = ", ".join(map(str, raw)) or "nothing"
                raise DataError(f"{source} lacks {field}; it has {got}. {FORMS}")
        groups[part] = (_single(fields[f"x_{part}"]), _single(fields[f"y_{part}"]))
    return groups


def _single(named: dict[str, Any]) -> Any:
    return named.get(UNNAMED, named)


def _unknown_key(key: str, source: str) -> str:
    allowed = [f"{axis}_{part}" for part in PARTS for axis in "xy"]
    allowed += [*PARTS, "class_names"]
    hint = did_you_mean(key, allowed, cutoff=0.5)
    return (
        f"{source} has the unknown name {key!r}.{hint} Allowed: {', '.join(allowed)}."
    )


def _assemble(
    raw: dict[str, Any], source: str, seed: int | None, notes: tuple[str, ...] = ()
) -> UserData:
    refuse_unlabeled(raw, source)
    names = raw.pop("class_names", None)
    parts = {
        name: _checked_part(part, name, source)
        for name, part in _grouped(raw, source).items()
        if part is not None
    }
    train, validation = parts["train"], parts.get("validation")
    if validation is None and isinstance(train, tuple) and seed is not None:
        train, (x, y, *_) = split_off(train, VALIDATION_FRACTION, seed)
        validation = (x, y)
        percent = 100 * VALIDATION_FRACTION
        notes += (
            f"{percent:.0f} % of the training part, chosen by the seed {seed}, are the "
            "validation part",
        )
    return UserData(
        train=train,
        validation=validation,
        test=parts["test"],
        source=source,
        class_names=None if names is None else tuple(str(name) for name in names),
        notes=notes,
    )


def _checked_part(part: Any, name: str, source: str) -> Any:
    if isinstance(part, (tuple, list)) and len(part) in (2, 3):
        arrays: dict[str, Any] = {}
        for axis, value in zip("xy", part[:2], strict=True):
            for key, array in as_named(value).items():
                label = f"{axis}_{name}" + (f"_{key}" if key else "")
                arrays[label] = to_array(array, label)
        check_lengths(arrays)
        pair = tuple(_by_name(arrays, f"{axis}_{name}") for axis in "xy")
        count = len(next(iter(arrays.values())))
        return (*pair, *(_weights(value, name, count) for value in part[2:]))
    repeatable = isinstance(part, keras.utils.PyDataset) or (
        isinstance(part, Iterable) and not isinstance(part, (Iterator, str, Mapping))
    )
    if repeatable and not isinstance(part, (tuple, list, np.ndarray)):
        return part
    reason = " A generator runs only once." if isinstance(part, Iterator) else ""
    raise DataError(
        f"{name!r} of {source} is a {type(part).__name__}.{reason} Allowed: (x, y), "
        "a tf.data.Dataset, a PyTorch DataLoader or a keras.utils.PyDataset; "
        "(x, y, sample_weight) to train on."
    )


def _weights(value: Any, name: str, count: int) -> Any:
    """Weights of the samples of a part, which is for training."""
    if name != "train":
        raise DataError(
            f"{name!r} has weights of samples, and metrics are measured without: give "
            "(x, y). To train on, (x, y, sample_weight) is taken."
        )
    weights = to_array(value, "the weights of the samples of 'train'")
    if weights.shape != (count,):
        raise DataError(
            f"The weights of the samples of 'train' have shape {weights.shape}, and "
            f"there are {count} samples: give one weight for each, of shape ({count},)."
        )
    return weights


def _by_name(arrays: Mapping[str, Any], prefix: str) -> Any:
    if prefix in arrays:
        return arrays[prefix]
    return {
        label.removeprefix(f"{prefix}_"): array
        for label, array in arrays.items()
        if label.startswith(f"{prefix}_")
    }
