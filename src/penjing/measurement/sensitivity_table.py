"""What a sensitivity run measured: a table that survives JSON."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

from penjing.errors import FileFormatError
from penjing.files import DAMAGE, write_text
from penjing.json_values import JsonValue
from penjing.measurement.metric_direction import LOWER, direction_of
from penjing.measurement.scoring import first_metric
from penjing.text_table import text_table

SCHEMA = "penjing.sensitivity/1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class SensitivityRow(JsonValue):
    """What the model scores with one layer or group cut.

    Attributes:
        name: The group of channels, or the path of the weight.
        ratio: The fraction that was asked to go.
        removed: Units or weights that went.
        size: Units or weights that there are.
        scores: Value by metric.
    """

    name: str
    ratio: float
    removed: int
    size: int
    scores: dict[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SensitivityTable(JsonValue):
    """How much each layer can lose; printed, it is a table.

    Attributes:
        model: Name of the model.
        method: `"channels"`, `"weights"` or `"int8"`.
        baseline: What the whole model scores, by metric.
        rows: One for each layer or group and ratio.
        skipped: What was not measured -> the reason.
        digest: Stands for the model, the data and the settings.
        directions: Whether `"higher"` or `"lower"` values of a metric are better; of
            metrics that are not named here, what their names say.
    """

    model: str
    method: str
    baseline: dict[str, float]
    rows: tuple[SensitivityRow, ...] = ()
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    digest: str = ""
    directions: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def metric(self) -> str:
        """The metric to speak of first: not the loss, where there is another one."""
        return str(first_metric(self.baseline))

    @property
    def names(self) -> tuple[str, ...]:
        """The layers or groups, in the order of the model."""
        return tuple(dict.fromkeys(row.name for row in self.rows))

    @property
    def ratios(self) -> tuple[float, ...]:
        """The ratios, rising."""
        return tuple(sorted({row.ratio for row in self.rows}))

    def rows_of(self, name: str) -> dict[float, SensitivityRow]:
        """The rows of a layer or group by their ratios, which rise."""
        own = {row.ratio: row for row in self.rows if row.name == name}
        return dict(sorted(own.items()))

    def cells(self, name: str) -> list[str]:
        """The first metric of a layer or group at each ratio, as tables show it."""
        own = self.rows_of(name)
        scores = [own[r].scores[self.metric] if r in own else None for r in self.ratios]
        return ["" if score is None else f"{score:.4f}" for score in scores]

    def loss_of(self, row: SensitivityRow) -> float:
        """By how much the first metric is worse than that of the whole model.

        Args:
            row: A row of this table.
        """
        worse = self.baseline[self.metric] - row.scores[self.metric]
        direction = self.directions.get(self.metric) or direction_of(self.metric)
        return -worse if direction == LOWER else worse

    def largest_ratio(self, name: str, tolerance: float) -> float:
        """The largest ratio up to which nothing costs more than `tolerance`.

        Args:
            name: A layer or group.
            tolerance: What the first metric may lose, such as 0.01.

        Returns:
            One of the measured ratios; 0.0 where each of them costs more.

        Raises:
            KeyError: If it was not measured.
        """
        own = self.rows_of(name)
        if not own:
            raise KeyError(name)
        found = 0.0
        for ratio, row in own.items():
            if not self.loss_of(row) <= tolerance:  # or nobody can tell: NaN
                break
            found = ratio
        return found

    def to_dict(self) -> dict[str, Any]:
        """Everything in types that JSON has."""
        return {"schema": SCHEMA, **super().to_dict()}

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Write the table as JSON.

        Args:
            path: File to write.

        Returns:
            The path.
        """
        return write_text(path, json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> SensitivityTable:
        """Read a table that `to_json` wrote.

        Args:
            path: File to read.

        Raises:
            FileFormatError: If the file is no such table.
        """
        try:
            table = json.loads(Path(path).read_text("utf-8"))
            if table["schema"] != SCHEMA:
                raise ValueError("it has another schema")
            found = cls.from_dict(table)
            str(found)  # baseline and rows speak of the same metric
            return found
        except DAMAGE as error:
            raise FileFormatError(
                f"Cannot read the sensitivity table {os.fspath(path)}: {error}. "
                "Choose another path, or delete the file."
            ) from error

    def __str__(self) -> str:
        """A table with one line for each layer: the first metric by ratio."""
        ratios = self.ratios
        head = ("", *(f"{ratio:.0%}" for ratio in ratios))
        rows = [head, *((name, *self.cells(name)) for name in self.names)]
        table = text_table(rows, "<5", *(">8" for _ in ratios))
        whole = self.baseline[self.metric]
        return f"{self.metric} of {self.model}: {whole:.4f} whole\n{table}"
