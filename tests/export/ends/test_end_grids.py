"""Inputs and outputs of the type that was asked for, whatever reads or gives them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import penjing
from penjing.errors import DataError, ExportError, UnsupportedModelError
from penjing.export.ends.end_grids import check_columns
from penjing.export.ends.end_types import check_types
from penjing.export.verification import output_error
from penjing.models.signature import input_signature
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.loading import load_graphs
from penjing.tflite.operators import Operator, calls

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (40, 8, 8, 3)).astype("float32")
VECTORS = RNG.normal(size=(40, 8)).astype("float32")
STEPS = RNG.normal(size=(40, 5, 8)).astype("float32")
# What begins or ends a model -> the inputs that it is for.
ENDS = {
    "scaled": ([layers.Rescaling(1 / 255)], [], PIXELS),
    "shifted": ([layers.Rescaling(1 / 127.5, -1)], [], PIXELS),
    "channels": ([layers.Rescaling([0.004] * 3, [-0.4, -0.5, -0.6])], [], PIXELS),
    "normalized": (
        [layers.Normalization(mean=[99.0] * 3, variance=[3e3] * 3)],
        [],
        PIXELS,
    ),
    "divided": ([layers.Lambda(lambda x: x / 255)], [], PIXELS),
    "recurrent": ([layers.LSTM(4)], [layers.LayerNormalization()], STEPS),
    "leaky": ([layers.LayerNormalization()], [layers.LeakyReLU()], VECTORS),
    "gelu": (
        [layers.Dense(6, trainable=False, name="frozen")],
        [layers.Activation("gelu")],
        VECTORS,
    ),
    "sequence": ([], [layers.Reshape((2, 2)), layers.GRU(3)], VECTORS),
}


def in_training(first, last, x):
    keras.utils.set_random_seed(0)
    middle = [layers.Flatten(), layers.Dense(4)]
    if x.ndim == 4:
        middle.insert(0, layers.Conv2D(4, 3, padding="same", activation="relu"))
    model = keras.Sequential([keras.Input(x.shape[1:]), *first, *middle, *last])
    return penjing.quantize_aware(model, activations="int8", calibration_data=x)


@pytest.mark.once
@pytest.mark.parametrize("case", ENDS)
def test_a_model_in_training_takes_and_gives_the_integers_asked_for(case, tmp_path):
    first, last, x = ENDS[case]
    trained, path = in_training(first, last, x), tmp_path / "m.tflite"
    types = {"input_type": "uint8", "output_type": "uint8"}
    penjing.export_litert(trained, path, "int8", representative_data=x, **types)
    file = penjing.LiteRTModel(path)
    assert (file.inputs[0].dtype, file.outputs[0].dtype) == ("uint8", "uint8")
    if x is PIXELS:
        assert (file.inputs[0].scale, file.inputs[0].zero_point) == (1.0, 0)
        kinds = {tensor.dtype for tensor in penjing.inspect_file(path).tensors}
        assert "float32" not in kinds
        model = load_graphs(path.read_bytes(), "it")
        found = {call.code for call in calls(model, model["subgraphs"][0])}
        assert Operator.DEQUANTIZE not in found
    wanted = ops.convert_to_numpy(trained(x))
    # Of the mean: a last bit moves single values of a recurrent layer by some steps.
    assert output_error(file.predict(x), wanted) < 0.1


@pytest.mark.once
def test_pixels_that_do_not_reach_the_ends_still_have_a_step_of_one(tmp_path):
    dim = PIXELS.clip(3, 250)
    model, path = (
        in_training([layers.Rescaling(1 / 255)], [], dim),
        tmp_path / "m.tflite",
    )
    penjing.export_litert(
        model, path, "int8", representative_data=dim, input_type="uint8"
    )
    (spec,) = penjing.LiteRTModel(path).inputs
    assert (spec.dtype, spec.scale, spec.zero_point) == ("uint8", 1.0, 0)


@pytest.mark.once
def test_ranges_that_were_not_trained_need_samples(tmp_path):
    model = in_training([layers.LayerNormalization()], [], VECTORS)
    with pytest.raises(DataError, match="`representative_data`.*`layer_norm"):
        penjing.export_litert(model, tmp_path / "m.tflite", "int8", input_type="uint8")
    assert not list(tmp_path.iterdir())
    penjing.export_litert(model, tmp_path / "m.tflite", "int8", output_type="uint8")


@pytest.mark.once
def test_columns_that_one_scale_would_lose_are_refused(tmp_path):
    data = VECTORS * [1, 1, 1, 1, 1, 1, 1e4, 1] + [0, 0, 0, 0, 0, 0, 0, 9]
    data[:, 0], data[:, 1] = 3.0, 200 * (VECTORS[:, 1] > 0)
    normal = layers.Normalization(mean=data.mean(0), variance=data.var(0) + 1)
    for model in (
        keras.Sequential([keras.Input((8,)), normal, layers.Dense(2)]),
        in_training([normal], [], data.astype("float32")),
    ):
        with pytest.raises(DataError, match="`input_0` cannot be uint8.*column 2 "):
            penjing.export_litert(
                model,
                tmp_path / "m.tflite",
                "int8",
                representative_data=data,
                input_type="uint8",
            )


@pytest.mark.once
def test_of_many_columns_some_may_be_empty():
    """Words that are rare, frequencies that are quiet: the model need not hear them."""
    model = keras.Sequential([keras.Input((40,)), layers.Dense(2)])
    data = np.ones((20, 40)) * np.arange(20)[:, None]
    data[:, 7] *= 1e-4
    check_columns([data], input_signature(model), "uint8")


@pytest.mark.once
def test_integers_that_no_kernel_reads_are_refused(tmp_path):
    ids = keras.Input((3,), dtype="uint64", name="ids")
    model = keras.Model(ids, layers.Embedding(5, 2)(ids))
    with pytest.raises(UnsupportedModelError, match='`ids` takes uint64.*"int64"'):
        penjing.export_litert(model, tmp_path / "m.tflite")


@pytest.mark.once
def test_a_file_of_another_type_is_refused_with_the_operation(tmp_path):
    path = tmp_path / "m.tflite"
    model = keras.Sequential([keras.Input((8,)), layers.LeakyReLU(), layers.Dense(2)])
    penjing.export_litert(model, path)
    file = EditedFile(path.read_bytes(), "it")
    check_types(file.model, "float32", "float32")
    with pytest.raises(ExportError, match=r"input 0 .* float32, not uint8 .* LEAKY_"):
        check_types(file.model, "uint8", "float32")
    with pytest.raises(ExportError, match=r"output 0 .* not int8 .* FULLY_CONNECTED"):
        check_types(file.model, "float32", "int8")
    penjing.export_litert(
        model, path, "int8", representative_data=VECTORS, output_type="int8"
    )
    file = EditedFile(path.read_bytes(), "it")
    with pytest.raises(ExportError, match="output 0 .* is int8, not float32"):
        check_types(file.model, "float32", "float32")


def test_a_border_that_hardly_varies_is_no_lost_column():
    images = np.full((500, 28, 28), -1.0)
    images[:, 4:24, 4:24] = RNG.uniform(-1, 1, (500, 20, 20))
    images[:10, 0, 0] += 6 / 255
    model = keras.Sequential([keras.Input((28, 28)), layers.Flatten()])
    check_columns([images.astype("float32")], input_signature(model), "int8")
