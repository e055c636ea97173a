"""Reports and sensitivity tables as self-contained HTML pages."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from penjing.errors import FileFormatError
from penjing.files import write_text
from penjing.measurement.sensitivity_table import SensitivityTable
from penjing.measurement.size import Size
from penjing.report import page_parts
from penjing.report.charts import charts_of
from penjing.report.documents import (
    FLOAT_FILE,
    RUNTIMES,
    Report,
    smaller,
)
from penjing.report.rendering import render
from penjing.report.scripts import page_scripts
from penjing.report.weight_lines import weight_lines

_WIDTH, _HEIGHT = 720.0, 300.0
_LEFT, _BOTTOM = 56.0, 28.0
_GOLDEN_ANGLE = 137.508  # hues that far apart never come close to those before


def render_html(report: Report) -> str:
    """Render a report as one page that needs no network; all text is escaped."""
    weights, vectors = weight_lines(report.weights)
    charts = charts_of(report)
    layers = page_parts.layer_table(report.evidence)
    return render(
        "report.html",
        scripts=page_scripts(charts=bool(charts), tables=layers is not None),
        charts=charts,
        steps=page_parts.steps_of(report),
        front=page_parts.files_of_front(report),
        layers=layers,
        pictures=page_parts.weight_pictures(report.evidence),
        box=(page_parts.PICTURE_WIDTH, page_parts.PICTURE_HEIGHT),
        examples=page_parts.examples_of(report.evidence),
        left_out=report.evidence.left_out if report.evidence else {},
        speed=page_parts.speed_of(report),
        sentences=page_parts.cost_sentences(report),
        report=report,
        weights=weights,
        vectors=vectors,
        float_file=FLOAT_FILE,
        smaller=smaller,
        sizes=[field.name for field in dataclasses.fields(Size)],
        runtimes=RUNTIMES,
        largest=max(row.raw for row in report.files),
        history=_history(report),
        recipe=list(_flat("", report.recipe)),
    )


def write_report_page(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write the page of a report that was read from a file, which may be anybody's.

    Raises:
        FileFormatError: If what the report says does not fit together.
    """
    try:
        page = render_html(report)
    except Exception as error:  # in templates it may be any
        raise FileFormatError(
            f"This report cannot be drawn: {type(error).__name__}: {error}. It was "
            "changed, or is damaged."
        ) from error
    return write_text(path, page)


def write_html(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write a report as one self-contained page."""
    return write_text(path, render_html(report))


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


def _flat(prefix: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Nested tables as `("training.epochs", 8)` pairs."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(f"{prefix}.{key}" if prefix else str(key), item)
    elif isinstance(value, (list, tuple)) and any(isinstance(v, dict) for v in value):
        for index, item in enumerate(value):
            yield from _flat(f"{prefix}[{index}]", item)
    elif isinstance(value, (list, tuple)):
        yield prefix, ", ".join(map(str, value))
    else:
        yield prefix, value


def render_sensitivity(table: SensitivityTable) -> str:
    """Render a table as one page that needs no network; all text is escaped."""
    whole = table.baseline[table.metric]
    scores = [whole, *(row.scores[table.metric] for row in table.rows)]
    finite = [score for score in scores if math.isfinite(score)] or [0.0]
    high = max(finite)
    span = (high - min(finite)) or 1.0

    def place(ratio: float, score: float) -> tuple[float, float]:
        x = _LEFT + ratio * (_WIDTH - _LEFT - 8)
        return x, 8 + (high - score) / span * (_HEIGHT - _BOTTOM - 16)

    lines = _lines(table, place)
    losses = [loss for line in lines for loss in line["losses"]]
    worst = max([loss for loss in losses if math.isfinite(loss)] + [1e-9])
    for line in lines:  # what nobody can draw is as bad as the worst
        line["losses"] = [v if math.isfinite(v) else worst for v in line["losses"]]
    levels = [high - span * step / 4 for step in range(5)]
    return render(
        "sensitivity.html",
        scripts=page_scripts(charts=False, tables=False),
        table=table,
        whole=whole,
        size=(_WIDTH, _HEIGHT),
        left=_LEFT,
        lines=lines,
        worst=worst,
        headings=[f"{100 * ratio:.0f} % gone" for ratio in table.ratios],
        ratios=[(ratio, place(ratio, high)[0]) for ratio in table.ratios],
        levels=[(level, place(0.0, level)[1]) for level in levels],
    )


def _lines(
    table: SensitivityTable, place: Callable[[float, float], tuple[float, float]]
) -> list[dict[str, Any]]:
    """What is drawn and written of each layer or group."""
    whole = table.baseline[table.metric]
    lines = []
    for number, name in enumerate(table.names):
        own = table.rows_of(name)
        path = [(0.0, whole), *((r, own[r].scores[table.metric]) for r in own)]
        points = [place(*point) for point in path if math.isfinite(point[1])]
        lines.append(
            {
                "name": name,
                "color": f"hsl({round(number * _GOLDEN_ANGLE) % 360} 55% var(--shade))",
                "points": " ".join(f"{x:.1f},{y:.1f}" for x, y in points),
                "dots": points,
                "cells": table.cells(name),
                "losses": [
                    table.loss_of(own[r]) if r in own else 0.0 for r in table.ratios
                ],
            }
        )
    return lines


def write_sensitivity(table: SensitivityTable, path: str | os.PathLike[str]) -> Path:
    """Write a table as one self-contained page."""
    return write_text(path, render_sensitivity(table))
