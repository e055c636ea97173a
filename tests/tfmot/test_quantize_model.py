"""The peer's names for quantization: marks, training on grids, files, refusals."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.engine.training_cases import to_array
from tests.tfmot.quantized_models import (
    combine,
    data,
    dense,
    kernels,
    outputs,
    quantization,
    train,
)

import penjing
from penjing import tfmot


def convolutional(name="net"):
    return keras.Sequential(
        [
            keras.Input((8, 8, 2)),
            layers.Conv2D(6, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.MaxPooling2D(name="pool"),
            layers.Flatten(name="flat"),
            layers.Dense(4, name="head"),
        ],
        name=name,
    )


@pytest.fixture(scope="module")
def trained():
    """All layers quantized, and trained."""
    model = convolutional()
    return model, train(quantization.quantize_model(model), 8, 8, 2)


def test_layers_are_shown_and_named_as_by_the_peer(trained):
    model, quantized = trained
    names = ["conv", "relu", "pool", "flat", "head"]  # the normalization is folded
    assert [layer.name for layer in quantized.layers] == [f"quant_{n}" for n in names]
    assert isinstance(quantized.get_layer("quant_head"), layers.Dense)
    lines = []
    quantized.summary(print_fn=lambda text, line_break=True: lines.append(text))
    text = "\n".join(lines)
    assert "quant_conv (Conv2D)" in text and "activation_grids" in text
    # As many as the folded layers have: scales and ranges are not trained.
    assert "Trainable params: 334 " in text
    assert [layer.name for layer in model.layers[:2]] == ["conv", "norm"]


def test_weights_lie_on_the_grids_that_follow_them(trained):
    _, quantized = trained
    plain = penjing.strip(quantized)
    assert [type(layer) for layer in plain.layers] == [
        type(layer) for layer in quantized.layers
    ]
    (rounded,) = quantized.transforms
    for raw, kernel, scale in zip(
        kernels(quantized), kernels(plain), rounded.scales().values(), strict=True
    ):
        scale = to_array(scale)
        assert scale.size == kernel.shape[-1]
        integers = np.clip(np.rint(raw / scale), -127, 127)
        np.testing.assert_allclose(kernel, integers * scale, rtol=1e-6)
        assert np.abs(integers).max() > 100


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_saved_model_goes_on(trained, tmp_path, suffix):
    _, quantized = trained
    path = tmp_path / f"quantized.{suffix}"
    keras.saving.save_model(quantized, path)
    with quantization.quantize_scope():
        # Keras cannot go on with the optimizer of an .h5 file.
        loaded = keras.models.load_model(path, compile=suffix == "keras")
    x, _ = data(8, 8, 2)
    assert [layer.name for layer in loaded.layers] == [
        layer.name for layer in quantized.layers
    ]
    np.testing.assert_allclose(outputs(loaded, x), outputs(quantized, x), atol=1e-6)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="its converter")
def test_the_converter_of_tensorflow_is_refused_with_what_to_use(trained):
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_keras_model(trained[1])
    with pytest.raises(penjing.UnsupportedModelError, match="penjing.export_litert"):
        converter.convert()


@pytest.mark.once
def test_the_file_has_the_trained_integers(trained, tmp_path):
    _, quantized = trained
    path = tmp_path / "m.tflite"
    penjing.export_litert(quantized, path, quantization="int8")
    tensors = penjing.inspect_file(path).tensors
    sizes = {t.shape for t in tensors if t.dtype == "int8"}
    assert sizes == {(6, 3, 3, 2), (4, 54)}
    x, _ = data(8, 8, 2)
    outputs = penjing.LiteRTModel(path).predict(x)
    scale = max(scale for scale, _ in quantized.activations.grids().values())
    np.testing.assert_allclose(outputs, to_array(quantized(x)), atol=1.01 * scale)


@pytest.mark.once
def test_graphs_with_branches_and_shared_layers_are_quantized():
    inputs = keras.Input((6, 4), name="tokens")
    shared = layers.Dense(4, activation="relu", name="shared")
    a = shared(inputs)
    b = layers.MultiHeadAttention(2, 2, name="attention")(a, inputs)
    c = layers.LSTM(3, name="memory")(shared(a + b))
    model = keras.Model(inputs, layers.Dense(2, name="out")(c), name="graph")
    x = np.random.default_rng(0).normal(size=(2, 6, 4)).astype("float32")
    annotated = quantization.quantize_annotate_model(model)
    np.testing.assert_array_equal(to_array(annotated(x)), to_array(model(x)))
    quantized = quantization.quantize_apply(annotated)
    names = {layer.name for layer in quantized.layers}
    assert {"quant_shared", "quant_attention", "quant_memory", "quant_out"} < names
    np.testing.assert_allclose(to_array(quantized(x)), to_array(model(x)), atol=0.05)
    path = quantized.get_layer("quant_memory").cell.recurrent_kernel.path
    assert path in quantized.transforms[0].weights_by_path


class Subclassed(keras.Model):
    def call(self, inputs):
        return inputs


class OwnLayer(layers.Layer):
    def build(self, input_shape):
        self.matrix = self.add_weight(shape=(input_shape[-1], 3), name="matrix")

    def call(self, inputs):
        return ops.matmul(inputs, self.matrix)


class OwnScheme(quantization.QuantizeScheme):
    def get_quantize_registry(self):
        return None


def annotated_dense():
    return quantization.quantize_annotate_model(dense())


@pytest.mark.once
@pytest.mark.parametrize(
    ("use", "says"),
    [
        (lambda: quantization.quantize_model(None), "`to_quantize` must be a Keras 3"),
        (
            lambda: quantization.quantize_model(Subclassed(name="sub")),
            "must be a Sequential or Functional model, got 'sub' of class Subclassed",
        ),
        (
            lambda: quantization.quantize_model(quantization.quantize_model(dense())),
            "'small' is being pruned, clustered or quantized already. Strip it",
        ),
        (
            lambda: quantization.quantize_model(
                tfmot.sparsity.keras.prune_low_magnitude(dense())
            ),
            "is being pruned, clustered or quantized already",
        ),
        (
            lambda: quantization.quantize_apply(dense()),
            "No layer of the model 'small' is annotated",
        ),
        (
            lambda: quantization.quantize_apply(annotated_dense(), OwnScheme()),
            "`scheme` must be a scheme of penjing.tfmot",
        ),
        (
            lambda: quantization.quantize_annotate_layer(dense()),
            "`to_annotate` must be a Keras 3 layer",
        ),
        (
            lambda: quantization.quantize_annotate_layer(layers.Dense(2), "8bit"),
            "`quantize_config` must be a tfmot.quantization.keras.QuantizeConfig",
        ),
        (
            lambda: quantization.quantize_annotate_layer(annotated_dense().layers[0]),
            "'body' is annotated already",
        ),
        (
            lambda: quantization.quantize_model(
                keras.Sequential([keras.Input((3,)), OwnLayer(), layers.Dense(2)])
            ),
            "of class OwnLayer can be quantized is not known. List them with",
        ),
        (
            lambda: quantization.quantize_apply(
                keras.Sequential(
                    [
                        keras.Input((3,)),
                        layers.Dense(2),
                        quantization.quantize_annotate_layer(layers.ReLU()),
                    ]
                )
            ),
            "No annotated layer of the model",
        ),
        (
            lambda: quantization.quantize_apply(
                annotated_dense(), combine.Default8BitPrunePreserveQuantizeScheme()
            ),
            "keeps zeros, but no weight has any",
        ),
        (
            lambda: quantization.quantize_apply(
                annotated_dense(), combine.Default8BitClusterPreserveQuantizeScheme()
            ),
            "keeps shared values, but no weight has any",
        ),
    ],
)
def test_what_cannot_be_quantized_is_refused(use, says):
    with pytest.raises(ValueError, match=says):
        use()


def test_frozen_layers_are_rounded_and_keep_their_values():
    model = dense()
    model.layers[0].trainable = False
    quantized = train(quantization.quantize_model(model), 12)
    assert quantized.activations.plan.in_float == {}
    paths = quantized.transforms[-1].weights_by_path
    assert len(paths) == 2
    before = to_array(model.layers[0].kernel)
    np.testing.assert_array_equal(to_array(quantized.layers[0].kernel), before)
