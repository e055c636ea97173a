"""The files of a run that lie on the way from the baseline to the result."""

from __future__ import annotations

from collections.abc import Sequence

from penjing.measurement.scoring import first_metric
from penjing.pipeline.file_stages import (
    BASELINE_FILE,
    PACKED_FILE,
    RESULT,
    RESULT_FILE,
    FileStages,
    modes_of,
)
from penjing.report.documents import FileRow
from penjing.report.score_rows import ScoreRow
from penjing.report.search_rows import StairRow

FLOAT_RESULT = f"{RESULT}.float32.tflite"


def staircase_of(
    files: FileStages,
    sizes: Sequence[FileRow],
    scores: Sequence[ScoreRow],
    *,
    metric: str | None = None,
    before: Sequence[StairRow] = (),
) -> tuple[StairRow, ...]:
    """Give a row for each file on the way that was written and runs.

    `metric` is what they are scored by, the first one unless it is said; `before` comes
    behind the float file.
    """
    by_name = {row.name: row for row in sizes}
    metric = metric or first_metric(name for row in scores for name in row.metrics)
    scored = {row.name: row.metrics.get(metric or "") for row in scores}
    title = modes_of(files.recipe)[RESULT_FILE].title
    steps = {
        BASELINE_FILE: "float file",
        FLOAT_RESULT: "compressed, float32",
        RESULT_FILE: title if FLOAT_RESULT in by_name else f"compressed, {title}",
        PACKED_FILE: "packed for microcontrollers",
    }
    rows = [
        StairRow(
            step=step,
            bytes=by_name[name].gzip,
            raw=by_name[name].raw,
            score=scored.get(name),
            file=name,
        )
        for name, step in steps.items()
        if name in by_name
    ]
    place = sum(row.file == BASELINE_FILE for row in rows)
    return (*rows[:place], *before, *rows[place:])
