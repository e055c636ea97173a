"""`penjing shrink`: a `.tflite` file in fewer bytes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from penjing.cli.backend_choice import select_backend
from penjing.cli.console import print_json, quiet_libraries
from penjing.cli.early_checks import check_bias_bits, check_early
from penjing.cli.shared_options import JsonOption, LiteRTArgument, OverwriteOption
from penjing.errors import CompressionError
from penjing.files import check_target
from penjing.report.fitting_table import print_table
from penjing.report.tables import names, new_table, notes, numbers

OutOption = Annotated[
    Path | None,
    typer.Option(help="File to write. Default: beside FILE, as NAME.small.tflite."),
]
InPlaceOption = Annotated[
    bool,
    typer.Option("--in-place", help="Replace FILE, once the new file is proven."),
]
BiasBitsOption = Annotated[
    str | None,
    typer.Option(
        metavar="auto|0-23",
        help="Round float biases to so many mantissa bits; auto: the fewest with "
        "which outputs stay within --tolerance. Default: as they are.",
    ),
]
ToleranceOption = Annotated[
    float, typer.Option(help="Difference of outputs that rounding may make, relative.")
]
SparseOption = Annotated[
    bool,
    typer.Option("--sparse", help="Leave out zeros where that makes the file smaller."),
]
KeepNamesOption = Annotated[
    bool, typer.Option("--keep-names", help="Keep the names of tensors.")
]
KeepMetadataOption = Annotated[
    bool, typer.Option("--keep-metadata", help="Keep labels and the like.")
]
DropSignatureOption = Annotated[
    bool, typer.Option("--drop-signature", help="Drop the names of inputs and outputs.")
]
BatchOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Fix the batch where the file leaves it free: browsers and "
        "microcontrollers need 1. Default: as it is.",
    ),
]
NoVerifyOption = Annotated[
    bool,
    typer.Option(
        "--no-verify",
        help="Never run the file; take only steps that change no number.",
    ),
]


def shrink(
    file: LiteRTArgument,
    out: OutOption = None,
    in_place: InPlaceOption = False,
    overwrite: OverwriteOption = False,
    bias_bits: BiasBitsOption = None,
    tolerance: ToleranceOption = 1e-2,
    sparse: SparseOption = False,
    keep_names: KeepNamesOption = False,
    keep_metadata: KeepMetadataOption = False,
    drop_signature: DropSignatureOption = False,
    batch: BatchOption = None,
    no_verify: NoVerifyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a .tflite file, anyone's, in fewer bytes: the same outputs.

    Drops what no runtime reads, shares duplicates, and reorders hidden units so
    that compressors find runs. After every step the new file is run beside the
    original; a step that changes outputs is not taken. FILE stays as it is,
    unless --in-place is given.

    [bold]Examples[/bold]

        $ penjing shrink model.tflite
        $ penjing shrink model.tflite --in-place
        $ penjing shrink model.tflite --out small.tflite --bias-bits auto
        $ penjing shrink model.tflite --sparse --drop-signature --json
        $ penjing shrink model.tflite --batch 1 --out browser.tflite
    """
    if in_place and out is not None:
        raise typer.BadParameter("does not go with --out.", param_hint="--in-place")
    if batch is not None and no_verify:
        raise typer.BadParameter(
            "does not go with --batch: sizes are found by running the file.",
            param_hint="--no-verify",
        )
    bits = _bits(bias_bits)
    check_bias_bits(bits, tolerance)
    check_early(models=[file])
    target = file if in_place else _beside(file, out, overwrite)
    check_target(target)
    with quiet_libraries():
        select_backend(None)
        from penjing.shrinking.shrinking import shrink_litert

        report = shrink_litert(
            file,
            target,
            keep_names=keep_names,
            keep_metadata=keep_metadata,
            keep_signature=not drop_signature,
            bias_bits=bits,
            encoding="sparse" if sparse else None,
            tolerance=tolerance,
            batch=batch,
            verify=not no_verify,
        )
    if as_json:
        print_json(report)
        return
    console = Console()
    print_table(_table(report), console)
    console.print(f"Wrote {escape(report.path)}", highlight=False, soft_wrap=True)


def _beside(file: Path, out: Path | None, overwrite: bool) -> Path:
    """The file to write, which is not the one to read, nor anybody else's."""
    target = file.with_name(f"{file.stem}.small{file.suffix}") if out is None else out
    if target.exists() and file.exists() and target.samefile(file):
        raise CompressionError(
            f"{target} is the file to shrink. Give another --out, or --in-place to "
            "replace it."
        )
    if os.path.lexists(target) and not overwrite:
        raise CompressionError(
            f"There is a file {target} already. Give another --out, or --overwrite to "
            "write over it."
        )
    return target


def _bits(text: str | None) -> int | str | None:
    return int(text) if text is not None and text.isdecimal() else text


def _table(report: Any) -> Table:
    table = new_table(
        report.path,
        names("step"),
        *map(numbers, ("bytes", "gzip", "outputs differ by")),
        notes("note"),
    )
    table.add_row("before", f"{report.raw_before:,}", f"{report.gzip_before:,}", "", "")
    for step in report.steps:
        won = (f"{-step.raw:,}", f"{-step.gzip:,}")
        table.add_row(step.name, *won, _difference(step.difference), step.note)
    table.add_row("after", f"{report.raw_after:,}", f"{report.gzip_after:,}", "", "")
    return table


def _difference(value: float | None) -> str:
    if value is None:
        return ""
    return "0" if value == 0 else f"{value:.1e}"
