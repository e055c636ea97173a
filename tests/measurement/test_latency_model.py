"""Arithmetic, products and caching of the latency model; the clock is a formula."""

import json
import math

import keras
import pytest
from hypothesis import given
from hypothesis import strategies as st
from keras import layers

import penjing
from penjing.errors import UnsupportedModelError
from penjing.measurement import latency_model
from penjing.measurement.latency_cache import TimeCache
from penjing.measurement.latency_model import KernelTimes, LatencyModel

START = 0.5
WHOLE = 18.0


def small_model():
    return keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            layers.Conv2D(32, 3, name="c"),
            layers.Flatten(),
            layers.Dense(10, name="d"),
        ]
    )


@pytest.fixture
def clock(monkeypatch):
    """A runtime that takes START and a microsecond a product; lists what it timed."""
    timed = []

    def time_products(products, quantization, threads):
        timed.extend(products)
        return [START + product.macs / 1000 for product in products]

    monkeypatch.setattr(latency_model, "time_products", time_products)
    monkeypatch.setattr(latency_model, "_whole_time", lambda *_: WHOLE)
    return timed


def test_the_estimate_is_exact_for_a_runtime_that_is_linear(clock, tmp_path):
    model = small_model()
    times = penjing.build_latency_model(model, cache_dir=tmp_path)
    conv, dense = (w.path for w in model.weights if w.name == "kernel")
    empty = 64 / 1000  # the smallest product is part of what starting takes
    c, d = 16 * 32 * 18 / 1000 - empty, 512 * 10 / 1000 - empty
    assert [k.path for k in times.kernels] == [conv, dense]
    assert times.milliseconds() == pytest.approx(WHOLE)
    kernels = 16 * 16 * 18 / 1000 - empty + 256 * 10 / 1000 - empty
    values = (512 / 2 + 10) / (512 + 10)
    start = START + empty
    expected = kernels + start + (WHOLE - c - d - start) * values
    cut = {conv: (1.0, 0.5), dense: (0.5, 1.0), "another/weight": (0.1, 0.1)}
    assert times.milliseconds(cut) == pytest.approx(expected)
    assert "c/kernel conv" in str(times)
    assert json.loads(json.dumps(times.to_dict()))["measured"] == WHOLE


def test_interpolation_by_hand():
    kernel = KernelTimes(
        path="k",
        layer="l",
        kind="conv",
        input_sizes=(2, 4),
        output_sizes=(8, 16),
        milliseconds=((1.0, 3.0), (2.0, 6.0)),
    )
    assert kernel.at(1.0, 1.0) == 6
    assert kernel.at(0.5, 0.5) == 1
    assert kernel.at(0.75, 1.0) == pytest.approx(4.5)
    assert kernel.at(1.0, 0.75) == pytest.approx(4)
    assert kernel.at(0.75, 0.75) == pytest.approx((1 + 3 + 2 + 6) / 4)
    assert kernel.at(0.25, 0.5) == pytest.approx(0.75)
    assert kernel.at(1.0, 0.0) == kernel.at(0.0, 1.0) == 0
    for wrong in ((1.2, 1.0), (1.0, -0.1), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="from 0 to 1"):
            kernel.at(*wrong)


@given(st.tuples(*[st.floats(0.01, 1)] * 4))
def test_less_kept_never_takes_longer_where_times_rise(fractions):
    kernel = KernelTimes(
        path="k",
        layer="l",
        kind="dense",
        input_sizes=(8, 16, 32),
        output_sizes=(8, 24),
        milliseconds=((1.0, 1.5), (1.2, 2.0), (3.0, 9.0)),
        values=5,
    )
    model = LatencyModel(kernels=(kernel,), measured=10.0, overhead=0.3)
    a, b, c, d = fractions
    small = {"k": (min(a, b), min(c, d))}
    large = {"k": (max(a, b), max(c, d))}
    assert model.milliseconds(small) <= model.milliseconds(large) + 1e-9 <= 10 + 1e-8


@pytest.mark.parametrize("measured", [4.0, 13.0])
def test_kernels_that_run_otherwise_in_the_file_are_scaled(measured):
    kernel = KernelTimes(
        path="k",
        layer="l",
        kind="depthwise",
        input_sizes=(1,),
        output_sizes=(8, 16),
        milliseconds=((4.0, 8.0),),
    )
    model = LatencyModel(kernels=(kernel,), measured=measured)
    assert model.milliseconds({"k": (0.5, 1.0)}) == pytest.approx(measured / 2)
    assert LatencyModel(kernels=(), measured=3.0).milliseconds() == 3.0


def test_times_are_kept_and_only_missing_ones_are_measured(clock, tmp_path):
    folder = tmp_path / "of" / "times"
    first = penjing.build_latency_model(small_model(), cache_dir=folder)
    count = len(clock)
    assert count == len(set(clock)) > 8
    again = penjing.build_latency_model(small_model(), cache_dir=folder)
    assert len(clock) == count
    assert [k.milliseconds for k in again.kernels] == [
        k.milliseconds for k in first.kernels
    ]
    penjing.build_latency_model(small_model(), cache_dir=folder, threads=2)
    assert len(clock) == 2 * count
    (file,) = folder.iterdir()
    file.write_text("{ half")
    penjing.build_latency_model(small_model(), cache_dir=folder)
    assert len(clock) == 3 * count


def test_a_folder_that_cannot_be_written_costs_time_alone(clock, tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "times" / TimeCache(tmp_path).path.name).mkdir(parents=True)
    for folder in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / "times"):
        assert penjing.build_latency_model(small_model(), cache_dir=folder).kernels


@pytest.mark.once
def test_real_times_of_a_real_model(tmp_path):
    seen = []
    times = penjing.build_latency_model(
        small_model(), cache_dir=tmp_path, progress=seen.append
    )
    assert times.milliseconds() == pytest.approx(times.measured)
    assert times.measured > 0 and times.overhead > 0
    assert seen[0] == penjing.Progress(stage="Timing layers", done=0, total=2)
    assert seen[-1] == penjing.Progress(stage="Timing the whole file")


def test_shared_layers_take_their_time_at_each_call(clock, tmp_path):
    inputs = keras.Input((64,))
    shared = layers.Dense(64, use_bias=False)
    model = keras.Model(inputs, shared(shared(inputs)))
    times = penjing.build_latency_model(model, cache_dir=tmp_path)
    (kernel,) = times.kernels
    assert kernel.at(1, 1) == pytest.approx(2 * (64 * 64 - 64) / 1000)
    assert kernel.values == 128


@pytest.mark.once
def test_bad_arguments_are_refused(clock, tmp_path):
    model = small_model()
    with pytest.raises(ValueError, match="'float16'"):
        penjing.build_latency_model(model, quantization="float16")
    with pytest.raises(ValueError, match="`threads`"):
        penjing.build_latency_model(model, threads=0)
    inputs = keras.Input((None, 3))
    free = keras.Model(inputs, layers.Conv1D(2, 3)(inputs))
    with pytest.raises(UnsupportedModelError, match="None"):
        penjing.build_latency_model(free)
    with pytest.raises(UnsupportedModelError, match="got str"):
        penjing.build_latency_model("model.keras")
    assert not clock
