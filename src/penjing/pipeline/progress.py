"""What a running pipeline tells its caller."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TypeAlias


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """One message from a running pipeline.

    Args:
        stage: What is being done, for people.
        done: Units done in this stage.
        total: Units in this stage; 0 where they are not counted.
        detail: A short addition, such as the loss.
        notice: True for a message worth keeping on the screen.
    """

    stage: str
    done: int = 0
    total: int = 0
    detail: str = ""
    notice: bool = False


Listener: TypeAlias = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """Listen to nothing: the default listener."""
