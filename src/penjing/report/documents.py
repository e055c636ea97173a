"""The report of a compression: measurements as values, to and from JSON."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penjing.channels.channel_report import ChannelReport
from penjing.errors import FileFormatError
from penjing.files import DAMAGE, utf8_text, write_text
from penjing.json_values import JsonValue
from penjing.measurement.machine import Environment
from penjing.measurement.metric_direction import change_of, direction_of
from penjing.measurement.scoring import first_metric
from penjing.measurement.size import Size
from penjing.measurement.weight_report import WeightRow, total_sparsity
from penjing.report.evidence_rows import Evidence
from penjing.report.notebook_report import notebook_report
from penjing.report.score_rows import ScoreRow
from penjing.report.search_rows import BudgetRow, ControlRow, FrontRow, StairRow
from penjing.text_table import text_table
from penjing.version import __version__

SCHEMA_VERSION = 1
FLOAT_FILE = "baseline.tflite"
RESTORED = "litert-restored"
RUNTIMES = {
    "keras": "Keras",
    "litert": "LiteRT",
    RESTORED: "its plain file (LiteRT, unpacked)",
}
_MAX_REPORT_BYTES = 50_000_000


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSummary(JsonValue):
    """The data that trained and measured the models.

    Args:
        name: Name of the data set.
        source: Where it was found, for people.
        train: Training samples or, for loaders, batches.
        test: Test samples or, for loaders, batches.
        unit: `"samples"` or `"batches"`, of the training part.
        test_unit: The same of the test part; nothing where it is the same.
        notes: How it was read and split, for people.
    """

    name: str
    source: str
    train: int
    test: int
    unit: str = "samples"
    test_unit: str = ""
    notes: tuple[str, ...] = ()

    def count(self, part: str) -> str:
        """How much is in `"train"` or `"test"`, for people.

        Example:
            >>> DataSummary(name="a", source="", train=9, test=4000).count("test")
            '4,000 samples'
        """
        unit = (self.test_unit if part == "test" else "") or self.unit
        return f"{getattr(self, part):,} {unit}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileRow(Size):
    """One file and its size.

    Args:
        name: File name within the output folder.
        kind: What it is, for people.
    """

    name: str
    kind: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class RefusedFile(JsonValue):
    """A file that could not be written, or that did not run.

    Args:
        name: File name within the output folder.
        kind: What it would have been, for people.
        reason: Why not, and what to do.
    """

    name: str
    kind: str
    reason: str


@dataclasses.dataclass(frozen=True, kw_only=True, repr=False)
class Report(JsonValue):
    """All that one compression measured; printed, it is a table.

    Args:
        title: What was compressed, for people.
        model: Name of the model.
        parameters: Number of its parameters.
        recipe: The recipe, as a table.
        seed: Seed of the run.
        environment: What it ran on.
        data: The data.
        files: Sizes; the first row is the uncompressed baseline.
        scores: Accuracies of the Keras models and the exported files.
        weights: Sparsity per weight.
        history: Loss and metrics at the end of each epoch.
        seconds: Time by stage.
        reference: Name of the file that ratios are measured against.
        result: Name of the compressed file: of those that could be written, the packed
            one, or else the one that the recipe names first.
        channels: Channels before and after, where some were removed.
        warnings: What penjing warned of on the way.
        directions: Whether `"higher"` or `"lower"` values of a metric are better, or
            `"unknown"`; of metrics that are not named here, what their names say.
        refused: Files that the recipe asked for and that could not be had.
        budget: What a search was allowed, and whether that is met.
        front: The files that a search found, of which none beats another in all.
        control: The dense model, trained on as the result was.
        staircase: The files on the way from the baseline to the result.
        evidence: Layers, weights and examples, before and after.
        commands: What gives the same result again, as it is typed.

    Example:
        >>> report.ratio  # doctest: +SKIP
        13.4
    """

    title: str
    model: str
    parameters: int
    recipe: Mapping[str, Any]
    seed: int
    environment: Environment
    data: DataSummary
    files: tuple[FileRow, ...]
    scores: tuple[ScoreRow, ...]
    weights: tuple[WeightRow, ...]
    history: tuple[Mapping[str, float], ...] = ()
    seconds: Mapping[str, float] = dataclasses.field(default_factory=dict)
    reference: str = "baseline.h5"
    result: str = "model.tflite"
    channels: ChannelReport | None = None
    warnings: tuple[str, ...] = ()
    directions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    refused: tuple[RefusedFile, ...] = ()
    budget: BudgetRow | None = None
    front: tuple[FrontRow, ...] = ()
    control: ControlRow | None = None
    staircase: tuple[StairRow, ...] = ()
    evidence: Evidence | None = None
    commands: tuple[str, ...] = ()

    def __str__(self) -> str:
        """A table with one line for each file, and what the compression came to."""
        metric = self.metric or ""
        rows = [("file", "bytes", "gzip", metric, "what it is")]
        for file in self.files:
            scored = self.score(file.name) or self._score_of_baseline(file)
            value = scored.metrics.get(metric) if scored else None
            shown = "" if value is None else f"{value:.4f}"
            rows.append(
                (file.name, f"{file.raw:,}", f"{file.gzip:,}", shown, file.kind)
            )
        table = text_table(rows, "<4", ">5", ">4", ">", "<")
        lines = [self.title, table, self._outcome]
        lines += [f"Not there: {row.name}: {row.reason}" for row in self.refused]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Report of {self.title!r}: {self._outcome}>"

    def _repr_html_(self) -> str:
        """What notebooks show."""
        return notebook_report(self)

    @property
    def _outcome(self) -> str:
        text = f"{self.result} is {self.ratio:.1f} times smaller than {self.reference}"
        if self.before is not None and self.after is not None:
            text += f", {self.metric} {self.before:.4f} -> {self.after:.4f}"
        return text + (f", {len(self.refused)} refused" if self.refused else "")

    def _score_of_baseline(self, file: FileRow) -> ScoreRow | None:
        """The baseline is scored as a model, not by its file."""
        return self.scores[0] if self.scores and file is self.files[0] else None

    @property
    def ratio(self) -> float:
        """Zipped float `.h5` without optimizer over zipped compressed `.tflite`."""
        return self.file(self.reference).zip / self.file(self.result).zip

    @property
    def sparsity(self) -> float:
        """Fraction of zeros in the compressed weights."""
        return total_sparsity(row for row in self.weights if row.status == "compressed")

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of everything that was measured."""
        return tuple(dict.fromkeys(n for row in self.scores for n in row.metrics))

    @property
    def metric(self) -> str | None:
        """Name of the metric to speak of first; None where nothing was measured.

        It is the one that decided, where a search was made.
        """
        decided = self.budget.metric if self.budget is not None else None
        return decided if decided in self.metrics else first_metric(self.metrics)

    @property
    def before(self) -> float | None:
        """The first metric of the baseline, where it was measured."""
        return self.scores[0].metrics.get(self.metric or "") if self.scores else None

    @property
    def after(self) -> float | None:
        """The first metric of the compressed file, where it was measured."""
        row = self.score(self.result)
        return None if row is None else row.metrics.get(self.metric or "")

    @property
    def file_ratio(self) -> float | None:
        """The float `.tflite` of the baseline over the compressed one, as they are."""
        names = [row.name for row in self.files]
        if FLOAT_FILE not in names:
            return None
        return self.file(FLOAT_FILE).raw / self.file(self.result).raw

    @property
    def change(self) -> str:
        """What the first metric became in the compressed file; see `change_of_row`."""
        row = self.score(self.result)
        return "" if row is None else self.change_of_row(row)

    def direction(self, metric: str) -> str:
        """Whether `"higher"` or `"lower"` values are better, or `"unknown"`."""
        return self.directions.get(metric) or direction_of(metric)

    def change_of_row(self, row: ScoreRow, metric: str | None = None) -> str:
        """Whether a model is `"better"`, `"worse"` or the `"same"` as the baseline.

        It is judged by the first metric, or by the one that is named; nothing where
        that says neither.
        """
        metric = metric or self.metric or ""
        score, before = row.metrics.get(metric), self.scores[0].metrics.get(metric)
        if row is self.scores[0] or score is None or before is None:
            return ""
        return change_of(before, score, self.direction(metric))

    @property
    def control_score(self) -> float | None:
        """The first metric of the dense model, trained as long, if there is one."""
        if self.control is None:
            return None
        return self.control.metrics.get(self.metric or "")

    def change_of_score(self, score: float | None) -> str:
        """Whether a first metric is better, worse or the same as the baseline's."""
        if score is None or self.before is None:
            return ""
        return self.change_from(self.before, score)

    def change_from(self, before: float, after: float) -> str:
        """Whether a first metric is better, worse or the same as another one."""
        return change_of(before, after, self.direction(self.metric or ""))

    def difference(self, row: ScoreRow) -> str:
        """The first metric of a model less that of the baseline, as tables show it.

        It says so where the model is worse.
        """
        score = row.metrics.get(self.metric or "")
        if row is self.scores[0] or score is None or self.before is None:
            return ""
        worse = " worse" if self.change_of_row(row) == "worse" else ""
        return signed(score - self.before) + worse

    def file(self, name: str) -> FileRow:
        """Give the row of a file by its name."""
        return next(row for row in self.files if row.name == name)

    def score(self, name: str) -> ScoreRow | None:
        """Give the scores of a file by its name, where it was measured."""
        return next((row for row in self.scores if row.name == name), None)

    def to_dict(self) -> dict[str, Any]:
        """Give the report as JSON can hold it."""
        return {
            "schema_version": SCHEMA_VERSION,
            "penjing": __version__,
            "ratio": round(self.ratio, 4),
            "file_ratio": self.file_ratio and round(self.file_ratio, 4),
            "sparsity": round(self.sparsity, 6),
            "metric": self.metric,
            "before": self.before,
            "after": self.after,
            "change": self.change,
            **super().to_dict(),
        }

    @classmethod
    def from_dict(cls, table: Mapping[str, Any]) -> Report:
        """Build a report from what `to_dict` gave.

        Args:
            table: The parsed JSON.

        Returns:
            An equal report.

        Raises:
            FileFormatError: If it is no report or of another schema version.
        """
        version = table.get("schema_version")
        if version != SCHEMA_VERSION:
            raise FileFormatError(
                f"The report has schema version {version}; this penjing reads "
                f"{SCHEMA_VERSION}. Write it again with this version."
            )
        try:
            return super().from_dict(table)
        except TypeError as error:
            raise FileFormatError(
                f"This is not a report of penjing: {error}."
            ) from error


