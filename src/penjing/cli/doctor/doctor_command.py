"""`penjing doctor`: what works here, and what brings the rest."""

from __future__ import annotations

import enum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from penjing.cli.console import print_json, progress_bar
from penjing.cli.doctor.parts import JOBS, Part, missing_needs
from penjing.cli.shared_options import JsonOption
from penjing.version import __version__


class JobName(enum.StrEnum):
    """The jobs, as `JOBS` has them."""

    train = "train"
    export = "export"
    run = "run"
    verify_micro = "verify-micro"
    verify_arm = "verify-arm"
    verify_wasm = "verify-wasm"
    microcontrollers = "microcontrollers"
    search_workers = "search-workers"
    images = "images"


_COLORS = {"ok": "green", "missing": "yellow", "broken": "red", "unsupported": "red"}
_INDENT = 4


def doctor(
    job: Annotated[
        JobName | None,
        typer.Option(
            "--for",
            metavar="JOB",
            help=f"Try what one job needs: {', '.join(JOBS)}. The exit code is 1 if "
            "it lacks something.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what is installed, what each job lacks, and the command that brings it.

    Nothing is taken on trust: libraries are loaded, runtimes run a small file,
    the converter makes one, each in a process of its own, all at the same time.
    Nothing is installed or changed.

    [bold]Examples[/bold]

        $ penjing doctor
        $ penjing doctor --for export
        $ penjing doctor --json
    """
    from penjing.cli.doctor.trials import PARTS, try_parts

    wanted = PARTS if job is None else JOBS[job.value].parts
    with progress_bar("Trying what is installed"):
        found = try_parts(wanted)
    names = [*JOBS] if job is None else [job.value]
    jobs = {name: missing_needs(JOBS[name], found) for name in names}
    if as_json:
        print_json(_table(found, jobs))
    else:
        _print(found, jobs)
    raise typer.Exit(int(job is not None and any(jobs.values())))


def _table(parts: dict[str, Part], jobs: dict[str, list[list[Part]]]) -> dict[str, Any]:
    return {
        "penjing": __version__,
        "parts": [part.to_dict() for part in parts.values()],
        "jobs": {
            name: {
                "ready": not lacks,
                "missing": [[part.name for part in need] for need in lacks],
                "commands": _commands(lacks),
            }
            for name, lacks in jobs.items()
        },
    }


def _print(parts: dict[str, Part], jobs: dict[str, list[list[Part]]]) -> None:
    console = Console(highlight=False)
    console.print(f"penjing {__version__}")
    for part in parts.values():
        mark = "+" if part.works else "-"
        words = [mark, part.label, part.version, "" if part.works else part.status]
        style = _COLORS[part.status]
        console.print(Text(" ".join(filter(None, words)), style=style))
        _print_detail(console, part.detail)
        if not part.works:
            _print_command(console, part.command)
    console.print("\nJobs")
    for name, lacks in jobs.items():
        mark, style = ("-", "yellow") if lacks else ("+", "green")
        missing = ", ".join(need[0].label for need in lacks)
        lacking = f": lacks {missing}" if lacks else ""
        console.print(Text(f"{mark} {name}{lacking}", style=style))
        _print_detail(console, JOBS[name].label)
        for command in _commands(lacks):
            _print_command(console, command)


def _print_detail(console: Console, detail: str) -> None:
    if detail:
        text = Text(detail, style="dim")
        console.print(Padding(text, (0, 0, 0, _INDENT), expand=False))


def _print_command(console: Console, command: str) -> None:
    """Print what is typed in one line, however long, so that it can be copied."""
    if command:
        text = Text(" " * _INDENT + "$ " + command, style="bold")
        console.print(text, soft_wrap=True)


def _commands(lacks: list[list[Part]]) -> list[str]:
    """What is typed to bring all that a job lacks, the first choice of each need."""
    commands = [need[0].command for need in lacks]
    return [command for command in dict.fromkeys(commands) if command]
