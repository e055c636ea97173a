"""Cuts to a time, with a clock that is a formula, and once with a real one."""

from __future__ import annotations

import warnings

import keras
import pytest
from keras import layers

import penjing
from penjing.channels import channel_pruning
from penjing.channels import channel_pruning as channel_latency
from penjing.errors import CompressionError, CompressionWarning
from penjing.measurement.latency_model import KernelTimes, LatencyModel

pytestmark = pytest.mark.once


def build():
    return keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(64, name="slow"),
            layers.Dense(64, name="fast"),
            layers.Dense(4, name="head"),
        ],
        name="net",
    )


def kernel(path, slow):
    return KernelTimes(
        path=path,
        layer=path,
        kind="dense",
        input_sizes=(0, 16),
        output_sizes=(0, 64),
        milliseconds=((0.0, 0.0), (0.0, slow)),
    )


@pytest.fixture
def clock(monkeypatch):
    """`slow` takes 8 ms, `fast` 1, the rest 1; files take `factor` times as long."""
    asked = {"factor": 1.0, "measured": []}

    def build_latency_model(model, *, quantization, progress):
        asked["quantization"] = quantization
        kernels = (kernel("slow/kernel", 8.0), kernel("fast/kernel", 1.0))
        return LatencyModel(kernels=kernels, measured=10.0, overhead=1.0)

    def measured_pair(model, smaller, times):
        units = smaller.get_layer("slow").units, smaller.get_layer("fast").units
        slow, fast = (n / 64 for n in units)
        after = asked["factor"] * (8 * slow + fast * slow + 1)
        asked["measured"].append(after)
        return 10.0, after

    monkeypatch.setattr(channel_pruning, "build_latency_model", build_latency_model)
    monkeypatch.setattr(channel_latency, "measured_pair", measured_pair)
    for layer in ("slow", "fast"):
        asked[layer] = None
    return asked


def model_with_paths():
    """Weights named as the clock knows them."""
    model = build()
    assert {v.path.split("/", 1)[-1] for v in model.weights} >= {"slow/kernel"}
    for variable in model.weights:
        variable._path = "/".join(variable.path.split("/")[-2:])
    return model


def test_units_go_that_are_worth_least_for_each_millisecond(clock):
    model = model_with_paths()
    smaller = penjing.prune_channels(model, latency=0.5, importance="l2")
    units = smaller.get_layer("slow").units, smaller.get_layer("fast").units
    assert units[0] < units[1], "`slow` takes nearly all of the time"
    assert clock["measured"][-1] <= 5.0
    assert clock["quantization"] is None


def test_milliseconds_are_a_text_and_the_kind_of_file_is_passed_on(clock):
    heard = []
    penjing.prune_channels(
        model_with_paths(),
        latency="5 ms",
        quantization="int8",
        progress=heard.append,
    )
    assert clock["quantization"] == "int8"
    said = heard[-1].detail
    assert "asked, 10 before" in said and " ms measured, 5 " in said


def test_a_file_that_is_slower_than_foretold_is_cut_again(clock):
    clock["factor"] = 1.5
    penjing.prune_channels(model_with_paths(), latency=0.6)
    assert len(clock["measured"]) > 1
    assert clock["measured"][-1] <= 6.0 * 1.03 < clock["measured"][0]


def test_what_is_not_met_in_the_end_is_said_with_the_measured_time(clock, monkeypatch):
    monkeypatch.setattr(channel_latency, "measured_pair", lambda *_: (10.0, 7.0))
    with pytest.warns(CompressionWarning, match="7 ms measured, 5 asked, 10 before"):
        penjing.prune_channels(model_with_paths(), latency=0.5)


def test_a_first_cut_stays_where_no_more_can_be_cut(clock, monkeypatch):
    monkeypatch.setattr(channel_latency, "measured_pair", lambda *_: (10.0, 9.0))
    with pytest.warns(CompressionWarning, match="9 ms measured, 3 asked, 10 before"):
        penjing.prune_channels(model_with_paths(), latency=0.3)


def test_a_time_that_cannot_be_reached_says_the_best(clock):
    with pytest.raises(CompressionError, match="best that can be reached is 2.* milli"):
        penjing.prune_channels(model_with_paths(), latency="0.5 ms")


@pytest.mark.slow
def test_a_real_file_gets_faster(tmp_path, monkeypatch):
    monkeypatch.setenv("PENJING_CACHE", str(tmp_path))
    inputs = keras.Input((32, 32, 8))
    x = layers.Conv2D(64, 3, name="a")(inputs)
    x = layers.Conv2D(64, 3, name="b")(x)
    model = keras.Model(inputs, layers.Dense(4)(layers.GlobalMaxPooling2D()(x)))
    heard = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompressionWarning)  # a busy machine
        smaller = penjing.prune_channels(model, latency=0.5, progress=heard.append)
    assert smaller.get_layer("a").filters < 64 or smaller.get_layer("b").filters < 64
    after, before = (float(heard[-1].detail.split()[i]) for i in (0, -2))
    assert after < 0.8 * before
