"""A comparison as a page of its own."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from penjing.errors import CompressionError
from penjing.files import write_text
from penjing.report.charts import readable_chart
from penjing.report.comparison.compare_chart import compare_chart
from penjing.report.comparison.finished_files import Comparison
from penjing.report.documents import signed
from penjing.report.rendering import render
from penjing.report.scripts import page_scripts

# The head of each page that is written here.
MARK = '<meta name="generator" content="penjing compare">'


def render_comparison(comparison: Comparison) -> str:
    """Render a comparison as one page that needs no network; all text is escaped."""
    chart = compare_chart(comparison)
    charts = {"compare": readable_chart(chart)} if chart else {}
    return render(
        "compare.html",
        scripts=page_scripts(charts=bool(charts), tables=True),
        charts=charts,
        comparison=comparison,
        rows=[_row(comparison, number) for number in range(len(comparison.files))],
        best=comparison.best,
        has_runs=any(row.ratio is not None for row in comparison.files),
        has_controls=any(row.control is not None for row in comparison.files),
    )


def write_comparison(
    comparison: Comparison, path: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write a comparison as a page; a CompressionError if it is over another file."""
    check_page(path, overwrite=overwrite)
    return write_text(path, render_comparison(comparison))


def check_page(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Refuse to write over a file that is no comparison of penjing."""
    file = Path(path)
    if overwrite or not os.path.lexists(file):
        return
    try:
        with file.open(encoding="utf-8") as page:
            is_ours = MARK in page.read(2000)
    except (OSError, UnicodeDecodeError):
        is_ours = False
    if not is_ours:
        raise CompressionError(
            f"{file} is there already, and penjing compare did not write it. Choose "
            "another --out, or allow it with --overwrite."
        )


def _row(comparison: Comparison, number: int) -> dict[str, Any]:
    file, first = comparison.files[number], comparison.files[0]
    score = comparison.score(file)
    against = None if number == 0 else comparison.score_beside(file, first)
    return {
        "place": number,
        "file": file,
        "size": file.gzip / first.gzip,
        "score": score,
        "against": "" if score is None or against is None else signed(score - against),
        "change": comparison.change(file, against),
        "lost": (
            "" if score is None or file.before is None else signed(score - file.before)
        ),
        "lost_change": comparison.change(file, file.before),
    }
