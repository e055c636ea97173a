"""The worked examples of "Where do I put ..." run where they say they stand."""

from __future__ import annotations

import importlib
import inspect
import re
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "where-do-i-put.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
BLOCK = re.compile(r"^```(\w+)\n# (\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def run_in(file: str, code: str, known: dict[str, object]) -> dict[str, object]:
    """Run code in the namespace of a module; gives the names that it defines."""
    name = file.removeprefix("src/").removesuffix(".py").replace("/", ".")
    scope = {**vars(importlib.import_module(name)), **known}
    before = dict(scope)
    exec(compile(code, file, "exec"), scope)
    return {name: scope[name] for name in scope if scope[name] is not before.get(name)}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_code_of_an_example_runs(section, request):
    known: dict[str, object] = {}
    for language, file, code in BLOCK.findall(SECTIONS[section]):
        if language == "python":
            known |= run_in(file, code, known)
    tests = [value for name, value in known.items() if name.startswith("test_")]
    assert tests
    for test in tests:
        fixtures = inspect.signature(test).parameters
        test(**{name: request.getfixturevalue(name) for name in fixtures})


@pytest.mark.parametrize("section", SECTIONS)
def test_new_lines_go_where_the_example_says(section):
    for language, file, code in BLOCK.findall(SECTIONS[section]):
        if language != "diff":
            continue
        old = [line[1:] for line in code.splitlines() if not line.startswith("+")]
        assert "\n".join(old) in (ROOT / file).read_text("utf-8")
