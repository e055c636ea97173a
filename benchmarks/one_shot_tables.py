"""What one-shot pruning and rounding keep, as `docs/one-shot.md` quotes it."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from typing import Any

_TOOLS = {
    "penjing": "`penjing.quantize_weights`",
    "keras": "Keras' GPTQ, groups of 128 and zero points",
    "litert": "litert-quantizer's GPTQ",
}
Row = dict[str, Any]
Results = Callable[[str], dict[str, Any]]


def texts_table(results: Results) -> list[str]:
    """MiniLM: cosine to the float model, retrieval, files."""
    lines = [
        "| encoder of MiniLM | draws | cosine to the float model | least "
        "| MRR of 300 pairs | bytes, gzipped | CPU seconds |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, rows in _by_name(results, "minilm").items():
        changes = [row["rank_change"] for row in rows if "rank_change" in row]
        sizes = [f"{row['bytes']:,}, {row['gzip']:,}" for row in rows if "gzip" in row]
        cells = [
            *(name, len(rows), _mean(rows, "score"), _least(rows, "score")),
            f"{statistics.mean(changes):+.4f}" if changes else "",
            sizes[0] if sizes else "",
            f"{statistics.mean(row['cpu_seconds'] for row in rows):.0f}",
        ]
        lines.append(_line(cells))
    return lines


def images_table(results: Results) -> list[str]:
    """Networks on Fashion-MNIST: points of accuracy on 10,000 images."""
    lines = [
        "| network | what | draws | points of accuracy, mean | worst | CPU seconds |",
        "|---|---|---|---|---|---|",
    ]
    for task in ("cnn", "resnet-20", "mobilenet"):
        for name, rows in _by_name(results, task).items():
            points = [row["points"] for row in rows]
            cells = [
                f"`{task}`, {rows[0]['baseline']:.2%}",
                *(name, len(rows), f"{statistics.mean(points):+.2f}"),
                f"{min(points):+.2f}",
                f"{statistics.mean(row['cpu_seconds'] for row in rows):.0f}",
            ]
            lines.append(_line(cells))
    return lines


def layers_table(results: Results) -> list[str]:
    """Models, their layers, and in how many making up lowered the error."""
    lines = [
        "| model | layers | lower error than the same mask without making up "
        "| error, of that without |",
        "|---|---|---|---|",
    ]
    for name, row in results("one_shot_layers")["models"].items():
        cells = [name, row["layers"], row["lower"], f"{row['mean_ratio']:.2f}"]
        lines.append(_line(cells))
    return lines


def peers_table(results: Results) -> list[str]:
    """The same encoder in int4 by several tools."""
    lines = ["| tool | draws | cosine to the float model | CPU seconds |", "|---" * 4]
    lines[-1] += "|"
    rows = results("one_shot_peers")["rows"]
    for tool, title in _TOOLS.items():
        own = [row for row in rows if row["tool"] == tool]
        if own:
            seconds = f"{statistics.mean(row['cpu_seconds'] for row in own):.0f}"
            lines.append(_line([title, len(own), _mean(own, "score"), seconds]))
    return lines


def variants_table(results: Results) -> list[str]:
    """Errors of layers by other ways to round, over those of the way that is taken."""
    models = results("one_shot_variants")["models"]
    lines = [f"| int4, error over that of now | {' | '.join(models)} |"]
    lines.append("|---" * (1 + len(models)) + "|")
    for name in next(iter(models.values())):
        rows = [row[name] for row in models.values()]
        cells = (f"{row['mean_ratio']:.2f}, {row['cpu_seconds']:.0f} s" for row in rows)
        lines.append(_line([name, *cells]))
    return lines


TABLES = {
    "one-shot-variants": variants_table,
    "one-shot-texts": texts_table,
    "one-shot-images": images_table,
    "one-shot-layers": layers_table,
    "one-shot-peers": peers_table,
}


def _by_name(results: Results, task: str) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for row in results("one_shot").get(task, {"rows": []})["rows"]:
        found.setdefault(row["name"], []).append(row)
    return found


def _mean(rows: list[Row], key: str) -> str:
    return f"{statistics.mean(row[key] for row in rows):.4f}"


def _least(rows: list[Row], key: str) -> str:
    return f"{min(row[key] for row in rows):.4f}"


def _line(cells: list[Any]) -> str:
    return f"| {' | '.join(map(str, cells))} |"
