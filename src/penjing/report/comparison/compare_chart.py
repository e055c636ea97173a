"""Size against score of files that are compared."""

from __future__ import annotations

from typing import Any

from penjing.measurement.size import format_bytes
from penjing.report.charts import BARK, LEAF, colors, new_chart, score_axis, size_axis
from penjing.report.comparison.finished_files import Comparison


def compare_chart(comparison: Comparison) -> dict[str, Any] | None:
    """Size against score of files that are compared."""
    values = [
        {
            "place": place,
            "name": row.name,
            "gzip": row.gzip,
            "score": score,
            "size": format_bytes(row.gzip),
            "shown": f"{comparison.metric} {score:.4f}",
            "best": "yes" if row.name in comparison.best else "no",
        }
        for place, row in enumerate(comparison.files)
        if (score := comparison.score(row)) is not None
    ]
    if len(values) < 2:
        return None
    x, y = size_axis(values), score_axis(f"{comparison.metric}")
    dots = {
        "mark": {"type": "point", "filled": True, "opacity": 1, "size": 150},
        "encoding": {
            "x": x,
            "y": y,
            "color": colors("best", [LEAF, BARK], ["yes", "no"]),
            "tooltip": [
                {"field": "name", "title": "file"},
                {"field": "size", "title": "gzip"},
                {"field": "shown", "title": "score"},
            ],
        },
    }
    names = {
        "mark": {
            "type": "text",
            "baseline": "bottom",
            "dy": -9,
            "fontSize": 12,
            "limit": 160,
            "color": "var(--soft)",
        },
        "encoding": {"x": x, "y": y, "text": {"field": "name"}},
    }
    return {
        **new_chart(
            f"Size and score of {len(values)} files. The table below has the same "
            "numbers.",
            values,
            height=300,
        ),
        "layer": [dots, names],
    }
