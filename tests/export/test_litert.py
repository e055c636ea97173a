"""Exports models, on every backend, and compares the files with Keras."""

from __future__ import annotations

import os
import sys

import keras
import numpy as np
import pytest
from tests.export.custom_layers import Doubling, bent

import penjing
from penjing.errors import (
    CompressionError,
    DataError,
    ExportError,
    UnsupportedModelError,
)
from penjing.export import litert
from penjing.export.litert import export_litert
from penjing.export.verification import output_error
from penjing.runtime.interpreter import LiteRTModel
from penjing.tflite.edited_file import EditedFile

layers = keras.layers
once = pytest.mark.once


def images(count=48, seed=0):
    return np.random.default_rng(seed).uniform(size=(count, 12, 12)).astype("float32")


def small_cnn(dtype="float32"):
    return keras.Sequential(
        [
            keras.Input((12, 12)),
            layers.Reshape((12, 12, 1)),
            layers.Conv2D(6, 3, dtype=dtype),
            layers.BatchNormalization(dtype=dtype),
            layers.ReLU(dtype=dtype),
            layers.SeparableConv2D(8, 3, padding="same", dtype=dtype),
            layers.Dropout(0.5),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(10, dtype="float32"),
        ]
    )


def branched_model():
    wide = keras.Input((4,), name="wide")
    ids = keras.Input((5,), dtype="int32", name="ids")
    embedded = layers.Embedding(9, 3, mask_zero=True)(ids)
    recurrent = layers.Bidirectional(layers.LSTM(4))(embedded)
    joined = layers.Concatenate()([layers.Dense(5, bent)(wide), recurrent])
    return keras.Model(
        {"wide": wide, "ids": ids},
        {"b": Doubling()(layers.Dense(2)(joined)), "a": layers.Dense(3)(joined)},
    )


def of_bytes(content):
    """A converted file with any bytes."""
    return EditedFile(content, "it")


def assert_same(path, model, data, tolerance=1e-4):
    expected = keras.tree.flatten(model(data, training=False))
    actual = LiteRTModel(path).predict(data, batch_size=7)
    actual = actual if isinstance(actual, list) else [actual]
    for got, wanted in zip(actual, expected, strict=True):
        assert output_error(got, keras.ops.convert_to_numpy(wanted)) < tolerance


def test_own_classes_loops_and_several_inputs_export_on_every_backend(tmp_path, capfd):
    model = branched_model()
    capfd.readouterr()  # The backend's own words at its first operation.
    path = export_litert(model, str(tmp_path / "model.tflite"))
    assert capfd.readouterr() == ("", "")
    file = LiteRTModel(path)
    assert [spec.name for spec in file.inputs] == ["ids", "wide"]
    assert [spec.name for spec in file.outputs] == ["a", "b"]
    generator = np.random.default_rng(0)
    data = {
        "wide": generator.normal(size=(12, 4)).astype("float32"),
        "ids": generator.integers(0, 9, (12, 5)).astype("int32"),
    }
    assert_same(path, model, data)
    assert os.listdir(tmp_path) == ["model.tflite"]


@pytest.mark.costly_on_jax
def test_a_mixed_precision_model_exports_to_int8_on_every_backend(tmp_path):
    model = small_cnn("mixed_bfloat16")
    policies = [layer.dtype_policy.name for layer in model.layers]
    path = export_litert(
        model, tmp_path / "m.tflite", "int8", representative_data=images()
    )
    assert policies == [layer.dtype_policy.name for layer in model.layers]
    assert_same(path, model, images(20, seed=5), tolerance=0.2)


def test_a_pruned_model_is_stripped_and_says_so(tmp_path, capfd, monkeypatch):
    seen = []
    monkeypatch.setattr(
        litert, "converted", lambda model, *_: seen.append(model) or of_bytes(b"file")
    )
    pruned = penjing.prune(small_cnn(), penjing.ConstantSparsity(0.5))
    with pytest.warns(penjing.CompressionWarning, match="not trained"):
        export_litert(pruned, tmp_path / "pruned.tflite", verify=False)
    assert "stripped for export" in capfd.readouterr().err
    assert isinstance(seen[0], keras.Sequential)
    assert not penjing.is_compressed(seen[0])


