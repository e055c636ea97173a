"""A recipe to begin with loads as it is, and with each of its comments taken away."""

import re
import tomllib

import pytest

from penjing.pipeline import load_recipe, recipe_from_dict
from penjing.recipes.commented_recipe import commented_recipe
from penjing.recipes.recipe_text import (
    check_keys,
    packaged_recipes,
    read_known_keys,
    read_recipe,
)

pytestmark = pytest.mark.once

_SETTING = re.compile(r"#\w+ = ")


def loaded(lines):
    table = tomllib.loads("\n".join(lines))
    check_keys(table, "the recipe")
    return recipe_from_dict(table)


def uncommented(lines):
    """The lines, once for each setting that is commented out, with it."""
    for place, line in enumerate(lines):
        if _SETTING.match(line):
            yield line, [*lines[:place], line[1:], *lines[place + 1 :]]


def test_it_says_of_which_recipe_it_is():
    text = commented_recipe({"methods": []}, "mine.toml")
    assert 'with the settings of the recipe "mine.toml"' in text


@pytest.mark.parametrize("base", packaged_recipes())
def test_it_loads_as_it_is_and_with_each_setting(base):
    text = commented_recipe(read_recipe(base)[0], base)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    recipe, original = loaded(lines), load_recipe(base)
    assert recipe.methods == original.methods
    assert (recipe.training, recipe.export) == (original.training, original.export)
    tried = 0
    for line, changed in uncommented(lines):
        try:
            loaded(changed)
        except Exception as error:
            raise AssertionError(f"{line} of {base}") from error
        tried += 1
    assert tried > 12


@pytest.mark.parametrize("base", ["default", "smallest"])
def test_methods_that_are_commented_out_load_too(base):
    lines = commented_recipe(read_recipe(base)[0], base).splitlines()
    starts = [place for place, line in enumerate(lines) if line == "## [[methods]]"]
    assert len(starts) == 5 - len(load_recipe(base).methods)
    for start in starts:
        rest = range(start, len(lines))
        stop = next((n for n in rest if not lines[n].startswith("##")), len(lines))
        block = [
            line.removeprefix("##").removeprefix(" ") for line in lines[start:stop]
        ]
        whole = [*lines[:start], *block, *lines[stop:]]
        added = len(loaded(whole).methods)
        assert added == len(load_recipe(base).methods) + 1
        for line, _ in uncommented(block):
            place = start + block.index(line)
            loaded([*whole[:place], line[1:], *whole[place + 1 :]])


def test_every_key_is_in_it():
    text = commented_recipe(read_recipe("channels-smallest")[0], "channels-smallest")
    known = read_known_keys()
    for table in (*known["methods"].values(), *known["tables"].values()):
        for key, entry in table.items():
            if "needs" not in entry and "excludes" not in entry:
                assert re.search(rf"^#{{0,3}} ?#?\[*(methods\.)?{key}\b", text, re.M), (
                    key
                )
