"""`penjing recipes`, which loads nothing heavy."""

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import penjing
from penjing import cli
from penjing.recipes.recipe_text import packaged_recipes

pytestmark = pytest.mark.once
FOLDER = Path(penjing.__file__).parent / "recipes"


def said(capsys, *arguments):
    assert cli.main(["recipes", *arguments]) == 0
    return capsys.readouterr().out


def test_recipes_are_listed_with_their_descriptions(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = said(capsys)
    rows = json.loads(said(capsys, "--json"))["recipes"]
    assert [row["name"] for row in rows] == packaged_recipes()
    for row in rows:
        assert row["name"] in text and row["description"] in text


def test_a_recipe_is_shown_as_it_is_in_its_file(capsys, tmp_path):
    whole = (FOLDER / "smallest.toml").read_text("utf-8")
    assert said(capsys, "show", "smallest") == whole and "#" in whole
    mine = tmp_path / "mine.toml"
    mine.write_text("# [mine]\nname = 'x'  # [red]\n")
    assert said(capsys, "show", str(mine)) == mine.read_text()
    table = json.loads(said(capsys, "show", "smallest", "--json"))
    assert table == tomllib.loads(whole)


def test_a_new_recipe_begins_with_a_packaged_one(capsys):
    table = tomllib.loads(said(capsys, "new", "smallest"))
    assert (table["name"], table["methods"][1]["levels"]) == ("mine", 7)


def test_a_recipe_without_methods_can_be_begun_with(capsys, tmp_path):
    (tmp_path / "none.toml").write_text("name = 'none'\n")
    text = said(capsys, "new", str(tmp_path / "none.toml"))
    assert "methods" not in tomllib.loads(text) and text.count("## [[methods]]") == 5


def test_keys_are_told(capsys):
    assert "| `epochs` | Passes over the training data" in said(capsys, "keys")
    known = json.loads(said(capsys, "keys", "--json"))
    assert known["tables"]["training"]["epochs"]["default"] == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "smalest"], "Did you mean `smallest`"),
        (["new", "none.toml"], "No recipe"),
        (["new", "typo.toml"], "Did you mean `epochs`"),
        (["new", "nameless.toml"], "a method without a name"),
        (["new", "twice.toml"], "`prune` 2 times"),
    ],
)
def test_what_is_no_recipe_is_refused(
    tmp_path, monkeypatch, capsys, arguments, message
):
    monkeypatch.chdir(tmp_path)
    method = "[[methods]]\nmethod = 'prune'\n[methods.schedule]\nfinal_sparsity = 0.5\n"
    Path("typo.toml").write_text(f"[training]\nepoch = 3\n{method}")
    Path("nameless.toml").write_text("[[methods]]\nscope = 'global'\n")
    Path("twice.toml").write_text(2 * method)
    assert cli.main(["recipes", *arguments]) == 1
    assert message in capsys.readouterr().err


def test_neither_keras_nor_numpy_is_loaded():
    code = (
        "import sys; from penjing.cli import main\n"
        "for words in ('', 'show smallest', 'new', 'keys'):\n"
        "    assert main(['recipes', *words.split()]) == 0\n"
        "assert not {'keras', 'numpy'} & set(sys.modules)"
    )
    paths = os.pathsep.join(os.path.abspath(path) for path in sys.path if path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
