"""What shrinking a file won, step by step."""

from __future__ import annotations

import dataclasses

from penjing.json_values import JsonValue
from penjing.text_table import text_table


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShrinkStep(JsonValue):
    """One step.

    Attributes:
        name: What was done.
        raw: Bytes that it won in the file.
        gzip: Bytes that it won in the file after gzip. In files of 2**20 bytes and more
            large constants are compressed one by one, so the steps may win a few bytes
            less or more than they do together.
        difference: Largest difference of any output from the original file's, over the
            output's largest magnitude; 0.0 where all bits are the same. None where
            nothing was run.
        note: Why it was not taken, or how far it went; else empty.
    """

    name: str
    raw: int = 0
    gzip: int = 0
    difference: float | None = None
    note: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShrinkReport(JsonValue):
    """What `shrink_litert` did.

    Attributes:
        path: The file that was written.
        raw_before: Bytes of the original.
        raw_after: Bytes of the new file.
        gzip_before: Bytes of the original after gzip.
        gzip_after: Bytes of the new file after gzip.
        steps: The steps in their order, those that were not taken too.
        gzip_level: Its level: 9, or 6 where the original has more than 2**25 bytes.
    """

    path: str
    raw_before: int
    raw_after: int
    gzip_before: int
    gzip_after: int
    steps: tuple[ShrinkStep, ...]
    gzip_level: int = 9

    @property
    def difference(self) -> float | None:
        """Largest difference of outputs after all steps that were taken."""
        found = [s.difference for s in self.steps if s.difference is not None]
        return found[-1] if found else None

    def __str__(self) -> str:
        before = (f"{self.raw_before:,}", f"{self.gzip_before:,}", "")
        after = (f"{self.raw_after:,}", f"{self.gzip_after:,}", "")
        steps = [
            (f"  {step.name}", f"{-step.raw:,}", f"{-step.gzip:,}", step.note)
            for step in self.steps
        ]
        level = "" if self.gzip_level == 9 else f"gzip at level {self.gzip_level}"
        rows = [
            ("", "raw", "gzip", level),
            ("before", *before),
            *steps,
            ("after", *after),
        ]
        return f"{self.path}\n{text_table(rows, '<26', '>11', '>11', '<')}"
