"""Training over two virtual CPU devices, each in a process with the devices set."""

from __future__ import annotations

import pytest
from tests.engine.training_cases import BACKEND, run_script

COMMON = """
import warnings
import keras
import numpy as np
import penjing

rng = np.random.default_rng(0)
x = rng.normal(size=(64, 8)).astype("float32")
y = rng.integers(0, 4, 64).astype("int32")


def make_model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((8,)),
            keras.layers.Dense(16, activation="relu", name="hidden"),
            keras.layers.BatchNormalization(),
            keras.layers.Dense(4, name="head"),
        ]
    )


def compiled(model):
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss)
    return model


def fit(model, epochs=2):
    warnings.simplefilter("ignore", penjing.CompressionWarning)
    model.fit(x, y, batch_size=16, epochs=epochs, shuffle=False, verbose=0)
    return model


def assert_same(left, right, atol):
    # Sums over two halves of a batch are added in another order.
    for mine, yours in zip(left.get_weights(), right.get_weights(), strict=True):
        np.testing.assert_allclose(mine, yours, atol=atol)


def check_pruned(model):
    # 16 steps in all: not begun for 8, ended at 15.
    stripped = penjing.strip(model)
    report = penjing.sparsity_report(stripped)
    kernels = [row for row in report.rows if row.path.endswith("kernel")]
    assert [row.zeros for row in kernels] == [96, 48], report
    # Not `predict`: Keras keeps batch statistics for each replica of TensorFlow.
    ours, theirs = (keras.ops.convert_to_numpy(m(x)) for m in (model, stripped))
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert int(keras.ops.convert_to_numpy(model.step.value)) == 16
    return stripped


schedule = penjing.PolynomialDecay(
    initial_sparsity=0.25, final_sparsity=0.75, begin_step=9, end_step=15, frequency=4
)
"""

MIRRORED = (
    """
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
"""
    + COMMON
    + """
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
assert strategy.num_replicas_in_sync == 2
with strategy.scope():
    plain = make_model()
    pruned = compiled(penjing.prune(plain, schedule))
    compiled(plain)
np.testing.assert_array_equal(plain(x), pruned(x))
fit(plain), fit(pruned)
assert_same(plain, pruned.model, 1e-6)
fit(pruned)
for mask in pruned.transforms[0].masks:
    first, second = (np.asarray(replica) for replica in mask.value.values)
    np.testing.assert_array_equal(first, second)
check_pruned(pruned)
pruned.save("mirrored.keras")
loaded = keras.models.load_model("mirrored.keras")
check_pruned(loaded)
with strategy.scope():
    both = compiled(penjing.cluster(pruned, 4))
fit(both)
for kernel in [w for w in penjing.strip(both).get_weights() if w.ndim > 1]:
    assert (kernel == 0).mean() == 0.75
    assert np.unique(kernel[kernel != 0]).size == 4
print("done")
"""
)

SHARDED = (
    COMMON
    + """
devices = keras.distribution.list_devices("cpu")
assert len(devices) == 2, devices
mesh = keras.distribution.DeviceMesh((1, 2), ["batch", "model"], devices)
layout = keras.distribution.LayoutMap(mesh)
layout[".*hidden.kernel"] = (None, "model")
layout[".*hidden.bias"] = ("model",)
layout[".*head.kernel"] = ("model", None)
distributions = {
    None: None,
    (8, 16): keras.distribution.DataParallel(devices=devices),
    (8, 8): keras.distribution.ModelParallel(
        layout_map=layout, batch_dim_name="batch"
    ),
}
for shape_of_shard, distribution in distributions.items():
    keras.distribution.set_distribution(distribution)
    plain = make_model()
    pruned = compiled(penjing.prune(plain, schedule))
    if distribution is None:
        single = fit(fit(pruned))
        continue
    compiled(plain)
    before = plain.predict(x, verbose=0), pruned.predict(x, verbose=0)
    np.testing.assert_array_equal(*before)
    fit(plain), fit(pruned)
    assert_same(plain, pruned.model, 1e-6)
    fit(pruned)
    kernel = pruned.model.get_layer("hidden").kernel.value
    assert kernel.addressable_shards[0].data.shape == shape_of_shard
    assert len(kernel.addressable_shards) == 2
    mask = pruned.transforms[0].masks[0].value
    assert mask.sharding == kernel.sharding, (mask.sharding, kernel.sharding)
    assert mask.addressable_shards[0].data.shape == shape_of_shard
    stripped = check_pruned(pruned)
    assert_same(stripped, penjing.strip(single), 1e-5)
    pruned.save("distributed.keras")
    check_pruned(keras.models.load_model("distributed.keras"))
    print(type(distribution).__name__)
"""
)


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="tf.distribute needs TensorFlow")
def test_mirrored_strategy_trains_and_prunes_as_one_device_does(tmp_path):
    assert run_script(MIRRORED, tmp_path).endswith("done\n")


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "jax", reason="keras.distribution needs JAX")
def test_keras_distribution_trains_and_prunes_as_one_device_does(tmp_path):
    output = run_script(
        SHARDED,
        tmp_path,
        JAX_PLATFORMS="cpu",
        XLA_FLAGS="--xla_force_host_platform_device_count=2",
    )
    assert output.split() == ["DataParallel", "ModelParallel"]
