"""`--node-data`: numbers for the nodes of a graph, as Model Explorer shows them."""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Annotated, Any

import typer

from penjing.errors import CompressionError
from penjing.files import check_file, check_not_read, check_target


class NodeValue(enum.StrEnum):
    """What operators are told by."""

    bytes = "bytes"
    gzip = "gzip"
    zeros = "zeros"


NodeDataOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE",
        help="Write JSON for Model Explorer, which colors the operators of a .tflite "
        "file by it.",
    ),
]
NodeValueOption = Annotated[
    NodeValue,
    typer.Option(help="With --node-data: what of its constants colors an operator."),
]


def check_nodes(
    node_data: Path | None, nodes_of: Path | None, *read: Path, overwrite: bool = False
) -> None:
    """Refuse one of two options without the other, before anything is measured.

    Nor is a file written over that is `read`, or that is there without `overwrite`.
    """
    if (node_data is None) != (nodes_of is None):
        missing = "--nodes-of" if nodes_of is None else "--node-data"
        raise typer.BadParameter(
            "is missing: --node-data FILE and --nodes-of FILE.tflite go together.",
            param_hint=missing,
        )
    if nodes_of is not None and node_data is not None:
        check_file(nodes_of)
        check_target(node_data)
        check_not_read(node_data, [nodes_of, *read])
        if os.path.lexists(node_data) and not overwrite:
            raise CompressionError(
                f"There is a file {node_data} already. Give another --node-data, or "
                "--overwrite to write over it."
            )


def write_inspection_nodes(inspection: Any, value: str, file: Path) -> None:
    """Write what the constants of each operator take."""
    from penjing.report.explorer.node_data import nodes_of_inspection, write_node_data

    write_node_data(nodes_of_inspection(inspection, value), file)


def write_sensitivity_nodes(
    table: Any, nodes_of: Path | None, file: Path | None, *, overwrite: bool
) -> None:
    """Write what the cut of the layer of each operator costs, where that is wanted."""
    if nodes_of is None or file is None:
        return
    from penjing.report.explorer.node_data import nodes_of_sensitivity, write_node_data

    write_node_data(nodes_of_sensitivity(table, nodes_of), file, overwrite=overwrite)
