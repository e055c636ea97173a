"""The charts of a page, as Vega-Lite describes them.

A chart is a table of JSON that the page's own copy of Vega-Lite draws, so nothing that
is measured goes into code: texts are values in the data, and every expression is one of
this file. Colors are variables of the page's style, so a chart is dark where the page
is.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from penjing.measurement.size import format_bytes
from penjing.report.documents import Report
from penjing.report.search_rows import FrontRow

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, sans-serif'
_CONFIG = {
    "background": "transparent",
    "font": _FONT,
    "view": {"stroke": None},
    "axis": {
        "domain": False,
        "gridColor": "var(--line)",
        "labelColor": "var(--soft)",
        "labelFontSize": 12,
        "tickColor": "var(--line)",
        "titleColor": "var(--soft)",
        "titleFontSize": 12,
        "titleFontWeight": "normal",
    },
}
LEAF, BARK, _INK, _WORSE = (
    "var(--leaf)",
    "var(--bark)",
    "var(--ink)",
    "rgb(var(--warn))",
)
# Room for the text behind the longest bar, as a part of its length.
_ROOM = 1.75
_MAX_LAYERS = 200
_FEW_LAYERS, _FLAT_LAYERS = 12, 5
_MAX_TOOLTIP = 700
# Sizes further apart than that are drawn on a logarithmic scale.
_WIDE = 8.0
# Bytes on an axis, as `format_bytes` writes them.
_BYTES_LABEL = (
    "datum.value >= 1e6 ? format(datum.value / 1e6, '.3~f') + ' MB' : "
    "datum.value >= 1e3 ? format(datum.value / 1e3, '.3~f') + ' kB' : "
    "datum.value + ' B'"
)


def charts_of(report: Report) -> dict[str, dict[str, Any]]:
    """The charts that a report has data for, by the names of their places."""
    found = {
        "staircase": staircase_chart(report),
        "front": front_chart(report),
        "layers": layers_chart(report),
    }
    return {name: readable_chart(chart) for name, chart in found.items() if chart}


def staircase_chart(report: Report) -> dict[str, Any] | None:
    """Bytes after each step as bars, with the score behind them."""
    if len(report.staircase) < 2:
        return None
    values: list[dict[str, Any]] = []
    names = _unique([row.step for row in report.staircase])
    for number, row in enumerate(report.staircase):
        score = "" if row.score is None else f"{report.metric} {row.score:.4f}"
        change = report.change_of_score(row.score)
        values.append(
            {
                "number": number,
                "step": names[number],
                "bytes": row.bytes,
                "text": " · ".join(filter(None, (format_bytes(row.bytes), score))),
                "kind": "worse" if change == "worse" else "good",
            }
        )
    longest = max(row.bytes for row in report.staircase)
    y = {
        "field": "step",
        "type": "nominal",
        "sort": {"field": "number"},
        "axis": {"title": None, "ticks": False, "labelLimit": 160, "labelPadding": 8},
    }
    x = {
        "field": "bytes",
        "type": "quantitative",
        "scale": {"domain": [0, _ROOM * longest], "nice": False},
        "axis": None,
    }
    bars = {
        "mark": {"type": "bar", "cornerRadiusEnd": 3, "height": {"band": 0.62}},
        "encoding": {
            "color": colors("number", [BARK] + [LEAF] * (len(values) - 1), values)
        },
    }
    texts = {
        "mark": {"type": "text", "align": "left", "dx": 7, "fontSize": 12},
        "encoding": {
            "text": {"field": "text"},
            "color": colors("kind", [_INK, _WORSE], ["good", "worse"]),
        },
    }
    return {
        **new_chart(
            f"Bytes after gzip of {len(values)} files on the way to the result, and "
            "what they score. The table below has the same numbers.",
            values,
            height=34 * len(values),
        ),
        "encoding": {"x": x, "y": y},
        "layer": [bars, texts],
        "resolve": {"scale": {"color": "independent"}},
    }


def colors(field: str, names: Sequence[str], domain: Sequence[Any]) -> dict[str, Any]:
    """The color of a mark by a field: a name for each of its values."""
    values = [v[field] if isinstance(v, dict) else v for v in domain]
    scale = {"domain": values, "range": list(names)}
    return {"field": field, "type": "nominal", "scale": scale, "legend": None}


def front_scores(report: Report) -> str:
    """Which scores a front is drawn by: `"test"` where each file has one."""
    scored = [row.test_score is not None for row in report.front]
    return "test" if scored and all(scored) else "validation"


def front_score(row: FrontRow, part: str) -> float | None:
    """What a file scored on the test or on the validation data."""
    return row.test_score if part == "test" else row.validation_score


def front_chart(report: Report) -> dict[str, Any] | None:
    """Size against score of each file of a front, with what they are measured by."""
    part = front_scores(report)
    values = [
        _front_point(report, row, number, score)
        for number, row in enumerate(report.front)
        if (score := front_score(row, part)) is not None
    ]
    if not values:
        return None
    x, y = size_axis(values), score_axis(f"{report.metric} ({part} data)")
    line = {
        "mark": {"type": "line", "color": LEAF, "opacity": 0.35, "strokeWidth": 2},
        "encoding": {"x": x, "y": y, "order": {"field": "gzip"}},
    }
    dots = {
        "name": "dots",
        "mark": {
            "type": "point",
            "filled": True,
            "opacity": 1,
            "cursor": "pointer",
            "stroke": "var(--card)",
            "strokeWidth": 2,
        },
        "encoding": {
            "x": x,
            "y": y,
            "color": colors("chosen", [LEAF, _INK], ["yes", "no"]),
            "size": {
                "condition": {"test": "datum.chosen === 'yes'", "value": 260},
                "value": 130,
            },
            "tooltip": [
                {"field": key, "title": title}
                for key, title in _FRONT_TOOLTIP.items()
                if any(key in value for value in values)
            ],
        },
    }
    rules = [_rule(*line) for line in _lines_of_front(report, part)]
    return {
        **new_chart(
            f"Size and score of {len(values)} files. The list below has the same "
            "numbers, and opens the details of each.",
            values,
            height=300,
        ),
        "layer": [*itertools.chain.from_iterable(rules), line, dots],
    }


def size_axis(values: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The axis of bytes: logarithmic where files differ much."""
    sizes = [value["gzip"] for value in values]
    wide = max(sizes) > _WIDE * min(sizes)
    return {
        "field": "gzip",
        "type": "quantitative",
        "scale": {"type": "log" if wide else "linear", "zero": False, "nice": True},
        "axis": {
            "title": "bytes after gzip",
            "labelExpr": _BYTES_LABEL,
            "grid": False,
            "tickCount": 5,
            "labelOverlap": True,
        },
    }