def test_lambda_layers_are_refused_outside_tensorflow(tmp_path):
    model = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: x * 2)])
    path = tmp_path / "model.tflite"
    if keras.backend.backend() == "tensorflow":
        assert export_litert(model, path).exists()
        return
    with pytest.raises(ExportError, match="Lambda layers hold code"):
        export_litert(model, path)
    assert not os.listdir(tmp_path)


def test_a_class_of_the_running_script_is_refused_with_the_way_out(
    tmp_path, monkeypatch
):
    if keras.backend.backend() == "tensorflow":
        pytest.skip("converts in the same process")
    own = type(
        "Own", (layers.Layer,), {"call": lambda self, x: x, "__module__": "__main__"}
    )
    monkeypatch.setattr(sys.modules["__main__"], "Own", own, raising=False)
    model = keras.Sequential([keras.Input((3,)), own()])
    with pytest.raises(ExportError, match="Own. Move them to a module"):
        export_litert(model, tmp_path / "model.tflite")


@once
@pytest.mark.parametrize(
    ("quantization", "tolerance"),
    [(None, 1e-5), ("float16", 5e-3), ("dynamic", 0.05), ("int16x8", 0.05)],
)
def test_each_mode_computes_the_same(tmp_path, quantization, tolerance):
    model = small_cnn()
    path = export_litert(
        model,
        tmp_path / "m.tflite",
        quantization,
        representative_data=images() if quantization == "int16x8" else None,
    )
    assert_same(path, model, images(20, seed=3), tolerance)


@once
def test_quantized_weights_make_the_file_smaller(tmp_path):
    model = keras.Sequential([keras.Input((64,)), layers.Dense(256), layers.Dense(64)])
    sizes = {
        mode: export_litert(model, tmp_path / "m.tflite", mode).stat().st_size
        for mode in (None, "float16", "dynamic")
    }
    assert sizes["float16"] < 0.6 * sizes[None]
    assert sizes["dynamic"] < 0.4 * sizes[None]


def recurrent(layer, mask=False, steps=9):
    ids = keras.Input((steps,), dtype="int32")
    # Wider than Keras' default, whose tiny activations int8 cannot resolve.
    embedding = layers.Embedding(
        20, 6, keras.initializers.RandomNormal(stddev=1.0), mask_zero=mask
    )
    return keras.Model(ids, layer(embedding(ids)))


def attention(steps=8):
    x = keras.Input((steps, 12))
    y = layers.MultiHeadAttention(2, 6)(x, x)
    return keras.Model(x, layers.Dense(3)(layers.LayerNormalization()(x + y)))


def conv1d():
    x = keras.Input((16, 3))
    y = layers.Conv1D(4, 3, activation="gelu")(x)
    y = layers.Conv1DTranspose(5, 3, strides=2)(layers.SeparableConv1D(6, 3)(y))
    return keras.Model(x, layers.GlobalAveragePooling1D()(y))


def stacked():
    x = keras.Input((6, 4))
    cells = [layers.LSTMCell(4), layers.GRUCell(3)]
    y = layers.RNN(cells, return_sequences=True, go_backwards=True)(x)
    last, state = layers.GRU(5, return_state=True)(x)
    return keras.Model(x, [y, last, state])


def fixed_batch():
    x = keras.Input(batch_shape=(4, 6))
    return keras.Model(x, layers.Dense(3)(x))


