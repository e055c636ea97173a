"""Recipes from and to TOML, and the names of its classes."""

from __future__ import annotations

import copy
import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penjing import pipeline
from penjing.errors import RecipeError
from penjing.numerics.patterns import NM, Block
from penjing.pipeline import (
    ClusteringConfig,
    ExportRecipe,
    FractionalSchedule,
    PruningConfig,
    QuantizeAwareRecipe,
    Recipe,
    TrainingRecipe,
    load_recipe,
    packaged_recipes,
    recipe_from_dict,
    recipe_to_toml,
)
from penjing.pipeline.training import check_training

pytestmark = pytest.mark.once


SCHEDULE = FractionalSchedule(final_sparsity=0.5)


GOOD = """
[training]
epochs = 3
loss = {name = "Huber", delta = 2}

[[methods]]
method = "prune"
schedule = {kind = "constant", final_sparsity = 0.5}
pattern = {kind = "nm", n = 2, m = 4}

[export]
quantizations = ["int8", "dynamic"]
"""


def test_packaged_recipes_load():
    assert packaged_recipes() == [
        "article",
        "channels",
        "channels-smallest",
        "default",
        "micro",
        "smallest",
    ]
    for name in packaged_recipes():
        assert load_recipe(name).name == name


def test_the_article_recipe_is_the_article():
    recipe = load_recipe("article")
    schedule = recipe.methods[0].schedule
    assert (recipe.training.epochs, recipe.training.learning_rate) == (2, 1e-3)
    assert recipe.training.learning_rate_schedule == "constant"
    assert (schedule.initial_sparsity, schedule.final_sparsity) == (0.5, 0.8)
    assert (schedule.begin, schedule.end, recipe.methods[0].scope) == (0, 1, "layer")


