"""What a model scored, as a value."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from penjing.json_values import JsonValue


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoreRow(JsonValue):
    """What one model scored on the test data.

    Args:
        name: File name within the output folder.
        kind: What it is, for people.
        runtime: `"keras"`, `"litert"`, or `"litert-restored"`: LiteRT ran the plain
            file that a packed one decodes to.
        metrics: Value by metric.
    """

    name: str
    kind: str
    runtime: str
    metrics: Mapping[str, float]
