"""Keeping the chatter of native libraries off the user's terminal."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import tempfile
from collections.abc import Callable, Iterator

# What is kept of a log for an error message: the end says what failed.
_LOG_TAIL = 2000


@contextlib.contextmanager
def captured_output() -> Iterator[Callable[[], str]]:
    """Catch what C++ and Python code write to standard output and error.

    The converter and the runtime log from C++, which `contextlib.redirect_stderr`
    cannot see, so the two file descriptors themselves point to a temporary file inside
    the block, and so do Python's streams, which notebooks replace. The block gets a
    function that returns the end of what was caught so far.

    Example:
        >>> with captured_output() as caught:
        ...     _ = os.write(2, b"noise")
        >>> caught()
        'noise'
    """
    with tempfile.TemporaryFile() as log, contextlib.ExitStack() as stack:
        _flush()
        for descriptor in (1, 2):
            stack.enter_context(_redirected(descriptor, log.fileno()))
        stream = _CaughtStream(log, "utf-8", "replace", write_through=True)
        stack.callback(stream.release)
        stack.enter_context(contextlib.redirect_stdout(stream))
        stack.enter_context(contextlib.redirect_stderr(stream))
        tail = ""

        def caught() -> str:
            return tail

        try:
            yield caught
        finally:
            _flush()
            log.seek(max(0, log.seek(0, os.SEEK_END) - _LOG_TAIL))
            tail = log.read().decode("utf-8", "replace").strip()


class _CaughtStream(io.TextIOWrapper):
    """Loggers that are first used inside the block keep it, and write to it later."""

    _released = False

    def release(self) -> None:
        self.detach()
        self._released = True

    def write(self, text: str, /) -> int:
        return sys.stderr.write(text) if self._released else super().write(text)

    def flush(self) -> None:
        if not self._released:
            super().flush()


@contextlib.contextmanager
def _redirected(descriptor: int, target: int) -> Iterator[None]:
    try:
        saved = os.dup(descriptor)
    except OSError:  # A process without this stream has nothing to keep quiet.
        yield
        return
    try:
        os.dup2(target, descriptor)
        yield
    finally:
        os.dup2(saved, descriptor)
        os.close(saved)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, OSError, ValueError):
            stream.flush()
