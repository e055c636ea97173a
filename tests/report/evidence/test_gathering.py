"""What is gathered of a model that was pruned, cut short and exported, untrained."""

import dataclasses

import keras
import numpy as np
import pytest

import penjing
from penjing.measurement.weight_report import sparsity_report
from penjing.report.evidence.gathering import EvidenceSources, gather_evidence

NAMES = ("zero", "one", "two")


def build():
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(4, 3, name="conv"),
            keras.layers.Flatten(name="flat"),
            keras.layers.Dense(16, activation="relu", name="hidden"),
            keras.layers.Dense(3, name="logits"),
        ],
        name="net",
    )


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evidence")
    random = np.random.default_rng(0)
    baseline, small = build(), build()
    for variable in baseline.weights:
        variable.assign(random.normal(size=variable.shape))
    small.set_weights(baseline.get_weights())
    kernel = keras.ops.convert_to_numpy(small.get_layer("hidden").kernel)
    small.get_layer("hidden").kernel.assign(np.where(np.abs(kernel) > 2.0, kernel, 0))
    small.save(folder / "model.keras")
    x = random.uniform(size=(64, 8, 8, 1)).astype("float32")
    y = baseline.predict(x, verbose=0).argmax(axis=1)
    penjing.export_litert(baseline, folder / "baseline.tflite", verify=False)
    penjing.export_litert(
        small, folder / "model.tflite", "int8", representative_data=x, verify=False
    )
    return EvidenceSources(
        baseline=baseline,
        compressed=folder / "model.keras",
        file=folder / "model.tflite",
        float_file=folder / "baseline.tflite",
        test=(x, y),
        weights=tuple(
            dataclasses.replace(row, status="skipped", reason="it is in `exclude`")
            if row.path.endswith("logits/kernel")
            else row
            for row in sparsity_report(small).rows
        ),
        class_names=NAMES,
    )


@pytest.fixture(scope="module")
def evidence(sources):
    return gather_evidence(sources)


def test_nothing_is_left_out(evidence):
    assert evidence.left_out == {}


def test_layers_have_what_the_model_and_the_file_say(evidence, sources):
    rows = {row.name.rpartition("/")[2]: row for row in evidence.layers}
    assert list(rows) == ["conv", "hidden", "logits", "flat"]
    hidden = rows["hidden"]
    kernel = sources.baseline.get_layer("hidden").kernel
    zeros = int(np.sum(np.abs(keras.ops.convert_to_numpy(kernel)) <= 2.0))
    assert (hidden.kind, hidden.parameters) == ("Dense", 144 * 16 + 16)
    assert hidden.zeros == zeros
    assert (hidden.channels, hidden.channels_after) == (16, 16)
    assert (hidden.macs, hidden.macs_after) == (144 * 16, 144 * 16)
    assert (hidden.bits, hidden.bytes, hidden.bytes_before) == (8, 2304, 9216)
    assert 20 < hidden.levels <= 256
    assert 0.05 < hidden.error < 2
    assert hidden.seconds is not None
    assert rows["conv"].error < 1e-6  # nothing was done to it
    assert rows["conv"].macs == 6 * 6 * 9 * 4
    assert (rows["conv"].reason, rows["logits"].reason) == ("", "it is in `exclude`")
    assert rows["flat"].is_untouched


def test_weights_are_drawn_before_and_after(evidence):
    pictures = {row.path.rpartition("/")[0][-6:]: row for row in evidence.weights}
    hidden = pictures["hidden"]
    assert hidden.shape == (144, 16)
    assert sum(hidden.before) + hidden.zeros_before == 144 * 16
    assert sum(hidden.after) + hidden.zeros_after == 144 * 16
    assert hidden.zeros_before == 0 < hidden.zeros_after
    assert len(hidden.after) == 41 and hidden.after[20] == 0 < hidden.before[20]
    assert len(hidden.mask) == 64 and len(hidden.mask[0]) == 16
    assert pictures["t/conv" if "t/conv" in pictures else "conv"].mask == ()


def test_samples_that_changed_sides_are_counted_and_shown(evidence, sources):
    x, y = sources.test
    model = penjing.LiteRTModel(sources.file)
    wrong = np.flatnonzero(model.predict(x).argmax(axis=1) != y)
    assert evidence.samples == 64
    assert (evidence.turned_wrong, evidence.turned_right) == (len(wrong), 0)
    shown = [example.index for example in evidence.examples]
    assert shown == wrong[:12].tolist() and shown
    first = evidence.examples[0]
    assert first.before == first.label == NAMES[y[wrong[0]]] != first.after
    assert first.change == "worse" and first.picture.startswith("iVBOR")


def test_the_confusion_that_changed_is_there(evidence, sources):
    y = sources.test[1]
    for row in evidence.confusion:
        expected = int(np.sum(y == NAMES.index(row.label)))
        assert row.before == (expected if row.label == row.taken_for else 0)
    lost = [row for row in evidence.confusion if row.label == row.taken_for]
    assert sum(row.before - row.after for row in lost) == evidence.turned_wrong
    assert {row.change for row in evidence.confusion} == {"worse"}


def test_files_are_timed_against_the_float_file(evidence):
    first, last = evidence.times
    assert (first.name, last.name) == ("baseline.tflite", "model.tflite")
    assert None not in (first.seconds, last.seconds)
    assert last.speedup_low <= last.speedup <= last.speedup_high
    assert first.speedup is None


@pytest.mark.once
def test_what_cannot_be_had_is_left_out_with_the_reason(sources, tmp_path):
    broken = tmp_path / "broken.tflite"
    broken.write_bytes(b"no model")
    found = gather_evidence(
        dataclasses.replace(
            sources, compressed=tmp_path / "none.keras", file=broken, float_file=None
        )
    )
    assert (found.layers, found.weights, found.examples, found.times) == ((),) * 4
    assert "none.keras" in found.left_out["compressed model"]
    assert "broken.tflite" in found.left_out["file"]
    nothing = gather_evidence(dataclasses.replace(sources, file=None, test=None))
    assert nothing.layers and not nothing.examples
    assert {"file", "samples", "errors of layers"} <= set(nothing.left_out)
