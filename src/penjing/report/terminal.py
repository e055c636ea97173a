"""A report as tables in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from penjing.channels.channel_report import ChannelReport
from penjing.report.documents import Report, ScoreRow, signed

_SIZES = ("raw", "gzip", "zstd", "xz")
_MAX_WEIGHTS = 40


def print_report(report: Report, console: Console, *, weights: bool = True) -> None:
    """Print sizes, accuracies, sparsity and the total ratio.

    Args:
        report: The report.
        console: Where to print.
        weights: Whether to print the table of weights.
    """
    if report.channels is not None:
        console.print(channel_table(report.channels), "")
    if weights:
        console.print(weight_table(report), "")
    console.print(size_table(report), "")
    console.print(score_table(report), "")
    console.print(summary(report))


def size_table(report: Report) -> Table:
    """Build the table of files: bytes as they are and compressed."""
    table = Table(title="Size of every file, in bytes", title_justify="left")
    table.add_column("file", style="bold", overflow="fold")
    table.add_column("what it is", style="dim", overflow="fold")
    for size in _SIZES:
        table.add_column(size, justify="right", no_wrap=True)
    for row in report.files:
        cells = [f"{getattr(row, size):,}" for size in _SIZES]
        table.add_row(
            escape(row.name),
            escape(row.kind),
            *cells,
            style=_style(row.name == report.result),
        )
    return table


def score_table(report: Report) -> Table:
    """Build the table of models: what each scored, and its distance to the first."""
    names = list(dict.fromkeys(name for row in report.scores for name in row.metrics))
    table = Table(title="Scores of every model", title_justify="left")
    table.add_column("model", style="bold", overflow="fold")
    table.add_column("runs in", style="dim")
    for name in names:
        table.add_column(escape(name), justify="right", no_wrap=True)
    if report.metric is not None:
        table.add_column("against baseline", justify="right", no_wrap=True)
    for row in report.scores:
        cells = [_value(row.metrics.get(name)) for name in names]
        if report.metric is not None:
            cells.append(_difference(report.scores[0], row, report.metric))
        runtime = {"keras": "Keras", "litert": "LiteRT"}[row.runtime]
        table.add_row(
            escape(row.name), runtime, *cells, style=_style(row.name == report.result)
        )
    return table


def channel_table(channels: ChannelReport) -> Table:
    """Build the table of channels: how many each group had and has."""
    table = Table(title="Channels of every group", title_justify="left")
    table.add_column("group", style="bold", overflow="fold")
    for name in ("before", "after"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("stays whole because", style="dim", overflow="fold")
    for row in channels.rows:
        counts = (f"{row.before:,}", f"{row.after:,}")
        table.add_row(escape(row.group), *counts, escape(row.reason))
    return table


def weight_table(report: Report) -> Table:
    """Build the table of weights: zeros, or why there are none."""
    table = Table(title="Zeros in every weight", title_justify="left")
    table.add_column("weight", style="bold", overflow="fold")
    table.add_column("shape", no_wrap=True)
    table.add_column("zeros", justify="right", no_wrap=True)
    table.add_column("sparsity", justify="right", no_wrap=True)
    table.add_column("distinct", justify="right", no_wrap=True)
    table.add_column("skipped because", style="dim", overflow="fold")
    for row in report.weights[:_MAX_WEIGHTS]:
        table.add_row(
            escape(row.path),
            "x".join(map(str, row.shape)) or "scalar",
            f"{row.zeros:,}",
            f"{row.sparsity:.1%}",
            "" if row.distinct is None else f"{row.distinct:,}",
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
    score = report.score(report.result)
    if report.metric is not None and score is not None:
        name = report.metric
        before = report.scores[0].metrics.get(name)
        after = score.metrics.get(name)
        text.append(f"\n{name}: {_value(before)} before, ")
        text.append(f"{_value(after)} in the file that is deployed.")
    return text


def _style(is_result: bool) -> str | None:
    return "green" if is_result else None


def _value(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _difference(first: ScoreRow, row: ScoreRow, metric: str) -> str:
    if row is first or metric not in row.metrics or metric not in first.metrics:
        return ""
    return signed(row.metrics[metric] - first.metrics[metric])
