"""Estimated arenas against those of TensorFlow Lite Micro, and as bounds of a cut."""

from __future__ import annotations

import math
import re

import keras
import numpy as np
import pytest

import penjing
from penjing.channels.channel_pruning import cut_to_arena
from penjing.channels.peak_memory import arena_of

LAYERS = keras.layers


def straight():
    return keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            LAYERS.Conv2D(32, 3, padding="same", use_bias=False),
            LAYERS.BatchNormalization(),
            LAYERS.ReLU(),
            LAYERS.MaxPooling2D(),
            LAYERS.Flatten(),
            LAYERS.Dense(64, activation="relu"),
            LAYERS.Dense(10),
        ]
    )


def residual():
    x = inputs = keras.Input((12, 12, 3))
    x = LAYERS.Conv2D(24, 3, padding="same", activation="relu")(x)
    for stride in (1, 2):
        short = LAYERS.Conv2D(24, 1, strides=stride)(x)
        x = LAYERS.DepthwiseConv2D(3, strides=stride, padding="same")(x)
        x = LAYERS.Activation("relu")(LAYERS.Conv2D(24, 1)(x) + short)
    x = LAYERS.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, LAYERS.Dense(4)(x))


def nested():
    inner = keras.Sequential(
        [keras.Input((12, 12, 24)), LAYERS.Conv2D(24, 3, activation="relu")]
    )
    x = inputs = keras.Input((12, 12, 3))
    x = inner(LAYERS.Conv2D(24, 1)(x))
    return keras.Model(inputs, LAYERS.Dense(4)(LAYERS.GlobalMaxPooling2D()(x)))


def with_own_operators():
    """Activations and normalizations that are operators by themselves."""
    x = inputs = keras.Input((12, 12, 3))
    x = LAYERS.Conv2D(24, 3, padding="same", activation="swish")(x)
    x = LAYERS.Conv2D(24, 3, padding="same", activation="sigmoid")(x)
    y = LAYERS.ReLU()(LAYERS.BatchNormalization()(x))
    x = x + LAYERS.Conv2D(24, 3, padding="same")(y)
    x = LAYERS.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, LAYERS.Dense(4, activation="softmax")(x))


def normalized_last():
    """A normalization behind a rectifier, which no converter folds."""
    return keras.Sequential(
        [
            keras.Input((16, 16, 3)),
            LAYERS.Conv2D(32, 3, padding="same", activation="relu"),
            LAYERS.BatchNormalization(),
            LAYERS.MaxPooling2D(),
            LAYERS.GlobalAveragePooling2D(),
            LAYERS.Dense(4),
        ]
    )


def arena_in_tflm(model, path, **options):
    shape = (8, *model.input_shape[1:])
    x = np.random.default_rng(0).normal(size=shape).astype("float32")
    ends = {"input_type": "int8", "output_type": "int8"}
    penjing.export_litert(
        model, path, "int8", representative_data=x, runtime="micro", **ends, **options
    )
    report = penjing.verify(path, runtime="micro")
    return report.micro.arena.total


@pytest.mark.parametrize(
    "build", [straight, residual, nested, with_own_operators, normalized_last]
)
def test_it_is_about_what_tflm_takes(build, tmp_path):
    model = build()
    total = arena_in_tflm(model, tmp_path / "model.tflite")
    assert 0.8 * total < arena_of(model) < 1.15 * total


@pytest.mark.parametrize("build", [straight, residual, nested])
@pytest.mark.parametrize("share", [0.8, 0.6])
def test_a_cut_keeps_to_it_where_memory_is_fullest(build, share):
    model = build()
    whole = arena_of(model)
    smaller = penjing.prune_channels(model, flash=0.9, max_arena=share)
    assert 0.5 * share * whole < arena_of(smaller) <= share * whole


def test_a_decoded_weight_counts_where_weights_are_packed(tmp_path):
    model = straight()
    at_most = {"flash": 0.9, "max_arena": 12_000, "round_to": 1}
    plain = penjing.prune_channels(model, **at_most)
    packed = penjing.prune_channels(model, weight_bits=4.0, **at_most)
    assert (
        arena_of(packed, weight_bits=4.0) <= 12_000 < arena_of(plain, weight_bits=4.0)
    )
    keras.utils.set_random_seed(0)
    for layer in packed.layers:
        if isinstance(layer, (LAYERS.Dense, LAYERS.Conv2D)):
            kernel = layer.kernel
            chosen = np.random.default_rng(0).choice([-0.5, 0.0, 0.5], kernel.shape)
            kernel.assign(chosen)
    path = tmp_path / "packed.tflite"
    assert arena_in_tflm(packed, path, encoding="packed") <= 1.1 * 12_000


def test_the_other_groups_stay_whole():
    model = straight()
    smaller = penjing.prune_channels(model, flash=1_000_000, max_arena=0.85)
    assert smaller.layers[0].filters == 24
    assert smaller.layers[-2].units == 64


def test_a_share_of_channels_counts_those_that_memory_takes():
    groups = penjing.prune_channels(straight(), ratio=0.25, max_arena=0.7, round_to=1)
    assert groups.layers[0].filters + groups.layers[-2].units == 72  # of 96
    alone = penjing.prune_channels(straight(), ratio=0.0, max_arena=0.7, round_to=1)
    assert alone.layers[0].filters < 32
    assert alone.layers[-2].units == 64


def test_what_is_out_of_reach_names_the_least_and_spares_the_rest():
    model = keras.Sequential(
        [
            keras.Input((24, 24, 3)),
            LAYERS.Conv2D(16, 3, padding="same", strides=2),
            LAYERS.Conv2D(32, 3, strides=2),
            LAYERS.Conv2D(64, 3),
            LAYERS.GlobalAveragePooling2D(),
            LAYERS.Dense(4),
        ]
    )
    said = "max_arena=500 cannot be met: the best"
    with pytest.raises(penjing.CompressionError, match=said) as caught:
        penjing.prune_channels(model, flash=0.9, max_arena=500)
    least = int(re.search(r"is ([\d,]+) bytes", str(caught.value))[1].replace(",", ""))
    smaller = cut_to_arena(model, 500, 8.0)
    assert math.ceil(arena_of(smaller)) == least
    assert [layer.filters for layer in smaller.layers[:3]] == [8, 32, 64]


@pytest.mark.once
@pytest.mark.parametrize("value", [0, -1, 1, 1.5, True, "24KB", float("nan")])
def test_what_is_no_bound_is_refused(value):
    with pytest.raises(ValueError, match="`max_arena` is the RAM that stays"):
        penjing.prune_channels(straight(), flash=0.5, max_arena=value)


def test_sizes_that_are_not_known_are_refused():
    inputs = keras.Input((None, None, 1))
    x = LAYERS.GlobalMaxPooling2D()(LAYERS.Conv2D(16, 3)(inputs))
    model = keras.Model(inputs, LAYERS.Dense(2)(x))
    with pytest.raises(penjing.UnsupportedModelError, match="sizes that are known"):
        penjing.prune_channels(model, flash=0.5, max_arena=0.5)
