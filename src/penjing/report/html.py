"""A report as one self-contained HTML page."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from penjing.files import write_text
from penjing.report.documents import Report, signed
from penjing.report.page_templates import render_page
from penjing.version import __version__

_SIZES = ("raw", "zip", "gzip", "zstd", "brotli", "xz")


def render_html(report: Report) -> str:
    """Render a report as one page that needs no network.

    Args:
        report: The report. All of its text is escaped.

    Returns:
        The page.
    """
    return render_page(
        "report.html", _context(report), {"bytes": _readable_bytes, "signed": signed}
    )


def write_html(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write a report as one self-contained page.

    Args:
        report: The report.
        path: File to write.

    Returns:
        The path.
    """
    return write_text(path, render_html(report))


def _context(report: Report) -> dict[str, Any]:
    largest = max(row.raw for row in report.files)
    result = report.score(report.result)
    metric = report.metric
    before = report.scores[0].metrics.get(metric or "") if report.scores else None
    after = result.metrics.get(metric or "") if result is not None else None
    return {
        "report": report,
        "version": __version__,
        "sizes": _SIZES,
        "metric": metric,
        "before": before,
        "after": after,
        "metrics": list(dict.fromkeys(n for row in report.scores for n in row.metrics)),
        "first": report.file(report.reference),
        "last": report.file(report.result),
        "raw_percent": {row.name: _percent(row.raw, largest) for row in report.files},
        "zip_percent": {row.name: _percent(row.zip, largest) for row in report.files},
        "history": _history(report),
        "recipe": list(_flat("", report.recipe)),
    }


def _percent(part: float, whole: float) -> float:
    return round(max(100 * part / whole, 0.3), 2)


def _history(report: Report) -> dict[str, Any] | None:
    """Points of the loss curve in a box of 100 by 40."""
    losses = [row["loss"] for row in report.history if "loss" in row]
    if len(losses) < 2:
        return None
    low, high = min(losses), max(losses)
    span = (high - low) or 1.0
    points = [
        (100 * index / (len(losses) - 1), 38 - 36 * (loss - low) / span)
        for index, loss in enumerate(losses)
    ]
    return {
        "points": " ".join(f"{x:.2f},{y:.2f}" for x, y in points),
        "first": losses[0],
        "last": losses[-1],
        "epochs": len(losses),
    }


def _flat(prefix: str, value: Any) -> Any:
    """Nested tables as `("training.epochs", 8)` pairs."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), item)
    elif isinstance(value, (list, tuple)) and any(isinstance(v, dict) for v in value):
        for index, item in enumerate(value):
            yield from _flat(f"{prefix}[{index}]", item)
    else:
        shown = (
            ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else value
        )
        yield prefix, shown


def _readable_bytes(count: int) -> str:
    if count < 1000:
        return f"{count} B"
    if count < 1_000_000:
        return f"{count / 1000:.1f} kB"
    return f"{count / 1_000_000:.2f} MB"
