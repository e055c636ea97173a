"""Proofs on an emulated ARM processor: right files pass, wrong ones never."""

import json

import keras
import numpy as np
import pytest
from tests.arm.arm_engines import needs_arm
from tests.sparse.sparse_topologies import build_topology, sparse_unchecked

import penjing
from penjing.arm.arm_session import ArmSession
from penjing.cli import main
from penjing.errors import FileFormatError
from penjing.runtime.reference_model import FixedModel

pytestmark = pytest.mark.once


@pytest.fixture(scope="module")
def model():
    """Convolutions of three kinds, a sum, pooling, softmax."""
    image = keras.Input((16, 16, 3))
    x = keras.layers.Conv2D(16, 3, strides=2, activation="relu")(image)
    y = keras.layers.DepthwiseConv2D(3, padding="same", activation="relu6")(x)
    x = keras.layers.Add()([x, keras.layers.Conv2D(16, 1)(y)])
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(32, activation="tanh")(x)
    return keras.Model(image, keras.layers.Dense(10, activation="softmax")(x))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).normal(size=(32, 16, 16, 3)).astype("float32")


@pytest.fixture(scope="module")
def session():
    with ArmSession() as running:
        yield running


@needs_arm
@pytest.mark.parametrize(
    ("quantization", "steps"),
    [("int8", 0), ("int16x8", 0), ("int8x4", 4)],
)
def test_integers_are_those_here(quantization, steps, model, images, session, tmp_path):
    path = penjing.export_litert(
        model,
        tmp_path / "model.tflite",
        quantization,
        representative_data=images,
        verify=False,
    )
    here, there = FixedModel(path), session.load(path.read_bytes(), "it")
    for image in images[:4]:
        stored = here.inputs[0].encode(image[None])
        there.feed([stored])
        (found,) = there.run()
        (expected,) = here._file.run([stored])
        assert np.abs(found.astype(int) - expected.astype(int)).max() <= steps
    there.close()


@needs_arm
@pytest.mark.parametrize("quantization", [None, "float16", "dynamic"])
def test_floats_are_those_here(quantization, model, images, session, tmp_path):
    path = penjing.export_litert(
        model, tmp_path / "model.tflite", quantization, verify=False
    )
    here, there = FixedModel(path), session.load(path.read_bytes(), "it")
    for image in images[:4]:
        there.feed([image[None]])
        expected = here.predict(image[None])
        distance = np.abs(there.run()[0] - expected).max()
        assert distance <= 5e-6 * np.abs(expected).max()


@needs_arm
def test_a_right_file_passes_and_a_silently_wrong_one_does_not(tmp_path, capsys):
    right, wrong = tmp_path / "right.tflite", tmp_path / "wrong.tflite"
    for path, name in ((right, "mobilenet"), (wrong, "max_pooling")):
        penjing.export_litert(build_topology(name), path, verify=False)
        path.write_bytes(sparse_unchecked(path.read_bytes()))
    report = penjing.verify(right, "arm", engine="cortex-a76", samples=2)
    assert report.runtime == "LiteRT 2.3.0 on cortex-a76 in QEMU"
    assert report.difference < 1e-5 and report.python_difference < 1e-5
    assert (report.latency, report.ratio) == (None, None)  # it is emulated
    assert json.loads(json.dumps(report.to_dict()))["samples"] == 2
    assert main(["verify", str(wrong), "--runtime", "arm", "--samples", "1"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert (
        "is wrong in LiteRT on ARM: its outputs differ from those of its dense" in said
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"engine": "chromium"}, ValueError, "`engine` must be one of 'cortex-a72'"),
        ({"threads": 0}, ValueError, "`threads` must be 1 or more"),
        ({"max_arena": 9}, ValueError, "`max_arena` is for runtime='micro'"),
        ({"file": "a.keras"}, FileFormatError, "is a Keras model"),
        ({"file": "missing.tflite"}, FileFormatError, "There is no file"),
    ],
)
def test_impossible_arguments_are_refused(arguments, error, message):
    file = "tests/data/mlperf_tiny/keyword_spotting.tflite"
    with pytest.raises(error, match=message):
        penjing.verify(**{"file": file, "runtime": "arm", **arguments})
