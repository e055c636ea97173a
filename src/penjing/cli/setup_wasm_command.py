"""`penjing setup-wasm`: the packages that run files as a browser does."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from penjing.cli.console import quiet_libraries


def setup_wasm(
    folder: Annotated[
        Path | None,
        typer.Option(
            "--dir",
            help="Where to. Default: what PENJING_WASM_DIR says, else the user's cache "
            "folder; penjing looks in these two.",
        ),
    ] = None,
) -> None:
    """Fetch LiteRT.js, the runtime of browsers, once: about 40 MB from npm.

    Exactly the versions that penjing was tested with, compared with the digests
    that it brings. Needs Node with npm. Then `penjing verify`, `penjing benchmark
    --runtime wasm` and `penjing demo --browser` work, without a network too.

    [bold]Examples[/bold]

        $ penjing setup-wasm
        $ penjing setup-wasm --dir tools/wasm
    """
    with quiet_libraries():
        from penjing.export.wasm.npm_packages import FOLDER_VARIABLE, packages_folder
        from penjing.export.wasm.npm_packages import setup_wasm as run

        done = run(folder)
        found = done.folder == packages_folder()
    console = Console()
    did = "Fetched" if done.fetched else "Already there:"
    packages = " and ".join(f"{name} {v}" for name, v in done.versions.items())
    console.print(f"{did} {packages}, {done.bytes / 1e6:.0f} MB.", highlight=False)
    console.print(f"Folder: {escape(str(done.folder))}", soft_wrap=True)
    if not found:
        console.print(
            f"penjing finds it with {FOLDER_VARIABLE}={escape(str(done.folder))}",
            soft_wrap=True,
        )
