"""Each file that a command of the README names exists, or a line before made it.

Its Python runs in `tests/test_docs_snippets.py`, commands in `tests/cli`.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SUFFIXES = (".keras", ".tflite", ".npz", ".toml", ".py")
# What a user's own model is called, and what `examples/first_model.py` writes.
OWN = {"model.keras"}
WRITTEN = {"model.keras", "data.npz", "photos/"}
RUN = {"model.keras", "model.tflite", "recipe.toml", "report.json", "report.html"}


def made_by(words: list[str]) -> set[str]:
    """Files that a command leaves."""
    made = set()
    if "--out" in words:
        folder = words[words.index("--out") + 1].rstrip("/")
        made |= {folder, *(f"{folder}/{name}" for name in RUN)}
    if words[:2] == ["penjing", "export"]:
        made.add(words[3])
    if words[:2] == ["penjing", "export-c"]:
        made.add(words[3])
    if ">" in words:
        made.add(words[words.index(">") + 1])
    return made


def named_by(words: list[str]) -> set[str]:
    """Files and folders that a command reads."""
    made = made_by(words)
    paths = {word for word in words if word.endswith(SUFFIXES) or word.endswith("/")}
    if words[:2] in (["penjing", "report"], ["penjing", "compare"]):
        paths |= set(words[2:])
    return {path for path in paths if path not in made and path.rstrip("/") not in made}


def test_commands_read_what_is_there():
    text = (ROOT / "README.md").read_text("utf-8")
    assert "`python examples/first_model.py --photos`" in text
    there, dead, commands = OWN | WRITTEN, [], 0
    for language, block in FENCE.findall(text):
        for line in block.splitlines() if not language else []:
            words = shlex.split(line, comments=True)
            if words[:1] in (["penjing"], ["python"]):
                commands += 1
                dead += [
                    (line, path)
                    for path in named_by(words)
                    if path not in there and not (ROOT / path).exists()
                ]
                there |= made_by(words)
    assert commands > 10
    assert dead == []


def test_the_python_comes_on_the_first_screen():
    lines = (ROOT / "README.md").read_text("utf-8").splitlines()
    assert lines.index("```python") < 12
    assert any(line.startswith("![") for line in lines[:8])