MODELS = {
    "lstm": lambda: recurrent(layers.LSTM(5)),
    "lstm, masked, all steps": lambda: recurrent(
        layers.Bidirectional(layers.LSTM(5, return_sequences=True)), mask=True
    ),
    "gru, masked, any length": lambda: recurrent(layers.GRU(5), True, None),
    "simple rnn, zero output where masked": lambda: recurrent(
        layers.RNN(
            layers.SimpleRNNCell(4), return_sequences=True, zero_output_for_mask=True
        ),
        mask=True,
    ),
    "unrolled": lambda: recurrent(layers.GRU(4, unroll=True), steps=3),
    "stacked cells": stacked,
    "convolutional lstm": lambda: keras.Sequential(
        [keras.Input((3, 6, 6, 2)), layers.ConvLSTM2D(2, 3)]
    ),
    "attention": attention,
    "attention, any length": lambda: attention(None),
    "conv1d": conv1d,
    "float16 throughout": lambda: small_cnn("float16"),
    "fixed batch": fixed_batch,
}


@once
@pytest.mark.parametrize("name", MODELS)
def test_kinds_of_models_convert_and_are_verified(tmp_path, name):
    model = MODELS[name]()
    path = export_litert(model, tmp_path / "m.tflite")
    batch = -1 if name != "fixed batch" else 4
    assert {spec.shape[0] for spec in LiteRTModel(path).inputs} == {batch}
    assert not any("inner_loop" in layer.__dict__ for layer in model._flatten_layers())


@once
def test_a_loop_stays_small_with_many_steps(tmp_path):
    sizes = [
        export_litert(recurrent(layers.GRU(8), steps=steps), tmp_path / "m.tflite")
        .stat()
        .st_size
        for steps in (4, 200)
    ]
    assert abs(sizes[1] - sizes[0]) < 500


@once
def test_a_loop_quantizes(tmp_path):
    model = recurrent(layers.LSTM(32, return_sequences=True), mask=True)
    ids = np.random.default_rng(0).integers(0, 20, (40, 9))
    for mode in ("dynamic", "int8"):
        path = export_litert(
            model, tmp_path / "m.tflite", mode, representative_data=ids
        )
        assert_same(path, model, ids.astype("int32"), 0.3)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(3)

    def call(self, inputs):
        return {"out": self.dense(inputs["b"]), "copy": inputs["a"] * 2.0}


@once
def test_a_subclassed_model_with_nested_inputs(tmp_path):
    model = Subclassed()
    data = {"b": images(9)[:, 0], "a": images(9)[:, 1]}
    model(data)
    path = export_litert(model, tmp_path / "m.tflite")
    assert [spec.name for spec in LiteRTModel(path).inputs] == ["a", "b"]
    assert_same(path, model, data)


@once
def test_trained_weights_with_zeros_and_large_values_pass(tmp_path):
    model = small_cnn()
    generator = np.random.default_rng(4)
    for variable in model.trainable_variables:
        if "kernel" in variable.name:
            heavy = generator.standard_t(3, variable.shape) * 0.1
            variable.assign(heavy * (generator.uniform(size=variable.shape) < 0.2))
    for mode in ("dynamic", "int8", "int16x8"):
        assert export_litert(
            model, tmp_path / "m.tflite", mode, representative_data=images()
        ).exists()


@once
def test_a_file_that_computes_something_else_is_not_left(tmp_path, monkeypatch):
    path = tmp_path / "m.tflite"
    path.write_bytes(b"what was there before")
    other = export_litert(small_cnn(), tmp_path / "other.tflite").read_bytes()
    monkeypatch.setattr(litert, "converted", lambda *_: of_bytes(other))
    with pytest.raises(ExportError, match=r"output 0 is off by .*0\.001 is allowed"):
        export_litert(small_cnn(), path)
    assert path.read_bytes() == b"what was there before"
    assert sorted(os.listdir(tmp_path)) == ["m.tflite", "other.tflite"]
    export_litert(small_cnn(), path, verify=False)
    assert path.read_bytes() == other


@once
def test_a_file_that_does_not_run_is_not_left(tmp_path, monkeypatch):
    noise = of_bytes(b"1234TFL3 and noise" * 9)
    monkeypatch.setattr(litert, "converted", lambda *_: noise)
    with pytest.raises(ExportError, match="does not run, so it was not written"):
        export_litert(small_cnn(), tmp_path / "m.tflite")
    assert not os.listdir(tmp_path)


