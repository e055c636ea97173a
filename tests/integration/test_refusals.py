"""Bad input of every kind: one clear message, and nothing half done."""

from __future__ import annotations

import warnings
from functools import partial

import keras
import numpy as np
import pytest
from tests.integration import (
    refusals_of_channels,
    refusals_of_clustering,
    refusals_of_data,
    refusals_of_files,
    refusals_of_pruning,
    refusals_of_quantization,
)
from tests.integration.refusal import (
    Bench,
    Refusal,
    check,
    compiled,
    data,
    full_disk,
    listing,
    matches,
    small,
)

import penjing
from penjing import CompressionWarning, cli

REFUSALS = [
    *refusals_of_channels.REFUSALS,
    *refusals_of_clustering.REFUSALS,
    *refusals_of_pruning.REFUSALS,
    *refusals_of_quantization.REFUSALS,
    *refusals_of_files.REFUSALS,
    *refusals_of_data.REFUSALS,
]


def test_the_table_is_wide_and_names_each_refusal_once():
    names = [refusal.name for refusal in REFUSALS]
    assert len(names) >= 60
    assert sorted(set(names)) == sorted(names)


@pytest.mark.parametrize("refusal", [refusal.as_param() for refusal in REFUSALS])
def test_refused_with_the_fix_and_nothing_changed(
    refusal: Refusal, tmp_path, monkeypatch
):
    check(refusal, Bench(tmp_path, monkeypatch))


# Without it JAX compiles every operation on its own; the others start faster.
COMPILED = keras.backend.backend() == "jax"
RAMP = partial(penjing.PolynomialDecay, final_sparsity=0.8, frequency=2)


@pytest.mark.parametrize(
    ("schedule", "says"),
    [
        (
            RAMP(begin_step=0, end_step=100),
            r"Training ends at step 6 \(2 epochs of 3 steps\), but the pruning "
            "schedule ends at step 100, so a sparsity of 0.136 will be reached instead "
            "of 0.8. Train for longer or let the schedule end earlier",
        ),
        pytest.param(
            RAMP(begin_step=50, end_step=100),
            "ends at step 100, so a sparsity of 0 will be reached instead of 0.8",
            marks=pytest.mark.once,
        ),
        pytest.param(
            penjing.ConstantSparsity(0.5, begin_step=7),
            "ends at step 7, so a sparsity of 0 will be reached instead of 0.5",
            marks=pytest.mark.once,
        ),
    ],
)
def test_steps_that_exceed_training_warn_of_the_sparsity_to_come(schedule, says):
    model = penjing.prune(small(), schedule)
    model.compile("sgd", "mse", jit_compile=COMPILED)
    arrays = data()
    x, y = arrays["x_train"], np.zeros((24, 3), "float32")
    with pytest.warns(CompressionWarning) as caught:
        model.fit(x, y, epochs=2, batch_size=8, verbose=0)
    (message,) = (str(w.message) for w in caught if w.category is CompressionWarning)
    assert matches(says, message), message
    predicted = float(message.split("sparsity of ")[1].split()[0])
    reached = penjing.sparsity_report(penjing.strip(model)).sparsity
    assert abs(reached - predicted) <= 1 / 66  # rounded to a whole weight in each


def test_a_schedule_that_training_reaches_does_not_warn():
    model = penjing.prune(small(), RAMP(begin_step=0, end_step=6))
    model.compile("sgd", "mse", jit_compile=COMPILED)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CompressionWarning)
        x, y = data()["x_train"], np.zeros((24, 3), "float32")
        model.fit(x, y, epochs=2, batch_size=8, verbose=0)
    assert penjing.sparsity_report(model).sparsity == pytest.approx(0.8, abs=1 / 66)


def test_stripping_before_training_warns_that_nothing_was_compressed():
    model = penjing.prune(small(), penjing.OneShot(0.5))
    with pytest.warns(CompressionWarning, match="not trained since it was compressed"):
        plain = penjing.strip(model)
    assert penjing.sparsity_report(plain).sparsity == 0


@pytest.mark.once
def test_a_full_disk_in_the_middle_of_a_compression_leaves_no_half_file(tmp_path):
    arrays = refusals_of_data.user_data()
    with (
        full_disk(4000),
        pytest.raises(
            penjing.CompressionError, match=r"Cannot write .*baseline.h5: .* its disk"
        ),
    ):
        penjing.compress(compiled(), arrays, "article", out=tmp_path / "out")
    files = [name for name, content in listing(tmp_path).items() if content is not None]
    kept = {"compression/manifest.json", "lock", "outputs.json", "run.json"}
    assert set(files) <= {f"out/.state/{name}" for name in kept}


COMPRESS = ["compress", "model.keras", "--data", "data.npz", "--out", "out"]


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["inspect", "none.keras"], 1, "There is no file none.keras. Check the path"),
        (["inspect", "."], 1, ". is a folder. Give the path of a file"),
        (["inspect", "bad.h5"], 1, "Cannot read bad.h5"),
        (["evaluate", "bad.tflite", "--data", "data.npz"], 1, "is not a .tflite file"),
        (["evaluate", "model.keras", "--data", "x.csv"], 1, "There is no data 'x.csv'"),
        (
            ["evaluate", "model.keras", "--data", "data.npz", "--metric", "acuracy"],
            1,
            "Keras has no metric 'acuracy'. Did you mean 'accuracy'",
        ),
        ([*COMPRESS, "--recipe", "artikle"], 1, "Did you mean `article`"),
        ([*COMPRESS, "--recipe", "typo.toml"], 1, "unknown key `epoch`. Did you mean"),
        ([*COMPRESS[:-1], "bad.h5"], 1, "Cannot make the output folder bad.h5"),
        ([*COMPRESS, "--seed", "-1"], 2, "--seed"),
        ([*COMPRESS, "--backend", "theano"], 2, "--backend .. 'tensorflow'"),
        (["compress", "model.keras"], 2, "Missing option '--data'"),
        (["squeeze"], 2, "No such command 'squeeze'"),
        (["demo", "--dataset", "mnist"], 2, "--dataset .. 'fashion-mnist'"),
    ],
)
def test_the_command_exits_with_one_message(
    arguments, code, says, tmp_path, monkeypatch, capsys
):
    bench = Bench(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    bench.saved("model.keras")
    bench.npz()
    bench.file("bad.h5")
    bench.file("bad.tflite")
    bench.file("typo.toml", "[training]\nepoch = 3\n")
    before = listing(tmp_path)
    capsys.readouterr()
    assert cli.main(arguments) == code
    captured = capsys.readouterr()
    assert matches(says, captured.err), captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert listing(tmp_path) == before
