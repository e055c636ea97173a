"""`penjing report`: the page of a finished run, drawn again."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from penjing.cli.backend_choice import select_backend
from penjing.cli.console import print_json, quiet_libraries
from penjing.cli.shared_options import JsonOption, RunArgument
from penjing.errors import CompressionError

PAGE = "report.html"


def report(
    run: RunArgument,
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="Draw report.html again.")
    ] = True,
    as_json: JsonOption = False,
) -> None:
    """Print the report of a finished run, and draw its report.html again.

    Nothing is measured: all numbers are those in report.json. The page is the one
    of this version of penjing.

    [bold]Examples[/bold]

        $ penjing report out
        $ penjing report out --no-page --json
    """
    with quiet_libraries():
        select_backend(None)
        from penjing.pipeline.runs.output_folder import outputs_of
        from penjing.report.comparison.finished_files import read_run
        from penjing.report.page_marks import is_own_page
        from penjing.report.pages import write_report_page

        found, folder = read_run(run)
        drawn = folder / PAGE
        is_ours = PAGE in outputs_of(folder) or is_own_page(drawn, "report")
        if page and drawn.exists() and not is_ours:
            raise CompressionError(
                f"{drawn} is there already, and nothing says that penjing wrote it. "
                "Move it away, or draw no page: --no-page."
            )
        if page:
            write_report_page(found, drawn)
    if as_json:
        print_json(found)
        return
    from penjing.report.terminal import print_report

    console = Console()
    print_report(found, console)
    if page:
        console.print(f"\n{escape(str(drawn))} is drawn again.", soft_wrap=True)
