"""What long work tells: a bar on the screen, or a function of the caller's."""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeAlias


@dataclasses.dataclass(frozen=True, kw_only=True)
class Progress:
    """One message from running work.

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

# Where there is no terminal, of a stage that goes on.
_SECONDS_BETWEEN_LINES = 10.0

_drawing: ContextVar[bool] = ContextVar("_drawing", default=False)


@contextmanager
def listening(progress: Listener | bool) -> Iterator[Listener]:
    """Give the listener that a `progress` argument asks for; else a ValueError.

    A function is told every message; True is a bar on the error stream, where that is a
    terminal or a notebook and no bar of penjing's is drawn already; False is silence.
    """
    if callable(progress):
        yield progress
        return
    if not isinstance(progress, bool):
        raise ValueError(
            "`progress` must be True (a bar), False, or a function that takes a "
            f"penjing.Progress, got {progress!r}."
        )
    if progress and not _drawing.get():
        from rich.console import Console

        console = Console(stderr=True)
        if _can_redraw(console):
            with draw_progress(console) as listen:
                yield listen
            return
    yield ignore_progress


def ignore_progress(progress: Progress) -> None:
    """Listen to nothing."""


@contextmanager
def draw_progress(console: Any, first: str = "") -> Iterator[Listener]:
    """Draw the running stage as one line that goes away at the end.

    Where the rich console is no terminal, and in continuous integration, the stages are
    printed, and how far a long one is every 10 seconds. `first` is what is being done
    before the first message.
    """
    from rich.errors import LiveError
    from rich.progress import BarColumn, ProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as ProgressBar

    columns: tuple[ProgressColumn, ...] = (
        TextColumn("[bold]{task.description}"),
        BarColumn(bar_width=28),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TextColumn("[dim]{task.fields[detail]}"),
    )
    animated = _can_redraw(console)
    bar = ProgressBar(*columns, console=console, transient=True, disable=not animated)
    try:
        bar.start()
    except LiveError:  # the caller draws something himself
        yield ignore_progress
        return
    token = _drawing.set(True)
    try:
        yield _Drawing(bar, console, first, animated=animated)
    finally:
        _drawing.reset(token)
        bar.stop()


def _can_redraw(console: Any) -> bool:
    """Whether what is printed can be drawn over.

    rich takes a file for a terminal where a variable asks for colors; the logs of
    continuous integration keep what was drawn over, even those of its terminals.
    """
    if console.is_jupyter:
        return True
    is_screen = console.is_terminal and console.file.isatty()
    return is_screen and not console.is_dumb_terminal and not os.environ.get("CI")


class _Drawing:
    """A listener that keeps one task of a bar: the running stage."""

    def __init__(self, bar: Any, console: Any, first: str, *, animated: bool) -> None:
        self._bar, self._console, self._animated = bar, console, animated
        self._stage = first
        self._told = time.monotonic()
        self._task = self._start() if first else None

    def __call__(self, progress: Progress) -> None:
        from rich.markup import escape
        from rich.text import Text

        if progress.notice:
            text = " ".join(filter(None, (progress.stage, progress.detail)))
            self._console.print(Text(text, style="dim"), soft_wrap=True)
            return
        if progress.stage != self._stage:
            self._stage = progress.stage
            if not self._animated:
                self._console.print(Text(self._stage), soft_wrap=True)
                self._told = time.monotonic()
            if self._task is not None:
                self._bar.remove_task(self._task)
            self._task = self._start()
        counted = bool(progress.total)
        self._tell(progress)
        self._bar.update(
            self._task,
            total=progress.total or None,
            completed=progress.done,
            count=f"{progress.done:,}/{progress.total:,}" if counted else "",
            detail=escape(progress.detail),
        )

    def _tell(self, progress: Progress) -> None:
        """Print how far a stage is where nothing is drawn, now and then."""
        now = time.monotonic()
        if self._animated or now < self._told + _SECONDS_BETWEEN_LINES:
            return
        from rich.text import Text

        self._told = now
        share = f"{progress.done:,}/{progress.total:,}" if progress.total else ""
        words = filter(None, (self._stage, share, progress.detail))
        self._console.print(Text("  ".join(words), style="dim"), soft_wrap=True)

    def _start(self) -> Any:
        from rich.markup import escape

        return self._bar.add_task(escape(self._stage), total=None, detail="", count="")
