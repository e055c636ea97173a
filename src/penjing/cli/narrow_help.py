"""Help on narrow terminals: an option and what it does in lines of their own.

Typer's help has four columns. Below 80 characters it cuts names of options and values
in them, and breaks the lines of examples.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from typing import Any

import typer.core
from rich.console import Console
from rich.text import Text

from penjing.report.fitting_table import filled

_NARROW = 80
_INDENT = "    "
_ANY = 10_000
# Such as [required], which is no markup.
_OWN_BRACKET = re.compile(r"(?<!\\)\[(?!/?bold\])")


class _NarrowHelp:
    """The help of a command, which is Typer's own where that has room."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Print the help."""
        console = Console()
        if console.width >= _NARROW:
            super().format_help(ctx, formatter)  # type: ignore[misc]
            return
        for line in _lines(self, ctx, console):
            console.print(line, soft_wrap=True, highlight=False)


class NarrowCommand(_NarrowHelp, typer.core.TyperCommand):
    """A command whose help fits narrow terminals."""


class NarrowGroup(_NarrowHelp, typer.core.TyperGroup):
    """A command with commands below it, whose help fits narrow terminals."""


def _lines(command: Any, ctx: Any, console: Console) -> Iterator[Text]:
    usage = Text(" ".join([ctx.command_path, *command.collect_usage_pieces(ctx)]))
    yield from _indented(Text("Usage: ") + usage, console, "")
    yield Text()
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        if paragraph.startswith(" "):  # examples, which can be copied
            yield from map(Text, paragraph.splitlines())
        else:
            joined = " ".join(paragraph.split())
            yield from _indented(Text.from_markup(joined), console, "")
        yield Text()
    records = [param.get_help_record(ctx) for param in command.get_params(ctx)]
    yield from _section("Options", filter(None, records), console)
    if isinstance(command, typer.core.TyperGroup):
        names = command.list_commands(ctx)
        found = [(name, command.get_command(ctx, name)) for name in names]
        rows = [(name, one.get_short_help_str(_ANY)) for name, one in found if one]
        yield Text()
        yield from _section("Commands", rows, console)


def _section(title: str, rows: Any, console: Console) -> Iterator[Text]:
    yield Text(title, style="bold")
    for name, text in rows:
        yield from _indented(Text(name, style="cyan"), console, "")
        markup = _OWN_BRACKET.sub(r"\\[", text.strip())
        yield from _indented(Text.from_markup(markup), console, _INDENT)


def _indented(text: Text, console: Console, indent: str) -> Iterator[Text]:
    for line in filled(text, console.width - len(indent)):
        yield Text(indent) + line
