"""Reading `.keras` and `.h5` files that may be corrupt or hostile."""

from __future__ import annotations

import contextlib
import io
import os
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from penjing.data.hdf5_probe import check_comes_to_an_end
from penjing.errors import CompressionWarning, FileFormatError, UnsupportedModelError
from penjing.files import DAMAGE, check_content, check_file
from penjing.models.declared_models import check_config, check_variables
from penjing.models.keras_private import legacy_model

MAX_MEMBERS = 10_000
MAX_OBJECTS = 100_000
MAX_DEPTH = 64

_CONFIG_MEMBER = "config.json"
_OWN_MEMBERS = 3
_LONGEST_NAME = 200
_H5_CONFIGS = ("model_config", "training_config")
_WEIGHTS_MEMBER = "model.weights.h5"
_H5_SUFFIXES = (".h5", ".hdf5")
_SHORT_NAMES = ("mse", "mae", "mape", "msle", "kld", "MSE", "MAE", "MAPE", "MSLE")
# Keras 2 wrote `groups` for layers that never had more than one; Keras 3 refuses it.
_WITHOUT_GROUPS = (
    "DepthwiseConv1D",
    "DepthwiseConv2D",
    "SeparableConv1D",
    "SeparableConv2D",
)
_OPTIMIZERS = ("SGD", "Adam", "Adamax", "Nadam", "RMSprop", "Adagrad", "Adadelta")
_UNKNOWN_NAME = re.compile(r"(Could not locate \w+ '[^']*'|Unknown \w+: '[^']*')")


def load_keras_model(
    path: str | os.PathLike[str], *, compile: bool = True
) -> keras.Model:
    """Load a whole model from a `.keras` or `.h5` file, in Keras' safe mode.

    Nothing in the file is run: Keras refuses Python lambdas, and the sizes that the
    file declares are bounded before Keras sees it.

    Args:
        path: A `.keras`, `.h5` or `.hdf5` file of at most 8 GiB.
        compile: Compile the model as it was when it was saved. Where that cannot be
            done the model comes uncompiled, with a `CompressionWarning`.

    Returns:
        The model.

    Raises:
        FileFormatError: If the file is missing, of another type, too large, corrupt,
            without a model, or holds a lambda.
        UnsupportedModelError: If the model uses classes or functions that are not
            registered with Keras.

    Example:
        >>> load_keras_model("model.keras").summary()  # doctest: +SKIP
    """
    path = check_file(path)
    suffix = path.suffix.lower()
    if suffix != ".keras" and suffix not in _H5_SUFFIXES:
        raise FileFormatError(
            f"{path} is not a Keras model by its name. Allowed: .keras, .h5, .hdf5."
        )
    with open_weights(path) as file:
        stored = sum(dataset.nbytes for _, dataset in datasets(file, path))
        if suffix != ".keras" and not _has_model(file, path):
            raise FileFormatError(
                f"{path} holds weights only, no model. Build the model in Python, call "
                "its `load_weights` with this file, and pass the model itself."
            )
        _check_model(file, path, stored)
    try:
        return _load(path, compile)
    except Exception as error:
        first = error
    try:
        model = _load(path, False)
    except Exception as error:
        raise _load_error(path, error) from error
    warnings.warn(
        f"{path} is loaded without its loss and metrics, which Keras cannot restore: "
        f"{_reason(first)}.",
        CompressionWarning,
        stacklevel=2,
    )
    return model


def _check_model(file: Any, path: Path, stored: int) -> None:
    """Refuse a model that asks for more than its file explains."""
    if path.suffix.lower() == ".keras":
        with _corrupt_as_one_error(path), zipfile.ZipFile(path) as archive:
            _check_members(archive)
            config = check_config(archive.read(_CONFIG_MEMBER), path)
        make = keras.saving.deserialize_keras_object
        if isinstance(config, dict):  # Keras compiles where values are
            config.pop("compile_config", None)
        check_variables(lambda: make(config), stored, path)
        return
    with _corrupt_as_one_error(path):
        texts = {name: file.attrs.get(name) for name in _H5_CONFIGS}
        for text in texts.values():
            if isinstance(text, (str, bytes)):
                check_config(text, path)
    model = texts["model_config"]
    text = model.decode() if isinstance(model, bytes) else model
    check_variables(lambda: legacy_model(text, _h5_objects()), stored, path)


