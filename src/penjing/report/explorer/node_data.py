"""What was measured, for each operator of a `.tflite` file."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from penjing.arguments import check_choice
from penjing.errors import CompressionError, DataError
from penjing.files import write_text
from penjing.measurement.inspection import InspectedTensor, Inspection
from penjing.measurement.sensitivity_table import SensitivityTable
from penjing.tflite.layer_names import layer_in
from penjing.tflite.loading import load_records, read_litert
from penjing.tflite.tensors import tensor_name

NodeData = dict[str, Any]
LayerPath = tuple[str, ...]

VALUES: dict[str, Callable[[InspectedTensor], float]] = {
    "bytes": lambda row: row.bytes,
    "gzip": lambda row: row.gzip,
    "zeros": lambda row: row.zeros or 0,
}
"""What of its constants an operator can be told by."""

_GRADIENT = [
    {"stop": 0, "bgColor": "#ffffff", "textColor": "#000000"},
    {"stop": 1, "bgColor": "#c23b22", "textColor": "#ffffff"},
]


def nodes_of_inspection(inspection: Inspection, value: str = "bytes") -> NodeData:
    """Sum up what the constants of each operator take.

    Args:
        inspection: Of a `.tflite` file, which is read again for its operators.
        value: `"bytes"`, `"gzip"` or `"zeros"`.

    Returns:
        What Model Explorer reads, for operators with constants.

    Raises:
        DataError: If it is of another file, or of one whose operators have no names.
        ValueError: If `value` is none of these.
    """
    check_choice("value", value, tuple(VALUES))
    if inspection.format != "tflite":
        raise DataError(
            "Model Explorer draws .tflite files, and node data is for their operators; "
            f"{inspection.path} is none. Export the model first."
        )
    rows = {row.name: row for row in inspection.tensors}
    results = {}
    for inputs, outputs in _operators(Path(inspection.path)):
        read = [rows[name] for name in inputs if name in rows]
        if read and outputs:
            if not outputs[0] or outputs[0] in results:
                raise DataError(
                    f"Operators of {inspection.path} have no names of their own, by "
                    "which Model Explorer knows them. Give the file of the same model, "
                    'exported without finish="smallest", which drops names.'
                )
            results[outputs[0]] = sum(map(VALUES[value], read))
    return _node_data(results)


def nodes_of_sensitivity(
    table: SensitivityTable, file: str | os.PathLike[str], ratio: float | None = None
) -> NodeData:
    """Tell for each operator what the cut of its layer costs.

    Args:
        table: What `penjing.sensitivity` found of the model.
        file: The `.tflite` file of the same model, with the names of its tensors.
        ratio: How much was cut; None: the largest ratio of the table.

    Returns:
        What Model Explorer reads: by how much the first metric is worse.

    Raises:
        DataError: If the table has no such ratio, or no operator is named after one of
            its layers.
    """
    wanted = max(table.ratios, default=0.0) if ratio is None else ratio
    losses: dict[LayerPath, float] = {}
    for row in table.rows:
        if row.ratio == wanted:
            path = _layer_of(row.name, table.method)  # which may have several weights
            losses[path] = max(table.loss_of(row), losses.get(path, -math.inf))
    if not losses:
        raise DataError(
            f"The table has no rows of the ratio {wanted}. It has "
            f"{', '.join(map(str, table.ratios)) or 'none'}."
        )
    results = {}
    for _, outputs in _operators(Path(file)):
        for part in reversed(outputs[0].split(";") if outputs else []):
            layer = _layer_in(part.split("/"), losses)
            if layer is not None:
                results[outputs[0]] = losses[layer]
                break
    if not results:
        raise DataError(
            f"No operator of {file} is named after a layer of the table, as "
            f"{'/'.join(next(iter(losses)))!r}. Give the file of the same model, "
            'exported without finish="smallest", which drops names.'
        )
    return _node_data(results)


def write_node_data(
    data: NodeData, path: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write node data as JSON; a file that is there is a CompressionError."""
    if os.path.lexists(path) and not overwrite:
        raise CompressionError(
            f"There is a file {path} already. Give another one for the node data."
        )
    return write_text(path, json.dumps(data, indent=2) + "\n")


def _layer_of(name: str, method: str) -> LayerPath:
    """The path of a row's layer: of a weight all but the last part."""
    parts = tuple(name.split("/"))
    return parts[:-1] if method == "weights" and len(parts) > 1 else parts


def _layer_in(parts: Sequence[str], layers: Collection[LayerPath]) -> LayerPath | None:
    """The layer that a path is of; None for none, or for several that it may be of."""
    name = layer_in(parts, {layer[-1] for layer in layers})
    found = [layer for layer in layers if layer[-1] == name]
    if len(found) > 1:
        found = [o for o in found if all(layer_in(parts, [part]) for part in o)]
        deepest = max(map(len, found), default=0)
        found = [layer for layer in found if len(layer) == deepest]
    return found[0] if len(found) == 1 else None


def _operators(path: Path) -> Iterator[tuple[list[str], list[str]]]:
    """Names of inputs and outputs of each operator in the main graph."""
    graph = load_records(read_litert(path), str(path))["subgraphs"][0]
    tensors = graph["tensors"]
    for operator in graph["operators"]:
        given = [tensor_name(tensors[n]) for n in operator["inputs"] if n >= 0]
        made = [bytes(tensors[n]["name"]) for n in operator["outputs"] if n >= 0]
        yield given, [name.decode("utf-8", "replace") for name in made]


def _node_data(results: Mapping[str, float]) -> NodeData:
    return {
        "results": {name: {"value": value} for name, value in results.items()},
        "gradient": _GRADIENT,
    }
