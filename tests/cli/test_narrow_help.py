"""Every command's help at 60 columns: nothing is cut, examples can be copied."""

import inspect
import re

import pytest
import typer

from penjing import cli
from penjing.cli.application import app
from penjing.cli.recipes_command import recipes

pytestmark = pytest.mark.once
GROUP = typer.main.get_command(app)
COMMANDS = [[], *([name] for name in GROUP.commands)]
COMMANDS += [["recipes", name] for name in typer.main.get_command(recipes).commands]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_fits(words, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    assert cli.main([*words, "--help"]) == 0
    text = capsys.readouterr().out
    lines = [line.rstrip() for line in text.splitlines()]
    command = GROUP
    for word in words:
        command = command.commands[word]
    examples = re.findall(r"^ +\$ .*", inspect.cleandoc(command.help), re.MULTILINE)
    assert examples and set(examples) <= set(lines)
    assert not [line for line in lines if len(line) > 60 and "$" not in line]
    assert "…" not in text and "[/" not in text
    names = [name for param in command.params for name in param.opts if "-" in name]
    assert all(
        re.search(rf"^{name}\b|, {name}\b", text, re.MULTILINE) for name in names
    )


def test_required_and_default_are_told(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    cli.main(["compress", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "Folder for models and reports. [required]" in text
    assert "Seed of everything random. [default: 0;" in text
    assert "penjing[ray]" in text


def test_wide_terminals_have_columns(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    cli.main(["doctor", "--help"])
    assert "╭─ Options" in capsys.readouterr().out