def _check_members(archive: zipfile.ZipFile) -> None:
    """Refuse names and contents at which Keras would stop halfway.

    It unpacks all of them where there are more than its own three, and leaves them
    behind where one fails.
    """
    names = archive.namelist()
    for name in names:
        parts = name.split("/")
        if ".." in parts or not parts[0] or max(map(len, parts)) > _LONGEST_NAME:
            raise ValueError(f"it holds a file of the name {name[:80]!r}")
    broken = archive.testzip() if len(names) > _OWN_MEMBERS else None
    if broken is not None:
        raise ValueError(f"its file {broken[:80]!r} is damaged")


def _load(path: Path, compile: bool) -> keras.Model:
    with warnings.catch_warnings():
        # An optimizer that never trained has fewer variables in the file.
        warnings.filterwarnings("ignore", message="Skipping variable loading for opt")
        warnings.filterwarnings("ignore", message="Argument `decay` is no longer")
        return keras.saving.load_model(
            path,
            compile=compile,
            safe_mode=True,
            custom_objects=None if path.suffix.lower() == ".keras" else _h5_objects(),
        )


def _h5_objects() -> dict[str, Any]:
    """What Keras does not find, or does not read, in `.h5` files by itself."""
    losses = {name: keras.losses.get(name) for name in _SHORT_NAMES}
    layers = {
        name: _reader(getattr(keras.layers, name), _without_groups)
        for name in _WITHOUT_GROUPS
    }
    optimizers = {
        name.lower(): _reader(getattr(keras.optimizers, name), _with_learning_rate)
        for name in _OPTIMIZERS
    }
    return {**losses, **layers, **optimizers}


