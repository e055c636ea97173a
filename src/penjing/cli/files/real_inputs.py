"""Real inputs to try a file on: arrays of one's own, or those of data."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from penjing.cli import completions
from penjing.data.data_spec import PIXELS, check_data, check_pixels
from penjing.errors import DataError
from penjing.files import check_file

InputsOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE|DATA",
        help="Real inputs in place of random ones: an .npy file, an .npz file with an "
        "array for each input by its name, or the test part of data as for penjing "
        "compress.",
        autocompletion=completions.arrays,
    ),
]
ARRAY_FILES = (".npy",)
"""Files that hold inputs and nothing else."""
_KEY = re.compile(r"x(?:_(test|validation|train))?(?:_(.+))?")
_BESIDE = re.compile(r"y(_.+)?|class_names")


def check_inputs(text: str | None) -> None:
    """Refuse inputs that are not there, before anything is loaded."""
    if text is not None and Path(text).suffix.lower() not in (*ARRAY_FILES, ".npz"):
        check_data(text)
    elif text is not None:
        check_file(Path(text).expanduser())


def read_inputs(text: str | None, file: Path, pixels: str = "0-255") -> Any:
    """Read inputs for a `.tflite` file: an array, or a dict of them by name.

    None for None. Of data the test part counts, of a loader its first batch. `pixels`
    are what those of a folder of images go from and to.
    """
    if text is None:
        return None
    from penjing.data.array_files import read_npy, read_npz

    path = Path(text).expanduser()
    check_pixels(text, PIXELS[pixels])
    if path.suffix.lower() in ARRAY_FILES:
        return read_npy(path)
    if path.suffix.lower() == ".npz":
        return _inputs_of(read_npz(path), path, file)
    from penjing.data.data_sources import load_data
    from penjing.data.unlabeled_data import UnlabeledDataError, inputs_to_measure

    try:
        test = load_data(
            text,
            image_size=_image_size(file, path),
            pixel_maximum=PIXELS[pixels],
            split=False,
        ).test
    except UnlabeledDataError as error:
        return inputs_to_measure(error.read())
    if isinstance(test, tuple):
        return test[0]
    return next(iter(test))[0]


def _inputs_of(arrays: dict[str, Any], path: Path, file: Path) -> Any:
    """Of arrays in an .npz file those that are inputs: of data the test part's."""
    parts: dict[str, dict[str, Any]] = {}
    for key, array in arrays.items():
        if found := _KEY.fullmatch(key):
            parts.setdefault(found[1] or "", {})[found[2] or ""] = array
    others = [k for k in arrays if not _KEY.fullmatch(k) and not _BESIDE.fullmatch(k)]
    if "" in parts and (others or arrays.keys() == _input_names(file)):
        del parts[""]  # inputs may be called x_a, or x and y, themselves
    for part in ("test", "validation", "", "train"):
        if part in parts:
            arrays = parts[part]
            break
    if not arrays:
        raise DataError(f"{path} holds no arrays. Write it with numpy.savez.")
    return next(iter(arrays.values())) if len(arrays) == 1 else arrays


def _input_names(file: Path) -> set[str]:
    """What a file calls its inputs."""
    from penjing.packing.runnable_file import runnable_file
    from penjing.runtime.interpreter import LiteRTModel

    with runnable_file(file) as path:
        return {spec.name for spec in LiteRTModel(path).inputs}


def _image_size(file: Path, data: Path) -> tuple[int, ...] | None:
    """The size in which a folder of images is to be read for a file."""
    if not data.is_dir():
        return None
    from penjing.tflite.loading import load_records, read_litert

    graph = load_records(read_litert(file), str(file))["subgraphs"][0]
    tensor = graph["tensors"][int(graph["inputs"][0])]
    signature = tensor["shape_signature"]  # -1 is any size, where `shape` has 1
    shape = signature if len(signature) else tensor["shape"]
    sizes = tuple(int(size) for size in shape[1:])
    return sizes if all(size > 0 for size in sizes) else None
