"""Finished runs and files beside each other, as values."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from penjing.errors import FileFormatError
from penjing.files import as_path, check_file
from penjing.json_values import JsonValue
from penjing.measurement.metric_direction import change_of, direction_of
from penjing.measurement.scoring import first_metric
from penjing.measurement.size import measure_size
from penjing.report.documents import DataSummary, Report, read_json

REPORT = "report.json"
SUFFIXES = (".tflite", ".keras", ".h5", ".hdf5")

Score = Callable[[Path], Mapping[str, float]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComparedFile(JsonValue):
    """One file of a comparison, of a finished run or by itself.

    Args:
        name: What it is called here: as it was given.
        file: Name of the file.
        kind: What it is, for people.
        raw: Its bytes.
        zip: Its bytes in a zip archive.
        gzip: Its bytes after gzip.
        metrics: What it scores on test data, by metric; empty where nobody knows.
        data: What test data that is, for people.
        recipe: The recipe of its run, empty without a run.
        ratio: How many times smaller it is than its baseline's float `.h5`, both
            zipped; None without a run.
        before: What its baseline scores on the same data, by metric.
        control: What its dense control does.
        metric: The metric that its run speaks of first.
        directions: Whether `"higher"` or `"lower"` values of a metric are better.
    """

    name: str
    file: str
    kind: str = ""
    raw: int
    zip: int
    gzip: int
    metrics: Mapping[str, float] = dataclasses.field(default_factory=dict)
    data: str = ""
    recipe: str = ""
    ratio: float | None = None
    before: Mapping[str, float] = dataclasses.field(default_factory=dict)
    control: Mapping[str, float] = dataclasses.field(default_factory=dict)
    metric: str | None = None
    directions: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Comparison(JsonValue):
    """Files beside each other; the first is what others are compared with.

    Args:
        files: The files, in the order in which they were given.
        notes: What keeps them from being compared, for people.
    """

    json_properties = ("metric",)

    files: tuple[ComparedFile, ...]
    notes: tuple[str, ...] = ()

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all metrics."""
        return tuple(dict.fromkeys(name for row in self.files for name in row.metrics))

    @property
    def metric(self) -> str | None:
        """The metric to speak of first; None where nothing was scored.

        It is that of the runs, where they agree.
        """
        own = {row.metric for row in self.files if row.metric in self.metrics}
        return own.pop() if len(own) == 1 else first_metric(self.metrics)

    def score(self, row: ComparedFile) -> float | None:
        """The first metric of a file, where it is known."""
        return self.first_of(row.metrics)

    def first_of(self, scores: Mapping[str, float]) -> float | None:
        """The first metric among some, where it is known."""
        return scores.get(self.metric or "")

    def change(self, row: ComparedFile, before: float | None) -> str:
        """Whether a file is `"better"`, `"worse"` or the `"same"` as a score."""
        score, metric = self.score(row), self.metric or ""
        if score is None or before is None:
            return ""
        known = row.directions.get(metric) or direction_of(metric)
        return change_of(before, score, known)

    @property
    def best(self) -> tuple[str, ...]:
        """Names of the files that none beats in both bytes and score on their data."""
        scored = [row for row in self.files if self.score(row) is not None]
        return tuple(
            row.name
            for row in scored
            if not any(self._beats(other, row) for other in scored)
        )

    def score_beside(self, row: ComparedFile, other: ComparedFile) -> float | None:
        """The first metric of another file, where it is of the same test data."""
        return self.score(other) if row.data == other.data else None

    def _beats(self, other: ComparedFile, row: ComparedFile) -> bool:
        if self.score_beside(row, other) is None:
            return False
        change = self.change(other, self.score(row))
        smaller = other.gzip < row.gzip
        return (change == "better" and other.gzip <= row.gzip) or (
            change == "same" and smaller
        )


