"""Single settings in place of a recipe's."""

import copy

import pytest

from penjing.errors import RecipeError
from penjing.pipeline import FractionalSchedule, PruningConfig, Recipe, load_recipe
from penjing.pipeline.recipe_files import as_recipe
from penjing.recipes.overrides import override, parse_settings
from penjing.recipes.recipe_text import read_recipe

pytestmark = pytest.mark.once

SETTINGS = [
    ("training.epochs=5", 5),
    ("training.epochs = 5 ", 5),
    ("training.warmup=0.5", 0.5),
    ("training.optimizer=sgd", "sgd"),
    ('training.optimizer="sgd"', "sgd"),
    ("methods.prune_channels.latency=0.5 ms", "0.5 ms"),
    ("methods.0.best_effort=true", True),
    ("export.finish=", None),
    ('export.quantizations=["int8", "dynamic"]', ["int8", "dynamic"]),
    ("export.quantizations=[int8, dynamic]", ["int8", "dynamic"]),
    ("export.quantizations=[int8]", ["int8"]),
    ("training.loss={name=Huber, delta=2}", {"name": "Huber", "delta": 2}),
    ("methods.prune.include=[conv*, */kernel, true]", ["conv*", "*/kernel", True]),
    ("name=a=b#c", "a=b#c"),
    ('methods.prune.sparsity_by_layer."a=b.c"=0.5', 0.5),
]


@pytest.mark.parametrize(("text", "value"), SETTINGS)
def test_values_are_toml_or_words(text, value):
    (found,) = parse_settings([text]).values()
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    "text",
    ["", "=", "epochs", "=5", "a b=5", "a..b=5", "a=5\nb=6", "a=[1,", "a={", "a='x"],
)
def test_what_is_no_setting_is_refused_with_the_form(text):
    with pytest.raises(RecipeError, match="the setting"):
        parse_settings([text])
    with pytest.raises(RecipeError, match="the setting"):
        parse_settings(["x=" + "[" * 5000])


def test_the_last_of_two_settings_holds():
    assert parse_settings(["seed=1", "seed=2"]) == {"seed": 2}
    assert parse_settings(None) == {}


def test_methods_keep_their_places_while_others_are_taken_away():
    table, _ = read_recipe("channels-smallest")
    changed, _ = override(table, {"methods.0": None, "methods.1": None}, "r")
    assert [row["method"] for row in changed["methods"]] == ["quantize_aware"]
    with pytest.raises(RecipeError, match="names no method"):
        override(table, {"methods.0": None, "methods.0.macs": 0.5}, "r")


def test_settings_are_changed_and_the_description_says_so():
    recipe = load_recipe(
        "smallest",
        {
            "training.epochs": 5,
            "methods.prune.schedule.final_sparsity": 0.5,
            "methods.prune.scope": "layer",
            "methods.1.levels": 15,
            "methods.prune.pattern.kind": "nm",
            "methods.prune.pattern.n": 2,
            "methods.prune.pattern.m": 4,
            "export.quantizations": ("int8",),
            "export.finish": None,
            "training.optimizer": "adam",
        },
    )
    assert recipe.training.epochs == 5
    prune, quantize = recipe.methods
    assert prune.schedule.final_sparsity == 0.5
    assert prune.schedule.end == 0.5
    assert (prune.pattern.n, prune.pattern.m) == (2, 4)
    assert quantize.levels == 15
    assert recipe.export.quantizations == ("int8",)
    assert recipe.export.finish is None
    assert "Changed: export.finish = default, export.quant" in recipe.description
    assert "training.epochs = 5." in recipe.description
    assert "optimizer" not in recipe.description


def test_what_changes_nothing_gives_the_same_recipe():
    same = load_recipe("default", {"training.epochs": 10, "export.finish": None})
    assert same == load_recipe("default")
    named = load_recipe("default", {"description": "Mine.", "training.epochs": 3})
    assert named.description == "Mine."


def test_a_method_can_be_taken_away():
    recipe = load_recipe("smallest", {"methods.quantize_aware": None})
    assert [method.method for method in recipe.methods] == ["prune"]


def test_a_recipe_in_python_is_changed_as_well():
    mine = Recipe(
        name="mine", methods=(PruningConfig(FractionalSchedule(final_sparsity=0.5)),)
    )
    changed = as_recipe(mine, {"methods.prune.schedule.final_sparsity": 0.25})
    assert changed.methods[0].schedule.final_sparsity == 0.25
    assert mine.methods[0].schedule.final_sparsity == 0.5
    assert as_recipe(mine, {}) is mine


def test_the_table_is_left_alone():
    table, where = read_recipe("smallest")
    before = copy.deepcopy(table)
    override(table, {"methods.prune.l1": 0.5, "training.loss": {"name": "x"}}, where)
    assert table == before


WRONG = [
    ("epochs", 5, "unknown key `epochs`. Did you mean `training.epochs`"),
    ("l1", 5, "Did you mean `methods.prune.l1`"),
    ("training.epoch", 5, "`training`: unknown key `epoch`. Did you mean `epochs`"),
    ("trainin.epochs", 5, "Did you mean `training`"),
    ("methods.prun.l1", 5, "Did you mean `methods.prune`"),
    ("methods.cluster.num_clusters", 5, "penjing recipes new"),
    ("methods.prune.sparsity", 5, "unknown key `sparsity`"),
    ("methods.prune.schedule.final_sparsit", 5, "Did you mean `final_sparsity`"),
    ("methods.7.l1", 5, "It has: `methods.prune`, `methods.quantize_aware`"),
    ("methods", [], "names no method"),
    ("methods.prune", {"l1": 1}, "."),
    ("methods.prune.method", "prun", "Did you mean `prune`"),
    ("training.epochs.x", 5, "`epochs` is 25, which has no keys"),
    ("", 5, "is no key of a recipe"),
    (7, 5, "'7' is no key|unknown key `7`"),
    (".".join("a" * 50), 5, "is no key"),
    ("training.epochs", float("nan"), "must be a finite number"),
    ("training.epochs", "many", "`epochs` must be an integer, got 'many'"),
    ("training.epochs", -1, "`epochs` must be from 0 to 100,000, got -1. Passes"),
]


@pytest.mark.parametrize(("key", "value", "message"), WRONG)
def test_wrong_settings_are_refused_with_the_nearest_key(key, value, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe("smallest", {key: value})


def test_settings_that_are_no_mapping_are_refused():
    with pytest.raises(RecipeError, match="must be a mapping .* got .'training.epo"):
        load_recipe("smallest", ["training.epochs=5"])
