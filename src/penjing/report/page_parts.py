"""What a page writes of each part of a report: texts, and values to sort by."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

from penjing.measurement.size import format_bytes
from penjing.report.charts import front_score, front_scores, time_text
from penjing.report.documents import FLOAT_FILE, Report, signed
from penjing.report.drawings import (
    checked_png,
    mask_picture,
    series_points,
    steps_path,
)
from penjing.report.evidence_rows import Evidence, LayerRow
from penjing.report.search_rows import FrontRow, StairRow

PICTURE_WIDTH, PICTURE_HEIGHT = 200, 56
_SERIES_WIDTH, _SERIES_HEIGHT = 120, 40
_FIRST_PICTURES = 12


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a table that sorts: what it shows, and what it is sorted by."""

    text: str
    value: float | None


@dataclasses.dataclass(frozen=True)
class LayerColumn:
    """A column of the table of layers, as its heading and how a cell is made."""

    heading: str
    value: Callable[[LayerRow], float | None]
    text: Callable[[LayerRow], str]

    def cell(self, row: LayerRow) -> Cell:
        """Write the cell of a layer; empty where nothing is known."""
        value = self.value(row)
        return Cell("", None) if value is None else Cell(self.text(row), value)


def _change(
    before: Callable[[LayerRow], int | None], after: Callable[[LayerRow], int | None]
) -> Callable[[LayerRow], str]:
    """A text that shows a number before and after, where they differ."""

    def text(row: LayerRow) -> str:
        first, last = before(row), after(row)
        if last is None or first is None or first == last:
            found = first if last is None else last
            return "" if found is None else f"{found:,}"
        return f"{first:,} → {last:,}"

    return text


def _last(
    before: Callable[[LayerRow], int | None], after: Callable[[LayerRow], int | None]
) -> Callable[[LayerRow], float | None]:
    def value(row: LayerRow) -> float | None:
        last = after(row)
        return before(row) if last is None else last

    return value


def _share_of_zeros(row: LayerRow) -> float | None:
    size = row.parameters if row.parameters_after is None else row.parameters_after
    return None if row.zeros is None or not size else row.zeros / size


_PARAMETERS = (lambda row: row.parameters, lambda row: row.parameters_after)
_CHANNELS = (lambda row: row.channels, lambda row: row.channels_after)
_MACS = (lambda row: row.macs, lambda row: row.macs_after)
_COLUMNS = (
    LayerColumn("parameters", _last(*_PARAMETERS), _change(*_PARAMETERS)),
    LayerColumn("channels", _last(*_CHANNELS), _change(*_CHANNELS)),
    LayerColumn(
        "zeros",
        _share_of_zeros,
        lambda row: f"{100 * (_share_of_zeros(row) or 0):.1f} %",
    ),
    LayerColumn("levels", lambda row: row.levels, lambda row: f"{row.levels:,}"),
    LayerColumn("bits", lambda row: row.bits, lambda row: f"{row.bits:g}"),
    LayerColumn("bytes", lambda row: row.bytes, lambda row: f"{row.bytes:,}"),
    LayerColumn("flash", lambda row: row.flash, lambda row: f"{row.flash:,}"),
    LayerColumn("MACs", _last(*_MACS), _change(*_MACS)),
    LayerColumn(
        "time", lambda row: row.seconds, lambda row: time_text(row.seconds or 0)
    ),
    LayerColumn(
        "error", lambda row: row.error, lambda row: f"{100 * (row.error or 0):.1f} %"
    ),
)


def layer_table(evidence: Evidence | None) -> dict[str, Any] | None:
    """The table of layers; columns that nobody measured are not there."""
    rows = evidence.layers if evidence else ()
    own = [row for row in rows if not row.is_untouched]
    if not own:
        return None
    columns = [c for c in _COLUMNS if any(c.value(row) is not None for row in own)]
    return {
        "headings": [column.heading for column in columns],
        "rows": [(row, [column.cell(row) for column in columns]) for row in own],
        "others": [row for row in rows if row.is_untouched],
        "reasons": any(row.reason for row in own),
    }