def _reader(cls: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> type:
    """A stand-in that gives Keras' own object, whichever version wrote its config."""

    def from_config(config: dict[str, Any]) -> Any:
        return cls.from_config(change(config))

    return type(cls.__name__, (), {"from_config": staticmethod(from_config)})


def _without_groups(config: dict[str, Any]) -> dict[str, Any]:
    if config.get("groups") == 1:
        return {key: config[key] for key in config if key != "groups"}
    return config


def _with_learning_rate(config: dict[str, Any]) -> dict[str, Any]:
    """Keras 2 wrote `lr` at first, and `schedule_decay`, which nothing reads now."""
    names = {"lr": "learning_rate"}
    left = (key for key in config if key != "schedule_decay")
    return {names.get(key, key): config[key] for key in left}


@contextlib.contextmanager
def open_weights(path: Path) -> Iterator[Any]:
    """Open the HDF5 file in a `.keras` file, or a `.h5` file itself, for `datasets`.

    The path is one that `check_file` let pass; what cannot be opened is a
    FileFormatError.
    """
    import h5py

    with _corrupt_as_one_error(path):
        source: Any = path
        if path.suffix.lower() == ".keras":
            content = _read_weights_member(path)
            check_comes_to_an_end(content, path)
            source = io.BytesIO(content)
        else:
            check_comes_to_an_end(path, path)
        file = h5py.File(source, "r")
    with file:
        yield file


def datasets(file: Any, path: Path) -> Iterator[tuple[str, Any]]:
    """Walk the arrays of an open `h5py.File` without following it out of the file.

    Gives the path inside the file and the `h5py.Dataset`, in the file's order. A file
    that links or points to others, is nested too deeply, or declares more data than the
    file at `path` can hold is a FileFormatError.
    """
    import h5py

    declared = objects = 0
    waiting: list[tuple[str, Any, int]] = [("", file, 0)]
    while waiting:
        name, entry, depth = waiting.pop()
        objects += 1
        if objects > MAX_OBJECTS or depth > MAX_DEPTH:
            raise FileFormatError(
                f"{path} holds more than {MAX_OBJECTS:,} entries or nests deeper than "
                f"{MAX_DEPTH} levels: not a model that Keras wrote."
            )
        if isinstance(entry, h5py.Dataset):
            with _corrupt_as_one_error(path):
                declared += _declared_bytes(entry, name, path)
            check_content(declared, path)
            yield name, entry
        elif isinstance(entry, h5py.Group):
            with _corrupt_as_one_error(path):
                children = _children(entry, name, path)
            waiting.extend((child, value, depth + 1) for child, value in children)


def read_values(dataset: Any, path: Path) -> np.ndarray[Any, Any]:
    """Read the whole array that `datasets` gave; a FileFormatError if it is corrupt."""
    with _corrupt_as_one_error(path):
        return np.asarray(dataset[()])


@contextlib.contextmanager
def _corrupt_as_one_error(path: Path) -> Iterator[None]:
    """Turn what zipfile and h5py raise on corrupt bytes into one error."""
    try:
        yield
    except FileFormatError:
        raise
    except DAMAGE as error:
        raise _corrupt(path, error) from error


def _children(group: Any, name: str, path: Path) -> list[tuple[str, Any]]:
    """Entries of a group, the last one first."""
    import h5py

    found = []
    for key in sorted(group, key=_in_counting_order, reverse=True):
        child = f"{name}/{key}" if name else str(key)
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise FileFormatError(
                f"{path} has a link at {child!r}. Models that Keras wrote have none; "
                "links could read other files."
            )
        found.append((child, group[key]))
    return found


def _in_counting_order(key: str) -> tuple[int, str]:
    """Sort variables "2" before "10"."""
    return (int(key) if key.isdecimal() and len(key) < 10 else -1, key)


def _has_model(file: Any, path: Path) -> bool:
    with _corrupt_as_one_error(path):
        return "model_config" in file.attrs


def _declared_bytes(dataset: Any, name: str, path: Path) -> int:
    if dataset.is_virtual or dataset.external:
        raise FileFormatError(
            f"{path} keeps the data of {name!r} in another file, which is not allowed."
        )
    size = int(dataset.dtype.itemsize)
    for length in dataset.shape or ():
        size *= int(length)
    return size


def _read_weights_member(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > MAX_MEMBERS:
            raise FileFormatError(
                f"{path} holds {len(members):,} files, more than {MAX_MEMBERS:,}: not "
                "a model that Keras wrote."
            )
        # zipfile reads no more of a member than the size it declares.
        declared = sum(member.file_size for member in members)
        check_content(declared, path)
        if _WEIGHTS_MEMBER not in archive.namelist():
            raise FileFormatError(
                f"{path} has no {_WEIGHTS_MEMBER} inside: it is no Keras 3 model. "
                "Write it with model.save."
            )
        return archive.read(_WEIGHTS_MEMBER)


def _corrupt(path: Path, error: BaseException) -> FileFormatError:
    return FileFormatError(
        f"Cannot read {path}: {_reason(error)}. The file is corrupt or not of the "
        "type that its name says. Copy or save it again."
    )


def _load_error(path: Path, error: Exception) -> Exception:
    text = str(error)
    if "safe_mode" in text or "unsafe_deserialization" in text:
        return FileFormatError(
            f"{path} holds Python code (a Lambda layer or a lambda), which penjing "
            "does not run. Replace it by a class registered with "
            "keras.saving.register_keras_serializable and save the model again; or, "
            "if you trust the file, load it yourself with keras.saving.load_model("
            f"{path.name!r}, safe_mode=False) and pass the model instead of the path."
        )
    if _UNKNOWN_NAME.search(text):
        return UnsupportedModelError(
            f"{path} uses a class or function that Keras does not know here: "
            f"{_reason(error)}. Import the module that registers it with "
            "keras.saving.register_keras_serializable first (the command does with "
            "--import MODULE), or load the model "
            "yourself with `custom_objects` and pass the model instead of the path."
        )
    return _corrupt(path, error)


def _reason(error: BaseException) -> str:
    unknown = _UNKNOWN_NAME.search(str(error))
    if unknown:
        return unknown.group()
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].strip()[:300].rstrip(".")
