"""What the command prints besides its results: progress, warnings, errors."""

from __future__ import annotations

import json
import math
import os
import shlex
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import IO, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.text import Text

from penjing.errors import CompressionError, CompressionWarning
from penjing.progress import Listener, draw_progress

DEBUG_VARIABLE = "PENJING_DEBUG"
"""Where it is set, errors that nobody foresaw keep their traceback."""

_LOG_TAIL = 4000

_screen: ContextVar[Console | None] = ContextVar("_screen", default=None)


def print_notice(text: str, color: str) -> None:
    """Print one message to the error stream."""
    console = _screen.get() or Console(stderr=True)
    console.print(Text(text, style=color), soft_wrap=True)


def print_notes(data: Any) -> None:
    """Print to the error stream how data was read and split."""
    for note in data.notes:
        print_notice(f"Data: {note}.", "dim")


@contextmanager
def quiet_libraries() -> Iterator[Console]:
    """Keep what libraries log off the screen, and give a console that reaches it.

    C++ code writes to the file descriptor, so that is what is turned away, to a file
    whose end is shown where the block ends with an error that is not penjing's. Nothing
    is turned away where TF_CPP_MIN_LOG_LEVEL asks for TensorFlow's log, with 0 or 1.

    Yields:
        A console on the real error stream.
    """
    wanted = os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") in ("0", "1")
    with ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        warnings.showwarning = _show_warning
        if wanted or not _stderr_is_a_file():
            yield Console(stderr=True)
            return
        log = stack.enter_context(tempfile.TemporaryFile())
        screen = stack.enter_context(_own_stream())
        token = _screen.set(Console(file=screen))
        real = os.dup(2)
        os.dup2(log.fileno(), 2)
        failed = True
        try:
            yield _screen.get() or Console(stderr=True)
            failed = False
        except (CompressionError, ValueError, KeyboardInterrupt):
            failed = False
            raise
        finally:
            sys.stderr.flush()
            os.dup2(real, 2)
            os.close(real)
            _screen.reset(token)
            if failed:
                log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL))
                sys.stderr.write(log.read().decode("utf-8", "replace"))


def _own_stream() -> IO[str]:
    """Another error stream; names of files need not be UTF-8."""
    return open(os.dup(2), "w", encoding="utf-8", errors="backslashreplace")


def _stderr_is_a_file() -> bool:
    try:
        return sys.stderr.fileno() >= 0
    except (AttributeError, OSError, ValueError):
        return False


def _show_warning(
    message: Warning | str, category: type[Warning], *_: Any, **__: Any
) -> None:
    if issubclass(category, CompressionWarning):
        print_notice(f"Warning: {message}", "yellow")


@contextmanager
def progress_bar(first: str = "Loading Keras") -> Iterator[Listener]:
    """Keep libraries quiet and give a listener that draws the running stage.

    `first` is what is being done before one is told.
    """
    with (
        quiet_libraries() as console,
        draw_progress(console, first) as listen,
    ):
        yield listen


def print_json(value: Any) -> None:
    """Print numbers, texts, lists and dicts, or what has `to_dict`, as JSON.

    NaN and infinity, which JSON has no word for, are null.
    """
    table = value.to_dict() if hasattr(value, "to_dict") else value
    typer.echo(json.dumps(_finite(table), indent=2, allow_nan=False))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_result(report: Any, out: Path) -> None:
    """Print a report and where its files are."""
    from penjing.report.terminal import print_report

    console = Console()
    print_report(report, console)
    written = f"\nModels, report.json and report.html are in {escape(str(out))}/"
    console.print(written, soft_wrap=True)


def print_setup(done: Any, variable: str, *, is_found: bool) -> None:
    """Print what a command fetched, and how penjing finds it where it does not."""
    from penjing.measurement.size import format_bytes

    console = Console()
    did = "Fetched" if done.fetched else "Already there:"
    versions = [f"{name} {version}" for name, version in done.versions.items()]
    listed = ", ".join(versions[:-1]) + f" and {versions[-1]}"
    console.print(f"{did} {listed}, {format_bytes(done.bytes)}.", highlight=False)
    console.print(f"Folder: {escape(str(done.folder))}", soft_wrap=True)
    if not is_found:
        console.print(
            f"penjing finds it with {variable}={escape(shlex.quote(str(done.folder)))}",
            soft_wrap=True,
        )
