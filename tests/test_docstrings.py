"""The examples in docstrings run, and every public name has a docstring."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil

import pytest

import penjing

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(penjing.__path__, "penjing.")
    if not module.name.endswith("__main__")
)
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.mark.parametrize("name", ["penjing", *MODULES])
def test_examples_give_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    results = doctest.testmod(module, optionflags=FLAGS, report=True)
    assert results.failed == 0


@pytest.mark.once
@pytest.mark.parametrize("name", ["penjing", *MODULES])
def test_public_names_are_documented(name):
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    undocumented = [
        f"{name}.{public}"
        for public, value in vars(module).items()
        if not public.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.startswith("penjing")
        and not inspect.getdoc(value)
    ]
    assert not undocumented
