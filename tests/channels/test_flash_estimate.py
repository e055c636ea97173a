"""Estimated flash against files, and as the target of a cut."""

from __future__ import annotations

import keras
import pytest

import penjing
from penjing.channels.cut_costs import CutCosts
from penjing.channels.flash_estimate import flash_estimate
from penjing.channels.tracing import trace_channels


def model_with(units=64):
    return keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            keras.layers.Conv2D(16, 3, activation="relu", use_bias=False),
            keras.layers.BatchNormalization(),
            keras.layers.Flatten(),
            keras.layers.Dense(units, activation="relu"),
            keras.layers.Dense(10),
        ]
    )


def estimate(model, bits=8.0):
    return flash_estimate(CutCosts(model, trace_channels(model)), {}, bits)


@pytest.mark.once
def test_by_hand():
    numbers = 9 * 16 + 1600 * 64 + 640
    fixed = 4 * (16 + 64 + 10) + 3 * 350 + 600
    assert estimate(model_with()) == numbers + fixed
    assert estimate(model_with(), 2.0) == numbers / 4 + fixed


@pytest.mark.parametrize(("flash", "bits"), [(0.5, 8.0), (0.25, 1.5), (20_000, 4.0)])
def test_a_cut_keeps_to_it(flash, bits):
    model = model_with()
    smaller = penjing.prune_channels(model, flash=flash, weight_bits=bits)
    goal = flash if isinstance(flash, int) else flash * estimate(model, bits)
    assert 0.75 * goal < estimate(smaller, bits) <= goal


def test_what_is_out_of_reach_says_that_it_is_an_estimate():
    with pytest.raises(penjing.CompressionError, match="bytes of flash, estimated"):
        penjing.prune_channels(model_with(), flash=1_000)


@pytest.mark.once
@pytest.mark.parametrize("bits", [0.5, 9, True, float("nan")])
def test_bits_that_no_file_has_are_refused(bits):
    with pytest.raises(ValueError, match="`weight_bits` are those of a number"):
        penjing.prune_channels(model_with(), flash=0.5, weight_bits=bits)
