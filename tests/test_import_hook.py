"""A function is called once a module is imported, and imports are left as they were."""

import importlib
import importlib.util
import sys

import pytest

from penjing.import_hook import when_imported

pytestmark = pytest.mark.once


@pytest.fixture
def modules(tmp_path, monkeypatch):
    """`one` and the package `two` can be imported; nothing of them stays."""
    (tmp_path / "two").mkdir()
    (tmp_path / "one.py").write_text("VALUE = 1\n")
    (tmp_path / "two" / "__init__.py").write_text("VALUE = 2\n")
    (tmp_path / "two" / "three.py").write_text("VALUE = 3\n")
    monkeypatch.syspath_prepend(tmp_path)
    finders = list(sys.meta_path)
    yield
    sys.meta_path[:] = finders
    for name in ("one", "two", "two.three"):
        sys.modules.pop(name, None)


def test_the_function_is_called_when_the_module_is_whole(modules):
    seen = []
    when_imported({"one", "two"}, lambda: seen.append(sys.modules["two"].VALUE))
    assert seen == []
    importlib.import_module("two.three")
    assert seen == [2]
    importlib.import_module("one")
    assert seen == [2]  # it was called


def test_the_function_runs_before_the_modules_inside(modules):
    seen = []
    when_imported({"two"}, lambda: seen.append("two.three" in sys.modules))
    importlib.import_module("two.three")
    assert seen == [False]


def test_a_module_that_is_there_calls_at_once(modules):
    importlib.import_module("one")
    finders, seen = list(sys.meta_path), []
    when_imported({"two", "one"}, lambda: seen.append(1))
    assert seen == [1]
    assert sys.meta_path == finders


def test_the_function_may_import_the_modules_itself(modules):
    seen = []

    def then():
        seen.append(importlib.import_module("one").VALUE)
        seen.append(importlib.import_module("two").VALUE)

    when_imported({"one", "two"}, then)
    importlib.import_module("one")
    assert seen == [1, 2]


def test_where_the_function_raises_the_import_fails_and_can_be_tried_again(modules):
    seen = []

    def then():
        seen.append(1)
        if len(seen) == 1:
            raise RuntimeError("not yet")

    when_imported({"one"}, then)
    with pytest.raises(RuntimeError, match="not yet"):
        importlib.import_module("one")
    assert "one" not in sys.modules
    assert importlib.import_module("one").VALUE == 1
    assert len(seen) == 2


def test_modules_and_finders_are_as_without_it(modules):
    finders = list(sys.meta_path)
    when_imported({"one"}, lambda: None)
    assert importlib.util.find_spec("one").loader.get_source("one") == "VALUE = 1\n"
    assert "one" not in sys.modules
    module = importlib.import_module("one")
    kind = type(importlib.import_module("two").__loader__)
    assert type(module.__loader__) is type(module.__spec__.loader) is kind
    assert sys.meta_path == finders


def test_a_module_that_is_not_there_is_not_found(modules):
    when_imported({"nowhere"}, lambda: pytest.fail("there is none"))
    with pytest.raises(ModuleNotFoundError, match="nowhere"):
        importlib.import_module("nowhere")


def test_two_may_wait_for_the_same_module(modules):
    seen = []
    when_imported({"one"}, lambda: seen.append("first"))
    when_imported({"one"}, lambda: seen.append("second"))
    importlib.import_module("one")
    assert seen == ["first", "second"]
