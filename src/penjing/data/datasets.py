"""Named real data sets: one bundled with penjing, one found on disk or downloaded."""

from __future__ import annotations

import dataclasses
import gzip
import importlib.resources
import io
import lzma
import math
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import numpy.typing as npt

from penjing.arguments import unknown_name
from penjing.errors import DataError

_Arrays = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]

SMALL = "fashion-mnist-small"
FULL = "fashion-mnist"
BUNDLE = "fashion_mnist_small.npz.xz"
_CLASSES = (
    *("T-shirt", "trouser", "pullover", "dress", "coat"),
    *("sandal", "shirt", "sneaker", "bag", "ankle boot"),
)
_DEBIAN_FOLDER = Path("/usr/share/datasets/fashion-mnist")
# Official file -> shape of its array, in the order of `_Arrays`.
_FULL_FILES: dict[str, tuple[int, ...]] = {
    "train-images-idx3-ubyte.gz": (60_000, 28, 28),
    "train-labels-idx1-ubyte.gz": (60_000,),
    "t10k-images-idx3-ubyte.gz": (10_000, 28, 28),
    "t10k-labels-idx1-ubyte.gz": (10_000,),
}
_SMALL_SHAPES: dict[str, tuple[int, ...]] = {
    "x_train": (10_000, 28, 28),
    "y_train": (10_000,),
    "x_test": (2_000, 28, 28),
    "y_test": (2_000,),
}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """A data set in memory, split into training, test and perhaps validation.

    Attributes:
        name: The name that `load_dataset` was called with.
        source: Where the data was found, for people to read.
        x_train: Images, float32 in [0, 1], of shape `(n, height, width)`.
        y_train: Labels from 0 to `num_classes - 1`, int32 of shape `(n,)`.
        x_test: Test images, as `x_train`.
        y_test: Test labels, as `y_train`.
        num_classes: Number of classes.
        x_validation: Validation images, or None; see `with_validation`.
        y_validation: Validation labels, or None.
        class_names: Names of the classes in the order of their labels, or None.
    """

    name: str
    source: str
    x_train: npt.NDArray[Any]
    y_train: npt.NDArray[Any]
    x_test: npt.NDArray[Any]
    y_test: npt.NDArray[Any]
    num_classes: int
    x_validation: npt.NDArray[Any] | None = None
    y_validation: npt.NDArray[Any] | None = None
    class_names: tuple[str, ...] | None = None

    def with_validation(self, fraction: float = 0.1, seed: int = 0) -> Dataset:
        """Move a part of the training data to validation, equally of each class.

        Args:
            fraction: Part of the training data to move, between 0 and 1.
            seed: The same seed moves the same images.

        Returns:
            A new data set; this one stays as it is. The order is kept.

        Raises:
            ValueError: If a validation split is there already, or `fraction`
                leaves one of the two parts empty.

        Example:
            >>> split = load_dataset().with_validation(0.2, seed=1)
            >>> len(split.y_train), len(split.y_validation)
            (8000, 2000)
        """
        if self.x_validation is not None:
            raise ValueError(
                f"Data set {self.name!r} already has a validation split of "
                f"{len(self.x_validation)}. Call `with_validation` once, on the "
                "data set that `load_dataset` returned."
            )
        kept, moved = stratified_split(self.y_train, fraction, seed)
        return dataclasses.replace(
            self,
            x_train=self.x_train[kept],
            y_train=self.y_train[kept],
            x_validation=self.x_train[moved],
            y_validation=self.y_train[moved],
        )


