"""`penjing card`: the model card of a finished run."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from penjing.cli.backend_choice import select_backend
from penjing.cli.console import quiet_libraries
from penjing.cli.shared_options import RunArgument
from penjing.errors import CompressionError

CARD = "README.md"


def card(
    run: RunArgument,
    file: Annotated[
        Path | None,
        typer.Option("--out", help=f"File to write. Default: {CARD} in OUT."),
    ] = None,
    license: Annotated[
        str | None,
        typer.Option(metavar="ID", help="The licence of the model, such as mit."),
    ] = None,
    force: Annotated[
        bool,
        typer.Option("--force", help="Write over a card that is there already."),
    ] = False,
) -> None:
    """Describe a compressed model in Markdown, as the README.md of model hubs.

    What was compressed and how, the files with bytes and scores beside those of
    the float model, where they ran, data, seed, limits, and how to run the
    result; all of it is from report.json. The head is YAML as in the cards of
    Hugging Face.

    [bold]Examples[/bold]

        $ penjing card out
        $ penjing card out --license apache-2.0 --out card.md --force
    """
    with quiet_libraries():
        select_backend(None)
        from penjing.files import check_not_read, write_text
        from penjing.report.card.model_card import model_card
        from penjing.report.comparison.finished_files import REPORT

        text = model_card(run, license=license)
        target = file or (run if run.is_dir() else run.parent) / CARD
        if os.path.lexists(target) and not force:
            raise CompressionError(
                f"There is a file {target} already. Give another --out, or --force to "
                "write over it."
            )
        check_not_read(target, [run if run.is_file() else run / REPORT])
        write_text(target, text)
    console = Console()
    console.print(f"The card is {escape(str(target))}", soft_wrap=True, highlight=False)