def smaller(ratio: float) -> tuple[str, str]:
    """Say how many times smaller something became, or larger.

    Example:
        >>> smaller(4.0), smaller(0.5)
        (('4.0', 'smaller'), ('2.0', 'larger'))
    """
    if ratio < 1.0:
        return f"{1 / ratio:.1f}", "larger"
    return f"{ratio:.1f}", "smaller"


def signed(difference: float) -> str:
    """Write a difference of scores; one that rounds to zero is +0.0000.

    Example:
        >>> signed(-1e-7), signed(0.25)
        ('+0.0000', '+0.2500')
    """
    return f"{round(difference, 4) + 0.0:+.4f}"


def write_json(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write a report as JSON."""
    return write_text(path, json.dumps(_readable(report.to_dict()), indent=2) + "\n")


def _readable(value: Any) -> Any:
    """The same with texts that any reader of JSON takes."""
    if isinstance(value, str):
        return utf8_text(value)
    if isinstance(value, Mapping):
        return {_readable(key): _readable(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_readable(item) for item in value]
    return value


def read_json(path: str | os.PathLike[str]) -> Report:
    """Read a report that `write_json` wrote; refuse any other file."""
    file = Path(path)
    try:
        if file.stat().st_size > _MAX_REPORT_BYTES:
            raise FileFormatError(f"{file} is too large to be a report of penjing.")
        table = json.loads(file.read_text("utf-8"))
    except FileFormatError:
        raise
    except DAMAGE as error:
        raise FileFormatError(f"Cannot read the report {file}: {error}.") from error
    if not isinstance(table, dict):
        raise FileFormatError(f"{file} is not a report of penjing.")
    return Report.from_dict(table)
