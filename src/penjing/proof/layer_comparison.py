"""Which tensors of a file have lost what the model computes, and in which layer."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from penjing.arguments import check_counts, quoted
from penjing.errors import DataError
from penjing.export.integers.compared_tensors import ComparedTensor, compared_tensors
from penjing.export.integers.fewest_floats import noisiest_layers
from penjing.export.litert import checked_imports
from penjing.export.samples import representative_samples, spread_evenly
from penjing.export.trained_grids import has_trained_grids
from penjing.export.twins.float_twin import float_twin
from penjing.files import as_path
from penjing.json_values import JsonValue
from penjing.models.layer_calls import check_is_model
from penjing.models.signature import input_signature
from penjing.packing.packing import restore
from penjing.runtime.file_bounds import is_for_tflm
from penjing.text_table import text_table
from penjing.tflite.loading import load_records, read_litert
from penjing.tflite.tensors import TensorType

BAD = 15.0
"""Decibels below which a tensor is called bad: an error of 0.18 of its spread."""
_NAMED = 3
_INTEGERS = (TensorType.INT8, TensorType.INT16, TensorType.UINT8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerComparison(JsonValue):
    """What `compare_layers` found; printed, it names the first bad tensor.

    Attributes:
        file: The file.
        model: Name of the Keras model.
        samples: How many inputs both ran on.
        bad_below: Decibels below which a tensor counts as bad.
        tensors: One row for each tensor, in the order in which the file computes them.
        unmatched: Names of tensors that the float model does not compute so, as the
            converter made other operations of them, or that hold no numbers.
    """

    json_properties = ("first_bad", "worst")

    file: str
    model: str
    samples: int
    bad_below: float = BAD
    tensors: tuple[ComparedTensor, ...]
    unmatched: tuple[str, ...] = ()

    @property
    def first_bad(self) -> ComparedTensor | None:
        """The first computed tensor that is bad; None where none is."""
        bad = (row for row in self._computed if row.decibels < self.bad_below)
        return next(bad, None)

    @property
    def worst(self) -> tuple[ComparedTensor, ...]:
        """The tensors in which most noise came in, one of each layer, three at most."""
        return tuple(noisiest_layers(self.tensors)[:_NAMED])

    @property
    def _computed(self) -> list[ComparedTensor]:
        return [row for row in self.tensors if not row.is_weight]

    def __str__(self) -> str:
        rows = [("layer", "operator", "type", "dB", "cosine", "range used")]
        rows += [
            (
                row.layer,
                row.operator,
                row.dtype,
                f"{row.decibels:.1f}",
                f"{row.cosine:.4f}",
                "" if row.used is None else f"{row.used:.1%}",
            )
            for row in self._computed
        ]
        table = text_table(rows, "<", "<", "<", ">6", ">7", ">10")
        return "\n".join((table, *self.summary))

    @property
    def summary(self) -> tuple[str, ...]:
        """In sentences: the first bad tensor with its range drawn, and the worst."""
        bad = self.first_bad
        if bad is None:
            least = min((row.decibels for row in self._computed), default=BAD)
            lines = [
                f"No tensor is below {self.bad_below:g} dB; the lowest has "
                f"{least:.1f} dB."
            ]
            return (*lines, *self._left_out)
        lines = [f"The first bad tensor is of {bad}."]
        if bad.drawing:
            lines.append(f"  {bad.drawing}  (= holds 90 % of the values)")
        lines.append("Most noise comes in at:")
        lines += [f"  {row}" for row in self.worst]
        return (*lines, *self._left_out)

    @property
    def _left_out(self) -> list[str]:
        if not self.unmatched:
            return []
        return [
            f"Not compared, as the float model has no such tensor: "
            f"{quoted(self.unmatched, limit=4)}."
        ]


def compare_layers(
    model: keras.Model,
    file: str | os.PathLike[str],
    inputs: Any,
    *,
    samples: int = 32,
    bad_below: float = BAD,
    imports: Sequence[str] = (),
) -> LayerComparison:
    """Compare every tensor of a `.tflite` file with the same one of the float model.

    A float32 file of the model is made by the same road, both run on the same inputs,
    in a process of their own, and tensors are matched by the names that the converter
    gave them; where they were stripped, by the order of the operators. Outputs that
    are off say little of the cause: this names the layer where it begins. What runs
    within loops, as the steps of a recurrent layer, is seen at the loop's ends.

    Args:
        model: The Keras model that the file was made of, on any backend. One in
            training counts as `penjing.strip` gives it.
        file: A quantized, pruned, shrunk or packed `.tflite` file of it.
        inputs: Real inputs, as `representative_data` of `penjing.export_litert`.
        samples: How many of them are compared, spread evenly.
        bad_below: Signal-to-noise in decibels below which a tensor counts as bad.
        imports: Modules that register classes of the model, as in `export_litert`.

    Returns:
        A row for each tensor, with its signal-to-noise, cosine and range.

    Raises:
        DataError: If the inputs do not fit, or the file is not of this model.
        FileFormatError: If the file is damaged or does not run.
        ExportError: If the model cannot be converted to float32.
        ValueError: If an argument is out of range.

    Example:
        >>> report = compare_layers(model, "int8.tflite", x)  # doctest: +SKIP
        >>> report.first_bad.layer  # doctest: +SKIP
        'block_3/norm'
    """
    check_is_model(model)
    check_counts(samples=samples)
    path, where = as_path(file), str(file)
    content = read_litert(path)
    if is_for_tflm(content, where):
        content = restore(content, where)
    plain = model.model if has_trained_grids(model) else model
    signature = input_signature(plain)
    arrays = spread_evenly(representative_samples(inputs, signature), samples)
    twin = float_twin(
        model,
        signature,
        arrays,
        checked_imports(imports),
        for_integers=_computes_with_integers(content, path),
    )
    rows, unmatched = compared_tensors(
        content, twin.content, arrays, twin.scopes, where
    )
    if not any(row.operator != "input" for row in rows):
        raise DataError(
            f"Nothing in {file} computes what `{model.name}` does: it is of another "
            "network. Give the file that was made of this model."
        )
    return LayerComparison(
        file=where,
        model=model.name,
        samples=len(arrays[0]),
        bad_below=bad_below,
        tensors=tuple(rows),
        unmatched=tuple(unmatched),
    )


def _computes_with_integers(content: bytes, path: Path) -> bool:
    """Whether tensors between operators are integers with a scale."""
    model = load_records(content, str(path))
    graph = model["subgraphs"][0]
    made = {int(n) for operator in graph["operators"] for n in operator["outputs"]}
    return any(
        graph["tensors"][n]["type"] in _INTEGERS and graph["tensors"][n]["quantization"]
        for n in made
        if n >= 0
    )
