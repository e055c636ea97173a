"""The lines of a table of weights: vectors that were passed over share one."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from penjing.measurement.weight_report import WeightRow


@dataclasses.dataclass(frozen=True, kw_only=True)
class SkippedVectors:
    """Vectors and single numbers that were skipped for the same reason."""

    rows: tuple[WeightRow, ...]

    @property
    def title(self) -> str:
        """How many there are."""
        return f"{len(self.rows)} vectors"

    @property
    def reason(self) -> str:
        """Why they were skipped."""
        return self.rows[0].reason

    @property
    def size(self) -> int:
        """Number of their values."""
        return sum(row.size for row in self.rows)

    @property
    def zeros(self) -> int:
        """How many of these are zero."""
        return sum(row.zeros for row in self.rows)

    @property
    def paths(self) -> tuple[str, ...]:
        """Their names."""
        return tuple(row.path for row in self.rows)


def weight_lines(
    rows: Iterable[WeightRow],
) -> tuple[list[WeightRow], list[SkippedVectors]]:
    """Give the weights that have a line of their own, and those that share one.

    A vector that is the only one skipped for its reason keeps its line.
    """
    own: list[WeightRow] = []
    by_reason: dict[str, list[WeightRow]] = {}
    for row in rows:
        if row.status == "skipped" and len(row.shape) <= 1:
            by_reason.setdefault(row.reason, []).append(row)
        else:
            own.append(row)
    shared = []
    for group in by_reason.values():
        if len(group) == 1:
            own.extend(group)
        else:
            shared.append(SkippedVectors(rows=tuple(group)))
    return own, shared