def score_axis(title: str) -> dict[str, Any]:
    """The axis of scores."""
    return {
        "field": "score",
        "type": "quantitative",
        "scale": {"zero": False, "nice": True},
        "axis": {"title": title, "tickCount": 5},
    }


_FRONT_TOOLTIP = {
    "name": "trial",
    "size": "gzip",
    "shown": "score",
    "latency": "time",
    "arena": "arena",
    "recipe": "recipe",
}


def _front_point(
    report: Report, row: FrontRow, number: int, score: float
) -> dict[str, Any]:
    recipe = row.recipe or row.description
    if len(recipe) > _MAX_TOOLTIP:
        recipe = recipe[:_MAX_TOOLTIP] + "\n..."
    extra = {}
    if row.latency is not None:
        extra["latency"] = time_text(row.latency)
    if row.arena is not None:
        extra["arena"] = format_bytes(row.arena)
    return {
        "place": number,
        "name": row.name,
        "gzip": row.gzip,
        "score": score,
        "size": format_bytes(row.gzip),
        "shown": f"{report.metric} {score:.4f}",
        "chosen": "yes" if row.chosen else "no",
        "recipe": recipe,
        **extra,
    }


def _lines_of_front(report: Report, part: str) -> Iterator[tuple[str, float, str]]:
    """Scores that the front is to be seen against, on the same data as it is."""
    if part == "test":
        if report.before is not None:
            yield "baseline", report.before, BARK
        if report.control_score is not None:
            yield "dense, trained as long", report.control_score, _WORSE
    elif report.budget is not None:
        if report.budget.baseline is not None:
            yield "baseline", report.budget.baseline, BARK
        if report.budget.lowest is not None:
            yield "lowest that is allowed", report.budget.lowest, _WORSE


