"""What a logger is told in training: a function that records, and real writers."""

from __future__ import annotations

import importlib
import math

import keras
import numpy as np
import pytest
from tests.engine.small_net import ROWS, compiled, data, net

import penjing
from penjing import LogMetrics
from penjing.tfmot.pruning_callbacks import EventFile

EPOCHS, BATCH = 2, 8
STEPS = ROWS // BATCH


def fit(model, callback):
    x, y = data()
    compiled(model)
    model.fit(x, y, batch_size=BATCH, epochs=EPOCHS, verbose=0, callbacks=[callback])


class Record(list):
    """A logger: the calls that it was told."""

    def __call__(self, name, value, step):
        assert type(value) is float and type(step) is int
        self.append((name, value, step))

    def of(self, name):
        return [(step, value) for told, value, step in self if told == name]


@pytest.fixture(scope="module")
def pruned():
    record = Record()
    schedule = penjing.PolynomialDecay(final_sparsity=0.8, begin_step=0, end_step=8)
    model = penjing.prune(net(), schedule)
    fit(model, LogMetrics(record))
    return model, record, schedule


def test_sparsity_and_schedule_are_told_at_the_end_of_epochs(pruned):
    model, record, schedule = pruned
    asked = record.of("schedule/net/hidden/kernel")
    assert asked == [
        (step, pytest.approx(float(schedule(step)))) for step in (STEPS, 2 * STEPS)
    ]
    rows = {
        row.path: row
        for row in penjing.sparsity_report(model).rows
        if row.status == "compressed"
    }
    assert len(rows) == 2
    for path, row in rows.items():
        assert record.of(f"sparsity/{path}")[-1] == (8, pytest.approx(row.sparsity))
    total = sum(row.zeros for row in rows.values()) / (8 * 20 + 20 * 4)
    assert record.of("sparsity")[-1] == (8, pytest.approx(total))
    assert total == pytest.approx(0.8, abs=0.01)


def test_what_keras_measured_is_told_under_its_names(pruned):
    _, record, _ = pruned
    assert [step for step, _ in record.of("loss")] == [STEPS, 2 * STEPS]


@pytest.mark.costly_on_jax
def test_bits_of_shared_and_of_rounded_weights_are_told():
    record = Record()
    model = penjing.quantize_aware(
        penjing.cluster(net(), 5, include=["hidden"]),
        weights=penjing.Grid(bits=4),
        activations=None,
        include=["head"],
    )
    fit(model, LogMetrics(record))
    assert record.of("bits/net/hidden/kernel")[-1][1] == pytest.approx(math.log2(5))
    assert record.of("bits/net/head/kernel")[-1][1] == 4.0


def test_plain_models_and_compressed_layers_are_told_of_too():
    record = Record()
    fit(net(), LogMetrics(record))
    assert [step for step, _ in record.of("loss")] == [STEPS, 2 * STEPS]
    assert {name for name, _, _ in record} == {"loss"}
    layer = penjing.prune_layer(keras.layers.Dense(4), penjing.OneShot(0.5, step=1))
    record = Record()
    fit(keras.Sequential([keras.Input((8,)), layer]), LogMetrics(record))
    assert record.of("sparsity")[-1] == (8, pytest.approx(0.5))


@pytest.mark.costly_on_jax
def test_weights_are_told_within_epochs_where_asked():
    record = Record()
    fit(penjing.prune(net(), penjing.OneShot(0.5, step=1)), LogMetrics(record, every=3))
    assert [step for step, _ in record.of("sparsity")] == [3, 4, 7, 8]


@pytest.mark.once
@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("mlflow",), "`log` must be a function"), ((print, 0), "`every` must be")],
)
def test_wrong_arguments_are_refused(arguments, words):
    log, *rest = arguments
    with pytest.raises(ValueError, match=words):
        LogMetrics(log, every=rest[0] if rest else None)


def logged(folder):
    """What TensorFlow reads in the event file of a folder."""
    tensorflow = importlib.import_module("tensorflow")
    file = next(folder.glob("events.out.tfevents.*"))
    for event in tensorflow.compat.v1.train.summary_iterator(str(file)):
        for value in event.summary.value:
            number = value.simple_value
            if value.HasField("tensor"):
                number = float(tensorflow.make_ndarray(value.tensor))
            yield event.step, value.tag, number


@pytest.mark.once
def test_event_files_of_tensorboard_hold_what_they_were_told(tmp_path):
    file = EventFile(tmp_path)
    log = LogMetrics(lambda name, value, step: file.add_scalars({name: value}, step))
    log.log("sparsity/net/head/kernel", 0.75, 12)
    assert list(logged(tmp_path)) == [(12, "sparsity/net/head/kernel", 0.75)]


@pytest.mark.once
def test_the_writer_that_keras_uses_is_such_a_function(tmp_path):
    pytest.importorskip("tensorboard")
    summary = importlib.import_module("tensorflow").summary
    writer = summary.create_file_writer(str(tmp_path))
    with writer.as_default():
        LogMetrics(summary.scalar).log("sparsity/net/head/kernel", 0.75, 12)
    writer.close()
    assert list(logged(tmp_path)) == [(12, "sparsity/net/head/kernel", 0.75)]


@pytest.mark.once
def test_mlflow_keeps_what_it_was_told(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/runs.db")
    with mlflow.start_run() as run:
        callback = LogMetrics(
            lambda name, value, step: mlflow.log_metric(name, value, step)
        )
        callback.log("sparsity/net/head/kernel", 0.75, 12)
    client = mlflow.MlflowClient()
    found = client.get_metric_history(run.info.run_id, "sparsity/net/head/kernel")
    assert [(one.step, one.value) for one in found] == [(12, 0.75)]
    assert np.isfinite(found[0].timestamp)
