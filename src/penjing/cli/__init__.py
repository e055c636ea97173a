"""The command `penjing`: arguments to public functions, errors to one clear message.

Keras is loaded when a command needs it, not before: help and wrong options answer at
once, `--backend` is heard in time, and what TensorFlow logs on the way stays off the
screen.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import typer

from penjing.cli.application import app
from penjing.cli.backend_choice import OtherBackendLoadedError, start_again
from penjing.cli.console import DEBUG_VARIABLE, print_notice
from penjing.errors import CompressionError

_INTERRUPTED = 130
_LONGEST_WORDS = 500
_TERMINATED = 128 + signal.SIGTERM
_GO_ON = " The same command goes on where this one stopped"
_AFTER_INTERRUPTION = {
    "compress": f"{_GO_ON}; --restart begins anew.",
    "demo": f"{_GO_ON}; --restart begins anew.",
    "sensitivity": f"{_GO_ON}.",
}
# Typer carries its own Click; this is its base of all errors in a command line.
_COMMAND_LINE_ERROR: Any = next(
    base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; errors of penjing become one message.

    Gives the exit code: 0, 1 for an error, 2 for wrong usage, 130 after Ctrl-C, 143
    after SIGTERM, which cleans up as Ctrl-C does.
    """
    with _terminable() as terminated:
        code = _exit_code(sys.argv[1:] if arguments is None else list(arguments))
    return _TERMINATED if terminated and code == _INTERRUPTED else code


@contextlib.contextmanager
def _terminable() -> Iterator[list[int]]:
    """Let the first SIGTERM interrupt, a second one end the program as it would.

    Gives a list that holds the signal once it has come. Python takes signals in its
    main thread alone, and a handler of the caller's stays.
    """
    came: list[int] = []

    def interrupt(number: int, frame: Any) -> None:
        came.append(number)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        raise KeyboardInterrupt

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield came
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _exit_code(arguments: list[str]) -> int:
    command = typer.main.get_command(app)
    try:
        result = _run(command, arguments)
    except (KeyboardInterrupt, typer.Abort):
        print_notice(f"Interrupted.{_how_to_go_on(arguments)}", "yellow")
        return _INTERRUPTED
    except _COMMAND_LINE_ERROR as error:
        error.show()
        return int(error.exit_code)
    except CompressionError as error:
        print_notice(f"Error: {error}", "red")
        return 1
    except Exception as error:
        if isinstance(error, ValueError) and _is_ours(error):
            print_notice(f"Error: {error}", "red")
            return 1
        if os.environ.get(DEBUG_VARIABLE):
            raise
        print_notice(f"Error: {_unforeseen(error)}", "red")
        return 1
    return int(result) if isinstance(result, int) else 0


def _how_to_go_on(arguments: list[str]) -> str:
    """A sentence on what the same command does; empty where it begins anew."""
    command = next((word for word in arguments if not word.startswith("-")), "")
    counts = any(word == "--of" or word.startswith("--of=") for word in arguments)
    if command == "sensitivity" and counts:
        return ""
    return _AFTER_INTERRUPTION.get(command, "")


def _run(command: Any, arguments: list[str]) -> Any:
    try:
        result = command.main(arguments, prog_name="penjing", standalone_mode=False)
        if result == _INTERRUPTED:  # Typer turns Ctrl-C into an exit code.
            raise KeyboardInterrupt
        return result
    except OtherBackendLoadedError as error:
        start_again(error.backend, arguments)


def _unforeseen(error: Exception) -> str:
    """A sentence for an error that is not penjing's own."""
    words = " ".join(str(error).split())[:_LONGEST_WORDS].rstrip(".")
    name = type(error).__name__
    said = f"{name}: {words}." if words else f"{name}."
    if isinstance(error, MemoryError):
        return f"There is not enough memory. {said}"
    return (
        f"{said} penjing did not foresee this. `penjing --debug ...` shows where it "
        "happens; please report that as an issue of penjing."
    )


def _is_ours(error: BaseException) -> bool:
    """Whether an error was raised by a line of penjing and not by a library below."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return False
    name = str(traceback.tb_frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] == "penjing"
