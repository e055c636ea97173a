"""What errors of layers cost, and the bits that a budget of bytes buys for each."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from penjing.arguments import check_integer
from penjing.errors import CompressionError, FileFormatError
from penjing.files import DAMAGE, write_text
from penjing.json_values import JsonValue
from penjing.notebook.html_tables import Cell, NotebookTable, notebook_html
from penjing.numerics.shares import cheapest_options
from penjing.text_table import text_table

SCHEMA = "penjing.layer_errors/1"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerErrors(JsonValue):
    """What the model's outputs change by where one weight alone is compressed.

    They are Kullback-Leibler divergences of probabilities, else mean squared changes
    over the variance of the outputs, summed over the model's outputs.

    Attributes:
        path: Keras path of the weight.
        size: Number of its values.
        is_embedding: It is a table of vectors that are looked up.
        changes: By level of the report, the change of the outputs.
        bytes: By level, what it takes in an "int4" file: half a byte for each value up
            to 4 bits, but for depthwise kernels, else one, and a scale for each
            channel. Empty for sparsities.
        compressed: The same, gzipped.
        reason: Why nothing made up for its errors, else empty.
    """

    path: str
    size: int
    is_embedding: bool
    changes: tuple[float, ...]
    bytes: tuple[int, ...] = ()
    compressed: tuple[int, ...] = ()
    reason: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerErrorReport(JsonValue):
    """What each layer alone costs at several bits or sparsities; printed, a table.

    Attributes:
        model: Name of the model.
        of: `"bits"` or `"sparsity"`.
        levels: Bits, or fractions of zeros, rising.
        rows: One for each weight, in the model's order.
        skipped: What was not measured -> the reason.
        samples: Inputs that were used.
    """

    model: str
    of: str
    levels: tuple[float, ...]
    rows: tuple[LayerErrors, ...]
    skipped: dict[str, str] = dataclasses.field(default_factory=dict)
    samples: int = 0

    def bits_by_layer(
        self,
        max_bytes: int,
        *,
        compressed: bool = False,
        embeddings: int | None = None,
    ) -> dict[str, int]:
        """The bits at which the outputs change least within a budget of bytes.

        The changes of all layers are added up; the best choice is found by dynamic
        programming. `penjing.quantize_weights` takes what comes out.

        Args:
            max_bytes: What all weights that were measured may take together.
            compressed: Gzipped, as in a download; else as an "int4" file stores them.
            embeddings: The bits of all embeddings; None: they are chosen too.

        Returns:
            Path of the weight -> bits, for all rows.

        Raises:
            CompressionError: If the fewest bits take more; it says how much.
            ValueError: If no bits were measured.
        """
        if self.of != "bits":
            raise ValueError(
                f"This report is of {self.of}. Bits are chosen by that of "
                'penjing.sensitivity(model, data, of="bits").'
            )
        check_integer("max_bytes", max_bytes, least=1, hint=" It is in bytes.")
        found = bits_within(self.rows, self.levels, max_bytes, compressed, embeddings)
        return {row.path: int(bits) for row, bits in zip(self.rows, found, strict=True)}

    def to_dict(self) -> dict[str, Any]:
        """Everything in types that JSON has."""
        return {"schema": SCHEMA, **super().to_dict()}

    def to_json(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as JSON.

        Args:
            path: File to write.

        Returns:
            The path.
        """
        return write_text(path, json.dumps(self.to_dict(), indent=1) + "\n")

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> LayerErrorReport:
        """Read what `to_json` wrote.

        Args:
            path: File to read.

        Returns:
            The report.

        Raises:
            FileFormatError: If the file is no such report.
        """
        try:
            table = json.loads(Path(path).read_text("utf-8"))
            if table["schema"] != SCHEMA:
                raise ValueError("it has another schema")
            found = cls.from_dict(table)
            for row in found.rows:
                _check_levels(row, found)
            return found
        except DAMAGE as error:
            raise FileFormatError(
                f"Cannot read the report {os.fspath(path)}: {error}. Choose another "
                "path, or delete the file."
            ) from error

    def cells(self) -> list[tuple[str, ...]]:
        """A row of texts for each weight, the first with the headings."""
        form = "{:.0f} bits" if self.of == "bits" else "{:.0%} zeros"
        head = ("weight", "values", *map(form.format, self.levels), "")
        return [head, *(_cells(row) for row in self.rows)]

    @property
    def title(self) -> str:
        """What the numbers are."""
        return (
            f"{self.model}: change of the outputs with one layer alone compressed, on "
            f"{self.samples} inputs"
        )

    def __str__(self) -> str:
        """A table with one line for each weight."""
        sides = ("<10", ">8", *(">9" for _ in self.levels), "<")
        return f"{self.title}\n{text_table(self.cells(), *sides)}"

    def _repr_html_(self) -> str:
        """What notebooks show."""
        (weight, *numbers, note), *rows = self.cells()
        headings = (weight, *(f">{heading}" for heading in numbers), note)
        cells = tuple(tuple(map(Cell, row)) for row in rows)
        return notebook_html(self.title, (), [NotebookTable("", headings, cells)])


def _check_levels(row: LayerErrors, report: LayerErrorReport) -> None:
    wanted = len(report.levels)
    values = [row.changes]
    values += [row.bytes, row.compressed] if report.of == "bits" else []
    for own in values:
        if len(own) != wanted:
            raise ValueError(f"{row.path} has {len(own)} of {wanted} levels")


def _cells(row: LayerErrors) -> tuple[str, ...]:
    changes = (f"{change:.3g}" for change in row.changes)
    note = "embedding" if row.is_embedding else row.reason
    return row.path, f"{row.size:,}", *changes, note


def bits_within(
    rows: Sequence[LayerErrors],
    levels: Sequence[float],
    max_bytes: int,
    compressed: bool,
    embeddings: int | None = None,
) -> list[float]:
    """The bits of each row; see `LayerErrorReport.bits_by_layer`."""
    if embeddings is not None and embeddings not in levels:
        measured = ", ".join(map(str, levels))
        raise ValueError(
            f"`embeddings` must be among the bits that were measured, {measured}; got "
            f"{embeddings!r}."
        )
    places = [
        [i for i, bits in enumerate(levels) if not fixed or bits == embeddings]
        for fixed in (row.is_embedding and embeddings is not None for row in rows)
    ]
    sizes = [row.compressed if compressed else row.bytes for row in rows]
    amounts = [[own[i] for i in some] for own, some in zip(sizes, places, strict=True)]
    costs = [
        [row.changes[i] for i in some] for row, some in zip(rows, places, strict=True)
    ]
    found = cheapest_options(amounts, costs, max_bytes)
    if found is None:
        least = sum(min(own) for own in amounts)
        raise CompressionError(
            f"The weights cannot take {max_bytes:,} bytes: with the fewest bits that "
            f"were measured they take {least:,}. Allow more, or measure fewer bits."
        )
    chosen = zip(places, found, strict=True)
    return [levels[some[option]] for some, option in chosen]


def bits_of_mean(report: LayerErrorReport, mean: float) -> dict[str, int]:
    """Path -> bits, where a weight of the model has at most `mean` of them on average.

    Rounded up, so that the fewest bits always fit.
    """
    amounts = [
        [-(-row.size * int(b) // 8) for b in report.levels] for row in report.rows
    ]
    most = int(mean * sum(row.size for row in report.rows) / 8) + len(report.rows)
    found = cheapest_options(amounts, [row.changes for row in report.rows], most)
    pairs = zip(report.rows, found or [0] * len(report.rows), strict=True)
    return {row.path: int(report.levels[option]) for row, option in pairs}
