"""What the transforms share: their order, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops
from tests.engine.small_net import net

import penjing
from penjing.engine.transforms.weight_transform import (
    Transform,
    check_values,
)
from penjing.models.selection import select_weights


@pytest.mark.once
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_counted(bad):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4, name="only")])
    (weight,) = select_weights(model).chosen
    values = np.zeros((3, 4))
    check_values(weight, values)
    values[1, :2] = bad
    with pytest.raises(penjing.CompressionError, match="kernel' holds 2 NaN or infini"):
        check_values(weight, values)


@pytest.mark.once
def test_transforms_stand_in_their_order_whatever_the_order_given():
    class First(Transform):
        order = 0

    class Last(Transform):
        order = 3

    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4)])
    for transform in (First, Last):
        transform.create_state = lambda self, weights, incoming: None
    made = penjing.CompressionModel(model, [Last(), First()])
    assert [type(transform) for transform in made.transforms] == [First, Last]
    assert made.transforms[0].penalty() is None
    assert made.transforms[0].pending(3) is None
    assert made.transforms[0].persist({}) == {}


@pytest.mark.once
@pytest.mark.parametrize(
    "compress",
    [
        penjing.quantize_aware,
        lambda model: penjing.prune(model, penjing.OneShot(0.5)),
        lambda model: penjing.cluster(model, 4),
    ],
)
def test_weights_too_small_for_float32_are_refused(compress):
    model = net()
    kernel = ops.convert_to_numpy(model.layers[0].kernel.value)
    model.layers[0].kernel.assign(kernel * np.float32(1e-37))
    with pytest.raises(
        penjing.CompressionError, match="'net/hidden/kernel' is .*e-38, below 1e-36"
    ):
        compress(model)


@pytest.mark.once
def test_weights_without_values_are_left_out_with_the_reason():
    layers = [keras.layers.Dense(4, name="none"), keras.layers.Dense(3, name="some")]
    model = keras.Sequential([keras.Input((0,)), *layers], name="net")
    pruned = penjing.prune(model, penjing.OneShot(0.5))
    assert pruned.skipped_weights()["net/none/kernel"] == (
        "it holds no values: its shape is (0, 4)"
    )
    with pytest.raises(penjing.UnsupportedModelError, match="it holds no values"):
        penjing.cluster(model, 2, include="none")
