"""Ranges found on data: each observer against its definition in NumPy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import penjing
from penjing.engine.calibration import OBSERVERS, sampled

pytestmark = pytest.mark.once
RNG = np.random.default_rng(0)


def net():
    inputs = keras.Input((6,), name="x")
    return keras.Model(inputs, layers.Dense(3, name="dense")(inputs))


def ranges(model, group):
    return [
        float(keras.ops.convert_to_numpy(v)) for v in model.activations.ranges[group]
    ]


def batches(values):
    return [values[i : i + 64] for i in range(0, len(values), 64)]


def wanted(observer, values):
    """The range of values, in batches of 64."""
    if observer == "min_max":
        return values.min(), values.max()
    if observer == "percentile":
        return np.percentile(values, 0.01), np.percentile(values, 99.99)
    low, high = values[:64].min(), values[:64].max()
    for batch in batches(values)[1:]:
        low, high = 0.9 * low + 0.1 * batch.min(), 0.9 * high + 0.1 * batch.max()
    return low, high


def test_ranges_that_training_would_find_anew_are_not_calibrated():
    x = RNG.normal(size=(20, 6)).astype("float32")
    with pytest.raises(ValueError, match="begin_step=3 they are found anew"):
        penjing.quantize_aware(
            net(), activations="int8", calibration_data=x, begin_step=3
        )


@pytest.mark.parametrize("observer", ["min_max", "percentile", "moving_average"])
def test_ranges_are_those_of_the_definition(observer):
    x = RNG.normal(size=(200, 6)).astype("float32")
    model = penjing.quantize_aware(
        net(), activations="int8", calibration_data=x, observer=observer
    )
    np.testing.assert_allclose(ranges(model, "input_0"), wanted(observer, x), rtol=1e-5)
    out = x @ keras.ops.convert_to_numpy(penjing.strip(model).layers[-1].kernel)
    np.testing.assert_allclose(ranges(model, "dense"), wanted(observer, out), rtol=1e-4)


def test_mse_gives_up_rare_values_where_that_is_better():
    values = RNG.laplace(size=50_000).astype("float32")
    low, high = OBSERVERS["mse"]([values[:30_000], values[30_000:]])

    def error(share):
        ends = values.min() * share, values.max() * share
        scale = (ends[1] - ends[0]) / 255
        rounded = np.rint(np.clip(values, *ends) / scale) * scale
        return np.square(rounded - values).mean()

    best = min(error(share) for share in np.linspace(0.3, 1, 141))
    assert error(high / values.max()) < 1.01 * best
    assert high < 0.95 * values.max()
    np.testing.assert_allclose(low / high, values.min() / values.max(), rtol=1e-5)


def test_few_values_are_kept_with_both_ends():
    values = RNG.normal(size=1000).astype("float32")
    kept = sampled(values, 100)
    assert kept.size == 102
    assert (kept.min(), kept.max()) == (values.min(), values.max())
    assert sampled(values, 1000) is values


def test_data_in_every_form_gives_the_same_ranges():
    x = RNG.normal(size=(128, 6)).astype("float32")
    y = np.zeros(128)
    model = net()
    forms = [x, iter(batches(x)), ((b, y[:64]) for b in batches(x))]
    found = [
        penjing.quantize_aware(
            model, activations="int8", calibration_data=form
        ).activations.grids()
        for form in forms
    ]
    assert all(grids == found[0] for grids in found)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], "`calibration_data` is empty"),
        (3, "must be arrays, a data set or an iterable of batches, got int"),
        (np.full((8, 6), np.nan, "float32"), "NaN or infinite on `calibration_data`"),
        (np.zeros((8, 5), "float32"), "cannot run on `calibration_data`"),
    ],
)
def test_data_that_makes_no_range_is_refused(data, message):
    with pytest.raises(penjing.DataError, match=message):
        penjing.quantize_aware(net(), activations="int8", calibration_data=data)


def test_loaders_may_give_lists_of_several_inputs():
    inputs = [keras.Input((3,)), keras.Input((3,))]
    hidden = keras.layers.Dense(4)(keras.layers.Add()(inputs))
    model = keras.Model(inputs, keras.layers.Dense(2)(hidden))
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("f4")
    found = [
        penjing.quantize_aware(model, activations="int8", calibration_data=data)
        for data in ([x, x], iter([[x, x]]), iter([[[x, x], x]]))
    ]
    grids = [quantized.activations.grids() for quantized in found]
    assert grids[0] == grids[1] == grids[2]
