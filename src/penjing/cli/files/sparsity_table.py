"""`penjing inspect --runtime`: what the zeros in a file buy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from penjing.arguments import did_you_mean
from penjing.cli.backend_choice import Backend, import_modules, select_backend
from penjing.cli.console import print_json, quiet_libraries
from penjing.report.fitting_table import print_sentence, print_table
from penjing.report.tables import names, new_table, notes, numbers

RUNTIMES = ("x86", "arm", "wasm", "micro", "ethos-u")
_STYLES = {"fast": "green", "dense": "yellow", "wrong": "bold red"}


def show_sparsity(
    file: Path,
    runtime: str,
    *,
    imports: list[str],
    backend: Backend | None,
    as_json: bool,
) -> None:
    """Print what zeros buy on a runtime, one of `RUNTIMES`."""
    if runtime not in RUNTIMES:
        raise typer.BadParameter(
            f"takes {', '.join(RUNTIMES)}, got {runtime!r}."
            f"{did_you_mean(runtime, RUNTIMES)}",
            param_hint="--runtime",
        )
    with quiet_libraries():
        select_backend(backend)
        import_modules(imports)
        from penjing.measurement.sparse_report import explain_sparsity

        explanation = explain_sparsity(file, runtime)
    if as_json:
        print_json(explanation)
        return
    console = Console()
    tables = {"ethos-u": _estimates, "micro": _flash_table}
    print_table(tables.get(runtime, _table)(explanation, file.name), console)
    for problem in explanation.problems:
        print_sentence(f"[yellow]change:[/yellow] {escape(problem)}", console)
    style = _STYLES[getattr(explanation, "outcome", "fast")]
    print_sentence(escape(explanation.summary), console, style)


def _estimates(explanation: Any, name: str) -> Table:
    """The table of an `EthosExplanation`."""
    table = new_table(
        f"{name}: {explanation.file.conditions}",
        names("estimates"),
        *map(numbers, ("flash", "SRAM", "cycles", "ms")),
        caption="Estimates of Vela, Ethos-U's compiler; nothing was measured. The twin "
        "is the same network with int8 weights that nobody pruned.",
    )
    for label, row in (("file", explanation.file), ("twin", explanation.twin)):
        counts = (row.flash, row.sram, row.cycles)
        cells = [f"{value:,}" for value in counts]
        table.add_row(label, *cells, f"{row.milliseconds:.3g}")
    return table


def _flash_table(explanation: Any, name: str) -> Table:
    """The table of a `FlashExplanation`."""
    from penjing.packing.pack_report import form_text

    table = new_table(
        f"{name} on {explanation.runtime}",
        names("layer"),
        *map(numbers, ("zeros", "levels")),
        names("form"),
        *map(numbers, ("flash", "packed", "RAM")),
        notes("time"),
    )
    for row in explanation.layers:
        weight = row.weight
        sizes = (weight.flash_before, weight.flash_after, weight.ram)
        table.add_row(
            escape(row.layer),
            f"{row.sparsity:.1%}",
            f"{row.levels}",
            form_text(weight),
            *(f"{size:,}" for size in sizes),
            row.time,
        )
    return table


def _table(explanation: Any, name: str) -> Table:
    table = new_table(
        f"{name} on {explanation.runtime}",
        names("layer"),
        numbers("zeros"),
        *(Column(title, overflow="fold") for title in ("kernel", "zeros buy")),
        notes("why"),
    )
    for row in explanation.layers:
        table.add_row(
            escape(row.layer),
            f"{row.sparsity:.1%}",
            escape(row.kernel),
            row.buys,
            escape(row.reason),
        )
    return table
