"""`penjing export-c`: a `.tflite` file as C++ for a microcontroller."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from penjing.cli.console import print_json, quiet_libraries
from penjing.cli.early_checks import check_early
from penjing.cli.shared_options import (
    JsonOption,
    LiteRTArgument,
    OverwriteOption,
    spoken_options,
)
from penjing.report.fitting_table import print_sentence


def export_c(
    file: LiteRTArgument,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", help="Where to; made if it is missing.")
    ],
    name: Annotated[
        str | None,
        typer.Option(
            help="A C identifier: the namespace, and the start of the names of files. "
            "Default: made from the name of FILE."
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a .tflite file as C++ sources for TensorFlow Lite Micro.

    An aligned array, a resolver of exactly the operators that the file uses, the
    size of its arena, scales and zero points, a sample with the output that it
    must give on the device, and a program of a few lines that runs it. Where the
    extra micro is installed, the file is proven first, as by penjing verify
    --runtime micro, and the arena is measured.

    [bold]Examples[/bold]

        $ penjing export-c small.tflite firmware
        $ penjing export-c small.packed.tflite firmware --name wake_word
    """
    check_early(models=[file], out=folder)
    with quiet_libraries(), spoken_options():
        from penjing.firmware.c_export import export_c as run

        done = run(file, folder, name, overwrite=overwrite)
    if as_json:
        print_json(done)
        return
    console = Console()
    for path in done.files:
        console.print(f"Wrote {escape(path)}", highlight=False, soft_wrap=True)
    console.print(f"Flash: {done.flash:,} bytes.", highlight=False)
    if done.arena is None:
        print_sentence(
            f"[yellow]RAM: not known[/yellow], as TensorFlow Lite Micro is not "
            f"installed (the extra micro). Set kArenaSize in {done.name}.h.",
            console,
        )
    else:
        print_sentence(
            f"RAM: kArenaSize = {done.arena_size:,}; {done.arena}, and a tenth more.",
            console,
        )
    print_sentence(f"Operators: {', '.join(done.operators)}.", console)
