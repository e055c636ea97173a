"""The site has every page, and every public name an example that runs."""

from __future__ import annotations

import ast
import doctest
import importlib.util
import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.test_docs_snippets import blocks_of

import penjing
import penjing.pipeline
from penjing.tfmot import clustering, experimental, quantization, sparsity

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "site"
PARSER = doctest.DocTestParser()


def builder():
    """`site/build.py`, which is a script."""
    spec = importlib.util.spec_from_file_location("site_build", SITE / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def in_navigation(entries: list) -> Iterator[str]:
    for entry in entries:
        for target in entry.values() if isinstance(entry, dict) else [entry]:
            yield from [target] if isinstance(target, str) else in_navigation(target)


def test_the_navigation_has_every_page():
    config = tomllib.loads((SITE / "zensical.toml").read_text("utf-8"))
    shown = list(in_navigation(config["project"]["nav"]))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")}
    others = {*builder().FRONT, "notebooks/README.md", "reference/index.md"}
    assert len(shown) == len(set(shown))
    assert set(shown) == pages | others


def test_the_reference_has_every_public_name():
    names = {name for _, name in builder().public_names()}
    wanted = {*penjing.__all__, *penjing.pipeline.__all__} - {"__version__"}
    assert wanted <= names
    rooms = {module.split(".")[1] for module, _ in builder().public_names()}
    assert rooms == set(builder().ROOMS)


def running_code() -> Iterator[str]:
    """Docstrings' examples, blocks of documents and cells of notebooks that run."""
    for path in (ROOT / "src" / "penjing").rglob("*.py"):
        text = path.read_text("utf-8")
        for node in ast.walk(ast.parse(text)) if ">>> " in text else ():
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                for example in PARSER.get_examples(ast.get_docstring(node) or ""):
                    if not example.options.get(doctest.SKIP):
                        yield example.source
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        if page.name != "where-do-i-put.md":
            for fragment, code in blocks_of(page):
                yield "" if fragment else code
    for notebook in (ROOT / "docs" / "notebooks").glob("*.ipynb"):
        for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                yield "".join(cell["source"])


def used_names(code: str) -> set[str]:
    nodes = list(ast.walk(ast.parse(code)))
    return {node.id for node in nodes if isinstance(node, ast.Name)} | {
        node.attr for node in nodes if isinstance(node, ast.Attribute)
    }


def test_every_public_name_has_an_example_that_runs():
    used = set().union(*map(used_names, running_code()))
    public = {*penjing.__all__, *penjing.pipeline.__all__} - {"__version__"}
    for part in (
        sparsity.keras,
        clustering.keras,
        quantization.keras,
        quantization.keras.quantizers,
        experimental.combine,
    ):
        public |= set(part.__all__)
    assert sorted(public - used) == []
