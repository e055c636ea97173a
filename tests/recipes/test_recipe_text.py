"""Recipes as text: bounded, and their keys known without Keras."""

import datetime
import tomllib

import pytest
from tests.recipes.generated_keys import KEYS, PAGE, keys_text

from penjing.errors import RecipeError
from penjing.pipeline.recipe_files import load_recipe, recipe_from_dict
from penjing.recipes.keys_page import keys_page
from penjing.recipes.recipe_text import (
    check_keys,
    check_values,
    packaged_recipes,
    read_known_keys,
    read_recipe,
)
from penjing.recipes.recipe_values import check_value
from penjing.recipes.toml_text import to_toml

pytestmark = pytest.mark.once


_WRITE = "Run: python -m tests.recipes.generated_keys"


def test_what_is_written_as_toml_is_read_again():
    table = {"name": 'a\x7fb\\c"\n', "caf\u00e9 \x7f\U0001f600": ["\udcff", 0.5, True]}
    again = tomllib.loads(to_toml(table))
    assert again == {**table, "caf\u00e9 \x7f\U0001f600": ["\\udcff", 0.5, True]}


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "my.toml").write_bytes(b"\xef\xbb\xbfname = 'mine'\n")
    assert read_recipe(tmp_path / "my.toml")[0] == {"name": "mine"}


def test_the_keys_are_those_of_the_settings():
    assert KEYS.read_text("utf-8") == keys_text(), _WRITE


def test_the_page_of_keys_is_up_to_date():
    assert PAGE.read_text("utf-8") == keys_page(), _WRITE


def test_bounds_are_those_of_the_classes():
    known = read_known_keys()
    quantize, training = known["methods"]["quantize_aware"], known["tables"]["training"]
    assert (quantize["bits"]["least"], quantize["bits"]["most"]) == (2, 8)
    assert (quantize["levels"]["least"], quantize["levels"]["most"]) == (3, 255)
    assert (training["warmup"]["least"], training["warmup"]["below"]) == (0, 1)
    assert (training["epochs"]["least"], training["epochs"]["most"]) == (0, 100_000)
    assert training["learning_rate"]["above"] == 0
    assert known["methods"]["prune_channels"]["weight_bits"]["most"] == 8
    assert known["tables"]["pattern"]["m"]["needs"] == {"kind": "nm"}


@pytest.mark.parametrize(
    "table", [*read_known_keys()["tables"], *read_known_keys()["methods"]]
)
def test_every_key_has_a_meaning_and_an_example(table):
    known = read_known_keys()
    for key, entry in {**known["tables"], **known["methods"]}[table].items():
        assert entry["meaning"].endswith("."), key
        if entry["takes"] != ["table"] or "table" not in entry:
            assert "example" in entry or key == "methods", key
        if "example" in entry:
            check_value(entry["example"], entry, key)


def test_packaged_recipes_have_known_keys():
    for name in packaged_recipes():
        table, where = read_recipe(name)
        check_keys(table, where)
        assert where == f"the packaged recipe {name}"
        check_keys(load_recipe(name).to_dict(), where)


@pytest.mark.parametrize(
    "text",
    [
        "[training]\nepoch = 3\n",
        "nam = 3\n",
        "[[methods]]\nmethod = 'prune'\n[methods.schedule]\nfinal_sparcity = 0.5\n",
        "[[methods]]\nmethod = 'prune'\npattern = {kind = 'nm', k = 2}\n",
        "[[methods]]\nmethod = 'prun'\n",
        "[[methods]]\nmethod = 'cluster'\nnumber = 2\n",
        "[export]\nquantization = []\n",
    ],
)
def test_typos_are_told_in_the_words_of_the_reader(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(RecipeError) as early:
        check_keys(*read_recipe(path))
    with pytest.raises(RecipeError) as late:
        load_recipe(path)
    assert str(early.value) == str(late.value)


NONSENSE = [
    ("x = " + "[" * 5000 + "]" * 5000, "too deeply|more than 12 deep"),
    ("[" + ".".join(["a"] * 5000) + "]\n", "more than 12 deep"),
    (".".join(["a"] * 200_000) + " = 1\n", "more than 12 deep"),
    ("x = {a" + " . 'a'" * 50 + " = 1}\n", "more than 12 deep"),
    ("x = " + "{a = " * 5000 + "1" + "}" * 5000, "too deeply|more than 12 deep"),
    ("[training]\nepochs = 100000000000000000000000\n", r"`epochs` is about 10\^23"),
    ("[training]\nepochs = " + "9" * 5000 + "\n", "not valid TOML: .*digits"),
    ("[training]\nlearning_rate = inf\n", "`learning_rate` must be a finite number"),
    ("[training]\nlearning_rate = nan\n", "must be a finite number, got nan"),
    ("[training]\nloss = 1979-05-27\n", "`loss` is the date 1979-05-27"),
    ("[[methods]]\nmethod = []\n", r"methods\[0\]: unknown method \[\]"),
    ("[[methods]]\nmethod = {}\n", r"unknown method \{\}"),
    ("[[methods]]\nmethod = 3\n", "unknown method 3"),
    ("methods = [[]]\n", r"methods\[0\] needs the key `method`"),
    ("methods = 3\n", "`methods` must be a list"),
    ("[training]\nepochs = 2000000\n", "`epochs` must be at most 100,000"),
    ("[training]\nbatch_size = 2000000000\n", "`batch_size` must be at most"),
]


@pytest.mark.parametrize(("text", "message"), NONSENSE)
def test_nonsense_is_refused_in_a_sentence(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as refusal:
        load_recipe(path)
    assert len(str(refusal.value)) < 600


def test_names_that_no_file_can_have_are_refused():
    for name in ("a\0b", "x" * 5000):
        with pytest.raises(RecipeError):
            read_recipe(name)


def test_tables_of_python_are_bounded_too():
    deep = {}
    for _ in range(5000):
        deep = {"a": deep}
    for table in (deep, {"name": datetime.date(2000, 1, 1)}, {"name": 10**23}):
        with pytest.raises(RecipeError):
            check_values(table, "the recipe")
        with pytest.raises(RecipeError):
            recipe_from_dict(table)
    with pytest.raises(RecipeError, match="must be a table of keys, got 3"):
        recipe_from_dict(3)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("auto", None),
        (0.005, None),
        (1, None),
        ("aut", "Did you mean `auto`"),
        (0, "must be above 0, got 0"),
        (True, "is True. Allowed: auto or a number"),
    ],
)
def test_a_number_may_stand_beside_names(value, message):
    entry = read_known_keys()["tables"]["training"]["learning_rate"]
    if message is None:
        check_value(value, entry, "it")
        return
    with pytest.raises(RecipeError, match=message):
        check_value(value, entry, "it")
