"""A report as tables in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from penjing.channels.channel_report import ChannelReport
from penjing.report.documents import RUNTIMES, Report
from penjing.report.tables import (
    names,
    new_table,
    notes,
    number_text,
    numbers,
    shape_text,
)

_SIZES = ("raw", "gzip", "zstd", "xz")
_MAX_WEIGHTS = 40


def print_report(report: Report, console: Console, *, weights: bool = True) -> None:
    """Print sizes, accuracies, sparsity (with `weights`) and the total ratio."""
    if report.channels is not None:
        console.print(channel_table(report.channels), "")
    if weights:
        console.print(weight_table(report), "")
    console.print(size_table(report), "")
    console.print(score_table(report), "")
    console.print(summary(report))
    for text in report.warnings:
        console.print(Text.assemble(("Warning: ", "bold yellow"), text))


def size_table(report: Report) -> Table:
    """Build the table of files: bytes as they are and compressed."""
    table = new_table(
        "Size of every file, in bytes",
        names("file"),
        notes("what it is"),
        *map(numbers, _SIZES),
    )
    for row in report.files:
        cells = [number_text(getattr(row, size)) for size in _SIZES]
        style = _style(report, row.name)
        table.add_row(escape(row.name), escape(row.kind), *cells, style=style)
    return table


def score_table(report: Report) -> Table:
    """Build the table of models: what each scored, and its distance to the first."""
    table = new_table(
        "Scores of every model",
        names("model"),
        notes("runs in"),
        *map(numbers, report.metrics),
    )
    if report.metric is not None:
        table.add_column("against baseline", justify="right", no_wrap=True)
    for row in report.scores:
        cells = [number_text(row.metrics.get(name), ".4f") for name in report.metrics]
        if report.metric is not None:
            cells.append(report.difference(row))
        style = _style(report, row.name)
        table.add_row(escape(row.name), RUNTIMES[row.runtime], *cells, style=style)
    return table


def channel_table(channels: ChannelReport) -> Table:
    """Build the table of channels: how many each group had and has."""
    table = new_table(
        "Channels of every group",
        names("group"),
        numbers("before"),
        numbers("after"),
        notes("stays whole because"),
    )
    for row in channels.rows:
        counts = map(number_text, (row.before, row.after))
        table.add_row(escape(row.group), *counts, escape(row.reason))
    return table


def weight_table(report: Report) -> Table:
    """Build the table of weights: zeros, or why there are none."""
    table = new_table(
        "Zeros in every weight",
        names("weight"),
        Column("shape", no_wrap=True),
        *map(numbers, ("zeros", "sparsity", "distinct")),
        notes("skipped because"),
    )
    for row in report.weights[:_MAX_WEIGHTS]:
        table.add_row(
            escape(row.path),
            shape_text(row.shape),
            number_text(row.zeros),
            number_text(row.sparsity, ".1%"),
            number_text(row.distinct),
            escape(row.reason) if row.status == "skipped" else "",
        )
    left = len(report.weights) - _MAX_WEIGHTS
    if left > 0:
        table.caption = f"{left} more are in report.html and report.json"
    return table


def summary(report: Report) -> Text:
    """Say the total ratio and what it cost, in a few lines."""
    first, last = report.file(report.reference), report.file(report.result)
    text = Text.assemble(
        (f"{report.ratio:.1f} times smaller", "bold green"),
        f": {first.name} zipped {first.zip:,} bytes, "
        f"{last.name} zipped {last.zip:,} bytes.",
    )
    if report.channels is not None and report.channels.macs is not None:
        whole, left = report.channels.macs
        text.append(
            f"\n{whole / max(left, 1):.1f} times fewer multiply-accumulates: "
            f"{whole:,} before, {left:,} after."
        )
    if report.metric is not None and report.score(report.result) is not None:
        text.append(f"\n{report.metric}: {number_text(report.before, '.4f')} before, ")
        after = number_text(report.after, ".4f")
        text.append(f"{after} in the file that is deployed.")
    return text


def _style(report: Report, name: str) -> str | None:
    return "green" if name == report.result else None