def steps_of(report: Report) -> list[dict[str, Any]]:
    """The lines of the staircase: what each step came to, and what it bought."""
    lines = []
    rows = report.staircase
    for last, row in zip((None, *rows), rows, strict=False):
        saved = cost = ""
        if last is not None:
            saved = f"{row.bytes - last.bytes:+,}"
            if row.score is not None and last.score is not None:
                cost = signed(row.score - last.score)
        lines.append(
            {
                "row": row,
                "size": f"{row.bytes:,}",
                "raw": "" if row.raw is None else f"{row.raw:,}",
                "saved": saved,
                "score": "" if row.score is None else f"{row.score:.4f}",
                "cost": cost,
                "change": _change_of_step(report, last, row),
            }
        )
    return lines


def _change_of_step(report: Report, last: StairRow | None, row: StairRow) -> str:
    if last is None or last.score is None or row.score is None:
        return ""
    return report.change_from(last.score, row.score)


def files_of_front(report: Report) -> dict[str, Any] | None:
    """The files of a front with what is known of each, in the order of their sizes."""
    if not report.front:
        return None
    part = front_scores(report)
    files = []
    order = sorted(enumerate(report.front), key=lambda item: item[1].gzip)
    for place, row in order:
        score = front_score(row, part)
        change = report.change_of_score(score) if part == "test" else ""
        files.append(
            {
                "place": place,
                "row": row,
                "score": "" if score is None else f"{score:.4f}",
                "change": change,
                "facts": [(name, text) for name, text in _front_facts(row) if text],
            }
        )
    return {"part": part, "files": files}


def _front_facts(row: FrontRow) -> list[tuple[str, str]]:
    def score(value: float | None) -> str:
        return "" if value is None else f"{value:.4f}"

    return [
        ("file", row.file),
        ("bytes", f"{row.raw:,}"),
        ("after gzip", f"{row.gzip:,}"),
        ("time", "" if row.latency is None else time_text(row.latency)),
        ("arena", "" if row.arena is None else format_bytes(row.arena)),
        ("MACs", "" if row.macs is None else f"{row.macs:,.0f}"),
        ("on validation data", score(row.validation_score)),
        ("on test data", score(row.test_score)),
    ]


def weight_pictures(evidence: Evidence | None) -> dict[str, Any] | None:
    """Histograms and masks of weights, the first of them to be seen at once."""
    found = evidence.weights if evidence else ()
    if not found:
        return None
    pictures = []
    for row in found:
        size = (PICTURE_WIDTH, PICTURE_HEIGHT)
        total = math.prod(row.shape)
        pictures.append(
            {
                "row": row,
                "before": steps_path(row.before, *size) if row.before else "",
                "after": steps_path(row.after, *size),
                "mask": mask_picture(row.mask),
                "zeros": row.zeros_after / total if total else 0.0,
            }
        )
    first, others = pictures[:_FIRST_PICTURES], pictures[_FIRST_PICTURES:]
    return {"first": first, "others": others}


def examples_of(evidence: Evidence | None) -> list[dict[str, Any]]:
    """Samples that changed sides, with their pictures, lines or texts."""
    size = (_SERIES_WIDTH, _SERIES_HEIGHT)
    return [
        {
            "row": row,
            "png": checked_png(row.picture),
            "points": series_points(row.series, *size) if row.series else "",
        }
        for row in (evidence.examples if evidence else ())
    ]


def speed_of(report: Report) -> dict[str, Any] | None:
    """How much faster the result is than the float file, where both were timed."""
    times = {
        row.name: row for row in (report.evidence.times if report.evidence else ())
    }
    first, last = times.get(FLOAT_FILE), times.get(report.result)
    if first is None or last is None or last.speedup is None or last.speedup <= 0:
        return None
    faster = last.speedup >= 1
    low, high = last.speedup_low, last.speedup_high
    if low is not None and high is not None and low < 1 < high:
        return {
            "times": f"{last.speedup:.1f}",
            "word": "the speed",
            "first": first,
            "last": last,
        }
    return {
        "times": f"{last.speedup if faster else 1 / last.speedup:.1f}",
        "word": "faster" if faster else "slower",
        "first": first,
        "last": last,
    }


def cost_sentences(report: Report) -> Sequence[str]:
    """What the result is to be seen against, in sentences."""
    sentences = []
    control, after = report.control_score, report.after
    if control is not None and after is not None:
        change = report.change_from(control, after)
        worse = {"worse": ", which is worse", "better": ", which is better"}
        sentences.append(
            f"The dense model, trained on as long, scores {control:.4f}: the deployed "
            f"file is {signed(after - control)} from it{worse.get(change, '')}."
        )
    return sentences
