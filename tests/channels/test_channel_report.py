"""Channels before and after, and the reasons of what stays whole."""

from __future__ import annotations

import json

import keras
import pytest
from keras import layers

import penjing
from penjing.errors import UnsupportedModelError

pytestmark = pytest.mark.once


def build():
    inputs = keras.Input((8, 8, 3), name="image")
    x = layers.Conv2D(16, 3, name="first")(inputs)
    side = layers.Conv2D(8, 1, name="hidden_from")(x)
    side = layers.Lambda(lambda x: x * 2.0, name="lambda")(side)
    x = layers.Conv2D(24, 3, name="second")(x)
    x = layers.concatenate([layers.GlobalAveragePooling2D()(t) for t in (x, side)])
    return keras.Model(inputs, layers.Dense(4, name="head")(x), name="net")


def test_every_layer_is_there_with_its_channels_or_the_reason():
    model = build()
    smaller = penjing.prune_channels(model, ratio=0.5, scope="layer")
    report = penjing.channel_report(model, smaller)
    rows = {path: row for row in report.rows for path in row.layers}
    assert (rows["first"].before, rows["first"].after) == (16, 8)
    assert (rows["second"].before, rows["second"].after) == (24, 16)
    assert "lambda" in rows["hidden_from"].reason
    assert rows["head"].reason
    assert report.macs == tuple(penjing.count_macs(m).macs for m in (model, smaller))
    assert report.parameters == (model.count_params(), smaller.count_params())
    assert json.loads(json.dumps(report.to_dict()))["rows"][0]["before"] == 16
    assert "hidden_from" in str(report) and "multiply-accumulates: " in str(report)


@pytest.mark.parametrize("nested", [False, True])
def test_a_model_that_was_saved_is_still_known(tmp_path, nested):
    made = layers.Dense(32, name="made")
    if nested:
        made = keras.Sequential([keras.Input((4,)), made], name="inner")
    model = keras.Sequential([keras.Input((4,)), made, layers.Dense(2)], name="net")
    smaller = penjing.prune_channels(model, ratio=0.5)
    smaller.save(tmp_path / "smaller.keras")
    loaded = keras.models.load_model(tmp_path / "smaller.keras")
    assert penjing.channel_report(model, loaded) == penjing.channel_report(
        model, smaller
    )


def test_one_model_alone_says_what_could_go():
    report = penjing.channel_report(build())
    assert all(row.before == row.after for row in report.rows)
    free = {path for row in report.rows if not row.reason for path in row.layers}
    assert free == {"first", "second"}


def test_models_that_are_no_pair_are_refused():
    model = build()
    smaller = penjing.prune_channels(model, ratio=0.5)
    with pytest.raises(UnsupportedModelError, match="was not made from 'net'"):
        penjing.channel_report(smaller, model)


def test_every_maker_of_a_group_keeps_a_channel():
    """The units of a residual sum come from two layers side by side."""
    inputs = keras.Input((6,))
    left, right = (layers.Dense(4, name=n)(inputs) for n in ("left", "right"))
    whole = layers.Dense(8, name="whole")(inputs)
    x = layers.add([whole, layers.concatenate([left, right])])
    model = keras.Model(inputs, layers.Dense(2, name="head")(x))
    group = penjing.trace_channels(model).groups[0]
    scores = {group.name: [9, 8, 7, 6, 1, 2, 3, 4]}
    smaller = penjing.prune_channels(model, ratio=0.5, round_to=1, importance=scores)
    units = [smaller.get_layer(name).units for name in ("left", "right")]
    assert units == [3, 1]


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ([layers.Conv2D(16, 3, groups=2), layers.Flatten()], 8),
        ([layers.GroupNormalization(4), layers.Flatten()], 8),
        ([layers.Flatten(), layers.Reshape((36, 16)), layers.Flatten()], 8),
    ],
)
def test_units_that_lie_at_several_places_are_counted_once(body, after):
    first = layers.Conv2D(16, 3, name="first")
    model = keras.Sequential([keras.Input((8, 8, 3)), first, *body, layers.Dense(2)])
    smaller = penjing.prune_channels(model, ratio=0.5, round_to=1, progress=False)
    rows = penjing.channel_report(model, smaller).rows
    row = next(row for row in rows if any("first" in path for path in row.layers))
    assert row.after / row.before == after / 16
    assert smaller.layers[0].filters == after


def test_heads_take_their_products_of_attention_with_them():
    inputs = keras.Input((64, 32))
    x = layers.MultiHeadAttention(8, 8)(inputs, inputs)
    x = layers.GlobalAveragePooling1D()(layers.Dense(32)(x))
    model = keras.Model(inputs, layers.Dense(2)(x))
    whole = penjing.count_macs(model).macs
    for share in (0.6, 0.3):
        smaller = penjing.prune_channels(
            model, macs=share, round_to=1, scope="layer", progress=False
        )
        assert 0.7 * share <= penjing.count_macs(smaller).macs / whole <= share


def test_units_that_no_weight_has_all_of_are_counted_too():
    inputs = keras.Input((6,))
    parts = [layers.Dense(4, name=name)(inputs) for name in "ab"]
    whole = layers.Dense(8, name="whole")(inputs)
    x = layers.Add()([whole, layers.Concatenate()(parts)])
    model = keras.Model(inputs, layers.Dense(2)(x))
    assert penjing.channel_report(model).rows
    smaller = penjing.prune_channels(model, ratio=0.5, round_to=1, progress=False)
    report = penjing.channel_report(model, smaller)
    assert report.parameters[1] < report.parameters[0]
    other = keras.Sequential([keras.Input((6,)), layers.Dense(3), layers.Dense(2)])
    with pytest.raises(UnsupportedModelError, match="was not made from"):
        penjing.channel_report(model, other)
