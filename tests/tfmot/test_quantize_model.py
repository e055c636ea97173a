"""The peer's names for quantization: marks, training on grids, files, refusals."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.engine.training_cases import to_array

import penjing
from penjing import tfmot

quantization = tfmot.quantization.keras
combine = tfmot.experimental.combine
JIT = keras.backend.backend() == "jax"


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


def dense(units=8, inputs=12):
    return keras.Sequential(
        [
            keras.Input((inputs,)),
            layers.Dense(units, activation="relu", name="body"),
            layers.Dense(4, name="head"),
        ],
        name="small",
    )


def data(*shape, count=32):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(count, *shape)).astype("float32")
    return x, rng.normal(size=(count, 4)).astype("float32")


def train(model, *shape, epochs=1):
    model.compile(keras.optimizers.Adam(0.01), "mse", jit_compile=JIT)
    model.fit(*data(*shape), batch_size=8, epochs=epochs, verbose=0)
    return model


def outputs(model, x):
    """Compiled as one, which takes JAX less time than each operation by itself."""
    if keras.backend.backend() != "jax":
        return to_array(model(x))
    return model.predict(x, batch_size=len(x), verbose=0)


def kernels(model):
    return [to_array(w) for w in model.weights if w.path.endswith("kernel")]


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


def sparse_model():
    model = dense()
    rng = np.random.default_rng(3)
    for layer in model.layers:
        kernel = to_array(layer.kernel)
        layer.kernel.assign(kernel * (rng.random(kernel.shape) < 0.3))
    return model


def test_zeros_of_a_pruned_model_stay_zeros(tmp_path):
    model = sparse_model()
    annotated = quantization.quantize_annotate_model(model)
    quantized = quantization.quantize_apply(
        annotated, combine.Default8BitPrunePreserveQuantizeScheme()
    )
    train(quantized, 12, epochs=2)
    for before, raw, after in zip(
        kernels(model),
        kernels(quantized),
        kernels(penjing.strip(quantized)),
        strict=True,
    ):
        assert (before == 0).mean() > 0.5
        assert np.all(raw[before == 0] == 0)
        assert np.all(after[before == 0] == 0)
        assert np.any(after != before)
    quantized.save(tmp_path / "q.keras")
    loaded = keras.models.load_model(tmp_path / "q.keras")
    x, _ = data(12)
    np.testing.assert_allclose(outputs(loaded, x), outputs(quantized, x), atol=1e-6)
    if keras.backend.backend() == "tensorflow":
        path = tmp_path / "q.tflite"
        penjing.export_litert(quantized, path, quantization="int8")
        tensors = penjing.inspect_file(path).tensors
        written = {t.shape: t.zeros for t in tensors if t.dtype == "int8"}
        for before in kernels(model):
            assert written[before.T.shape] >= (before == 0).sum()


def shared_model(number, per_channel=False):
    """A model whose kernels have few values, some of them zero."""
    model = dense()
    rng = np.random.default_rng(4)
    for layer in model.layers:
        shape = layer.kernel.shape
        if per_channel:
            books = rng.normal(size=(shape[1], number))
            picks = np.resize(np.arange(number), shape)
            kernel = np.take_along_axis(books, picks.T, axis=1).T
        else:
            book = np.concatenate([[0.0], rng.normal(size=number - 1)])
            kernel = book[np.resize(np.arange(number), shape)]
        layer.kernel.assign(kernel.astype("float32"))
    return model


@pytest.mark.parametrize(
    "preserve_sparsity", [True, pytest.param(False, marks=pytest.mark.once)]
)
def test_shared_values_of_a_clustered_model_stay_as_few(preserve_sparsity, tmp_path):
    model = shared_model(5)
    scheme = combine.Default8BitClusterPreserveQuantizeScheme(preserve_sparsity)
    annotated = quantization.quantize_annotate_model(model)
    quantized = train(quantization.quantize_apply(annotated, scheme), 12, epochs=2)
    plain = penjing.strip(quantized)
    for before, raw, after in zip(
        kernels(model), kernels(quantized), kernels(plain), strict=True
    ):
        assert np.unique(raw).size <= 5  # as the guides count them
        assert 2 <= np.unique(after).size <= 5
        assert not np.array_equal(np.unique(before), np.unique(raw))
        if preserve_sparsity:
            assert np.all(after[before == 0] == 0)
    assert not np.any([(k == 0).any() for k in kernels(quantized)]) or preserve_sparsity
    quantized.save(tmp_path / "q.keras")
    loaded = keras.models.load_model(tmp_path / "q.keras")
    x, _ = data(12)
    np.testing.assert_allclose(outputs(loaded, x), outputs(quantized, x), atol=1e-6)


@pytest.mark.once
def test_values_shared_channel_by_channel_stay_as_few():
    model = shared_model(3, per_channel=True)
    annotated = quantization.quantize_annotate_model(model)
    quantized = quantization.quantize_apply(
        annotated, combine.Default8BitClusterPreserveQuantizeScheme()
    )
    quantized.compile("sgd", "mse", jit_compile=JIT)
    quantized.train_on_batch(*data(12))
    before, after = kernels(model), kernels(penjing.strip(quantized))
    for old, new in zip(before, after, strict=True):
        for channel in range(old.shape[1]):
            assert np.unique(new[:, channel]).size <= 3
        assert np.unique(new).size > 3
        np.testing.assert_allclose(new, old, atol=0.1)


def test_marked_layers_alone_are_quantized():
    base = dense()

    def mark_head(layer):
        if layer.name == "head":
            return quantization.quantize_annotate_layer(layer)
        return layer

    annotated = keras.models.clone_model(base, clone_function=mark_head)
    quantized = quantization.quantize_apply(annotated, quantized_layer_name_prefix="q_")
    assert [layer.name for layer in quantized.layers] == ["body", "q_head"]
    plain = kernels(penjing.strip(quantized))
    np.testing.assert_array_equal(plain[0], kernels(base)[0])
    np.testing.assert_allclose(plain[1], kernels(base)[1], atol=0.01)
    assert not np.array_equal(plain[1], kernels(base)[1])
    x, _ = data(12)
    assert np.abs(to_array(annotated(x)) - to_array(base(x))).max() == 0


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


def test_a_layer_may_be_marked_before_it_is_built():
    inputs = keras.Input((12,))
    marked = quantization.quantize_annotate_layer(layers.Dense(8, name="body"))
    outputs = layers.Flatten(name="flat")(marked(inputs))
    quantized = quantization.quantize_apply(keras.Model(inputs, outputs))
    assert [layer.name for layer in quantized.layers][1:] == ["quant_body", "flat"]
    model = keras.Sequential([layers.Dense(4), layers.Dense(4)])
    annotated = quantization.quantize_annotate_model(model)
    with pytest.raises(penjing.UnsupportedModelError, match="is not built"):
        quantization.quantize_apply(annotated)
    annotated.build((None, 6))
    assert quantization.quantize_apply(annotated).built


def test_fewer_bits():
    default_n_bit = quantization.experimental.default_n_bit
    scheme = default_n_bit.DefaultNBitQuantizeScheme(
        disable_per_axis=True, num_bits_weight=3
    )
    annotated = quantization.quantize_annotate_model(dense())
    quantized = quantization.quantize_apply(annotated, scheme)
    assert all(np.unique(k).size <= 7 for k in kernels(penjing.strip(quantized)))
    with pytest.raises(ValueError, match="`num_bits_activation` must be 8"):
        default_n_bit.DefaultNBitQuantizeScheme(num_bits_activation=4)


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
