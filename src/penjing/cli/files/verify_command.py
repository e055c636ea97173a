"""`penjing verify`: the same outputs in the runtime that a file is for, how fast."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from penjing.cli import completions
from penjing.cli.benchmark_command import latency_table
from penjing.cli.console import print_json, print_setup, quiet_libraries
from penjing.cli.early_checks import check_early
from penjing.cli.files.real_inputs import InputsOption, check_inputs, read_inputs
from penjing.cli.shared_options import (
    EngineOption,
    JsonOption,
    LiteRTArgument,
    Pixels,
    PixelsOption,
)
from penjing.report.fitting_table import print_sentence, print_table
from penjing.report.tables import names, new_table, numbers


class ProofRuntime(enum.StrEnum):
    """The runtimes that files are proven in."""

    arm = "arm"
    micro = "micro"
    wasm = "wasm"
    x86 = "x86"


def verify(
    file: LiteRTArgument,
    runtime: Annotated[
        ProofRuntime,
        typer.Option(
            help="micro: TensorFlow Lite Micro, the interpreter of microcontrollers "
            "(the extra micro). wasm: LiteRT.js, the runtime of browsers; "
            "see penjing setup-wasm. x86: LiteRT on this machine. arm: LiteRT on an "
            "emulated ARM processor; see penjing setup-arm."
        ),
    ] = ProofRuntime.wasm,
    twin: Annotated[
        Path | None,
        typer.Option(
            help="A dense file of the same network. Default: made from FILE, its "
            "sparse tensors written as dense ones. For micro: the plain file that "
            "FILE was packed from.",
            autocompletion=completions.litert_files,
        ),
    ] = None,
    engine: EngineOption = None,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads; micro and Node have one.")
    ] = 1,
    inputs: InputsOption = None,
    pixels: PixelsOption = Pixels.bytes,
    samples: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Inputs that are compared. Default: 8; micro 4 random ones, or all of "
            "--inputs.",
        ),
    ] = None,
    rounds: Annotated[
        int, typer.Option(min=1, help="Rounds of the timing; micro and arm have none.")
    ] = 10,
    max_arena: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="BYTES",
            help="micro: RAM that the device has for the arena; a file that needs more "
            "is refused.",
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            metavar="SHARE",
            help="Difference that is let pass, over the largest magnitude: to the "
            "twin (default: 1e-4); for micro to LiteRT, where no operator is wrong by "
            "itself.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Prove that a .tflite file computes the same in the runtime that it is for.

    Each runtime has kernels of its own, and files that are right in one can be
    silently wrong in another: then the exit code is 1. In wasm and x86 a file
    takes turns with its dense twin: outputs are compared with the twin's and with
    those in Python, and both are timed. For micro every tensor is compared with
    LiteRT's reference kernels, a wrong operator is named, and you see what RAM
    and flash the file takes on the device. On arm, which is emulated, nothing is
    timed; penjing benchmark --runtime arm counts instructions.

    [bold]Examples[/bold]

        $ penjing verify small.tflite --runtime micro --max-arena 65536
        $ penjing verify packed.tflite --runtime micro --twin plain.tflite
        $ penjing verify sparse.tflite
        $ penjing verify sparse.tflite --twin dense.tflite --engine chromium
        $ penjing verify sparse.tflite --runtime x86 --threads 2
        $ penjing verify small.tflite --runtime x86 --inputs data.npz
        $ penjing verify sparse.tflite --runtime arm --engine cortex-a76
    """
    check_early(models=[file] if twin is None else [file, twin])
    check_inputs(inputs)
    with quiet_libraries():
        from penjing.file_verification import verify as run

        report = run(
            file,
            runtime.value,
            twin=twin,
            inputs=read_inputs(inputs, file, pixels.value),
            engine=None if engine is None else engine.value,
            threads=threads,
            samples=samples,
            rounds=rounds,
            max_arena=max_arena,
            tolerance=tolerance,
        )
    if as_json:
        print_json(report)
    elif report.micro is not None:
        _print_micro(report)
    else:
        _print_times(report)


def _print_times(report: Any) -> None:
    console = Console()
    if report.latency is not None:
        print_table(latency_table(report.latency), console)
    to_twin = (
        f"Largest difference to {escape(report.twin)} in the same runtime: "
        f"{report.difference:.1e}; to the file in Python: "
        f"{report.python_difference:.1e}"
    )
    result = "[green]The same outputs[/green]"
    if report.passed_by != "rounding":
        result = f"[yellow]Differs by {report.passed_by}[/yellow], each operator right,"
    print_sentence(f"{result} on {report.samples} samples. {to_twin}.", console)


def _print_micro(report: Any) -> None:
    """Print what a file takes on a microcontroller, and how exact it is."""
    found = report.micro
    with_twin = found.twin_arena is not None
    table = new_table(
        f"{report.file} in {report.runtime}",
        names("bytes"),
        numbers("file"),
        *([numbers("twin")] if with_twin else []),
        caption="RAM: the smallest arena in which the file starts and runs, with "
        "reference kernels; a 32-bit device needs somewhat less, CMSIS-NN takes "
        "scratch memory on top.",
    )
    mine, twin = found.arena, found.twin_arena
    rows = [("flash", found.flash, found.twin_flash)]
    for name, part in (
        ("RAM", "total"),
        ("- activations", "head"),
        ("- what stays", "tail"),
        ("- planning at the start", "planning"),
    ):
        rows.append((name, getattr(mine, part), getattr(twin, part, None)))
    for name, value, other in rows:
        cells = [f"{value:,}", *([f"{other:,}"] if with_twin else [])]
        table.add_row(name, *cells)
    console = Console()
    print_table(table, console)
    print_sentence(f"Operators: {', '.join(found.operators)}.", console)
    steps = "" if found.steps is None else f", {found.steps:g} steps of its integers"
    first = "every tensor is equal"
    if found.first_difference is not None:
        first = f"the first to round otherwise is {found.first_difference}"
    result = "[green]The same outputs[/green] as"
    if report.passed_by != "rounding":
        result = f"[yellow]Differs by {report.passed_by}[/yellow] from"
    print_sentence(
        f"{result} LiteRT's {found.kernels} kernels on {report.samples} samples: "
        f"largest difference {report.python_difference:.1e}{steps}; {escape(first)}.",
        console,
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
