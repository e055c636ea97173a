"""A report as notebooks show it: shorter than its page, and without any script.

It is given a report and does not import one: reports show themselves by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from penjing.measurement.size import format_bytes
from penjing.notebook.html_tables import Cell, NotebookTable, notebook_html


def notebook_report(report: Any) -> str:
    """Write a `Report` as a piece of HTML that stands alone; all texts are escaped."""
    tables = (_staircase(report), _front(report), _scores(report))
    refused = [f"Not there: {row.name}: {row.reason}" for row in report.refused]
    notes = [f"Warning: {text}" for text in report.warnings]
    return notebook_html(
        report.title, list(_outcome(report)), tables, [*notes, *refused]
    )


def _outcome(report: Any) -> Iterator[Cell]:
    ratio = report.ratio
    times, word = (ratio, "smaller") if ratio >= 1 else (1 / ratio, "larger")
    change = "better" if word == "smaller" else "worse"
    yield Cell(
        f"{times:.1f} times {word}: zipped {report.reference} against zipped "
        f"{report.result}",
        change,
        is_strong=True,
    )
    row = report.score(report.result)
    if row is not None and report.before is not None and report.after is not None:
        text = f"{report.metric} {report.before:.4f} -> {report.after:.4f}"
        yield Cell(f"{text} ({report.difference(row)})", report.change)
    if report.control is not None and report.control_score is not None:
        yield Cell(f"{report.metric} {report.control_score:.4f}: {report.control.kind}")
    if report.budget is not None:
        if report.budget.met:
            yield Cell(f"Within the budget: {'; '.join(report.budget.bounds)}")
        else:
            gaps = "; ".join(report.budget.gaps)
            yield Cell(f"Not within the budget: {gaps}", "worse", is_strong=True)


def _score(report: Any, score: float | None) -> Cell:
    if score is None:
        return Cell("")
    return Cell(f"{score:.4f}", report.change_of_score(score))


def _staircase(report: Any) -> NotebookTable:
    rows = report.staircase if len(report.staircase) > 1 else ()
    return NotebookTable(
        "What each step bought",
        ("step", ">after gzip", f">{report.metric or 'score'}"),
        tuple(
            (Cell(row.step), Cell(format_bytes(row.bytes)), _score(report, row.score))
            for row in rows
        ),
    )


def _front(report: Any) -> NotebookTable:
    files: Sequence[Any] = sorted(report.front, key=lambda row: row.gzip)
    return NotebookTable(
        "Files that no other one beats in bytes and score",
        ("file", "recipe", ">after gzip", ">validation", ">test"),
        tuple(
            (
                Cell(row.name, is_strong=row.chosen),
                Cell(row.description),
                Cell(format_bytes(row.gzip)),
                Cell(
                    ""
                    if row.validation_score is None
                    else f"{row.validation_score:.4f}"
                ),
                _score(report, row.test_score),
            )
            for row in files
        ),
    )


def _scores(report: Any) -> NotebookTable:
    rows = []
    for file in report.files:
        scored = report.score(file.name)
        score = None if scored is None else scored.metrics.get(report.metric or "")
        rows.append(
            (
                Cell(file.name, is_strong=file.name == report.result),
                Cell(file.kind),
                Cell(format_bytes(file.raw)),
                Cell(format_bytes(file.zip)),
                _score(report, score),
            )
        )
    headings = ("file", "what it is", ">bytes", ">zipped", f">{report.metric or ''}")
    return NotebookTable("Files", headings, tuple(rows))
