"""Every architecture trains as it would alone, then holds exactly its zeros."""

import json

import keras
import numpy as np
import pytest
from tests.engine.model_cases import CASES, ROWS
from tests.jax_cases import few_on_jax

import penjing

pytestmark = pytest.mark.optimized_on_jax

SPARSITY = 0.75
# What a compiled training step carries along or traces in its own way.
OF_ITS_OWN_KIND = (
    *("unbuilt_sequential", "subclassed_without_config", "shared_layer"),
    *("masked_sequence_output", "stateful_gru", "einsum_dense"),
    *("batch_normalization", "dropout", "regularizers", "many_inputs_and_outputs"),
    *("unknown_spatial_size", "integer_input"),
)


def compile_like(model, *, traced=True):
    """Compiled; without XLA but on JAX, and untraced where TensorFlow need not trace.

    Both take seconds a model.
    """
    jit = keras.backend.backend() == "jax"
    model.compile(
        keras.optimizers.SGD(0.1),
        "mse",
        jit_compile=jit,
        run_eagerly=not (traced or jit),
    )
    return model


def values(model):
    """Every variable as an array, random states included."""
    arrays = [keras.ops.convert_to_numpy(v.value) for v in model.variables]
    return [array.copy() for array in arrays]  # training may reuse the memory


def outputs(model, x):
    """Every output, of a stateful RNN that starts afresh."""
    for layer in model._flatten_layers():
        if getattr(layer, "stateful", False):
            layer.reset_state()
    return carried_on(model, x)


def carried_on(model, x):
    """Every output, of a stateful RNN that goes on where it stopped."""
    return [
        keras.ops.convert_to_numpy(output) for output in keras.tree.flatten(model(x))
    ]


def assert_all_equal(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one, other)


def twins(case):
    """A plain model and the same one to prune, with equal weights; and a batch."""
    plain, twin = case.build(), case.build()
    if twin.built:
        give_weights(twin, plain)
    return plain, twin, *case.batch()


def give_weights(source, target):
    for theirs, ours in zip(source.variables, target.variables, strict=True):
        ours.assign(keras.ops.convert_to_numpy(theirs.value).copy())


@pytest.mark.parametrize("name", few_on_jax(CASES, *OF_ITS_OWN_KIND))
def test_it_trains_as_the_plain_model_until_it_is_pruned_exactly(name):
    case = CASES[name]
    if case is CASES["stateful_gru"] and keras.backend.backend() == "torch":
        pytest.skip("Keras overwrites the state that PyTorch's backward pass needs")
    plain, twin, x, y = twins(case)
    schedule = penjing.OneShot(SPARSITY, step=2)
    pruned = penjing.prune(twin, schedule, copy=case.copy)
    untouched = values(twin)
    if not twin.built:
        plain(x), pruned(x)
        give_weights(pruned.model, plain)

    assert_all_equal(outputs(pruned, x), outputs(plain, x))

    traced = name in OF_ITS_OWN_KIND
    plain_loss = compile_like(plain, traced=traced).train_on_batch(x, y)
    loss = compile_like(pruned, traced=traced).train_on_batch(x, y)
    # Two compiled programs may order float32 sums in two ways.
    np.testing.assert_allclose(loss, plain_loss, rtol=1e-5)
    for ours, theirs in zip(values(pruned.model), values(plain), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)

    pruned.train_on_batch(x, y)
    stripped = penjing.strip(pruned, copy=case.copy)
    check_zeros(case, pruned, stripped)
    assert_all_equal(outputs(stripped, x), outputs(pruned, x))
    check_plainness(stripped, twin if twin.built else pruned.model)
    if case.copy:
        assert_all_equal(values(twin), untouched)


def check_zeros(case, pruned, stripped):
    report = penjing.sparsity_report(pruned)
    rows = {row.path: row for row in report.rows}
    compressed = [row for row in report.rows if row.status == "compressed"]
    assert len(compressed) == len(case.pruned)
    for end in case.pruned:
        (row,) = (row for row in compressed if f"/{row.path}".endswith(f"/{end}"))
        assert row.size - row.zeros == max(round(row.size * (1 - SPARSITY)), 1)
    for end, reason in case.skipped.items():
        (row,) = (row for path, row in rows.items() if f"/{path}".endswith(f"/{end}"))
        assert row.status == "skipped"
        assert reason in row.reason
    zeros = [row.zeros for row in penjing.sparsity_report(stripped).rows]
    assert zeros == [row.zeros for row in report.rows]


def check_plainness(stripped, given):
    assert not penjing.is_compressed(stripped)
    assert described(stripped) == described(given)
    classes = [type(layer) for layer in stripped._flatten_layers()]
    assert classes == [type(layer) for layer in given._flatten_layers()]


def described(model):
    return [(v.path, tuple(v.shape), v.dtype, v.trainable) for v in model.weights]


LOSSES = [
    name
    for name in CASES
    if CASES[name].losses
    or name in ("batch_normalization", "dropout", "masked_sequence_output")
]


