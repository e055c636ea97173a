"""`penjing verify`: the same outputs in the runtime that a file is for, how fast."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from penjing.cli.benchmark_command import latency_table
from penjing.cli.console import print_json, print_setup, quiet_libraries
from penjing.cli.early_checks import check_early
from penjing.cli.shared_options import Engine, EngineOption, JsonOption, LiteRTArgument


def verify(
    file: LiteRTArgument,
    twin: Annotated[
        Path | None,
        typer.Option(
            help="A dense file of the same network. Default: made from FILE, its "
            "sparse tensors written as dense ones."
        ),
    ] = None,
    engine: EngineOption = Engine.node,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads; more than 1 with chromium only.")
    ] = 1,
    samples: Annotated[
        int, typer.Option(min=1, help="Random inputs that are compared.")
    ] = 8,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the timing.")] = 10,
    as_json: JsonOption = False,
) -> None:
    """Prove that a .tflite file computes the same in WebAssembly, and how fast.

    Runs it in LiteRT.js, the runtime of browsers, in turns with its dense twin,
    and compares outputs with the twin's and with those in Python. Sparse files
    that are right elsewhere can be silently wrong there: then the exit code is 1.

    [bold]Examples[/bold]

        $ penjing verify sparse.tflite
        $ penjing verify sparse.tflite --twin dense.tflite --engine chromium
    """
    check_early(models=[file] if twin is None else [file, twin])
    with quiet_libraries():
        from penjing.file_verification import verify as run

        report = run(
            file,
            twin=twin,
            engine=(engine or Engine.node).value,
            threads=threads,
            samples=samples,
            rounds=rounds,
        )
    if as_json:
        print_json(report)
        return
    console = Console()
    console.print(latency_table(report.latency))
    console.print(
        f"[green]The same outputs[/green] on {report.samples} samples. Largest "
        f"difference to {escape(report.twin)} in the same runtime: "
        f"{report.difference:.1e}; to the file in Python: "
        f"{report.python_difference:.1e}.",
        highlight=False,
    )


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
        from penjing.web.npm_packages import FOLDER_VARIABLE, packages_folder
        from penjing.web.npm_packages import setup_wasm as run

        done = run(folder)
        found = done.folder == packages_folder()
    print_setup(done, FOLDER_VARIABLE, is_found=found)
