"""`penjing pack`: a `.tflite` file that takes less flash on microcontrollers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from penjing.cli.backend_choice import select_backend
from penjing.cli.console import print_json, progress_bar
from penjing.cli.early_checks import check_early
from penjing.cli.shared_options import (
    JsonOption,
    LiteRTArgument,
    OverwriteOption,
    spoken_options,
)
from penjing.report.fitting_table import print_sentence, print_table
from penjing.report.tables import names, new_table, notes, numbers

OutOption = Annotated[
    Path | None,
    typer.Option(help="File to write. Default: beside FILE, as NAME.packed.tflite."),
]
MaxArenaOption = Annotated[
    int | None,
    typer.Option(
        metavar="BYTES",
        min=1,
        help="RAM that the arena may take. Layers whose decoded weight does not fit "
        "stay plain. Default: as much as it takes.",
    ),
]


def pack(
    file: LiteRTArgument,
    out: OutOption = None,
    max_arena: MaxArenaOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a .tflite file for microcontrollers that takes less flash.

    TensorFlow Lite Micro decodes each weight right before it is read: zeros and
    few levels then pay in flash, and the largest decoded weight takes RAM. Both
    are told. FILE stays as it is; LiteRT does not run the packed file. Outputs in
    TensorFlow Lite Micro are those of FILE bit for bit, or nothing is written.

    [bold]Examples[/bold]

        $ penjing pack model.tflite
        $ penjing pack model.tflite --max-arena 65536
        $ penjing pack model.tflite --out packed.tflite --overwrite --json
    """
    check_early(models=[file])
    with progress_bar() as progress, spoken_options():
        select_backend(None)
        from penjing.export.packed_files import pack_litert

        report = pack_litert(
            file, out, max_arena=max_arena, overwrite=overwrite, progress=progress
        )
    if as_json:
        print_json(report)
        return
    console = Console()
    print_table(_table(report), console)
    for line in (report.totals, report.proof):
        print_sentence(escape(line), console)
    console.print(f"Wrote {escape(report.path)}", highlight=False, soft_wrap=True)


def _table(report: Any) -> Table:
    from penjing.packing.pack_report import form_text

    table = new_table(
        report.path,
        names("weight"),
        names("form"),
        *map(numbers, ("flash", "packed", "RAM")),
        notes("note"),
    )
    for row in report.weights:
        table.add_row(
            escape(row.name),
            form_text(row),
            *(f"{size:,}" for size in (row.flash_before, row.flash_after, row.ram)),
            row.note,
        )
    return table
