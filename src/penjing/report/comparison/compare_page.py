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
from penjing.report.page_marks import is_own_page
from penjing.report.rendering import render
from penjing.report.scripts import page_scripts


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
        has_controls=any(row.control for row in comparison.files),
    )


def write_comparison(
    comparison: Comparison, path: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write a comparison as a page; a CompressionError if it is over another file."""
    check_page(path, overwrite=overwrite)
    return write_text(path, render_comparison(comparison))


def check_page(path: str | os.PathLike[str], *, overwrite: bool) -> None:
    """Refuse to write over a file that is no comparison of penjing."""
    if overwrite or not os.path.lexists(path):
        return
    if not is_own_page(path, "compare"):
        raise CompressionError(
            f"{os.fspath(path)} is there already, and penjing compare did not write "
            "it. Choose another --out, or allow it with --overwrite."
        )


def _row(comparison: Comparison, number: int) -> dict[str, Any]:
    file, first = comparison.files[number], comparison.files[0]
    score, before = comparison.score(file), comparison.first_of(file.before)
    against = None if number == 0 else comparison.score_beside(file, first)
    return {
        "place": number,
        "file": file,
        "size": file.gzip / first.gzip,
        "score": score,
        "against": "" if score is None or against is None else signed(score - against),
        "change": comparison.change(file, against),
        "lost": ("" if score is None or before is None else signed(score - before)),
        "lost_change": comparison.change(file, before),
        "control": comparison.first_of(file.control),
    }
