"""Documents and scripts name what exists, and quote the figures that were measured."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from penjing.cli.application import app

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "penjing"
DOCUMENTS = sorted(
    path
    for pattern in ("*.md", "docs/*.md", "examples/**/*.md", ".github/**/*.md")
    for path in ROOT.glob(pattern)
)
SCRIPTS = [*sorted(ROOT.glob("benchmarks/*.py")), *sorted(ROOT.glob("examples/*.py"))]
FOLDERS = "src|tests|benchmarks|docs|examples"
MODULE = re.compile(r"(?<![\w/.>-])(?:\w+/)+[\w*]+\.(?:py|mjs|js)\b")
ROOM = re.compile(r"`((?:\w+/)+)`")
PATH = re.compile(rf"(?<![\w/.-])(?:{FOLDERS})/[\w./*-]*\w")
NAME = re.compile(r"(?<![\w/.])penjing(?:\.[A-Za-z_]\w*)+")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^penjing ([a-z][\w-]*)([^\n#]*)", re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


def each(name, paths):
    ids = [path.relative_to(ROOT).as_posix() for path in paths]
    return pytest.mark.parametrize(name, paths, ids=ids)


def read(document: Path) -> str:
    """The text without modules that its examples write, and imports of those."""
    text = document.read_text("utf-8")
    for path in re.findall(r"^# src/(\S+)\.py, new$", text, re.MULTILINE):
        text = text.replace(f"src/{path}.py", "").replace(path.replace("/", "."), "")
    return text


def exists(path: str) -> bool:
    """Whether a file or folder lies there, in the checkout or in the package."""
    return any(any(base.glob(path.strip("/"))) for base in (ROOT, PACKAGE))


def resolves(name: str) -> bool:
    """Whether a dotted name leads to a module or to what stands in one."""
    first, *rest = name.split(".")
    found, path = importlib.import_module(first), first
    for part in rest:
        path = f"{path}.{part}"
        if not hasattr(found, part):
            try:
                importlib.import_module(path)
            except ModuleNotFoundError:
                return False
        found = getattr(found, part)
    return True


def anchors(document: Path) -> set[str]:
    """The anchors of a document's headings, as hosts of repositories make them."""
    headings = re.findall(r"^#+ (.+)$", document.read_text("utf-8"), re.MULTILINE)
    return {
        re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        for heading in headings
    }


@each("document", DOCUMENTS)
def test_modules_and_files_exist(document):
    text = read(document)
    named = {*MODULE.findall(text), *ROOM.findall(text), *PATH.findall(text)}
    assert sorted(path for path in named if not exists(path)) == []


@each("document", DOCUMENTS)
def test_names_of_the_package_exist(document):
    names = set(NAME.findall(read(document)))
    assert sorted(name for name in names if not resolves(name)) == []


@each("document", DOCUMENTS)
def test_commands_and_their_options_exist(document):
    commands = typer.main.get_command(app).commands
    wrong = []
    text = document.read_text("utf-8")
    typed = [code for language, code in FENCE.findall(text) if not language]
    typed += re.findall(r"`(penjing [^`\n]+)`", text)
    for name, rest in COMMAND.findall("\n".join(typed)):
        known = [o for param in commands[name].params for o in param.opts]
        wrong += [(name, o) for o in re.findall(r"--[\w-]+", rest) if o not in known]
    assert wrong == []


@each("script", SCRIPTS)
def test_names_that_scripts_use_exist(script):
    text = script.read_text("utf-8")
    names = set(NAME.findall(text))
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("penjing"):
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert sorted(name for name in names if not resolves(name)) == []


@each("document", DOCUMENTS)
def test_links_lead_somewhere(document):
    dead = []
    for link in LINK.findall(document.read_text("utf-8")):
        path, _, anchor = link.partition("#")
        target = (document.parent / path) if path else document
        if "://" in link:
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            dead.append(link)
    assert dead == []


def rooms() -> set[str]:
    """What lies in the package, but for former places of modules."""
    modules = {
        path.name
        for path in PACKAGE.glob("[a-z]*.py")
        if not path.read_text("utf-8").startswith('"""Former place')
    }
    return modules | {f"{path.name}/" for path in PACKAGE.glob("[a-z]*/")}


def test_the_picture_shows_every_room():
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    picture = page.split("```")[1]
    shown = set(re.findall(r"^.{21}(\w+(?:/|\.py))", picture, re.MULTILINE))
    assert shown == rooms()


def test_documents_that_the_code_names_exist():
    sources = [*PACKAGE.rglob("*.py"), *PACKAGE.rglob("*.mjs")]
    named = {
        path
        for source in sources
        for path in re.findall(r"\bdocs/[\w-]+\.md\b", source.read_text("utf-8"))
    }
    assert sorted(path for path in named if not (ROOT / path).is_file()) == []


def test_documents_quote_the_results():
    script = ROOT / "benchmarks" / "quote_results.py"
    done = subprocess.run(
        [sys.executable, str(script), "--check"], capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
