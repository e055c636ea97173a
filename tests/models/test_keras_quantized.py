"""Models that Keras quantized: their integers as floats on the same grids."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import penjing
from penjing.errors import CompressionWarning, UnsupportedModelError
from penjing.models.keras_quantized import make_plain, quantized_by_keras
from penjing.numerics.grid_detection import find_scales

once = pytest.mark.once
# Keras' word on each layer that it leaves as it is.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Layer .* `quantize` method"),
    pytest.mark.filterwarnings("ignore:Invalid quantization mode"),
]
needs_four_bits = pytest.mark.skipif(
    not hasattr(keras.quantizers, "Int4QuantizationConfig"),
    reason="Keras has no such integers",
)


def array(value):
    return keras.ops.convert_to_numpy(value)


def sentences(width=12):
    """A table, attention and dense layers; the dense ones in a model of their own."""
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(30, width, name="table")(inputs)
    x = layers.MultiHeadAttention(2, 5, name="mha")(x, x)
    inner = keras.Sequential(
        [keras.Input((6, width)), layers.Dense(9, activation="relu", name="inside")],
        name="inner",
    )
    x = layers.GlobalAveragePooling1D()(inner(x))
    return keras.Model(inputs, layers.Dense(4, name="head")(x))


def words_of(count=16):
    return np.random.default_rng(0).integers(0, 30, (count, 6)).astype("int32")


class Letters:
    """Words of letters."""

    def tokenize(self, text):
        return np.array([ord(letter) % 30 for letter in text])

    __call__ = tokenize


def config_of(mode, model, groups=-1):
    """What `model.quantize` takes for a mode; the two that calibrate see all layers."""
    if mode == "int8":
        return None
    if mode == "int4":
        return keras.quantizers.Int4QuantizationConfig(block_size=groups)
    name = {"gptq": "GPTQConfig", "awq": "AWQConfig"}[mode]
    config = getattr(keras.quantizers, name)
    structure = {
        "pre_block_layers": [model.layers[1]],
        "sequential_blocks": list(model.layers[2:]),
    }
    data = ["some words to look at"] * 4
    return config(
        dataset=data,
        tokenizer=Letters(),
        num_samples=4,
        sequence_length=6,
        group_size=groups,
        quantization_layer_structure=structure,
    )


def quantized(mode, groups=-1, make=sentences):
    model = make()
    model.quantize(mode, config=config_of(mode, model, groups))
    return model


def deep():
    """What the modes that calibrate take: a table, then blocks of one input."""
    inputs = keras.Input((6,), dtype="int32")
    x = layers.Embedding(30, 12, name="table")(inputs)
    x = layers.Dense(10, activation="relu", name="one")(x)
    x = layers.EinsumDense("abc,cd->abd", (None, 7), name="two")(x)
    return keras.Model(inputs, x)


FOUR_BITS = [
    pytest.param("int4", marks=needs_four_bits),
    # Their integers are stored as those of int4; only Keras' search for them differs.
    pytest.param("gptq", marks=[needs_four_bits, once]),
    pytest.param("awq", marks=[needs_four_bits, once]),
]


@pytest.mark.parametrize("groups", [-1, 4])
@pytest.mark.parametrize("mode", ["int8", *FOUR_BITS])
def test_the_plain_twin_computes_the_same(mode, groups):
    if mode == "int8" and groups > 0:
        pytest.skip("has no groups")
    # What attention computes, JAX compiles operation by operation for many seconds.
    large = mode in ("int8", "int4") and keras.backend.backend() != "jax"
    make = sentences if large else deep
    model = quantized(mode, groups, make)
    twin = make_plain(model)
    assert twin.modes == (mode,)
    assert not quantized_by_keras(twin.model)
    assert quantized_by_keras(model)
    x = words_of()
    expected = array(model(x))
    # Keras rounds the inputs of int8 layers too.
    off = np.abs(array(twin.model(x)) - expected).max() / expected.std()
    assert off < (0.1 if mode == "int8" else 1e-4)
    if mode != "awq":  # whose scales of inputs may all be 1
        assert bool(twin.off_grid) == (groups > 0)
    paths = {v.path for v in twin.model.weights}
    assert paths >= {v.path for v in make().weights if "functional" not in v.path}


@once
def test_weights_lie_on_the_grids_that_keras_chose(tmp_path):
    model = quantized("int8", make=deep)  # attention Keras saves, and does not load
    model.save(tmp_path / "model.keras")
    model = keras.models.load_model(tmp_path / "model.keras")
    twin = make_plain(model).model
    head, integers = twin.get_layer("one"), model.get_layer("one")
    assert find_scales(array(head.kernel), 1) is not None
    scale = array(integers.kernel_scale)
    np.testing.assert_array_equal(
        np.rint(array(head.kernel) * scale), array(integers.kernel)
    )
    assert [v.name for v in head.trainable_variables] == ["kernel", "bias"]
    twin.save(tmp_path / "plain.keras")
    again = keras.models.load_model(tmp_path / "plain.keras")
    np.testing.assert_array_equal(array(again(words_of())), array(twin(words_of())))


@once
@needs_four_bits
@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("prune", (penjing.ConstantSparsity(0.5),)),
        ("cluster", (8,)),
        ("quantize_aware", ()),
    ],
)
def test_methods_take_such_a_model_over(method, arguments):
    model = quantized("int4")
    with pytest.warns(CompressionWarning, match="quantized by Keras"):
        changed = getattr(penjing, method)(model, *arguments)
    changed.compile("sgd", "mse", run_eagerly=True)
    changed.fit(words_of(8), np.zeros((8, 4)), verbose=0)
    plain = penjing.strip(changed)
    assert not quantized_by_keras(plain)
    assert np.isfinite(array(plain(words_of()))).all()
    with pytest.raises(UnsupportedModelError, match="copy=True"):
        getattr(penjing, method)(model, *arguments, copy=False)


@once
@needs_four_bits
def test_multiply_accumulates_are_those_of_the_plain_model():
    plain = penjing.count_macs(sentences()).macs
    for mode in ("int8", "int4"):
        assert penjing.count_macs(quantized(mode)).macs == plain


@once
def test_what_cannot_be_taken_over_is_refused_with_the_reason():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="head")])
    model.quantize("float8")
    with pytest.raises(UnsupportedModelError, match="float8 is no grid of integers"):
        make_plain(model)
    lora = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="head")])
    lora.quantize("int8")
    lora.layers[0].enable_lora(2)
    with pytest.raises(UnsupportedModelError, match="LoRA weights beside"):
        penjing.cluster(lora, 4)
