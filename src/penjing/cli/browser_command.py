"""`penjing demo --browser`: the page, its files built, served and opened."""

from __future__ import annotations

import contextlib
import time
import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from penjing.cli.backend_choice import Backend, select_backend
from penjing.cli.console import progress_bar
from penjing.demo_config import DemoConfig

if TYPE_CHECKING:
    from penjing.web.demo.demo_files import BrowserFiles

BrowserOption = Annotated[
    bool,
    typer.Option(
        "--browser",
        help="Build, serve and open a page that runs a network in WebAssembly, dense "
        "and sparse, side by side. Needs penjing setup-wasm.",
        rich_help_panel="Browser",
    ),
]
PortOption = Annotated[
    int,
    typer.Option(
        min=0,
        max=65535,
        help="Port of the page on 127.0.0.1; 0 takes a free one.",
        rich_help_panel="Browser",
    ),
]
NoOpenOption = Annotated[
    bool,
    typer.Option(
        "--no-open",
        help="Print the page's address and do not open it.",
        rich_help_panel="Browser",
    ),
]


def refuse_with_browser(**given: bool) -> None:
    """Refuse options that were given and have no meaning with --browser."""
    for name, is_given in given.items():
        if is_given:
            raise typer.BadParameter(
                "does not go with --browser, which has its own network and recipe.",
                param_hint=f"--{name}",
            )


def show_in_browser(
    config: DemoConfig, *, backend: Backend | None, port: int, opened: bool
) -> None:
    """Build the two files where they are missing, serve the page until Ctrl-C.

    Of the config the network and how it is compressed are left out: they are the page's
    own. Port 0 takes a free one.
    """
    with contextlib.ExitStack() as stack:
        with progress_bar() as progress:
            select_backend(backend)
            from penjing.web.demo.demo_files import (
                BASELINE_EPOCHS,
                EPOCHS,
                build_browser_files,
            )
            from penjing.web.demo.page_server import serve_page

            # Before minutes of training: packages may be missing, and the port taken.
            server = stack.enter_context(serve_page(Path(config.out), port))
            made = build_browser_files(
                out=config.out,
                dataset=config.dataset,
                data_dir=config.data_dir,
                seed=config.seed,
                baseline_epochs=config.baseline_epochs or BASELINE_EPOCHS,
                epochs=config.epochs or EPOCHS,
                restart=config.restart,
                overwrite=config.overwrite,
                progress=progress,
            )
        with contextlib.suppress(KeyboardInterrupt):
            _show(made, server.address, opened)


def _show(made: BrowserFiles, address: str, opened: bool) -> None:
    """Print what was made and where it is served, until Ctrl-C."""
    console = Console()
    for name, value in made.accuracy.items():
        console.print(f"{name}: {value:.1%} of the test images", highlight=False)
    if made.proof is not None:
        console.print(escape(str(made.proof)), highlight=False, soft_wrap=True)
    console.print(f"\n[bold]{address}[/bold]  (Ctrl-C ends it)")
    if opened:
        webbrowser.open(address)
    while True:
        time.sleep(3600)
