"""What layers write to their own weights: as in the plain model, or to the raw one."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.engine.small_net import compiled, data, steps
from tests.engine.training_cases import BACKEND, arrays, to_array
from tests.jax_cases import few_on_jax

import penjing

LATER = penjing.OneShot(0.5, step=1000)
on_all_that_store = pytest.mark.skipif(
    BACKEND == "jax", reason="Keras on JAX drops what layers write to trained weights"
)


@keras.saving.register_keras_serializable(package="penjing_tests")
class Clipped(layers.Dense):
    """Clips its kernel before it uses it."""

    bound = 0.1

    def call(self, inputs, training=None):
        if training:
            self.kernel.assign(ops.clip(self.kernel, -self.bound, self.bound))
        return super().call(inputs)


@keras.saving.register_keras_serializable(package="penjing_tests")
class ClippedNow(layers.Dense):
    """Does so in a branch."""

    def call(self, inputs, training=None):
        def clip():
            self.kernel.assign(ops.clip(self.kernel, -0.1, 0.1))
            return 0

        if training:
            ops.cond(ops.sum(inputs) > -1e9, clip, lambda: 0)
        return super().call(inputs)


def net(hidden):
    return keras.Sequential(
        [keras.Input((8,)), hidden, layers.Dense(4, name="head")], name="net"
    )


def normalized():
    return net(layers.SpectralNormalization(layers.Dense(20, name="hidden")))


def norm(model):
    [kernel] = [v for v in model.trainable_variables if "hidden/kernel" in v.path]
    return np.linalg.svd(to_array(kernel))[1][0]


@pytest.mark.parametrize("taken", few_on_jax(["head", "hidden"], "hidden"))
@pytest.mark.parametrize("make", [normalized, lambda: net(Clipped(20, name="hidden"))])
def test_weights_are_written_as_in_the_plain_model(make, taken):
    plain = make()
    pruned = penjing.prune(plain, LATER, include=taken)
    steps(plain, 4), steps(pruned, 4)
    ours = {v.path: to_array(v) for v in pruned.model.variables}
    for variable in plain.variables:
        if variable.path in ours:
            np.testing.assert_allclose(
                ours[variable.path], to_array(variable), atol=1e-5
            )


@on_all_that_store
def test_a_normalized_kernel_stays_so_and_masked():
    pruned = penjing.prune(normalized(), penjing.OneShot(0.5, step=1))
    steps(pruned, 6)
    stripped = penjing.strip(pruned)
    assert 0.8 < norm(stripped) < 1.2
    [kernel] = [v for v in stripped.variables if "hidden/kernel" in v.path]
    assert (to_array(kernel) == 0).mean() == 0.5


@on_all_that_store
@pytest.mark.parametrize("cls", [Clipped, ClippedNow])
def test_a_clipped_kernel_lies_on_its_grid_within_the_bounds(cls):
    if BACKEND != "tensorflow" and cls is ClippedNow:
        pytest.skip("a branch is traced on TensorFlow alone")
    quantized = penjing.quantize_aware(net(cls(20, name="hidden")))
    compiled(quantized, keras.optimizers.SGD(0.3))
    steps(quantized, 5)
    kernel = arrays(penjing.strip(quantized))[0]
    scales = to_array(quantized.transforms[0].scales()["net/hidden/kernel"])
    raw = arrays(quantized.model)[0]
    assert np.abs(raw).max() > 0.05  # it was trained
    assert np.abs(kernel).max() <= 0.1 + scales.max() * 0.5 + 0.3 * 0.2
    np.testing.assert_allclose(kernel / scales, np.rint(kernel / scales), atol=1e-3)


@pytest.mark.parametrize(
    "compress",
    few_on_jax(
        [penjing.quantize_aware, lambda m: penjing.cluster(m, 4)],
        penjing.quantize_aware,
    ),
)
def test_writes_that_change_nothing_keep_what_is_behind_a_grid(compress, monkeypatch):
    monkeypatch.setattr(Clipped, "bound", 1e9)
    plain, writing = net(layers.Dense(20, name="hidden")), net(Clipped(20))
    writing.set_weights(plain.get_weights())
    plain, writing = (compress(model) for model in (plain, writing))
    for model in (plain, writing):
        steps(compiled(model, keras.optimizers.SGD(1e-3)), 4)
    for mine, yours in zip(arrays(writing.model), arrays(plain.model), strict=True):
        np.testing.assert_allclose(mine, yours, atol=1e-6)


class Counting(layers.Layer):
    """Counts its calls in a weight that is not trained."""

    def build(self, input_shape):
        self.count = self.add_weight(
            shape=(), name="count", initializer="zeros", trainable=False
        )

    def call(self, inputs):
        self.count.assign_add(1.0)
        return inputs * 1.0


def test_state_that_no_transform_takes_is_assigned_at_each_call():
    model = net(Counting())
    pruned = penjing.prune(model, LATER, copy=False)
    x, _ = data()
    pruned(x), pruned(x, training=True)
    assert float(to_array(model.layers[0].count)) == 2.0