@once
def test_nan_weights_are_refused(tmp_path):
    model = small_cnn()
    model.layers[-1].bias.assign(np.full(10, np.nan, "float32"))
    with pytest.raises(ExportError, match="itself gives NaN or infinity"):
        export_litert(model, tmp_path / "m.tflite")
    assert not os.listdir(tmp_path)


@once
def test_what_cannot_be_converted_says_why(tmp_path, capfd):
    x = keras.Input((4, 4))
    model = keras.Model(x, keras.ops.linalg.det(x))
    capfd.readouterr()
    with pytest.raises(ExportError, match="cannot convert the model(.|\n)*Determinant"):
        export_litert(model, tmp_path / "m.tflite")
    assert capfd.readouterr() == ("", "")
    assert not os.listdir(tmp_path)


@once
def test_int16x8_without_kernels_points_to_int8(tmp_path):
    ids = np.zeros((4, 9), "int32")
    with pytest.raises(ExportError, match='use quantization="int8"'):
        export_litert(
            recurrent(layers.GRU(4)),
            tmp_path / "m.tflite",
            "int16x8",
            representative_data=ids,
        )


@once
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"quantization": "int3"}, ValueError, "'int3'. Allowed: None, 'dynamic'"),
        ({"quantization": "int2"}, ValueError, "give NaN with int2 weights: take"),
        ({"quantization": True}, ValueError, "Unknown `quantization` True"),
        ({"input_type": "int8"}, ValueError, "does not go with quantization=None"),
        (
            {"quantization": "int8", "output_type": "int16"},
            ValueError,
            "Allowed: 'float32', 'int8', 'uint8'",
        ),
        (
            {"quantization": "int16x8", "input_type": "int8"},
            ValueError,
            "Allowed: 'float32', 'int16'",
        ),
        ({"imports": ["none.such"]}, ValueError, "names 'none.such', which is no mod"),
        ({"imports": "none_such"}, ValueError, "names 'none_such', which is no module"),
        ({"quantization": "int8"}, DataError, "needs `representative_data`"),
        (
            {"quantization": "int8", "representative_data": images()[:, :5]},
            DataError,
            r"shape \(samples, 12, 12\), but `representative_data` has \(48, 5, 12\)",
        ),
    ],
)
def test_arguments_out_of_range_are_refused(tmp_path, arguments, error, message):
    with pytest.raises(error, match=message):
        export_litert(small_cnn(), tmp_path / "m.tflite", **arguments)
    assert not os.listdir(tmp_path)


@once
@pytest.mark.parametrize(
    ("name", "message"),
    [("m.lite", "must end in `.tflite`"), ("none/m.tflite", "does not exist")],
)
def test_paths_that_cannot_be_written_are_refused(tmp_path, name, message):
    with pytest.raises((ValueError, CompressionError), match=message):
        export_litert(small_cnn(), tmp_path / name)


@once
def test_a_folder_that_refuses_files_is_refused_before_the_work(tmp_path, monkeypatch):
    monkeypatch.setattr(litert, "converted", lambda *_: pytest.fail("too late"))
    (tmp_path / "m.tflite").mkdir()
    with pytest.raises(CompressionError, match="it is a folder"):
        export_litert(small_cnn(), tmp_path / "m.tflite")


@once
@pytest.mark.parametrize(
    ("model", "message"),
    [
        (keras.Sequential([layers.Dense(2)]), "is not built"),
        (Subclassed(), "is not built"),
        (layers.Dense(2), "must be a keras.Model, got Dense"),
        ("model.keras", "must be a keras.Model, got str"),
    ],
)
def test_what_is_no_built_model_is_refused(tmp_path, model, message):
    with pytest.raises(UnsupportedModelError, match=message):
        export_litert(model, tmp_path / "m.tflite")
