"""Files for TensorFlow Lite Micro: they run there, and are right; or say why not."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import penjing
from penjing.errors import CompressionWarning, ExportError
from penjing.export import litert
from penjing.export.targets import target_runtime
from penjing.runtime import tflm
from penjing.tflite.loading import load_records
from penjing.tflite.operators import operator_name
from penjing.tflite.stored_tensors import read_tflite
from penjing.tflite.tensors import TensorType

needs_tflm = pytest.mark.skipif(not tflm.has_tflm(), reason="needs penjing[micro]")
once = pytest.mark.once
LAYERS = keras.layers
GENERATOR = np.random.default_rng(0)


def images(*shape):
    return np.abs(GENERATOR.normal(size=(20, *shape))).astype("float32")


def names(path):
    model = load_records(path.read_bytes(), "it")
    return [operator_name(model, op) for op in model["subgraphs"][0]["operators"]]


def small_cnn():
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            LAYERS.Conv2D(4, 3, activation="relu"),
            LAYERS.Flatten(),
            LAYERS.Dense(40, activation="relu"),
            LAYERS.Dense(3, activation="softmax"),
        ]
    )


@needs_tflm
@pytest.mark.parametrize("quantization", [pytest.param("int8", marks=once), "int8x4"])
def test_a_convolutional_network_runs_there(quantization, tmp_path):
    x = images(8, 8, 2)
    path = penjing.export_litert(
        small_cnn(),
        tmp_path / "model.tflite",
        quantization,
        representative_data=x,
        input_type="int8",
        output_type="int8",
        runtime="micro",
    )
    expected = ["CONV_2D", "RESHAPE", "FULLY_CONNECTED", "FULLY_CONNECTED", "SOFTMAX"]
    assert names(path) == expected
    model = penjing.LiteRTModel(path)
    assert [spec.shape for spec in model.inputs + model.outputs] == [
        (1, 8, 8, 2),
        (1, 3),
    ]
    spec = model.inputs[0]
    run = tflm.run_in_tflm(path.read_bytes(), [[spec.encode(x[:1])]])
    (found,) = run.outputs[0]
    assert np.abs(model.outputs[0].decode(found) - model.predict(x[:1])).max() < 0.01
    if quantization == "int8x4":
        (hidden,) = (
            tensor
            for tensor in load_records(path.read_bytes(), "it")["subgraphs"][0][
                "tensors"
            ]
            if list(tensor["shape"]) == [40, 144]
        )
        assert hidden["type"] == TensorType.INT4
        assert len(hidden["quantization"]["scale"]) == 1


@once
@pytest.mark.parametrize(
    "quantization", ["dynamic", "float16", "int4", "int4_weight_only"]
)
def test_modes_that_it_does_not_take_are_refused_before_the_conversion(
    quantization, tmp_path
):
    with pytest.raises(ValueError, match=r"Use None, 'int8', 'int16x8', 'int8x4'"):
        penjing.export_litert(
            None, tmp_path / "model.tflite", quantization, runtime="micro"
        )


@once
def test_sparse_encoding_and_unknown_runtimes_are_refused(tmp_path):
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match="has no sparse kernels"):
        penjing.export_litert(None, path, encoding="sparse", runtime="micro")
    with pytest.raises(ValueError, match="'wasm', 'micro', got 'phone'"):
        penjing.export_litert(None, path, runtime="phone")


@pytest.mark.parametrize("runtime", ["micro", "wasm"])
def test_free_sizes_are_refused_before_the_conversion(runtime, tmp_path):
    model = keras.Sequential([keras.Input((None, 3)), LAYERS.Dense(2)])
    with pytest.raises(ExportError, match=r"\(-1, -1, 3\).*Give keras.Input every"):
        penjing.export_litert(model, tmp_path / "model.tflite", runtime=runtime)


@pytest.mark.parametrize(
    ("layer", "shape", "quantization", "why"),
    [
        (lambda: LAYERS.GRU(2, name="gate"), (4, 3), "int16x8", "no 16-bit kernels"),
        (lambda: LAYERS.LayerNormalization(name="gate"), (4,), "int16x8", "squared"),
        (lambda: LAYERS.Conv3D(1, 1, name="gate"), (2, 2, 2, 1), None, "CONV_3D"),
    ],
)
def test_layers_that_it_lacks_are_named_before_the_conversion(
    layer, shape, quantization, why, tmp_path
):
    model = keras.Sequential([keras.Input(shape), layer()])
    with pytest.raises(ExportError, match=rf"The layer `gate` .*{why}"):
        penjing.export_litert(
            model,
            tmp_path / "model.tflite",
            quantization,
            representative_data=images(*shape),
            runtime="micro",
        )


@once
@pytest.mark.parametrize("has_wheel", [True, False])
@pytest.mark.parametrize(
    ("kind", "advice"),
    [
        ("uint8", r'input_type="uint8".*scale 1, zero point 0.*dtype="int32"'),
        ("int64", 'dtype="int32"'),
        ("float16", 'dtype="float32"'),
    ],
)
def test_inputs_that_it_cannot_read_are_named_before_the_conversion(
    kind, advice, has_wheel, tmp_path, monkeypatch
):
    monkeypatch.setattr(target_runtime, "has_tflm", lambda: has_wheel)
    monkeypatch.setattr(litert, "converted", None)
    pixels = keras.Input((4, 4, 3), name="pixels", dtype=kind)
    model = keras.Model(pixels, LAYERS.Dense(2)(LAYERS.Rescaling(1 / 255)(pixels)))
    with pytest.raises(ExportError, match=rf"The input `pixels` .* {kind}.*{advice}"):
        penjing.export_litert(model, tmp_path / "model.tflite", runtime="micro")
    assert not list(tmp_path.iterdir())


@once
def test_a_fixed_batch_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(target_runtime, "has_tflm", lambda: False)
    model = keras.Sequential([keras.Input((3,), batch_size=4), LAYERS.Dense(2)])
    with pytest.warns(CompressionWarning, match="takes 4 samples at once.*batch of 1"):
        path = penjing.export_litert(
            model, tmp_path / "model.tflite", runtime="micro", verify=False
        )
    assert penjing.LiteRTModel(path).inputs[0].shape == (4, 3)


@needs_tflm
@once
def test_the_advice_for_bytes_gives_a_file_that_takes_them(tmp_path):
    model = keras.Sequential(
        [
            keras.Input((4, 4, 3), name="pixels"),
            LAYERS.Rescaling(1 / 255),
            LAYERS.Flatten(),
            LAYERS.Dense(2),
        ]
    )
    data = np.stack([np.full((4, 4, 3), value, "float32") for value in (0, 128, 255)])
    path = penjing.export_litert(
        model,
        tmp_path / "model.tflite",
        "int8",
        runtime="micro",
        input_type="uint8",
        representative_data=data,
    )
    (end,) = penjing.LiteRTModel(path).inputs
    assert (end.dtype, end.scale, end.zero_point) == ("uint8", 1.0, 0)


@once
def test_a_file_that_could_not_be_run_there_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(target_runtime, "has_tflm", lambda: False)
    model = keras.Sequential([keras.Input((3,)), LAYERS.Dense(2)])
    with pytest.warns(CompressionWarning, match=r"was not run .*penjing\[micro\]"):
        penjing.export_litert(model, tmp_path / "model.tflite", runtime="micro")
    assert names(tmp_path / "model.tflite") == ["FULLY_CONNECTED"]


@needs_tflm
@once
def test_a_packed_file_says_what_it_saves_and_takes(tmp_path, capsys):
    model = small_cnn()
    for layer in model.layers:
        for weight in layer.weights[:1]:
            weight.assign(np.sign(weight.numpy()) * 0.25)
    options = {"runtime": "micro", "encoding": "packed"}
    path = penjing.export_litert(model, tmp_path / "packed.tflite", **options)
    assert names(path)[:1] == ["CUSTOM"] and names(path).count("CONV_2D") == 1
    told = capsys.readouterr().err
    assert "bytes less flash" in told and "more RAM (measured)" in told
    with pytest.raises(penjing.FileFormatError, match="TensorFlow Lite Micro only"):
        penjing.LiteRTModel(path)
    with pytest.raises(
        penjing.UnsupportedModelError, match="more than max_arena=1,000"
    ):
        penjing.export_litert(
            model, tmp_path / "none.tflite", max_arena=1000, **options
        )
    assert not (tmp_path / "none.tflite").exists()


@once
def test_packed_files_are_for_micro_alone(tmp_path):
    path = tmp_path / "model.tflite"
    with pytest.raises(ValueError, match="is for TensorFlow Lite Micro alone"):
        penjing.export_litert(None, path, encoding="packed")
    with pytest.raises(ValueError, match="goes with encoding='packed'"):
        penjing.export_litert(None, path, runtime="micro", max_arena=9)
    with pytest.raises(ValueError, match=r"`max_arena`.*\. It counts bytes of RAM"):
        options = {"runtime": "micro", "encoding": "packed"}
        penjing.export_litert(None, path, max_arena=0, **options)


def recurrent():
    return keras.Sequential(
        [
            keras.Input((5, 3)),
            LAYERS.Masking(),
            LAYERS.GRU(4, return_sequences=True, name="gru"),
            LAYERS.Bidirectional(LAYERS.LSTM(3, name="lstm")),
            LAYERS.Dense(40, activation="gelu"),
            LAYERS.Dense(2),
        ]
    )


@needs_tflm
@once
@pytest.mark.parametrize("quantization", [None, "int8x4"])
def test_loops_that_collect_their_outputs_run_there(quantization, tmp_path):
    model = recurrent()
    x = GENERATOR.normal(size=(40, 5, 3)).astype("float32")
    x[:4, 3:] = 0  # masked
    path = penjing.export_litert(
        model,
        tmp_path / "model.tflite",
        quantization,
        representative_data=x,
        runtime="micro",
    )
    assert names(path).count("WHILE") == 3
    found = tflm.run_in_tflm(path.read_bytes(), [[row[None]] for row in x[:4]])
    expected = model.predict(x[:4], verbose=0)
    actual = np.concatenate([outputs[0] for outputs in found.outputs])
    tolerance = 1e-5 if quantization is None else 0.3 * expected.std()
    np.testing.assert_allclose(actual, expected, atol=tolerance)


@needs_tflm
@once
def test_trained_integers_are_those_of_the_file(tmp_path):
    x = images(6, 6, 2)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 2)),
            LAYERS.Conv2D(4, 3, dilation_rate=2, activation="relu"),
            LAYERS.Flatten(),
            LAYERS.Dense(3),
        ]
    )
    trained = penjing.quantize_aware(model, activations="int8")
    trained.compile("adam", "mse")
    trained.fit(x, np.ones((20, 3)), verbose=0, batch_size=5)
    files = [
        penjing.export_litert(trained, tmp_path / name, "int8", runtime=runtime)
        for name, runtime in (("plain.tflite", None), ("micro.tflite", "micro"))
    ]
    kernels = [
        {t.shape: t.values for t in read_tflite(file) if t.dtype == "int8"}
        for file in files
    ]
    assert {(4, 3, 3, 2), (3, 16)} <= kernels[0].keys() & kernels[1].keys()
    for shape in ((4, 3, 3, 2), (3, 16)):
        np.testing.assert_array_equal(kernels[0][shape], kernels[1][shape])
    plain, micro = (penjing.LiteRTModel(file).predict(x) for file in files)
    np.testing.assert_array_equal(plain, micro)


@needs_tflm
@once
def test_files_are_finished_for_it(tmp_path):
    x = images(8, 8, 2)
    path = tmp_path / "model.tflite"
    sizes = []
    for finish in (None, "smallest"):
        penjing.export_litert(
            small_cnn(),
            path,
            "int8",
            representative_data=x,
            runtime="micro",
            finish=finish,
        )
        sizes.append(path.stat().st_size)
    assert sizes[1] < sizes[0]
    assert not any(
        len(tensor["shape_signature"])
        for tensor in load_records(path.read_bytes(), "it")["subgraphs"][0]["tensors"]
    )


@once
def test_what_it_lacks_after_all_is_named_with_its_layer(tmp_path):
    inputs = keras.Input((6,))
    sorted_ones = LAYERS.Lambda(lambda x: keras.ops.top_k(x, 3)[0], name="best")
    model = keras.Model(inputs, sorted_ones(LAYERS.Dense(6)(inputs)))
    with pytest.raises(ExportError, match=r"TOPK_V2 \(in the layer `best`\)"):
        penjing.export_litert(model, tmp_path / "model.tflite", runtime="micro")
    assert not (tmp_path / "model.tflite").exists()
