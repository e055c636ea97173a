"""Whole models: into the wrappers, through training and files, and out again."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.tfmot.pruned_models import (
    Subclassed,
    arrays,
    compiled,
    data,
    dense_model,
    sparsity,
    summary_of,
    train,
)

import penjing
from penjing import tfmot
from penjing.data.architectures import build_architecture


class NotTheHead(sparsity.PruningPolicy):
    def allow_pruning(self, layer):
        return layer.name != "head"

    def ensure_model_supports_pruning(self, model):
        pass


def test_the_summary_shows_what_pruning_added():
    pruned = sparsity.prune_low_magnitude(build_architecture("article"))
    # Rows and parameters as tensorflow-model-optimization 0.8.1 shows them.
    assert [(layer.name, layer.count_params()) for layer in pruned.layers] == [
        ("prune_low_magnitude_reshape", 1),
        ("prune_low_magnitude_conv2d", 230),
        ("prune_low_magnitude_max_pooling2d", 1),
        ("prune_low_magnitude_flatten", 1),
        ("prune_low_magnitude_dense", 40_572),
    ]
    assert "Total params: 40,805" in summary_of(pruned)
    assert "Trainable params: 20,410" in summary_of(pruned)


def test_training_prunes_and_strip_gives_the_baseline_with_zeros():
    baseline = build_architecture("article")
    before = arrays(baseline)
    schedule = sparsity.PolynomialDecay(0.5, 0.8, 0, 7, frequency=100)
    pruned = sparsity.prune_low_magnitude(baseline, pruning_schedule=schedule)
    generator = np.random.default_rng(0)
    x = generator.random((28, 28, 28), "float32")
    np.testing.assert_array_equal(
        pruned.predict(x, verbose=0), baseline.predict(x, verbose=0)
    )
    pruned.compile("adam", "mse")
    callbacks = [sparsity.UpdatePruningStep()]
    pruned.fit(
        x, generator.random((28, 10)), batch_size=4, verbose=0, callbacks=callbacks
    )
    # The peer prunes nothing here: 7 batches, one update in 100.
    assert pruned.weights[1].path.endswith("conv2d/kernel")
    assert np.count_nonzero(arrays(pruned)[1] == 0) == 108 - 22
    assert np.count_nonzero(arrays(pruned)[8] == 0) == 16_224
    stripped = sparsity.strip_pruning(pruned)
    assert summary_of(stripped) == summary_of(baseline)
    assert [layer.name for layer in stripped.layers] == [
        layer.name for layer in baseline.layers
    ]
    np.testing.assert_array_equal(arrays(stripped)[2], arrays(pruned)[8])
    np.testing.assert_allclose(
        stripped.predict(x, verbose=0), pruned.predict(x, verbose=0), atol=1e-6
    )
    for old, new in zip(before, arrays(baseline), strict=True):
        np.testing.assert_array_equal(old, new)


def test_strip_is_exact_after_any_batch_and_without_the_callback():
    schedule = sparsity.ConstantSparsity(0.5, 0, frequency=2)
    pruned = compiled(sparsity.prune_low_magnitude(dense_model(), schedule))
    x, y = data()
    for i in range(3):
        pruned.train_on_batch(x[i::3], y[i::3])
        stripped = sparsity.strip_pruning(pruned)
        assert np.count_nonzero(arrays(stripped)[0] == 0) == 24
        np.testing.assert_allclose(
            stripped.predict(x, verbose=0), pruned.predict(x, verbose=0), atol=1e-6
        )


@pytest.mark.filterwarnings("ignore:Training ends at step 8")
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_saved_model_goes_on_in_mid_schedule(tmp_path, suffix):
    schedule = sparsity.PolynomialDecay(0.2, 0.75, 0, 16, frequency=3)
    # Keras cannot go on with the optimizer of an .h5 file: there, one without state.
    momentum = 0.9 if suffix == "keras" else 0.0
    whole = sparsity.prune_low_magnitude(dense_model(), schedule)
    compiled(whole, momentum)
    path = tmp_path / f"model.{suffix}"
    train(whole)
    whole.save(path)
    train(whole)
    with sparsity.prune_scope():
        resumed = keras.models.load_model(path)
    assert int(ops.convert_to_numpy(resumed.layers[0].pruning_step)) == 8
    assert resumed.layers[0].pruning_schedule == schedule
    if suffix == "h5":
        compiled(resumed, momentum)
    train(resumed)
    for once, twice in zip(arrays(whole), arrays(resumed), strict=True):
        # One compiled step made twice: rounding of float32 may differ.
        np.testing.assert_allclose(once, twice, rtol=1e-5, atol=1e-7)
    assert np.count_nonzero(arrays(resumed)[0] == 0) == 36


def test_a_file_of_the_peer_is_loaded_in_mid_schedule():
    # Saved by tensorflow-model-optimization 0.8.1 after 4 of the 8 steps of its
    # schedule, without the optimizer; outputs and zeros are what it gave.
    path = Path(__file__).with_name("tfmot_0_8_1.h5")
    with sparsity.prune_scope():
        model = keras.models.load_model(path, compile=False)
    x = np.linspace(-1, 1, 24).reshape(4, 6).astype("float32")
    outputs = [
        [0.0016165850684046745, -0.0068875877186656],
        [0.0016165850684046745, -0.034851159900426865],
        [-0.170871302485466, 0.008250814862549305],
        [-0.5821541547775269, 0.33153560757637024],
    ]
    np.testing.assert_allclose(model.predict(x, verbose=0), outputs, atol=1e-6)
    assert [np.sum(array == 0) for array in arrays(model)[:3]] == [33, 2, 33]
    assert int(ops.convert_to_numpy(model.layers[0].pruning_step)) == 4
    train(compiled(model))
    stripped = sparsity.strip_pruning(model)
    assert [np.mean(array == 0) for array in arrays(stripped)[::2]] == [0.75, 0.75]


def test_masked_weights_do_not_come_back_untrained():
    schedule = sparsity.PolynomialDecay(0.5, 0.75, 1, 4, frequency=3)
    wrapper = sparsity.prune_low_magnitude(
        layers.Dense(1, use_bias=False), pruning_schedule=schedule
    )
    x = np.zeros((1, 8), "float32")
    wrapper(x)
    wrapper.set_weights([np.array([[8, 7, 6, 5, 4, 3, 2, 1]], "float32").T])
    wrapper(x, training=True)
    # The weights in use shrink below the masked ones, whose old values are still there.
    wrapper.set_weights([np.array([[0.8, 0.7, 0.6, 0.5, 4, 3, 2, 1]], "float32").T])
    for _ in range(3):
        wrapper(x, training=True)
    ((_, mask, _),) = wrapper.pruning_vars
    mask = ops.convert_to_numpy(mask)[:, 0]
    assert mask.astype(int).tolist() == [1, 1, 0, 0, 0, 0, 0, 0]


def test_subclassed_models_go_through_the_engine(tmp_path):
    model = Subclassed()
    model.build((None, 6))
    pruned = sparsity.prune_low_magnitude(
        model, sparsity.ConstantSparsity(0.5, 0), pruning_policy=NotTheHead()
    )
    assert isinstance(pruned, penjing.CompressionModel)
    train(compiled(pruned))
    keras.saving.save_model(pruned, tmp_path / "pruned.h5")
    with sparsity.prune_scope():
        loaded = keras.models.load_model(tmp_path / "pruned.h5", compile=False)
    for mine, yours in zip(arrays(loaded), arrays(pruned), strict=True):
        np.testing.assert_array_equal(mine, yours)
    stripped = sparsity.strip_pruning(pruned)
    assert type(stripped) is Subclassed
    assert np.mean(arrays(stripped)[0] == 0) == 0.5
    assert np.all(arrays(stripped)[2] != 0)


@pytest.mark.once
def test_masks_of_time_losses_of_layers_and_half_precision_are_as_in_the_baseline():
    # All in one model, because each compiled model costs seconds.
    keras.config.set_dtype_policy("mixed_bfloat16")
    baseline = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(12, 8, mask_zero=True),
            layers.Dense(4, activation="relu"),
            layers.GlobalAveragePooling1D(),
            layers.BatchNormalization(),
            layers.Dense(2, activity_regularizer="l2", dtype="float32"),
        ]
    )
    pruned = sparsity.prune_low_magnitude(baseline, sparsity.ConstantSparsity(0.5, 0))
    x = np.random.default_rng(0).integers(1, 12, (16, 6)) * ([1] * 3 + [0] * 3)
    targets = np.ones((16, 2), "float32")
    for model in (baseline, pruned):
        compiled(model)
    losses = [m.evaluate(x, targets, verbose=0) for m in (baseline, pruned)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)  # float32 head
    assert pruned.predict(x, verbose=0).dtype == "float32"
    pruned.fit(x, targets, batch_size=8, verbose=0)
    stripped = sparsity.strip_pruning(pruned)
    report = penjing.sparsity_report(stripped)
    kernels = [row for row in report.rows if row.path.endswith("kernel")]
    assert len(kernels) == 2
    assert {row.sparsity for row in kernels} == {0.5}
    np.testing.assert_allclose(
        stripped.predict(x, verbose=0), pruned.predict(x, verbose=0), atol=1e-6
    )


@pytest.mark.once
def test_the_optimizer_is_left_behind():
    model = dense_model()
    model.compile("adam", "mse")
    pruned = sparsity.prune_low_magnitude(model)
    assert not pruned.compiled
    pruned.compile("adam", "mse")
    assert not sparsity.strip_pruning(pruned).compiled


class Unknown(layers.Layer):
    def build(self, input_shape):
        self.matrix = self.add_weight(shape=(input_shape[-1], 4))

    def call(self, inputs):
        return ops.matmul(inputs, self.matrix)


def _all_frozen():
    model = dense_model()
    model.trainable = False
    return model


REFUSED = {
    "text": (lambda: sparsity.prune_low_magnitude("model"), "builtins.str"),
    "tuple": (lambda: sparsity.prune_low_magnitude((layers.Dense(3),)), "tuple"),
    "list of text": (lambda: sparsity.prune_low_magnitude(["x"]), "builtins.str"),
    "unknown layer": (
        lambda: sparsity.prune_low_magnitude(
            keras.Sequential([keras.Input((4,)), Unknown(name="mine")])
        ),
        "'mine' of class Unknown",
    ),
    "clustered": (
        lambda: sparsity.prune_low_magnitude(
            tfmot.clustering.keras.cluster_weights(dense_model(), 4)
        ),
        "'cluster_body' is being pruned, clustered or quantized already.*Strip",
    ),
    "all frozen": (
        lambda: sparsity.prune_low_magnitude(_all_frozen()),
        "no weight that can be pruned.*body/kernel: frozen",
    ),
    "nothing but norms": (
        lambda: sparsity.prune_low_magnitude(
            keras.Sequential([keras.Input((4,)), layers.BatchNormalization()])
        ),
        "no weight that can be pruned",
    ),
    "pooling": (
        lambda: sparsity.prune_low_magnitude(dense_model(), block_pooling_type="MIN"),
        "'AVG' or 'MAX'",
    ),
    "strip text": (lambda: sparsity.strip_pruning("x"), "`model` must be a Keras"),
    "strip layer": (
        lambda: sparsity.strip_pruning(sparsity.prune_low_magnitude(layers.Dense(3))),
        "`model` must be a Keras.*PruneLowMagnitude",
    ),
}


@pytest.mark.once
@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_pruned_is_refused(name):
    make, message = REFUSED[name]
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.once
def test_a_misspelt_argument_is_not_swallowed():
    with pytest.raises(TypeError, match="pruning_shedule"):
        sparsity.prune_low_magnitude(dense_model(), pruning_shedule=None)


@pytest.mark.once
def test_both_ways_of_importing_are_one():
    import penjing.tfmot as imported

    assert imported is tfmot
    assert sorted(sparsity.__all__) == [
        "ConstantSparsity",
        "PolynomialDecay",
        "PrunableLayer",
        "PruneForLatencyOnXNNPack",
        "PruningPolicy",
        "PruningSchedule",
        "PruningSummaries",
        "UpdatePruningStep",
        "prune_low_magnitude",
        "prune_scope",
        "strip_pruning",
    ]
    assert all(hasattr(sparsity, name) for name in sparsity.__all__)