def test_a_file_is_read_and_named_after_itself(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    recipe = load_recipe(path)
    assert recipe.name == "mine"
    assert recipe.training.loss == {"name": "Huber", "delta": 2}
    assert recipe.methods[0].pattern == NM(2, 4)
    assert recipe.export.quantizations == ("int8", "dynamic")


def test_the_settings_of_a_method_are_its_config(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        """
        [[methods]]
        method = "prune"
        schedule = {final_sparsity = 0.5}
        pattern = {kind = "block", rows = 2, columns = 1}
        sparsity_by_layer = {"conv*" = 0.25}
        exclude = ["head"]

        [[methods]]
        method = "cluster"
        num_clusters = 4
        centroid_gradient = "sum"
        seed = 3
        """
    )
    assert load_recipe(path).methods == (
        PruningConfig(
            FractionalSchedule(final_sparsity=0.5),
            pattern=Block(2, 1),
            sparsity_by_layer={"conv*": 0.25},
            exclude=("head",),
        ),
        ClusteringConfig(4, centroid_gradient="sum", seed=3),
    )


FRACTIONS = st.floats(0.01, 0.99)


RECIPES = st.builds(
    Recipe,
    name=st.text(
        st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")), max_size=9
    ),
    training=st.builds(
        TrainingRecipe,
        epochs=st.integers(1, 99),
        learning_rate=st.floats(1e-9, 1),
        metrics=st.none() | st.just(("accuracy", "mae")),
        loss=st.none()
        | st.just("mse")
        | st.just({"name": "Huber", "delta": 0.5, "reduction": "sum"}),
    ),
    methods=st.lists(
        st.builds(
            PruningConfig,
            schedule=st.builds(
                FractionalSchedule,
                kind=st.sampled_from(["polynomial", "cosine", "constant", "one_shot"]),
                final_sparsity=FRACTIONS,
                end=st.floats(0.01, 1),
                frequency=st.none() | st.integers(1, 9),
            ),
            exclude=st.none() | st.just(("a/*", 'quo"te')),
            sparsity_by_layer=st.none() | st.just({"x y": 0.5, "plain": 0.1}),
        )
        | st.builds(
            ClusteringConfig,
            num_clusters=st.integers(1, 99),
            initialization=st.sampled_from(["k-means++", "density"]),
            preserve_sparsity=st.booleans(),
            include=st.none() | st.just(("a/*",)),
        )
        | st.builds(
            QuantizeAwareRecipe,
            bits=st.integers(4, 8),
            levels=st.none() | st.integers(3, 15),
            granularity=st.sampled_from([None, "per_tensor"]),
            learn_scale=st.booleans(),
            begin=st.floats(0, 0.75),
            levels_by_layer=st.none() | st.just({"conv*": 3, "x y": 15}),
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
    export=st.sampled_from(
        [
            ExportRecipe(quantizations=("float32", "int16x8")),
            ExportRecipe(quantizations=("int4", "int8x4"), observer="mse"),
            ExportRecipe(quantizations=("int8",), float_layers=("block/*", "head")),
        ]
    ),
)


@given(RECIPES)
def test_toml_and_tables_give_the_recipe_back(recipe):
    assert recipe_from_dict(recipe.to_dict()) == recipe
    assert recipe_from_dict(tomllib.loads(recipe_to_toml(recipe))) == recipe


def replaced(old, new):
    assert old in GOOD
    return GOOD.replace(old, new)


def quantizing(keys):
    return f'[[methods]]\nmethod = "quantize_aware"\n{keys}\n'


def clustering(keys):
    return f'[[methods]]\nmethod = "cluster"\n{keys}\n'


TYPOS = [
    (quantizing("bits = 9"), "`bits` must be from 2 to 8, got 9"),
    (quantizing("levels = 2"), r"`levels` must be from 3 to 2\*\*bits - 1 = 255, got"),
    (
        quantizing("bits = 4\nlevels_by_layer = {a = 16}"),
        r"`levels_by_layer.a` must be from 3 to 2\*\*bits - 1 = 15, got 16",
    ),
    (quantizing("begin = 1.0"), r"`begin` must be in \[0, 1\), got 1.0"),
    (quantizing("bit = 4"), "unknown key `bit`. Did you mean `bits`"),
    (clustering(""), "needs the key `num_clusters`"),
    (
        clustering("num_clusters = 0"),
        r"methods\[0\]: `num_clusters` must be an integer of at least 1, got 0",
    ),
    (clustering("num_clusters = 2.5"), "`num_clusters` must be an integer, got 2.5"),
    (clustering("clusters = 4"), "unknown key `clusters`. Did you mean `num_clus"),
    (
        clustering('num_clusters = 4\ninitialization = "kmeans++"'),
        r"'kmeans\+\+'. Did you mean `k-means\+\+`",
    ),
    (
        clustering('num_clusters = 4\ngranularity = "per_group"'),
        "`granularity` is 'per_group'. .*Allowed: per_tensor, per_channel",
    ),
    (replaced("epochs", "epoch"), "`training`: unknown key `epoch`. .*`epochs`"),
    (replaced("[training]", "[trainig]"), "unknown key `trainig`. .*`training`"),
    (replaced("final_sparsity", "final_sparsty"), "mean `final_sparsity`"),
    (replaced('"constant"', '"konstant"'), "'konstant'. Did you mean `constant`"),
    (replaced('"prune"', '"prun"'), 'unknown method "prun". Did you mean `prune`'),
    (replaced("method =", "methd ="), r"methods\[0\] needs the key `method`"),
    (replaced('"int8"', '"int9"'), "'int9'. Did you mean `int8`"),
    (replaced("epochs = 3", 'epochs = "3"'), "`epochs` must be an integer, got '3'"),
    (replaced("epochs = 3", "epochs = true"), "must be an integer, got True"),
    (replaced("epochs = 3", "epochs = 0"), "`epochs` must be at least 1, got 0"),
    (replaced("0.5", "1.0"), r"`final_sparsity` must be in \[0, 1\), got 1.0"),
    (replaced("0.5", "80"), r"`final_sparsity` must be in \[0, 1\), got 80.0"),
    (
        replaced("[export]", 'sparsity_by_layer = {"conv*" = 0.25}\n[export]'),
        r"methods\[0\]: NM\(n=2, m=4\) gives every layer the same sparsity",
    ),
    (replaced("0.5", "0.75"), r"NM\(2, 4\) ends at a sparsity of 0.5, but the sched"),
    (replaced('"nm"', '"nmm"'), "`pattern`, `kind` is 'nmm'. Did you mean `nm`"),
    (replaced("n = 2,", "n = 2, k = 3,"), "unknown key `k`. .*kind, rows, columns, po"),
    (replaced("n = 2, ", ""), 'pattern "nm" needs the key `n`'),
    (replaced("n = 2", "rows = 2, n = 2"), "does not take the key `rows`"),
    (replaced('["int8", "dynamic"]', '"int8"'), "must be a list, got 'int8'"),
    (replaced('["int8", "dynamic"]', "[]"), "`quantizations` is empty"),
    (replaced('"dynamic"', '"int8"'), "names a mode twice"),
    (
        replaced('["int8", "dynamic"]', '["int4"]\nobserver = "mse"'),
        r'`observer` = "mse" needs "int8" or "int8x4" .*got \[.int4.\]',
    ),
    (
        replaced('["int8", "dynamic"]', '["int4"]\nfloat_layers = ["auto"]'),
        r'`float_layers` needs "int8" or "int8x4" .*got \[.int4.\]',
    ),
    (replaced('{name = "Huber", delta = 2}', "3"), "`loss` must be a table, got 3"),
    (replaced("[[methods]]", "[methods]"), r"write \[\[methods\]\]"),
    (replaced("epochs = 3", "epochs = "), "is not valid TOML"),
    ("name = 'x'\n", "has no methods.* or, above the first table, `methods = .]`"),
    (replaced("= 3", "= 3\nvalidation_split = 1"), r"`validation_split` must be in"),
    (replaced("= 3", "= 3\nkeep_best = 1"), "`keep_best` must be true or false, got 1"),
    (replaced("= 3", "= 3\nlearning_rate = -1.0"), "`learning_rate` must be a pos"),
    (replaced("= 3", "= 3\nwarmup = 1"), r"`warmup` must be in \[0, 1\), got 1.0"),
    (replaced('"constant"', '"cosine", begin = 0.6'), "`end` must come after `begin`"),
]


@pytest.mark.parametrize(("text", "message"), TYPOS)
def test_a_mistake_is_named_with_its_place_and_the_nearest_key(tmp_path, text, message):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=message) as caught:
        load_recipe(path)
    assert "mine.toml" in str(caught.value)


def test_a_recipe_may_have_no_methods(tmp_path):
    training = TrainingRecipe(epochs=0, validation_split=0.1, keep_best=True)
    recipe = Recipe(name="mine", training=training, methods=())
    path = tmp_path / "mine.toml"
    path.write_text(recipe_to_toml(recipe))
    assert load_recipe(path) == recipe


def test_an_unknown_recipe_names_the_nearest_packaged_one():
    with pytest.raises(
        RecipeError,
        match=r"article, channels, channels-smallest, default, micro, smallest\. "
        "Did you mean `default`",
    ):
        load_recipe("defualt")


def test_a_file_that_is_no_text_or_far_too_large_is_refused(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="Cannot read the recipe"):
        load_recipe(path)
    path.write_bytes(b"#" * 1_000_001)
    with pytest.raises(RecipeError, match="1,000,001 bytes"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("name", "make", "value"),
    [
        ("PruneRecipe", lambda cls: cls(schedule=SCHEDULE), PruningConfig(SCHEDULE)),
        ("ScheduleRecipe", lambda cls: cls(final_sparsity=0.5), SCHEDULE),
        ("ClusterRecipe", lambda cls: cls(num_clusters=4), ClusteringConfig(4)),
        ("PatternRecipe", lambda cls: cls(kind="nm", n=2, m=4), NM(2, 4)),
    ],
)
def test_former_names_give_what_stands_in_their_place(name, make, value):
    with pytest.warns(DeprecationWarning, match=f"pipeline.{name} is now penjing"):
        former = getattr(pipeline, name)
    assert make(former) == value


def test_other_names_are_not_there():
    with pytest.raises(AttributeError, match="no attribute 'PrunRecipe'"):
        pipeline.PrunRecipe  # noqa: B018


NONSENSE = st.one_of(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["name", "kind", "method"]), inner)
        ),
        max_leaves=4,
    ),
    st.sampled_from(
        [10**23, "Loss", "__class__", {"name": "Reduction"}, {"name": "Loss"}, ["Mean"]]
    ),
)


def _places(value, path=()):
    if isinstance(value, dict | list):
        keys = value if isinstance(value, dict) else range(len(value))
        for key in keys:
            yield (*path, key)
            yield from _places(value[key], (*path, key))


@settings(max_examples=400)
@given(st.data())
def test_whatever_stands_in_a_recipe_it_is_read_or_refused(data):
    table = load_recipe(data.draw(st.sampled_from(packaged_recipes()))).to_dict()
    for _ in range(data.draw(st.integers(1, 3))):
        *path, last = data.draw(st.sampled_from(list(_places(table))))
        parent = table
        for key in path:
            parent = parent[key]
        parent[last] = copy.deepcopy(data.draw(NONSENSE))
    try:
        recipe = recipe_from_dict(table)
        check_training(recipe.training)
    except RecipeError as refusal:
        assert str(refusal)
