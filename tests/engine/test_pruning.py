"""`prune`: what it takes, and what is reported of it."""

import keras
import pytest
from keras import layers
from tests.engine.pruning_cases import (
    compressed_rows,
    three_layers,
)

import penjing
from penjing import OneShot


@pytest.mark.parametrize(
    ("include", "exclude", "chosen"),
    [
        ("second", None, ["second"]),
        (["first", "he*"], None, ["first", "head"]),
        ("*/kernel", "net/second/kernel", ["first", "head"]),
        (None, ["first", "second"], ["head"]),
        ("net/first", None, ["first"]),
        (None, "*e*d", ["first"]),
    ],
)
def test_patterns_match_paths_and_names(include, exclude, chosen):
    pruned = penjing.prune(
        three_layers(), OneShot(0.5), include=include, exclude=exclude
    )
    assert [row.path.split("/")[1] for row in compressed_rows(pruned)] == chosen


@pytest.mark.parametrize("copy", [True, False])
def test_layers_of_the_given_model_are_named_by_themselves(copy):
    model = three_layers()
    pruned = penjing.prune(
        model, OneShot(0.5), include=model.layers, exclude=model.layers[0], copy=copy
    )
    paths = [row.path for row in compressed_rows(pruned)]
    assert paths == ["net/second/kernel", "net/head/kernel"]
    rows = {row.path: row.reason for row in penjing.sparsity_report(pruned).rows}
    assert rows["net/first/kernel"] == "excluded"


def test_a_layer_is_not_mistaken_for_one_of_the_same_name():
    encoder = keras.Sequential(
        [layers.Input((8,)), layers.Dense(4, name="fc")], name="encoder"
    )
    decoder = keras.Sequential(
        [layers.Input((4,)), layers.Dense(2, name="fc")], name="decoder"
    )
    inputs = layers.Input((8,))
    model = keras.Model(inputs, decoder(encoder(inputs)))
    pruned = penjing.prune(model, OneShot(0.5), include=decoder.layers[0])
    assert [row.path for row in compressed_rows(pruned)] == ["decoder/fc/kernel"]
    whole = penjing.prune(model, OneShot(0.5), include=encoder)
    assert [row.path for row in compressed_rows(whole)] == ["encoder/fc/kernel"]


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(penjing.UnsupportedModelError, match="Did you mean 'second'"):
        penjing.prune(three_layers(), OneShot(0.5), include="secnd")
    with pytest.raises(penjing.UnsupportedModelError, match="`exclude` names 'dens'"):
        penjing.prune(three_layers(), OneShot(0.5), exclude="dens")
    with pytest.raises(penjing.UnsupportedModelError, match="matches no weight"):
        penjing.prune(three_layers(), OneShot(0.5), include=layers.Dense(2, name="x"))


def test_a_named_layer_that_cannot_be_pruned_is_refused_with_the_reason():
    model = three_layers()
    model.layers[0].trainable = False
    with pytest.raises(
        penjing.UnsupportedModelError, match="frozen: it does not train"
    ):
        penjing.prune(model, OneShot(0.5), include="first")
    with pytest.raises(penjing.UnsupportedModelError, match="a bias, a scale"):
        penjing.prune(model, OneShot(0.5), include="*/bias")


def test_a_model_without_anything_to_prune_is_refused():
    with pytest.raises(penjing.UnsupportedModelError, match="no weight to compress"):
        penjing.prune(three_layers(), OneShot(0.5), exclude="*")


def test_nested_layers_of_one_name_are_told_apart():
    inputs = layers.Input((8,))
    outputs = layers.Dense(4, name="same")(inputs)
    inner_input = layers.Input((4,))
    inner = keras.Model(
        inner_input, layers.Dense(2, name="same")(inner_input), name="inner"
    )
    model = keras.Model(inputs, inner(outputs))
    pruned = penjing.prune(model, OneShot(0.5), include=["inner/same/kernel"])
    report = penjing.sparsity_report(pruned)
    assert [row.path for row in report.rows if row.status == "compressed"] == [
        "inner/same/kernel"
    ]


@pytest.mark.once
def test_a_pattern_takes_its_sparsity_or_says_what_keeps_it_from_that():
    model = three_layers()
    pattern = penjing.NM(2, 4)
    penjing.prune(model, OneShot(0.5), pattern=pattern, keep_at_least=9)
    with pytest.raises(
        ValueError, match=r"lets at most 0.\d+ of the .* NM.* takes 0.5"
    ):
        penjing.prune(model, OneShot(0.5), pattern=pattern, keep_at_least=300)


def test_an_importance_of_ones_own_gets_a_tensor():
    model = three_layers()

    def largest(weight):
        assert keras.ops.is_tensor(weight)
        return keras.ops.abs(weight)

    penjing.prune(model, penjing.OneShot(0.5), importance=largest)


def test_a_number_is_no_schedule_of_a_layer():
    with pytest.raises(ValueError, match="schedule"):
        penjing.prune_layer(keras.layers.Dense(4), 0.5)


@pytest.mark.parametrize("least", [100, 10_000])
def test_what_stays_at_least_stays_whatever_layers_say(least):
    pruned = penjing.prune(
        three_layers(),
        penjing.OneShot(0.5),
        sparsity_by_layer={"*": 0.99},
        keep_at_least=least,
    )
    pruned(keras.ops.ones((1, 8)), training=True)
    rows = penjing.sparsity_report(penjing.strip(pruned)).rows
    sizes = [r.size for r in rows if r.status != "skipped"]
    kept = sum(r.size - r.zeros for r in rows if r.status != "skipped")
    assert kept == pytest.approx(min(least, sum(sizes)), abs=3)


def test_a_name_with_brackets_names_itself():
    dense = keras.layers.Dense(4, name="d[0]")
    model = keras.Sequential([keras.Input((3,)), dense, keras.layers.Dense(2)])
    pruned = penjing.prune(model, penjing.OneShot(0.5), exclude=[dense.kernel.path])
    assert len(pruned.transforms[0].weights_by_path) == 1


def test_a_constant_sparsity_that_is_reached_is_not_pending():
    pruned = penjing.prune(three_layers(), penjing.ConstantSparsity(0.5, 0, 1000))
    assert pruned.transforms[0].pending(2) is None
