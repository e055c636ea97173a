"""`penjing inspect --against`: which layers of a file have lost values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from penjing.cli.backend_choice import Backend, import_modules, select_backend
from penjing.cli.console import print_json, quiet_libraries
from penjing.cli.early_checks import KERAS_FILES, check_early
from penjing.cli.files.real_inputs import check_inputs, read_inputs
from penjing.report.fitting_table import print_sentence, print_table
from penjing.report.tables import names, new_table, number_text, numbers


def show_layers(
    file: Path,
    against: Path,
    data: str | None,
    *,
    pixels: str,
    imports: list[str],
    backend: Backend | None,
    as_json: bool,
) -> None:
    """Print how far each tensor of a file is from that of its Keras model."""
    if file.suffix != ".tflite":
        raise typer.BadParameter(
            f"compares a .tflite file with the model that it was made of, got {file}.",
            param_hint="--against",
        )
    if data is None:
        raise typer.BadParameter(
            "is missing: real inputs, on which file and model are compared.",
            param_hint="--data",
        )
    check_early(models=[against], suffixes=KERAS_FILES, imports=imports)
    check_inputs(data)
    with quiet_libraries():
        select_backend(backend)
        import_modules(imports)
        from penjing.models.model_files import load_keras_model
        from penjing.proof.layer_comparison import compare_layers

        inputs = read_inputs(data, file, pixels)
        model = load_keras_model(against)
        found = compare_layers(model, file, inputs, imports=imports)
    if as_json:
        print_json(found)
        return
    console = Console()
    print_table(_table(found, file.name), console)
    for line in found.summary:
        print_sentence(escape(line), console)


def _table(found: Any, name: str) -> Table:
    """The table of a `LayerComparison`, without its weights."""
    table = new_table(
        f"{name} beside {found.model} in float32, {found.samples} samples",
        names("layer"),
        *(Column(title, no_wrap=True) for title in ("operator", "type")),
        *map(numbers, ("dB", "cosine", "range used")),
    )
    for row in found.tensors:
        if row.is_weight:
            continue
        is_bad = row.decibels < found.bad_below
        table.add_row(
            escape(row.layer),
            row.operator,
            row.dtype,
            f"{row.decibels:.1f}",
            f"{row.cosine:.4f}",
            number_text(row.used, ".1%"),
            style="yellow" if is_bad else None,
        )
    return table
