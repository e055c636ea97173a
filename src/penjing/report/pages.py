"""Reports and sensitivity tables as self-contained HTML pages."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from penjing.files import write_text
from penjing.measurement.sensitivity_table import SensitivityTable
from penjing.measurement.size import format_bytes
from penjing.report.documents import Report, signed
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
        "report.html", _context(report), {"bytes": format_bytes, "signed": signed}
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


_WIDTH, _HEIGHT = 720.0, 300.0
_LEFT, _BOTTOM = 56.0, 28.0


def render_sensitivity(table: SensitivityTable) -> str:
    """Render a table as one page that needs no network.

    Args:
        table: What `penjing.sensitivity` measured. All of its text is escaped.

    Returns:
        The page.
    """
    return render_page("sensitivity.html", _sensitivity_context(table))


def write_sensitivity(table: SensitivityTable, path: str | os.PathLike[str]) -> Path:
    """Write a table as one self-contained page.

    Args:
        table: The table.
        path: File to write.

    Returns:
        The path.
    """
    return write_text(path, render_sensitivity(table))


def _sensitivity_context(table: SensitivityTable) -> dict[str, Any]:
    whole = table.baseline[table.metric]
    scores = [whole, *(row.scores[table.metric] for row in table.rows)]
    finite = [score for score in scores if math.isfinite(score)] or [0.0]
    low, high = min(finite), max(finite)
    span = (high - low) or 1.0

    def place(ratio: float, score: float) -> tuple[float, float]:
        x = _LEFT + ratio * (_WIDTH - _LEFT - 8)
        return x, 8 + (high - score) / span * (_HEIGHT - _BOTTOM - 16)

    ratios = sorted({row.ratio for row in table.rows})
    lines: list[dict[str, Any]] = []
    for number, name in enumerate(table.names):
        own = {r.ratio: r for r in table.rows if r.name == name}
        path = [(0.0, whole), *((r, own[r].scores[table.metric]) for r in sorted(own))]
        points = [place(*point) for point in path if math.isfinite(point[1])]
        lines.append(
            {
                "name": name,
                "hue": round(number * 137.508) % 360,  # far from those before
                "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in points),
                "dots": points,
                "cells": [
                    own[r].scores[table.metric] if r in own else None for r in ratios
                ],
                "losses": [table.loss_of(own[r]) if r in own else 0.0 for r in ratios],
            }
        )
    losses = [loss for line in lines for loss in line["losses"]]
    worst = max([loss for loss in losses if math.isfinite(loss)] + [1e-9])
    for line in lines:  # what nobody can draw is as bad as the worst
        line["losses"] = [v if math.isfinite(v) else worst for v in line["losses"]]
    levels = [high - span * step / 4 for step in range(5)]
    return {
        "table": table,
        "whole": whole,
        "version": __version__,
        "size": (_WIDTH, _HEIGHT),
        "left": _LEFT,
        "lines": lines,
        "worst": worst,
        "ratios": [(ratio, place(ratio, low)[0]) for ratio in ratios],
        "levels": [(level, place(0.0, level)[1]) for level in levels],
    }


def render_page(
    name: str,
    context: Mapping[str, Any],
    filters: Mapping[str, Callable[..., Any]] | None = None,
) -> str:
    """Fill a template; all text is escaped, and a missing value is an error.

    Args:
        name: File name within `templates`.
        context: Its values.
        filters: Further filters that it uses.

    Returns:
        The page.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("penjing.report", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters or {})
    return environment.get_template(name).render(context)
