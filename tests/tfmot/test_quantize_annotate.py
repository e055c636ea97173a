"""Marks on layers: which are quantized, and when they are set."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.engine.training_cases import to_array
from tests.tfmot.quantized_models import (
    data,
    dense,
    kernels,
    quantization,
)

import penjing


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
