"""Folders of images, one folder for each class, as arrays."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from penjing.data.datasets import stratified_split
from penjing.data.image_files import SUFFIXES, read_image
from penjing.errors import CompressionWarning, DataError
from penjing.files import limit, raise_limits

_Part = tuple[npt.NDArray[Any], npt.NDArray[Any]]
_PARTS = ("train", "validation", "test")
_PART_NAMES = (*_PARTS, "training", "testing", "val", "valid")
_MAX_BYTES = 16 * 2**30
_TEST_FRACTION = 0.2


def read_image_folder(
    folder: Path,
    image_size: Sequence[int] | None,
    pixel_maximum: float = 255.0,
    seed: int = 0,
) -> tuple[dict[str, _Part], tuple[str, ...]]:
    """Read the images under a folder into memory.

    The folder holds `train` and `test` (and perhaps `validation`), each with one folder
    for each class; or the class folders themselves, of which 20 % of every class become
    the test part. Classes are numbered in the order of their names. Images are read as
    Keras' `image_dataset_from_directory` does, those in folders below a class too.

    Args:
        folder: The folder.
        image_size: `(height, width)` for grey images of that shape, or `(height,
            width, channels)` with 1 or 3 channels. Images are resized to it.
        pixel_maximum: Value of a white pixel: 255.0 as in Keras' own loader, or 1.0
            for a model that was trained on pixels from 0 to 1.
        seed: Chooses the test images where there is no `test` folder.

    Returns:
        Part name -> float32 images of shape `(n, *image_size)` and int32 labels of
        shape `(n,)`, and the names of the classes.

    Example:
        >>> read_image_folder(Path("flowers"), (96, 96, 3))  # doctest: +SKIP
    """
    size = _checked_size(folder, image_size)
    parts = {part: folder / part for part in _PARTS}
    present = {part: path for part, path in parts.items() if path.is_dir()}
    if "train" not in present and "test" not in present:
        names = _class_names(folder)
        _refuse_parts_as_classes(folder, names)
        x, y = _read_part(folder, names, size, pixel_maximum)
        return _split(x, y, seed, folder), names
    for part in ("train", "test"):
        if part not in present:
            raise DataError(
                f"{folder} has {', '.join(present)} but no folder {part!r}. Add it, or "
                "put the class folders directly into the folder for an 80/20 split."
            )
    _warn_of_other_folders(folder)
    names = _class_names(present["train"])
    for path in present.values():
        unknown = sorted(set(_class_names(path)) - set(names))
        if unknown:
            raise DataError(
                f"{path} has the class {unknown[0]!r}, which {present['train']} lacks. "
                f"Classes there: {', '.join(names)}."
            )
    return {
        part: _read_part(path, names, size, pixel_maximum)
        for part, path in present.items()
    }, names


def lies_flat(folder: Path) -> bool:
    """Whether images lie beside each other, in no folders of classes."""
    parts = [folder / part for part in _PARTS if (folder / part).is_dir()]
    found = [path for place in (parts or [folder]) for path in place.iterdir()]
    classes = [path for path in found if path.is_dir() and path.name[0] != "."]
    return not classes and any(path.suffix.lower() in SUFFIXES for path in found)


def read_unlabeled_images(
    folder: Path, image_size: Sequence[int] | None, pixel_maximum: float = 255.0
) -> dict[str, npt.NDArray[Any]]:
    """Read images that have no classes, as `read_image_folder` does.

    They lie in the folder itself, and are `x` then, or in its folders `train`, `test`
    and `validation`, of which each gives `x_<part>`.
    """
    size = _checked_size(folder, image_size)
    parts = {f"x_{p}": folder / p for p in _PARTS if (folder / p).is_dir()}
    return {
        name: _read_files(path, _image_files(path), size, pixel_maximum)
        for name, path in (parts or {"x": folder}).items()
    }


def how_read(folder: Path, pixel_maximum: float, seed: int) -> tuple[str, ...]:
    """Say what `read_image_folder` makes of a folder, for people to read."""
    pixels = f"pixels are read from 0 to {pixel_maximum:g}"
    if any((folder / part).is_dir() for part in ("train", "test")):
        return (pixels,)
    share = f"{100 * _TEST_FRACTION:.0f} %"
    return (
        pixels,
        f"{share} of each class folder, chosen by the seed {seed}, are the test part",
    )


def _refuse_parts_as_classes(folder: Path, names: Sequence[str]) -> None:
    if all(name.casefold() in _PART_NAMES for name in names):
        raise DataError(
            f"{folder} has the folders {', '.join(names)}, which are called as parts "
            "of the data are, and would be its classes. Rename them to train, test "
            "and, where there is one, validation, in small letters."
        )


def _warn_of_other_folders(folder: Path) -> None:
    others = sorted(set(_class_names(folder)) - set(_PARTS))
    if others:
        warnings.warn(
            f"{folder} has {', '.join(others)} beside train and test, which is not "
            "read: only the folders train, validation and test are.",
            CompressionWarning,
            stacklevel=2,
        )


def _checked_size(folder: Path, image_size: Sequence[int] | None) -> tuple[int, ...]:
    size = tuple(image_size) if image_size is not None else ()
    good = len(size) in (2, 3) and all(
        isinstance(value, (int, np.integer)) and value > 0 for value in size
    )
    if not good or (len(size) == 3 and size[2] not in (1, 3)):
        raise DataError(
            f"The images in {folder} need `image_size` (height, width) or (height, "
            f"width, channels) with 1 or 3 channels, got {image_size!r}. It is the "
            "input shape of the model; images cannot feed a model of another shape."
        )
    return tuple(int(value) for value in size)


def _class_names(folder: Path) -> tuple[str, ...]:
    names = sorted(
        path.name
        for path in folder.iterdir()
        if path.is_dir() and not path.name.startswith(".")
    )
    if not names:
        raise DataError(
            f"{folder} has no class folders. Expected {folder}/<class name>/<image>, "
            f"or {folder}/train/<class name>/<image> and the same under test."
        )
    return tuple(names)


def _read_part(
    folder: Path, names: Sequence[str], size: tuple[int, ...], pixel_maximum: float
) -> _Part:
    files: list[tuple[Path, int]] = []
    for label, name in enumerate(names):
        files += [(path, label) for path in _image_files(folder / name)]
    if not files:
        raise DataError(f"{folder} has no images. Allowed: {sorted(SUFFIXES)}.")
    x = _read_files(folder, [path for path, _ in files], size, pixel_maximum)
    return x, np.array([label for _, label in files], np.int32)


def _read_files(
    folder: Path, files: Sequence[Path], size: tuple[int, ...], pixel_maximum: float
) -> npt.NDArray[Any]:
    most = limit(_MAX_BYTES)
    if 4 * len(files) * np.prod(size, dtype=float) > most:
        raise DataError(
            f"{folder} holds {len(files):,} images, which at {size} do not fit into "
            f"{most / 2**30:.3g} GiB. Give --data module:function with a loader. "
            f"{raise_limits()}"
        )
    x = np.empty((len(files), *size), np.float32)
    for position, path in enumerate(files):
        x[position] = read_image(path, size)
    if pixel_maximum != 255.0:
        x *= np.float32(pixel_maximum / 255)
    return x


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []  # A test part need not have every class.
    files = [
        Path(root, name)
        for root, _, found in sorted(os.walk(folder))
        for name in sorted(found)
        if not name.startswith(".")
    ]
    images = [path for path in files if path.suffix.lower() in SUFFIXES]
    if not images:
        raise DataError(
            f"The class folder {folder} has no images. Remove it or fill it; allowed: "
            f"{', '.join(sorted(SUFFIXES))}."
        )
    if len(images) < len(files):
        other = next(f for f in files if f.suffix.lower() not in SUFFIXES)
        warnings.warn(
            f"{len(files) - len(images)} files in {folder} are passed over, since they "
            f"are not images, for instance {other.name}.",
            CompressionWarning,
            stacklevel=2,
        )
    return images


def _split(
    x: npt.NDArray[Any], y: npt.NDArray[Any], seed: int, folder: Path
) -> dict[str, _Part]:
    try:
        train, test = stratified_split(y, _TEST_FRACTION, seed)
    except ValueError as error:
        raise DataError(
            f"{folder} has too few images to split 80/20 ({error}). Add images, or "
            "make `train` and `test` folders."
        ) from error
    return {"train": (x[train], y[train]), "test": (x[test], y[test])}