@pytest.mark.parametrize("name", LOSSES)
def test_evaluate_gives_the_loss_of_the_plain_model(name):
    case = CASES[name]
    plain, twin, x, y = twins(case)
    pruned = compile_like(penjing.prune(twin, penjing.OneShot(SPARSITY)))
    before = values(pruned)
    expected = compile_like(plain).evaluate(x, y, verbose=0)
    assert pruned.evaluate(x, y, verbose=0) == pytest.approx(expected, rel=1e-6)
    assert_all_equal(values(pruned), before)  # no step, no statistics, no mask


def added_losses(model):
    return [float(keras.ops.convert_to_numpy(loss)) for loss in model.losses]


def test_regularizers_and_added_losses_are_counted_once():
    plain, twin, x, _ = twins(CASES["regularizers"])
    pruned = penjing.prune(twin, penjing.OneShot(SPARSITY))
    plain(x), pruned(x)
    assert len(plain.losses) == 5
    assert added_losses(pruned) == pytest.approx(added_losses(plain))


def test_regularizers_see_the_zeros_after_an_epoch():
    _, twin, x, y = twins(CASES["regularizers"])
    pruned = compile_like(penjing.prune(twin, penjing.OneShot(SPARSITY)))
    pruned.fit(x, y, verbose=0)
    stripped = penjing.strip(pruned)
    pruned(x), stripped(x)
    assert added_losses(pruned) == pytest.approx(added_losses(stripped))


def test_dropout_draws_anew_in_every_step():
    case = CASES["dropout"]
    _, twin, x, _ = twins(case)
    pruned = penjing.prune(twin, penjing.OneShot(SPARSITY, step=100))
    draws = [outputs(pruned, x), *(run_in_training(pruned, x) for _ in range(2))]
    assert (draws[1][0] != draws[2][0]).any()
    assert_all_equal(outputs(pruned, x), draws[0])


def run_in_training(model, x):
    return [keras.ops.convert_to_numpy(model(x, training=True))]


def test_a_stateful_rnn_carries_its_state_over():
    case = CASES["stateful_gru"]
    plain, twin, x, _ = twins(case)
    pruned = penjing.prune(twin, penjing.OneShot(SPARSITY))
    first = outputs(pruned, x)
    assert_all_equal(first, outputs(plain, x))
    second = carried_on(pruned, x)
    assert (second[0] != first[0]).any()
    assert_all_equal(second, carried_on(plain, x))


def test_a_batch_of_unknown_size_may_change_from_step_to_step():
    case = CASES["residual"]
    _, twin, x, y = twins(case)
    pruned = compile_like(penjing.prune(twin, penjing.OneShot(SPARSITY, step=2)))
    history = pruned.fit(x, y, batch_size=ROWS - 2, epochs=1, verbose=0)
    assert np.isfinite(history.history["loss"]).all()
    assert int(pruned.step.value) == 2
    assert pruned.predict(x, batch_size=5, verbose=0).shape == (ROWS, 2)
    assert penjing.sparsity_report(pruned).sparsity == SPARSITY


def test_a_depthwise_kernel_is_pruned_when_it_is_named():
    case = CASES["depthwise"]
    _, twin, x, y = twins(case)
    pruned = penjing.prune(twin, penjing.OneShot(0.5), include="channels")
    compile_like(pruned).train_on_batch(x, y)
    (row,) = (
        row
        for row in penjing.sparsity_report(pruned).rows
        if row.status == "compressed"
    )
    assert row.path.endswith("channels/kernel")
    assert (row.size, row.zeros) == (8, 4)


def test_layers_frozen_later_keep_their_mask_and_their_values():
    case = CASES["sequential"]
    _, twin, x, y = twins(case)
    pruned = compile_like(penjing.prune(twin, penjing.OneShot(SPARSITY)))
    pruned.train_on_batch(x, y)
    pruned.model.layers[0].trainable = False
    compile_like(pruned)
    before = values(penjing.strip(pruned))[0]
    pruned.train_on_batch(x, y)
    np.testing.assert_array_equal(values(penjing.strip(pruned))[0], before)


def test_an_unbuilt_model_is_built_and_selected_from_by_its_first_batch():
    case = CASES["unbuilt_sequential"]
    x, y = case.batch()
    pruned = compile_like(penjing.prune(case.build(), penjing.OneShot(SPARSITY)))
    pruned.fit(x, y, verbose=0)
    assert penjing.sparsity_report(pruned).sparsity == SPARSITY
    assert_all_equal(outputs(penjing.strip(pruned), x), outputs(pruned, x))


@pytest.mark.parametrize(
    "name",
    few_on_jax(
        (name for name in CASES if CASES[name].copy),
        *("nested", "masked_sequence_output", "stateful_gru", "batch_normalization"),
    ),
)
def test_a_compressed_architecture_survives_a_file(name, tmp_path):
    case = CASES[name]
    x, _ = case.batch()
    pruned = penjing.prune(case.build(), penjing.OneShot(SPARSITY), copy=False)
    pruned(x, training=True)
    json.dumps(pruned.get_config())
    pruned.save(tmp_path / "pruned.keras")
    loaded = keras.models.load_model(tmp_path / "pruned.keras")
    assert penjing.sparsity_report(loaded) == penjing.sparsity_report(pruned)
    assert described(loaded.model) == described(pruned.model)
    assert_all_equal(outputs(loaded, x), outputs(pruned, x))
