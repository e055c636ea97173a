"""A file with the sizes of examples in place of those that it leaves free."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from penjing.files import temporary_folder
from penjing.runtime.interpreter import LiteRTModel
from penjing.specializing.specializing import specialize
from penjing.tflite.loading import load_records, read_litert
from penjing.tflite.records import Record
from penjing.tflite.writing import write_records


@contextlib.contextmanager
def at_sizes_of(path: Path, inputs: Any | Callable[[], Any]) -> Iterator[Path]:
    """Give a file of the sizes that examples have: itself, or a copy for one of them.

    Where a file leaves sizes besides the batch free, it runs nowhere but in LiteRT, and
    what it takes depends on them. `inputs` are as `LiteRTModel.predict` takes them, or
    a function that gives them, which is called where sizes are free; None, or a file of
    another kind, leaves the file as it is. The copy is gone after the block. A
    DataError says that the inputs do not fit, a FileFormatError that the file cannot
    have their sizes alone.
    """
    if inputs is None or path.suffix.lower() != ".tflite":
        yield path
        return
    model = load_records(read_litert(path), str(path))
    graph = model["subgraphs"][0]
    tensors = [graph["tensors"][number] for number in graph["inputs"]]
    if not any(-1 in _free_sizes(tensor)[1:] for tensor in tensors):
        yield path
        return
    inputs = inputs() if callable(inputs) else inputs
    arrays = LiteRTModel(path).match(inputs)
    for tensor, array in zip(tensors, arrays, strict=True):
        sizes = array.shape[1:]
        is_free = _free_sizes(tensor)[0] == -1
        stored = [int(tensor["shape"][0]), *sizes]
        tensor["shape"] = np.array(stored, "<i4")
        tensor["shape_signature"] = np.array([-1, *sizes] if is_free else [], "<i4")
    with temporary_folder("penjing-sized") as folder:
        copy = folder / path.name
        copy.write_bytes(specialize(write_records(model), where=str(path)))
        yield copy


def _free_sizes(tensor: Record) -> list[int]:
    """The shape of a tensor, -1 for each size that is free."""
    signature = list(map(int, tensor["shape_signature"]))
    return signature or list(map(int, tensor["shape"])) or [1]
