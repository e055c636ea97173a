"""What shrinking a file won, step by step."""

from __future__ import annotations

import dataclasses

from penjing.json_values import JsonValue


@dataclasses.dataclass(frozen=True, kw_only=True)
class ShrinkStep(JsonValue):
    """One step.

    Attributes:
        name: What was done.
        raw: Bytes that it won in the file.
        gzip: Bytes that it won in the file after gzip level 9.
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
        gzip_before: Bytes of the original after gzip level 9.
        gzip_after: Bytes of the new file after gzip level 9.
        steps: The steps in their order, those that were not taken too.
    """

    path: str
    raw_before: int
    raw_after: int
    gzip_before: int
    gzip_after: int
    steps: tuple[ShrinkStep, ...]

    @property
    def difference(self) -> float | None:
        """Largest difference of outputs after all steps that were taken."""
        found = [s.difference for s in self.steps if s.difference is not None]
        return found[-1] if found else None

    def __str__(self) -> str:
        lines = [f"{self.path}", f"{'':26}{'raw':>12}{'gzip':>12}"]
        lines.append(f"{'before':26}{self.raw_before:>12,}{self.gzip_before:>12,}")
        for step in self.steps:
            won = f"{-step.raw:>12,}{-step.gzip:>12,}"
            lines.append(f"  {step.name:24}{won}  {step.note}".rstrip())
        lines.append(f"{'after':26}{self.raw_after:>12,}{self.gzip_after:>12,}")
        return "\n".join(lines)
