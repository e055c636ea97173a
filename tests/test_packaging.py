"""The installed wheel: what it holds, and what importing it loads."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

import penjing
from penjing.version import __version__

pytestmark = pytest.mark.once

SOURCE = Path(__file__).resolve().parents[1] / "src"
LOADED_LATER = {"ai_edge_litert", "jinja2", "tensorflow", "torch", "typer"}


@pytest.fixture(scope="module")
def installed() -> set[str]:
    """Paths of the files that the installed wheel brought."""
    if Path(str(penjing.__file__)).resolve().is_relative_to(SOURCE):
        pytest.skip("the checkout is under test, not a wheel")
    files = importlib.metadata.files("penjing") or []
    return {
        PurePosixPath(file).as_posix()
        for file in files
        if "__pycache__" not in str(file)
    }


def test_every_file_of_the_package_is_installed_and_no_other(installed):
    expected = {
        path.relative_to(SOURCE).as_posix()
        for path in (SOURCE / "penjing").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {path for path in installed if path.startswith("penjing/")} == expected


@pytest.mark.parametrize(
    "path",
    ["data/fashion_mnist_small.npz.xz", "data/LICENSE.fashion-mnist.txt", "py.typed"],
)
def test_data_licence_and_type_marker_are_installed(installed, path):
    assert f"penjing/{path}" in installed


def test_packaged_recipes_are_installed(installed):
    recipes = {PurePosixPath(path).stem for path in installed if path.endswith(".toml")}
    assert {"article", "default", "smallest"} <= recipes


def test_no_test_nor_benchmark_is_installed(installed):
    folders = {part for path in installed for part in PurePosixPath(path).parts[:-1]}
    assert not folders & {"tests", "benchmarks", "examples", "docs"}
    assert not [path for path in installed if "test_" in PurePosixPath(path).name]


def test_licence_and_notice_are_installed(installed):
    names = {PurePosixPath(path).name for path in installed if "dist-info" in path}
    assert {"LICENSE", "NOTICE", "LICENSE.fashion-mnist.txt"} <= names


def test_metadata_states_version_licence_and_extras(installed):
    metadata = importlib.metadata.metadata("penjing")
    assert metadata["Version"] == __version__
    assert metadata["License-Expression"] == "Apache-2.0"
    extras = set(metadata.get_all("Provides-Extra") or [])
    assert extras >= {"dev", "images", "jax", "litert", "tensorflow", "torch"}


def test_command_is_installed(installed):
    (command,) = importlib.metadata.entry_points(
        group="console_scripts", name="penjing"
    )
    assert callable(command.load())


def imported_packages() -> dict[str, str]:
    """Top-level names that the sources import anywhere, with one file for each."""
    names: dict[str, str] = {}
    for path in sorted((SOURCE / "penjing").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                modules = [str(node.module)]
            else:
                continue
            names |= {module.partition(".")[0]: path.name for module in modules}
    return names


def normalized(distribution: str) -> str:
    return distribution.lower().replace("_", "-")


def declared_distributions(project: dict[str, Any]) -> set[str]:
    """Normalized names in the dependencies and in the extras for users."""
    extras = project["optional-dependencies"]
    groups = [
        project["dependencies"],
        *(extras[name] for name in extras if name != "dev"),
    ]
    return {
        normalized(re.split(r"[^\w.-]", requirement)[0])
        for group in groups
        for requirement in group
    }


def test_only_declared_distributions_are_imported():
    project = tomllib.loads((SOURCE.parent / "pyproject.toml").read_text())["project"]
    declared = declared_distributions(project)
    providers = importlib.metadata.packages_distributions()
    undeclared = {
        f"{name} in {file}"
        for name, file in imported_packages().items()
        if name not in {*sys.stdlib_module_names, "penjing"}
        and not declared & {normalized(found) for found in providers.get(name, [name])}
    }
    assert not undeclared


def test_every_declared_distribution_is_pinned():
    root = SOURCE.parent
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    lines = (root / "constraints.txt").read_text().splitlines()
    pins = [line for line in lines if not line.startswith("#")]
    assert declared_distributions(project) <= {
        normalized(pin.partition("==")[0]) for pin in pins
    }
    assert not [pin for pin in pins if not re.fullmatch(r"[\w.-]+==[\w.]+", pin)]


def test_the_hooks_run_the_pinned_ruff():
    root = SOURCE.parent
    hooks = (root / ".pre-commit-config.yaml").read_text()
    (revision,) = re.findall(r"ruff-pre-commit\n\s+rev: v([\d.]+)", hooks)
    assert f"ruff=={revision}" in (root / "constraints.txt").read_text().splitlines()


def test_changelog_and_citation_state_the_version():
    root = SOURCE.parent
    versions = re.findall(r"^## (\d\S*)", (root / "CHANGELOG.md").read_text(), re.M)
    assert versions[0] == __version__
    assert f"\nversion: {__version__}\n" in (root / "CITATION.cff").read_text()


@functools.cache
def loaded_by(statement: str, backend: str) -> set[str]:
    """Names of all modules loaded after `statement` in a new process."""
    code = f"{statement}; import json, sys; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("use", ["penjing", "penjing.public_names"])
def test_import_loads_nothing_but_keras_and_itself(use):
    before = loaded_by("import keras", "jax")
    after = loaded_by(f"import keras, {use}", "jax")
    top_level = {name.partition(".")[0] for name in after - before}
    assert "penjing" in top_level
    assert top_level - set(sys.stdlib_module_names) == {"penjing"}
    assert not {name.partition(".")[0] for name in after} & LOADED_LATER
