"""What a search within a budget found, and what a file cost on the way, as values."""

from __future__ import annotations

import dataclasses

from penjing.json_values import JsonValue
from penjing.report.score_rows import ScoreRow


@dataclasses.dataclass(frozen=True, kw_only=True)
class BudgetRow(JsonValue):
    """What was allowed, and whether the chosen file keeps to it.

    Args:
        bounds: The bounds in words, as "at most 0.5 points of accuracy lost".
        met: Whether the chosen file is within all of them.
        gaps: What is missing to each bound that is not met, in words.
        minimized: What was made as small as the bounds allow, in words.
        metric: The metric whose drop is bound.
        baseline: What the baseline scores on the validation data.
        lowest: The worst score on the validation data that is within the bound.
        trials: How many recipes were tried.
        seconds: How long that took.
        notes: What else to know, as where the bound is smaller than the noise of the
            test data.
    """

    bounds: tuple[str, ...]
    met: bool
    gaps: tuple[str, ...] = ()
    minimized: str = ""
    metric: str = ""
    baseline: float | None = None
    lowest: float | None = None
    trials: int | None = None
    seconds: float | None = None
    notes: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class FrontRow(JsonValue):
    """One file that none beats in both size and score.

    Args:
        name: Name of the trial, as "0007".
        file: The file, from the output folder on.
        folder: The folder of the trial, from the output folder on.
        description: What its recipe does, for people.
        raw: Its bytes.
        gzip: Its bytes after gzip.
        latency: Seconds that it takes for one sample, where that was measured.
        arena: Bytes of RAM in TensorFlow Lite Micro, where that was measured.
        macs: Multiply-accumulates for one sample, where they were counted.
        validation_score: Its first metric on the validation data, by which it is here.
        test_score: The same on the test data; None where it was not asked.
        recipe: The recipe that gives the file again, as TOML.
        chosen: Whether it is the result.
    """

    name: str
    file: str
    folder: str = ""
    description: str = ""
    raw: int
    gzip: int
    latency: float | None = None
    arena: int | None = None
    macs: float | None = None
    validation_score: float | None = None
    test_score: float | None = None
    recipe: str = ""
    chosen: bool = False


@dataclasses.dataclass(frozen=True, kw_only=True)
class ControlRow(ScoreRow):
    """What the dense model scores that was trained on as the result was.

    Args:
        epochs: Epochs that it was trained, no fewer than the result.
        steps: Batches that it was trained on, likewise.
    """

    epochs: float | None = None
    steps: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class StairRow(JsonValue):
    """A file on the way to the result: what the step to it cost and bought.

    Args:
        step: What was done, for people.
        bytes: Bytes of the file after gzip.
        score: Its first metric on the test data; None where nobody measured it.
        raw: Bytes of the file itself.
        file: The file, from the output folder on.
    """

    step: str
    bytes: int
    score: float | None = None
    raw: int | None = None
    file: str = ""