def compare_finished(
    paths: Sequence[str | os.PathLike[str]],
    *,
    score: Score | None = None,
    data: str = "",
) -> Comparison:
    """Put finished runs and files beside each other.

    Args:
        paths: Folders of runs, their `report.json`, or `.tflite`, `.keras` and `.h5`
            files; two or more.
        score: Scores a file on the data that `data` names, for people. None: the scores
            of runs are those in their reports, and files by themselves have none.
        data: What `score` scores on.

    Returns:
        The comparison, in the order of the paths.

    Raises:
        FileFormatError: If a path is none of these, or damaged.
        ValueError: If fewer than two are given, or one twice.
    """
    checked = [as_path(path) for path in paths]
    if len(checked) < 2:
        raise ValueError(
            f"A comparison takes two files or folders or more, got {len(checked)}."
        )
    twice = [path for path in checked if checked.count(path) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is given twice.")
    rows = [_row(path, score, data) for path in checked]
    return Comparison(files=tuple(rows), notes=tuple(_notes(rows, score is not None)))


def _row(path: Path, score: Score | None, data: str) -> ComparedFile:
    if path.is_dir() or path.suffix == ".json":
        return _row_of_run(path, score, data)
    if path.suffix.lower() not in SUFFIXES:
        raise FileFormatError(
            f"{path} is of an unknown type: unknown suffix {path.suffix!r}. Allowed: "
            f"folders of finished runs, {REPORT}, {', '.join(SUFFIXES)}."
        )
    file = check_file(path)
    size = measure_size(file)
    return ComparedFile(
        name=str(path),
        file=path.name,
        raw=size.raw,
        zip=size.zip,
        gzip=size.gzip,
        metrics=dict(score(file)) if score else {},
        data=data if score else "",
    )


def _row_of_run(path: Path, score: Score | None, data: str) -> ComparedFile:
    report, folder = read_run(path)
    row = report.file(report.result)
    scored = report.score(report.result)
    shared: dict[str, Any] = {
        "name": str(path),
        "file": row.name,
        "kind": row.kind,
        "raw": row.raw,
        "zip": row.zip,
        "gzip": row.gzip,
        "recipe": str(report.recipe.get("name", "")),
        "ratio": report.ratio,
        "directions": dict(report.directions),
        "metric": report.metric,
    }
    if score is not None:
        file = check_file(folder / row.name)
        size = measure_size(file)  # it may have changed since
        shared |= {"raw": size.raw, "zip": size.zip, "gzip": size.gzip}
        shared["ratio"] = report.file(report.reference).zip / size.zip
        return ComparedFile(**shared, metrics=dict(score(file)), data=data)
    return ComparedFile(
        **shared,
        metrics=dict(scored.metrics) if scored else {},
        data=_data_of(report.data),
        before=dict(report.scores[0].metrics) if report.scores else {},
        control=dict(report.control.metrics) if report.control else {},
    )


def _data_of(data: DataSummary) -> str:
    """What test data it is; notes on its split say which samples they are."""
    text = f"{data.name}, {data.test:,} test {data.test_unit or data.unit}"
    splits = [note for note in data.notes if "are the test " in note]
    return f"{text} ({'; '.join(splits)})" if splits else text


def read_run(path: Path) -> tuple[Report, Path]:
    """Read the report of a finished run, given its folder or the report itself.

    Raises:
        FileFormatError: If there is none, or it does not fit together.
    """
    file = path / REPORT if path.is_dir() else path
    if path.is_dir() and not file.is_file():
        raise FileFormatError(
            f"{path} holds no {REPORT}: no run of penjing has finished there. Give the "
            "output folder of `penjing compress`; a run that was killed goes on with "
            "the same command."
        )
    report = read_json(file)
    names = {row.name for row in report.files}
    missing = sorted({report.reference, report.result} - names)
    if missing:
        raise FileFormatError(
            f"{file} is not a report of penjing: it has no sizes of {missing[0]!r}."
        )
    return report, file.parent


def _notes(rows: Sequence[ComparedFile], is_scored: bool) -> list[str]:
    notes = []
    known = list(dict.fromkeys(row.data for row in rows if row.metrics))
    if len(known) > 1:
        notes.append(
            f"Scores are of different test data ({'; '.join(known)}): compare them on "
            "one, with --data."
        )
    if not is_scored and (left := [row.name for row in rows if not row.metrics]):
        notes.append(f"Nobody scored {', '.join(left)}: give test data with --data.")
    shared = set.intersection(
        *([set(row.metrics) for row in rows if row.metrics] or [set()])
    )
    if known and not shared:
        notes.append("The scores are by different metrics.")
    return notes
