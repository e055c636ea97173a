"""The worked examples of "Where do I put ...": their lines work where they say."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / "docs" / "where-do-i-put.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S))
BLOCK = re.compile(
    r"^```(python|diff)\n# ([\w/]+\.py)(?:, (new|before `[^`\n]+`))?\n(.*?)^```$",
    re.M | re.S,
)
TEST = re.compile(r"^def (test_\w+)", re.MULTILINE)
SETTINGS = "tests/engine/transforms/test_method_config.py"


def put(text: str, language: str, place: str, code: str) -> str:
    """A file's text with a block of the page in it.

    What the hunks of a `diff` show without a sign must stand there once. Python goes
    before the line that begins as the page says, else to the end.
    """
    if language == "python":
        _, _, line = place.strip("`").partition("`")
        if not line:
            return f"{text}\n\n{code}".lstrip()
        return replaced(text, f"\n{line}", f"\n{code}\n\n{line}")
    for hunk in code.split("@@\n"):
        lines = hunk.splitlines(keepends=True)
        old = "".join(line[1:] for line in lines if line[0] != "+")
        new = "".join(line[1:] for line in lines if line[0] != "-")
        text = replaced(text, old, new)
    return text


def replaced(text: str, old: str, new: str) -> str:
    assert text.count(old) == 1, f"stands there {text.count(old)} times:\n{old}"
    return text.replace(old, new)


def put_all(checkout: Path, section: str) -> list[str]:
    """Put the blocks of a section into a checkout; gives the names of the tests."""
    tests = []
    for language, file, place, code in BLOCK.findall(SECTIONS[section]):
        path = checkout / file
        assert path.exists() == (place != "new")
        text = path.read_text("utf-8") if path.exists() else ""
        path.write_text(put(text, language, place, code), "utf-8")
        tests += TEST.findall(code) if language == "python" else []
    return tests


@pytest.fixture
def checkout(tmp_path):
    """A copy of what the examples change."""
    ignored = shutil.ignore_patterns("__pycache__")
    for folder in ("src", "tests"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


@pytest.mark.slow
def test_the_examples_work(checkout):
    """And one of them adds a setting, which then is all that settings are."""
    tests = [name for section in SECTIONS for name in put_all(checkout, section)]
    assert len(tests) >= len(SECTIONS)
    files = {file for _, file, _, _ in BLOCK.findall(PAGE) if file.startswith("tests")}
    assert SETTINGS in files
    chosen = " or ".join([*tests, Path(SETTINGS).stem])
    output = run_tests(checkout, "-rp", *sorted(files), "-k", chosen)
    passed = re.findall(r"^PASSED (\S+?)::(test_\w+)", output, re.MULTILINE)
    assert sorted(name for file, name in passed if file != SETTINGS) == sorted(tests)
    wanted = TEST.findall((checkout / SETTINGS).read_text("utf-8"))
    assert {name for file, name in passed if file == SETTINGS} == set(wanted)


def run_tests(checkout: Path, *arguments: str) -> str:
    """Run tests of a checkout; gives what they print."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:]
    return done.stdout


def test_a_setting_of_prune_is_written_in_two_files():
    files = {file for _, file, _, _ in BLOCK.findall(SECTIONS["A setting of `prune`"])}
    assert len([file for file in files if file.startswith("src")]) == 2


@pytest.mark.parametrize("section", SECTIONS)
def test_each_example_has_a_test_and_a_place(section, checkout):
    assert put_all(checkout, section)
