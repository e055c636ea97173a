"""What was done to each layer without training, and what it cost there."""

from __future__ import annotations

import dataclasses

from penjing.json_values import JsonValue
from penjing.text_table import text_table


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneShotRow(JsonValue):
    """What became of one weight.

    Attributes:
        path: Keras path of the weight.
        size: Number of its values.
        method: How it was compressed; empty where it was left as it is.
        sparsity: Fraction of zeros, 0 to 1.
        bits: Bits of the grid that it lies on, else None.
        error: Mean squared change of what the layer gives on the calibration inputs,
            over the mean square of what it gave; where it has a bias, which takes the
            mean, over the variance. None where that is not known.
        plain_error: The same for the same zeros and grid, had nothing been made up for.
        damping: What was added to the diagonal of the inputs' products, as a part of
            its mean.
        reason: Why it was left as it is, or compressed otherwise than asked.
    """

    path: str
    size: int
    method: str = ""
    sparsity: float = 0.0
    bits: int | None = None
    error: float | None = None
    plain_error: float | None = None
    damping: float = 0.0
    reason: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneShotReport(JsonValue):
    """What `prune_one_shot` or `quantize_weights` did; printed, it is a table.

    Attributes:
        rows: One for each weight, in the model's order.
        samples: Calibration inputs that were used.
    """

    rows: tuple[OneShotRow, ...]
    samples: int

    @property
    def sparsity(self) -> float:
        """Fraction of zeros over all weights that were compressed."""
        taken = [row for row in self.rows if row.method]
        size = sum(row.size for row in taken)
        return sum(row.sparsity * row.size for row in taken) / size if size else 0.0

    def __str__(self) -> str:
        """A table with one line for each weight."""
        head = ("weight", "method", "zeros", "bits", "error", "plain", "")
        rows = [head, *(_cells(row) for row in self.rows if row.method or row.reason)]
        return text_table(rows, "<10", "<9", ">6", ">4", ">9", ">9", "<")


def _cells(row: OneShotRow) -> tuple[str, ...]:
    errors = ("" if e is None else f"{e:.2%}" for e in (row.error, row.plain_error))
    zeros = f"{row.sparsity:.1%}" if row.method else ""
    bits = str(row.bits or "")
    return row.path, row.method, zeros, bits, *errors, row.reason