def load_dataset(
    name: str = SMALL, data_dir: str | os.PathLike[str] | None = None
) -> Dataset:
    """Load a data set by name.

    `"fashion-mnist-small"` is bundled with penjing: 10,000 training and 2,000 test
    images, as many of each class. `"fashion-mnist"` is the whole, 60,000 and
    10,000. It is looked for in `data_dir`, in Keras' cache and in the folder of
    Debian's package `dataset-fashion-mnist`; where none has it, Keras downloads it.

    Args:
        name: `"fashion-mnist-small"` or `"fashion-mnist"`.
        data_dir: Folder with the four official `.gz` files. A folder that lacks
            them is passed over, and `source` says so.

    Returns:
        The data set. Its `source` says where it was found.

    Raises:
        DataError: If the name is unknown, a file is corrupt, or the data is
            nowhere; the message lists where it was looked for.

    Example:
        >>> load_dataset("fashion-mnist-small").x_train.shape
        (10000, 28, 28)

    Reference:
        Xiao, Rasul and Vollgraf, 2017, https://arxiv.org/abs/1708.07747
    """
    if name == FULL:
        arrays, source = _find_full(data_dir)
    elif name != SMALL:
        raise DataError(unknown_name("data set", name, (SMALL, FULL)))
    elif data_dir is not None:
        raise DataError(
            f"`data_dir` ({os.fspath(data_dir)}) has no use with {SMALL!r}, which is "
            f"bundled. Leave it out, or ask for {FULL!r}."
        )
    else:
        arrays, source = _read_bundle(), "bundled with penjing"
    x_train, y_train, x_test, y_test = arrays
    return Dataset(
        name=name,
        source=source,
        x_train=_as_images(x_train),
        y_train=y_train.astype(np.int32),
        x_test=_as_images(x_test),
        y_test=y_test.astype(np.int32),
        num_classes=len(_CLASSES),
        class_names=_CLASSES,
    )


