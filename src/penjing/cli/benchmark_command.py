"""`penjing benchmark`: `.tflite` files timed against each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from penjing.cli import completions
from penjing.cli.backend_choice import select_backend
from penjing.cli.console import print_json, progress_bar
from penjing.cli.early_checks import check_early
from penjing.cli.shared_options import (
    Engine,
    EngineOption,
    JsonOption,
    Runtime,
    RuntimeOption,
)
from penjing.report.fitting_table import print_table
from penjing.report.tables import names, new_table, numbers, shape_text

FilesArgument = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILES...",
        help=".tflite files. The others are compared to the first.",
        autocompletion=completions.litert_files,
    ),
]
ThreadsOption = Annotated[
    str, typer.Option(metavar="N[,N...]", help="Threads; a table for each number.")
]
BatchOption = Annotated[int, typer.Option(min=1, help="Samples in one run.")]
RoundsOption = Annotated[
    int, typer.Option(min=1, help="Rounds in which the files take turns.")
]
RunsOption = Annotated[
    int | None,
    typer.Option(
        min=1, help="Runs in a round. Default: as many as fit into 20 milliseconds."
    ),
]
ColdOption = Annotated[
    bool,
    typer.Option(
        "--cold",
        help="Also time with cold caches: 64 MB of other memory is touched before "
        "each run, as in a program that does other work.",
    ),
]
ProfileOption = Annotated[
    bool,
    typer.Option("--profile", help="Also time each operator of the files by itself."),
]

_ROUNDS = 30


def benchmark(
    files: FilesArgument,
    runtime: RuntimeOption = Runtime.litert,
    engine: EngineOption = None,
    threads: ThreadsOption = "1",
    batch: BatchOption = 1,
    rounds: RoundsOption = _ROUNDS,
    runs: RunsOption = None,
    cold: ColdOption = False,
    profile: ProfileOption = False,
    as_json: JsonOption = False,
) -> None:
    """Time .tflite files against each other: median, spread, ratio, memory.

    Each file runs in a process of its own, and they take turns, so that what
    disturbs the machine disturbs all alike. The ratio comes with its 95 %
    confidence interval. Inputs are random; sizes but the batch that a file leaves
    free are 32. On ARM, which is emulated, instructions are counted, never times.

    [bold]Examples[/bold]

        $ penjing benchmark float.tflite int8.tflite
        $ penjing benchmark float.tflite pruned.tflite --threads 1,2 --cold
        $ penjing benchmark model.tflite --profile
        $ penjing benchmark model.tflite --batch 16 --json
        $ penjing benchmark dense.tflite sparse.tflite --runtime wasm
        $ penjing benchmark a.tflite b.tflite --runtime wasm --engine chromium
        $ penjing benchmark dense.tflite sparse.tflite --runtime arm
    """
    counts = _threads(threads)
    check_early(models=files)
    if runtime is not Runtime.litert:
        _check_elsewhere(runtime, batch, cold, profile)
    if runtime is Runtime.arm:
        _check_unset("--rounds", rounds != _ROUNDS)
        _count(files, engine or Engine.cortex_a72, counts, runs or 3, as_json)
        return
    options: list[dict[str, Any]]
    if runtime is Runtime.wasm:
        options = [{"engine": (engine or Engine.node).value}]
    else:
        _check_unset("--engine", engine is not None)
        options = [{"batch": batch, "profile": profile}]
        options += [{"batch": batch, "cold_caches": True}] if cold else []
    with progress_bar() as progress:
        select_backend(None)
        measure = _measuring(runtime)
        given = {"rounds": rounds, "runs": runs, "progress": progress}
        reports = [
            measure(files, threads=count, **given, **own)
            for count in counts
            for own in options
        ]
    if as_json:
        print_json([report.to_dict() for report in reports])
        return
    console = Console()
    for report in reports:
        print_table(latency_table(report), console)
        for row in report.files:
            if row.operators:
                print_table(operator_table(row), console)


def _measuring(runtime: Runtime) -> Callable[..., Any]:
    from penjing.measurement.latency import measure_latency
    from penjing.web.wasm_latency import measure_wasm_latency

    return measure_wasm_latency if runtime is Runtime.wasm else measure_latency


def latency_table(report: Any) -> Table:
    """Build the table of a `LatencyReport`: one row for each file."""
    knows_memory = any(row.memory is not None for row in report.files)
    memory = " Memory: growth of a process that loads the file and runs it once."
    table = new_table(
        str(report.conditions),
        names("file"),
        *map(numbers, ("median", "spread", "minimum", "faster", "95 %")),
        *([numbers("memory")] if knows_memory else []),
        caption="Spread: between the quartiles." + (memory if knows_memory else ""),
    )
    unit, scale = ("us", 1e3) if report.files[0].milliseconds < 1 else ("ms", 1.0)
    for row in report.files:
        times = (row.milliseconds, row.spread, row.minimum)
        median, spread, minimum = (f"{scale * value:,.3g}" for value in times)
        unsure = row is report.files[0] or report.conditions.rounds == 1
        cells = [
            escape(row.path),
            f"{median} {unit}",
            spread,
            minimum,
            f"{row.speedup:.2f}x",
            "" if unsure else f"{row.speedup_low:.2f}-{row.speedup_high:.2f}",
        ]
        if knows_memory:
            cells.append("" if row.memory is None else f"{row.memory / 2**20:.1f} MiB")
        table.add_row(*cells)
    return table


def operator_table(row: Any) -> Table:
    """Build the table of the operators of a `FileLatency`, each timed by itself."""
    times = [item.milliseconds for item in row.operators]
    total = sum(ms for ms in times if ms is not None)
    table = new_table(
        f"Operators of {row.path}, each by itself, batch 1",
        names("operator"),
        Column("output"),
        *map(numbers, ("us", "share")),
        caption=f"Sum {1e3 * total:,.3g} us. LiteRT offers no profile from Python, so "
        "operators run as files of their own; together they share caches and are "
        "partly fused. Loops and what keeps a state cannot run alone.",
    )
    for item, ms in zip(row.operators, times, strict=True):
        table.add_row(
            item.name,
            shape_text(item.shape),
            "unknown" if ms is None else f"{1e3 * ms:,.3g}",
            "" if ms is None or not total else f"{ms / total:.0%}",
        )
    return table


def instruction_table(report: Any) -> Table:
    """Build the table of an `InstructionReport`: one row for each file."""
    table = new_table(
        f"{report.runtime}, threads {report.threads}",
        names("file"),
        *map(numbers, ("bytes", "instructions", "fewer")),
        caption="Instructions of one run on one sample. They are not times: these "
        "depend on the caches and units of a processor too.",
    )
    for row in report.files:
        counts = (f"{row.bytes:,}", f"{row.instructions:,}", f"{row.fewer:.2f}x")
        table.add_row(escape(row.path), *counts)
    return table


def _count(
    files: list[Path], engine: Engine, threads: list[int], runs: int, as_json: bool
) -> None:
    """Count instructions on ARM, and print them."""
    with progress_bar() as progress:
        select_backend(None)
        from penjing.arm.arm_instructions import count_instructions

        reports = [
            count_instructions(
                files,
                engine=engine.value,
                threads=count,
                runs=runs,
                progress=progress,
            )
            for count in threads
        ]
    if as_json:
        print_json([report.to_dict() for report in reports])
        return
    for report in reports:
        print_table(instruction_table(report), Console())


_WHY_NOT = {
    Runtime.wasm: {
        "--batch": "LiteRT.js runs one sample at a time",
        "--cold": "LiteRT.js runs with caches as it finds them",
        "--profile": "LiteRT.js does not time its operators",
    },
    Runtime.arm: {
        "--batch": "the instructions of one sample are counted",
        "--cold": "caches change no number of instructions",
        "--profile": "the instructions of whole files are counted",
    },
}


def _check_elsewhere(runtime: Runtime, batch: int, cold: bool, profile: bool) -> None:
    """Refuse what the runtimes of browsers and of ARM do not do."""
    given = {"--batch": batch > 1, "--cold": cold, "--profile": profile}
    for option, is_given in given.items():
        if is_given:
            raise typer.BadParameter(
                f"goes with --runtime litert only: {_WHY_NOT[runtime][option]}.",
                param_hint=option,
            )


def _check_unset(option: str, given: bool) -> None:
    """Refuse an option that a runtime does not know."""
    reasons = {
        "--engine": "goes with --runtime wasm and --runtime arm only: litert is the "
        "processor of this machine.",
        "--rounds": "is for times; with --runtime arm, --runs says how many runs are "
        "counted.",
    }
    if given:
        raise typer.BadParameter(reasons[option], param_hint=option)


def _threads(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise typer.BadParameter(
            f"takes numbers from 1 with commas between them, as in 1,2; got {text!r}.",
            param_hint="--threads",
        )
    return list(dict.fromkeys(int(part) for part in parts))
