"""Int8 files that hold exactly what a model with rounded activations computes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import penjing
from penjing import Grid
from penjing.data.datasets import load_dataset
from penjing.engine.transforms.quantization_transform import FakeQuantize
from penjing.tflite.stored_tensors import read_tflite

once = pytest.mark.once
RNG = np.random.default_rng(0)


def array(value):
    return keras.ops.convert_to_numpy(value)


def graph(shape, function):
    inputs = keras.Input(shape)
    model = keras.Model(inputs, function(inputs))
    for variable in model.weights:
        if variable.name == "bias":
            variable.assign(RNG.normal(size=variable.shape) * 0.3)
    return model


def calibrated(model, x, **kwargs):
    return penjing.quantize_aware(
        model, activations="int8", calibration_data=x, **kwargs
    )


def exported(model, path):
    penjing.export_litert(model, path, "int8")
    return penjing.LiteRTModel(path)


def stored_integers(path):
    """Constant int8 tensors of a file: the sorted integers of each."""
    return [
        np.sort(tensor.values)
        for tensor in read_tflite(path)
        if tensor.dtype == "int8" and tensor.values is not None
    ]


def trained_integers(model):
    """Path of each weight on a grid -> its sorted integers."""
    plain = {v.path: array(v) for v in penjing.strip(model).weights}
    return {
        path: np.sort(np.rint(plain[path] / array(scale)).ravel())
        for transform in model.transforms
        if isinstance(transform, FakeQuantize)
        for path, scale in transform.scales().items()
    }


def image_branches(image):
    """Each kind of integer operator, none behind another that rounds in its own way."""
    x = layers.Conv2D(8, 3, activation="relu")(image)
    pooled = layers.AveragePooling2D(2)(layers.MaxPooling2D(2)(x))
    gate = layers.Conv2D(8, 1, activation="sigmoid")(x)
    side = layers.Conv2D(8, 1, activation="tanh")(x)
    narrow = layers.Reshape((6, 48))(layers.ZeroPadding2D(0)(x))
    return [
        layers.DepthwiseConv2D(3, depth_multiplier=2, activation="relu6")(x),
        layers.SeparableConv2D(4, 3, strides=2, padding="same")(x),
        layers.Conv2D(6, 3, groups=2, activation="silu")(x),
        layers.Conv2D(6, 3, dilation_rate=2, activation="gelu")(x),
        layers.Concatenate()([gate, x, side]),
        ops.relu(layers.Conv2D(8, 1)(x) + x),
        layers.Multiply()([gate, x]),
        layers.Dense(5, activation="softmax")(layers.Flatten()(pooled)),
        layers.Dense(4)(layers.Permute((2, 1))(narrow)),
        layers.Conv2D(3, 1)(layers.UpSampling2D(2)(layers.Cropping2D(1)(x))),
        ops.maximum(layers.Conv2D(8, 1)(x), x),
    ]


def sequence_branches(sequence):
    x = layers.Conv1D(8, 3, activation="relu")(sequence)
    return [
        layers.SeparableConv1D(6, 3, activation="relu")(x),
        layers.DepthwiseConv1D(3)(layers.MaxPooling1D(2)(x)),
        layers.Dense(5)(layers.Dense(7, activation="relu")(x)),
        layers.AveragePooling1D(2)(layers.Dropout(0.5)(x)),
    ]


@once
@pytest.mark.parametrize(
    ("shape", "branches"),
    [((8, 8, 4), image_branches), ((12, 6), sequence_branches)],
    ids=["images", "sequences"],
)
def test_every_operator_computes_the_same_numbers(shape, branches, tmp_path):
    x = RNG.normal(size=(100, *shape)).astype("float32")
    model = calibrated(graph(shape, branches), x)
    assert not model.activations.plan.in_float
    path = tmp_path / "m.tflite"
    file = exported(model, path)
    for number, (found, wanted) in enumerate(
        zip(file.predict(x), model(x), strict=True)
    ):
        different = np.abs(found - array(wanted)) > 1e-5
        assert different.mean() < 1e-3, number  # ties that float32 cannot tell
    stored = stored_integers(path)
    for weight, integers in trained_integers(model).items():
        assert any(np.array_equal(integers, other) for other in stored), weight


def net(image):
    """Residual, concatenation, pooling, normalization, relu6, softmax, nesting."""
    x = layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False)(image)
    x = layers.ReLU(max_value=6)(layers.BatchNormalization(momentum=0.8)(x))
    y = layers.SeparableConv2D(8, 3, padding="same", use_bias=False)(x)
    y = layers.BatchNormalization(momentum=0.8)(y)
    x = ops.relu(x + y)
    block = keras.Sequential(
        [keras.Input((14, 14, 8)), layers.Conv2D(8, 1, activation="relu")], name="block"
    )
    x = layers.Concatenate()([x, block(x)])
    x = layers.AveragePooling2D(2)(layers.MaxPooling2D(2, padding="same")(x))
    return layers.Dense(10, activation="softmax")(layers.Flatten()(x))


@pytest.fixture(scope="module")
def trained():
    """A pruned classifier, trained with int8 weights and activations, and its data."""
    data = load_dataset("fashion-mnist-small")
    x, y = data.x_train[:5000, ..., None], data.y_train[:5000]
    pruned = penjing.prune(graph((28, 28, 1), net), penjing.OneShot(0.5))
    pruned(x[:4], training=True)
    model = penjing.quantize_aware(pruned, activations="int8")
    model.compile(
        keras.optimizers.Adam(0.01),
        "sparse_categorical_crossentropy",
        jit_compile=keras.backend.backend() == "jax",
    )
    model.fit(x, y, batch_size=100, epochs=1, verbose=0)
    return model, data.x_test[..., None], data.y_test


def test_a_trained_model_predicts_the_same_in_its_file(trained, tmp_path):
    model, x, y = trained
    path = tmp_path / "m.tflite"
    found = exported(model, path).predict(x).argmax(-1)
    wanted = model.predict(x, verbose=0).argmax(-1)
    assert len(x) == 2000
    assert (found == wanted).mean() >= 0.999
    assert (found == y).mean() > 0.5
    stored = stored_integers(path)
    for weight, integers in trained_integers(model).items():
        assert any(np.array_equal(integers, other) for other in stored), weight
        if "depthwise" not in weight:
            assert (integers == 0).mean() >= 0.5, weight


@pytest.mark.costly_on_jax
def test_training_goes_on_after_saving(trained, tmp_path):
    model, x, y = trained
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(array(loaded(x[:50])), array(model(x[:50])))
    assert loaded.activations.grids() == model.activations.grids()
    loaded.train_on_batch(x[:100], y[:100])
    assert loaded.activations.grids() != model.activations.grids()
    plain = penjing.strip(model)
    assert all(type(part).__module__.startswith("keras") for part in plain.layers)
    assert not any("Norm" in type(part).__name__ for part in plain._flatten_layers())


@once
def test_what_has_no_integer_kernel_runs_in_float(tmp_path):
    def recurrent(sequence):
        x = layers.LSTM(8, return_sequences=True, name="lstm")(sequence)
        x = x + layers.MultiHeadAttention(2, 4, name="mha")(x, x)
        x = layers.Dense(6, activation="relu")(layers.LayerNormalization(name="ln")(x))
        return layers.Dense(3)(layers.GlobalAveragePooling1D()(x))

    x = RNG.normal(size=(100, 12, 6)).astype("float32")
    model = calibrated(graph((12, 6), recurrent), x)
    reasons = model.activations.plan.in_float
    assert set(reasons) == {"lstm", "mha", "ln"}
    assert reasons["lstm"] == "LSTM has no integer kernel with trained ranges"
    path = tmp_path / "m.tflite"
    found, wanted = exported(model, path).predict(x), array(model(x))
    step = list(model.activations.grids().values())[-1][0]
    # Inputs of the recurrent layers are rounded in the file alone, with own ranges.
    assert np.abs(found - wanted).max() < 0.1 * np.abs(wanted).max() + 3 * step
    stored = stored_integers(path)
    for weight, integers in trained_integers(model).items():
        assert any(np.array_equal(integers, other) for other in stored), weight


@once
def test_integer_inputs_and_outputs_and_few_levels(tmp_path):
    x = RNG.normal(size=(100, 8, 8, 4)).astype("float32")
    model = calibrated(
        graph((8, 8, 4), lambda image: layers.Conv2D(4, 3)(image)),
        x,
        weights=Grid(levels=7),
    )
    path = tmp_path / "m.tflite"
    penjing.export_litert(
        model, path, "int8", input_type="int8", output_type="int8", finish="smallest"
    )
    file = penjing.LiteRTModel(path)
    assert file.inputs[0].dtype == file.outputs[0].dtype == "int8"
    (integers,) = stored_integers(path)
    assert np.abs(integers).max() <= 3
    np.testing.assert_allclose(file.predict(x), array(model(x)), atol=1e-5)


@once
def test_ranges_must_be_known(tmp_path):
    model = graph((8, 8, 4), lambda image: layers.Conv2D(4, 3)(image))
    quantized = penjing.quantize_aware(model, activations="int8")
    with pytest.raises(penjing.CompressionError, match="are not known yet. Train the"):
        penjing.export_litert(quantized, tmp_path / "m.tflite", "int8")
    assert not list(tmp_path.iterdir())
