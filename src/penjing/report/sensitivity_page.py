"""A sensitivity table as one self-contained HTML page with a plot."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from penjing.files import write_text
from penjing.methods.sensitivity_table import SensitivityTable
from penjing.report.page_templates import render_page
from penjing.version import __version__

_WIDTH, _HEIGHT = 720.0, 300.0
_LEFT, _BOTTOM = 56.0, 28.0


def render_sensitivity(table: SensitivityTable) -> str:
    """Render a table as one page that needs no network.

    Args:
        table: What `penjing.sensitivity` measured. All of its text is escaped.

    Returns:
        The page.
    """
    return render_page("sensitivity.html", _context(table))


def write_sensitivity(table: SensitivityTable, path: str | os.PathLike[str]) -> Path:
    """Write a table as one self-contained page.

    Args:
        table: The table.
        path: File to write.

    Returns:
        The path.
    """
    return write_text(path, render_sensitivity(table))


def _context(table: SensitivityTable) -> dict[str, Any]:
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