def stratified_split(
    labels: npt.NDArray[Any], fraction: float, seed: int
) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Split positions in two, each class in the same proportion.

    Args:
        labels: Integer labels of shape `(n,)`.
        fraction: Part of every class that goes to the second result.
        seed: The same seed gives the same split.

    Returns:
        Two sorted arrays of positions: the rest, and the chosen part.

    Raises:
        ValueError: If `fraction` is not between 0 and 1, or leaves a part empty.

    Example:
        >>> kept, moved = stratified_split(np.array([0, 0, 1, 1]), 0.5, seed=0)
        >>> len(kept), len(moved)
        (2, 2)
    """
    if not 0 < fraction < 1:
        raise ValueError(f"`fraction` must be between 0 and 1, got {fraction!r}.")
    order = np.random.RandomState(seed).permutation(len(labels))
    chosen = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        members = order[labels[order] == label]
        chosen[members[: round(fraction * len(members))]] = True
    if chosen.all() or not chosen.any():
        raise ValueError(
            f"A split of {len(labels)} examples with `fraction`={fraction} leaves one "
            "part empty. Use more examples or a fraction nearer to 0.5."
        )
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def read_idx(
    path: str | os.PathLike[str], shape: tuple[int, ...]
) -> npt.NDArray[np.uint8]:
    """Read a gzipped IDX file of bytes, the format of the MNIST family.

    Args:
        path: The `.gz` file.
        shape: The shape that the file must have. Not a byte more is unpacked.

    Returns:
        uint8 array of that shape.

    Raises:
        DataError: If the file is unreadable, corrupt or of another shape.

    Example:
        >>> read_idx("t10k-labels-idx1-ubyte.gz", (10_000,))  # doctest: +SKIP
        array([9, 2, 1, ..., 8, 1, 5], dtype=uint8)
    """
    header = np.array([0x0800 + len(shape), *shape], dtype=">u4").tobytes()
    size = math.prod(shape)
    try:
        with gzip.open(path) as file:
            found = file.read(len(header))
            if found != header:
                raise _corrupt(path, _header_difference(found, header))
            content = file.read(size)
            surplus = file.read(1)
    except (OSError, EOFError, zlib.error) as error:
        raise _corrupt(path, f"it does not unpack ({error})") from error
    if len(content) != size:
        raise _corrupt(path, f"it ends after {len(content):,} of {size:,} values")
    if surplus:
        raise _corrupt(path, f"it goes on after the {size:,} values of its header")
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_folder(folder: str | os.PathLike[str]) -> _Arrays:
    """Read the four official Fashion-MNIST files as they are, in uint8.

    Args:
        folder: Folder that holds the four `.gz` files.

    Returns:
        Training images and labels, test images and labels.

    Raises:
        DataError: If a file is missing or corrupt, or is not Fashion-MNIST.

    Example:
        >>> arrays = read_folder("fashion-mnist")  # doctest: +SKIP
    """
    x_train, y_train, x_test, y_test = (
        read_idx(Path(folder, name), shape) for name, shape in _FULL_FILES.items()
    )
    for labels in (y_train, y_test):
        counts = np.bincount(labels, minlength=len(_CLASSES))
        if len(counts) != len(_CLASSES) or counts.min() != counts.max():
            raise DataError(
                f"The files in {os.fspath(folder)} are not Fashion-MNIST: their labels "
                f"are not {len(_CLASSES)} classes of equal size, got counts "
                f"{counts.tolist()}. MNIST has the same file names: name another "
                "folder."
            )
    return x_train, y_train, x_test, y_test


def _find_full(data_dir: str | os.PathLike[str] | None) -> tuple[_Arrays, str]:
    """Look for the full data set, in the order that `load_dataset` promises."""
    places = {"Keras' cache": _keras_cache(), "Debian's package": _DEBIAN_FOLDER}
    if data_dir is not None:
        places = {"data_dir": Path(data_dir).expanduser(), **places}
    tried: list[str] = []
    for place, folder in places.items():
        missing = [name for name in _FULL_FILES if not (folder / name).is_file()]
        if not missing:
            return read_folder(folder), _source(f"{place}: {folder}", data_dir, tried)
        state = "misses " + ", ".join(missing) if folder.is_dir() else "does not exist"
        tried.append(f"{place}: {folder} {state}")
    try:
        arrays = _download()
    except Exception as error:  # Keras raises bare Exceptions here.
        tried.append(f"download by Keras: {error}")
        lines = "\n".join(f"  - {line}" for line in tried)
        raise DataError(
            f"Fashion-MNIST was not found:\n{lines}\nConnect to the network, or put "
            f"{', '.join(_FULL_FILES)} into a folder and name it with `data_dir` "
            f"(--data-dir), or use the bundled {SMALL!r}."
        ) from error
    return arrays, _source("downloaded by Keras", data_dir, tried)


def _source(
    text: str, data_dir: str | os.PathLike[str] | None, tried: list[str]
) -> str:
    return f"{text} ({tried[0]})" if data_dir is not None and tried else text


def _download() -> _Arrays:
    (x_train, y_train), (x_test, y_test) = keras.datasets.fashion_mnist.load_data()
    arrays: _Arrays = (x_train, y_train, x_test, y_test)
    for array, shape in zip(arrays, _FULL_FILES.values(), strict=True):
        if array.shape != shape:
            raise DataError(f"expected an array of shape {shape}, got {array.shape}")
    return arrays


def _keras_cache() -> Path:
    home = os.environ.get("KERAS_HOME") or "~/.keras"
    return Path(home, "datasets", "fashion-mnist").expanduser()


def _read_bundle() -> _Arrays:
    resource = importlib.resources.files("penjing.data").joinpath(BUNDLE)
    try:
        packed = io.BytesIO(lzma.decompress(resource.read_bytes()))
        with np.load(packed, allow_pickle=False) as bundle:
            arrays: Mapping[str, Any] = {key: bundle[key] for key in _SMALL_SHAPES}
        for key, shape in _SMALL_SHAPES.items():
            if arrays[key].shape != shape or arrays[key].dtype != np.uint8:
                raise ValueError(f"{key} is {arrays[key].dtype}{arrays[key].shape}")
    except (
        OSError,
        EOFError,
        KeyError,
        ValueError,
        lzma.LZMAError,
        zipfile.BadZipFile,
    ) as error:
        raise DataError(
            f"The bundled file {BUNDLE} is missing or corrupt ({error}). "
            "Install penjing again, from where you installed it."
        ) from error
    return arrays["x_train"], arrays["y_train"], arrays["x_test"], arrays["y_test"]


def _as_images(pixels: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return pixels.astype(np.float32) / np.float32(255)


def _header_difference(found: bytes, header: bytes) -> str:
    if len(found) < len(header):
        return f"its header has {len(found)} of {len(header)} bytes"
    magic, *shape = (int(v) for v in np.frombuffer(found, ">u4"))
    wanted, *expected = (int(v) for v in np.frombuffer(header, ">u4"))
    if magic != wanted:
        return f"its magic number is {magic:#06x} instead of {wanted:#06x}"
    return f"its header says {tuple(shape)} instead of {tuple(expected)}"


def _corrupt(path: str | os.PathLike[str], reason: str) -> DataError:
    return DataError(
        f"Cannot read {os.fspath(path)} as gzipped IDX data: {reason}. "
        "Delete the file and get it again."
    )
