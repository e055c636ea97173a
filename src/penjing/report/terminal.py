"""A report as tables in the terminal."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from penjing.channels.channel_report import ChannelReport
from penjing.report.documents import (
    FLOAT_FILE,
    RESTORED,
    RUNTIMES,
    Report,
    smaller,
)
from penjing.report.fitting_table import print_table
from penjing.report.score_rows import ScoreRow
from penjing.report.tables import (
    names,
    new_table,
    notes,
    number_text,
    numbers,
    shape_text,
)
from penjing.report.weight_lines import weight_lines

_SIZES = ("raw", "gzip", "zstd", "xz")
_MAX_WEIGHTS = 40
_CHANGES = {"better": "green", "worse": "red"}


def print_report(report: Report, console: Console, *, weights: bool = True) -> None:
    """Print sizes, accuracies, sparsity (with `weights`) and the total ratio."""
    if report.channels is not None:
        print_table(channel_table(report.channels), console)
        console.print()
    if weights:
        print_table(weight_table(report), console)
        console.print()
    print_table(size_table(report), console)
    console.print()
    print_table(score_table(report), console)
    console.print()
    if report.front:
        print_table(front_table(report), console)
        console.print()
    console.print(summary(report))
    for text in report.warnings:
        console.print(Text.assemble(("Warning: ", "bold yellow"), text))
    for row in report.refused:
        text = f"\n{row.name} ({row.kind}) could not be had: {row.reason}"
        console.print(Text(text, style="red"), soft_wrap=True)


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


_OF_PACKED = (
    "LiteRT runs no packed file: its score is that of the plain file with the same "
    "constants."
)


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
        cells = [_score(report, row, name) for name in report.metrics]
        if report.metric is not None:
            color = _CHANGES.get(report.change_of_row(row), "")
            text = report.difference(row)
            cells.append(f"[{color}]{text}[/{color}]" if color else text)
        style = _style(report, row.name)
        if row.runtime == RESTORED:
            table.caption = _OF_PACKED
        table.add_row(
            escape(row.name),
            RUNTIMES.get(row.runtime, escape(row.runtime)),
            *cells,
            style=style,
        )
    return table


def _score(report: Report, row: ScoreRow, metric: str) -> str:
    """What a model scored; in another color where that is worse than the baseline."""
    text = number_text(row.metrics.get(metric), ".4f")
    worse = report.change_of_row(row, metric) == "worse"
    return f"[{_CHANGES['worse']}]{text}[/]" if worse else text


def front_table(report: Report) -> Table:
    """Build the table of the files that no other one beats, the smallest first."""
    table = new_table(
        "Files that no other one beats in bytes and score",
        names("file"),
        notes("recipe"),
        *map(numbers, ("gzip", "validation", "test")),
    )
    for row in sorted(report.front, key=lambda row: row.gzip):
        change = _CHANGES.get(report.change_of_score(row.test_score), "")
        test = number_text(row.test_score, ".4f")
        table.add_row(
            escape(row.file),
            escape(row.description),
            number_text(row.gzip),
            number_text(row.validation_score, ".4f"),
            f"[{change}]{test}[/]" if change and test else test,
            style="bold" if row.chosen else None,
        )
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
    own, shared = weight_lines(report.weights)
    for row in own[:_MAX_WEIGHTS]:
        table.add_row(
            escape(row.path),
            shape_text(row.shape),
            number_text(row.zeros),
            number_text(row.sparsity, ".1%"),
            number_text(row.distinct),
            escape(row.reason) if row.status == "skipped" else "",
        )
    for group in shared:
        numbers_of = (number_text(group.zeros), "", "")
        table.add_row(group.title, "", *numbers_of, escape(group.reason))
    left = len(own) - _MAX_WEIGHTS
    if left > 0:
        table.caption = f"{left} more are in report.html and report.json"
    return table


def summary(report: Report) -> Text:
    """Say the total ratio and what it cost, in a few lines."""
    first, last = report.file(report.reference), report.file(report.result)
    text = Text.assemble(
        _ratio(report.ratio),
        f": {first.name} zipped {first.zip:,} bytes, "
        f"{last.name} zipped {last.zip:,} bytes.",
    )
    if report.file_ratio is not None:
        text.append("\n").append(*_ratio(report.file_ratio)).append(
            f": {FLOAT_FILE} as it is {report.file(FLOAT_FILE).raw:,} bytes, "
            f"{last.name} as it is {last.raw:,} bytes."
        )
    if report.channels is not None and report.channels.macs is not None:
        whole, left = report.channels.macs
        text.append(
            f"\n{whole / max(left, 1):.1f} times fewer multiply-accumulates: "
            f"{whole:,} before, {left:,} after."
        )
    row = report.score(report.result)
    if report.control is not None and report.control_score is not None:
        text.append(f"\n{report.metric}, {report.control.kind}: ")
        text.append(f"{report.control_score:.4f}.")
    if report.metric is not None and row is not None:
        text.append(f"\n{report.metric}: {number_text(report.before, '.4f')} before, ")
        after = number_text(report.after, ".4f")
        text.append(f"{after} in the file that is deployed")
        if difference := report.difference(row):
            text.append(", ").append(difference, _CHANGES.get(report.change, ""))
        text.append(".")
    return text


def _ratio(ratio: float) -> tuple[str, str]:
    """How many times smaller, and in which color that is said."""
    times, what = smaller(ratio)
    color = "green" if what == "smaller" else "red"
    return f"{times} times {what}", f"bold {color}"


def _style(report: Report, name: str) -> str | None:
    return "bold" if name == report.result else None
