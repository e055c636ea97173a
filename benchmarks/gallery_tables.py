"""The tables of docs/gallery.md, from the figures of `gallery.py`."""

from __future__ import annotations

import re
from typing import Any

from gallery_files import RUNTIMES, file_rows

Results = dict[str, Any]
_FILES = {
    "author": "the author's small file",
    "int8": "`export --quantization int8`, no training",
    "levels at once": "`compress`, recipe `at once`, no training",
    "trained": "`compress`, recipe `trained`",
}
_MICRO = (
    *("fer", "keyword-spotting", "image-classification"),
    *("visual-wake-words", "anomaly-detection"),
)


def packages_table(results: Results) -> list[str]:
    lines = ["| package | version | licence that it states |", "|---|---|---|"]
    for name, row in results["packages"].items():
        lines.append(f"| `{name}` | {row['version']} | {row['licence']} |")
    return lines


def micro_table(results: Results) -> list[str]:
    lines = [
        "| network (parameters) | file | bytes | TFLM | Vela, flash | agrees |",
        "|---|---|---|---|---|---|",
    ]
    for name in _MICRO:
        row = results["rows"].get(name, {})
        for key, title in _FILES.items():
            if key not in row:
                continue
            found = row[key]
            arena = found["micro"].get("arena")
            cells = [
                f"{name} ({row['parameters']:,})" if key == "author" else "",
                title,
                _beside(found["bytes"], row["author"]["bytes"], key),
                f"arena {arena:,}" if arena else "refused",
                _beside(found.get("vela_flash"), row["author"].get("vela_flash"), key),
                f"{found['agreement']:.1%}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def _beside(size: int | None, author: int | None, key: str) -> str:
    if not size:
        return "-"
    if key == "author" or not author:
        return f"{size:,}"
    return f"{size:,} ({size / author:.2f}x)"


def files_table(results: Results) -> list[str]:
    lines = [
        f"| file | bytes | shrunk | {' | '.join(RUNTIMES)} |",
        "|---|---|---|" + "---|" * len(RUNTIMES),
    ]
    for name in file_rows():
        row = results["rows"].get(name, {})
        if "verdicts" not in row:
            continue
        cells = [name, f"{row['bytes']:,}", f"{row['shrunk']:,}"]
        for runtime in RUNTIMES:
            found = row["verdicts"].get(runtime)
            if found is None:
                cells.append("-")
                continue
            shrunk = row["shrunk_verdicts"].get(runtime, {})
            if found["right"]:
                cells.append("right")
            elif row.get("free_batch") and shrunk.get("right"):
                cells.append("right with `--batch 1`")
            else:
                cells.append("refused")
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def refusals_table(results: Results) -> list[str]:
    """Why files are refused, each reason with the files that it holds for."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for name in file_rows():
        row = results["rows"].get(name, {})
        for runtime, found in row.get("verdicts", {}).items():
            shrunk = row["shrunk_verdicts"].get(runtime, {})
            if not found["right"] and not shrunk.get("right"):
                why = _short((shrunk or found)["why"])
                reasons.setdefault((runtime, why), []).append(name)
    lines = ["| runtime | files | why not |", "|---|---|---|"]
    for (runtime, why), names in reasons.items():
        lines.append(f"| {runtime} | {', '.join(names)} | {why} |")
    return lines


def _short(why: str) -> str:
    """The first sentence, without the name of the file."""
    said = why.partition(". ")[0].replace("|", "/")
    return re.sub(r"^.*? cannot run [^:]*: ", "", said)[:200]


def networks_table(results: Results) -> list[str]:
    """Networks that were halved: bytes, and errors for each output."""
    lines = [
        "| network | file | parameters | bytes | error of outputs |",
        "|---|---|---|---|---|",
    ]
    for name in ("mtcnn-pnet", "mtcnn-rnet", "mtcnn-onet", "hed"):
        row = results["rows"].get(name, {})
        if "half int8" not in row:
            continue
        for size, parameters in (("whole", "parameters"), ("half", "parameters_half")):
            for mode in ("float32", "int8"):
                found = row[f"{size} {mode}"]
                errors = ", ".join(f"{error:.3f}" for error in found["errors"])
                title = name if (size, mode) == ("whole", "float32") else ""
                lines.append(
                    f"| {title} | {size}, {mode} | {row[parameters]:,} "
                    f"| {found['bytes']:,} | {errors} |"
                )
    return lines


def browser_table(results: Results) -> list[str]:
    lines = [
        "| network | file | bytes | gzipped | like the original | in WebAssembly |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("nsfwjs-mobilenet", "minilm"):
        row = results["rows"].get(name, {})
        if "author_bytes" not in row:
            continue
        size = f"{row['author_bytes']:,}"
        lines.append(f"| {name} | the author's weights | {size} | | | |")
        for title, found in row.items():
            if isinstance(found, dict) and "wasm" in found:
                like = f"cosine {found['cosine']:.3f}"
                if "agreement" in found:
                    like = f"{found['agreement']:.1%}, {like}"
                right = found["wasm"]
                verdict = "right" if right["right"] else _short(right["why"])
                lines.append(
                    f"| | {title} | {found['bytes']:,} | {found['gzip']:,} | {like} "
                    f"| {verdict} |"
                )
    return lines


def filled(lines: list[str]) -> list[str]:
    """A table, or words in place of one that has a head alone."""
    return lines if len(lines) > 2 else ["Not measured yet."]


TABLES = {
    "gallery-packages": packages_table,
    "gallery-micro": micro_table,
    "gallery-files": files_table,
    "gallery-refusals": refusals_table,
    "gallery-networks": networks_table,
    "gallery-browser": browser_table,
}
