"""The report of a compression: measurements as values, to and from JSON."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from penjing.channels.channel_report import ChannelReport
from penjing.errors import FileFormatError
from penjing.files import write_text
from penjing.json_values import JsonValue
from penjing.measurement.size import Size
from penjing.measurement.weight_report import WeightRow, total_sparsity
from penjing.version import __version__

SCHEMA_VERSION = 1
_MAX_REPORT_BYTES = 50_000_000
_BACKEND_PACKAGES = {"tensorflow": "tensorflow", "jax": "jax", "torch": "torch"}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Environment(JsonValue):
    """What the measurements ran on; it names no person, host or folder.

    Args:
        packages: Version by package.
        backend: The Keras backend.
        python: Version of Python.
        system: Name of the operating system.
        processor: Model of the processor.
        cores: Logical processors that this process may use.
    """

    packages: Mapping[str, str]
    backend: str
    python: str
    system: str
    processor: str
    cores: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataSummary(JsonValue):
    """The data that trained and measured the models.

    Args:
        name: Name of the data set.
        source: Where it was found, for people.
        train: Training samples or, for loaders, batches.
        test: Test samples or, for loaders, batches.
        unit: `"samples"` or `"batches"`.
    """

    name: str
    source: str
    train: int
    test: int
    unit: str = "samples"


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
class ScoreRow(JsonValue):
    """What one model scored on the test data.

    Args:
        name: File name within the output folder.
        kind: What it is, for people.
        runtime: `"keras"` or `"litert"`.
        metrics: Value by metric.
    """

    name: str
    kind: str
    runtime: str
    metrics: Mapping[str, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(JsonValue):
    """All that one compression measured.

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
        result: Name of the compressed file.
        channels: Channels before and after, where some were removed.

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

    @property
    def ratio(self) -> float:
        """Zipped float `.h5` without optimizer over zipped compressed `.tflite`."""
        return self.file(self.reference).zip / self.file(self.result).zip

    @property
    def sparsity(self) -> float:
        """Fraction of zeros in the compressed weights."""
        return total_sparsity(row for row in self.weights if row.status == "compressed")

    @property
    def metric(self) -> str | None:
        """Name of the metric to speak of first; None where nothing was measured."""
        names = [name for row in self.scores for name in row.metrics]
        return next((name for name in names if name != "loss"), next(iter(names), None))

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
            "sparsity": round(self.sparsity, 6),
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


def signed(difference: float) -> str:
    """Write a difference of scores; one that rounds to zero is +0.0000.

    Example:
        >>> signed(-1e-7), signed(0.25)
        ('+0.0000', '+0.2500')
    """
    return f"{round(difference, 4) + 0.0:+.4f}"


def write_json(report: Report, path: str | os.PathLike[str]) -> Path:
    """Write a report as JSON.

    Args:
        report: The report.
        path: File to write.

    Returns:
        The path.
    """
    return write_text(path, json.dumps(report.to_dict(), indent=2) + "\n")


def read_json(path: str | os.PathLike[str]) -> Report:
    """Read a report that `write_json` wrote.

    Args:
        path: File to read.

    Returns:
        The report.

    Raises:
        FileFormatError: If the file is no report.
    """
    file = Path(path)
    try:
        if file.stat().st_size > _MAX_REPORT_BYTES:
            raise FileFormatError(f"{file} is too large to be a report of penjing.")
        table = json.loads(file.read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise FileFormatError(f"Cannot read the report {file}: {error}.") from error
    if not isinstance(table, dict):
        raise FileFormatError(f"{file} is not a report of penjing.")
    return Report.from_dict(table)


def describe_environment(backend: str) -> Environment:
    """Describe the machine and the packages, without names or folders.

    Args:
        backend: The Keras backend in use.

    Returns:
        The environment.
    """
    packages = ["penjing", "keras", "numpy", _BACKEND_PACKAGES.get(backend, backend)]
    versions = {name: _version(name) for name in [*packages, "ai-edge-litert"]}
    return Environment(
        packages={name: version for name, version in versions.items() if version},
        backend=backend,
        python=platform.python_version(),
        system=platform.system(),
        processor=_processor(),
        cores=_cores(),
    )


def _version(package: str) -> str | None:
    if package == "penjing":
        return __version__
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
