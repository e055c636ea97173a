"""The classes of errors, and the import of an extra."""

import builtins
import sys

import pytest

from penjing import errors

pytestmark = pytest.mark.once

ERRORS = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, Exception)
]


@pytest.mark.parametrize(
    "error", [error for error in ERRORS if not issubclass(error, Warning)]
)
def test_every_error_is_caught_by_the_base_class(error):
    with pytest.raises(errors.CompressionError, match="what happened"):
        raise error("what happened")


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (errors.UnsupportedModelError, ValueError),
        (errors.ExportError, RuntimeError),
        (errors.DataError, ValueError),
        (errors.FileFormatError, ValueError),
        (errors.MissingDependencyError, ImportError),
        (errors.RecipeError, ValueError),
        (errors.CompressionWarning, UserWarning),
    ],
)
def test_each_class_is_a_builtin_one_too(error, builtin):
    assert issubclass(error, builtin)


def test_an_installed_module_is_given():
    assert errors.require_extra("json.decoder", "dev") is sys.modules["json.decoder"]


@pytest.mark.parametrize("name", ["surely_not_there", "surely_not_there.inside"])
def test_a_missing_module_names_the_extra(name):
    with pytest.raises(
        errors.MissingDependencyError,
        match=rf'`{name}`.*pip install "penjing\[tensorflow\]"',
    ):
        errors.require_extra(name, "tensorflow")


def test_a_missing_part_of_an_installed_package_names_the_extra():
    with pytest.raises(errors.MissingDependencyError, match=r"`json\.missing`"):
        errors.require_extra("json.missing", "dev")


def test_an_extra_that_lacks_something_itself_says_what(tmp_path, monkeypatch):
    (tmp_path / "broken_extra.py").write_text("import surely_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="surely_not_there") as caught:
        errors.require_extra("broken_extra", "dev")
    assert not isinstance(caught.value, errors.MissingDependencyError)


def test_an_extra_that_fails_to_load_says_why(monkeypatch):
    real_import = builtins.__import__

    def failing(name, *args, **kwargs):
        if name == "surely_broken":
            raise ImportError("libbroken.so: cannot open shared object file")
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr("importlib.import_module", failing)
    with pytest.raises(ImportError, match=r"libbroken\.so") as caught:
        errors.require_extra("surely_broken", "dev")
    assert not isinstance(caught.value, errors.MissingDependencyError)