def _rule(text: str, score: float, color: str) -> list[dict[str, Any]]:
    data = {"values": [{"score": score, "text": text}]}
    y = {"field": "score", "type": "quantitative"}
    rule = {
        "data": data,
        "mark": {"type": "rule", "color": color, "strokeDash": [5, 4], "size": 1.5},
        "encoding": {"y": y},
    }
    label = {
        "data": data,
        "mark": {
            "type": "text",
            "align": "left",
            "baseline": "bottom",
            "dx": 4,
            "dy": -3,
            "fontSize": 12,
            "color": "var(--soft)",
        },
        "encoding": {"y": y, "x": {"value": 0}, "text": {"field": "text"}},
    }
    return [rule, label]


def layers_chart(report: Report) -> dict[str, Any] | None:
    """Bytes of each layer before and after, in the model's order."""
    rows = report.evidence.layers if report.evidence else ()
    rows = tuple(row for row in rows if row.bytes is not None and not row.is_untouched)
    if len(rows) < 2:
        return None
    names = _unique([row.name for row in rows])
    values = [
        {
            "number": number,
            "layer": names[number],
            "what": what,
            "bytes": count,
            "size": format_bytes(count),
        }
        for number, row in enumerate(rows[:_MAX_LAYERS])
        for what, count in (("float32", row.bytes_before), ("file", row.bytes))
        if count is not None
    ]
    many = {"title": "layers, in the order of the model", "labels": False}
    flat = len(rows) <= _FLAT_LAYERS
    few = {"title": None, "labelAngle": 0 if flat else -35, "labelLimit": 110}
    x = {
        "field": "layer",
        "type": "nominal",
        "sort": {"field": "number"},
        "axis": {"ticks": False, **(few if len(rows) <= _FEW_LAYERS else many)},
    }
    y = {
        "field": "bytes",
        "type": "quantitative",
        "stack": None,
        "axis": {
            "title": "bytes",
            "labelExpr": _BYTES_LABEL,
            "tickCount": 4,
        },
    }
    return {
        **new_chart(
            f"Bytes of {len(rows[:_MAX_LAYERS])} layers, as float32 and in the file. "
            "The table below has the same numbers.",
            values,
            height=190,
        ),
        "mark": {"type": "bar", "cornerRadiusEnd": 1, "width": {"band": 0.7}},
        "encoding": {
            "x": x,
            "y": y,
            "color": colors("what", [BARK, LEAF], ["float32", "file"]),
            "tooltip": [
                {"field": "layer"},
                {"field": "what", "title": "as"},
                {"field": "size", "title": "bytes"},
            ],
        },
    }


def _unique(texts: Sequence[str]) -> list[str]:
    """Texts of which no two are the same: bars of one name would be one bar."""
    return [
        text if text not in texts[:number] else f"{text} ({number + 1})"
        for number, text in enumerate(texts)
    ]


def time_text(seconds: float) -> str:
    """A time for people, with three digits.

    Example:
        >>> time_text(0.00123), time_text(2.5e-05), time_text(1.5)
        ('1.23 ms', '25 us', '1.5 s')
    """
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} us"


def new_chart(
    description: str, values: list[dict[str, Any]], *, height: int
) -> dict[str, Any]:
    """What all charts have: their data, a text for screen readers, the style."""
    return {
        "$schema": _SCHEMA,
        "description": description,
        "width": "container",
        "height": height,
        "autosize": {"type": "fit", "contains": "padding"},
        "config": _CONFIG,
        "data": {"values": values},
    }


def readable_chart(value: Any) -> Any:
    """The same with None for numbers that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: readable_chart(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [readable_chart(item) for item in value]
    return value
