"""`penjing shrink`: a `.tflite` file in fewer bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from penjing.cli.backend_choice import select_backend
from penjing.cli.console import print_json, quiet_libraries
from penjing.cli.early_checks import check_bias_bits, check_early
from penjing.cli.shared_options import JsonOption, LiteRTArgument
from penjing.files import check_target
from penjing.report.tables import names, new_table, notes, numbers

OutOption = Annotated[
    Path | None, typer.Option(help="File to write. Default: FILE is replaced.")
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
    bias_bits: BiasBitsOption = None,
    tolerance: ToleranceOption = 1e-2,
    sparse: SparseOption = False,
    keep_names: KeepNamesOption = False,
    keep_metadata: KeepMetadataOption = False,
    drop_signature: DropSignatureOption = False,
    no_verify: NoVerifyOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a .tflite file, anyone's, in fewer bytes: the same outputs.

    Drops what no runtime reads, shares duplicates, and reorders hidden units so
    that compressors find runs. After every step the new file is run beside the
    original; a step that changes outputs is not taken.

    [bold]Examples[/bold]

        $ penjing shrink model.tflite
        $ penjing shrink model.tflite --out small.tflite --bias-bits auto
        $ penjing shrink model.tflite --sparse --drop-signature --json
    """
    bits = _bits(bias_bits)
    check_bias_bits(bits, tolerance)
    check_early(models=[file])
    check_target(file if out is None else out)
    with quiet_libraries():
        select_backend(None)
        from penjing.shrinking.shrinking import shrink_litert

        report = shrink_litert(
            file,
            out,
            keep_names=keep_names,
            keep_metadata=keep_metadata,
            keep_signature=not drop_signature,
            bias_bits=bits,
            encoding="sparse" if sparse else None,
            tolerance=tolerance,
            verify=not no_verify,
        )
    if as_json:
        print_json(report)
        return
    Console().print(_table(report))


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
