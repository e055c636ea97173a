"""Masked attention in integers."""

from __future__ import annotations

import functools

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.export.tracing.masked_nets import (
    IDS,
    STEPS,
    TOKENS,
    WIDTH,
    MaskedAttention,
    embedded,
)

import penjing
from penjing.export.verification import output_error

once = pytest.mark.once


def gpt(ids):
    x = embedded(ids)
    h = layers.LayerNormalization()(x)
    x = x + layers.MultiHeadAttention(2, 8)(h, h, use_causal_mask=True)
    return layers.Dense(TOKENS)(layers.LayerNormalization()(x))


def llama(ids):
    x = embedded(ids)
    h = layers.RMSNormalization()(x)
    x = x + layers.GroupQueryAttention(8, 2, 1)(h, h, use_causal_mask=True)
    h = layers.RMSNormalization()(x)
    return x + layers.Dense(WIDTH)(layers.Dense(24, "silu")(h) * layers.Dense(24)(h))


def encoder(ids):
    x, real = embedded(ids), ops.not_equal(ids, 0)
    x = x + layers.MultiHeadAttention(2, 8)(x, x, attention_mask=real[:, None, :])
    weights = ops.cast(real, "float32")[..., None]
    return ops.sum(layers.LayerNormalization()(x) * weights, 1) / ops.sum(weights, 1)


def attention(ids):
    x = embedded(ids)
    return layers.Dense(3)(layers.Attention()([x, x], use_causal_mask=True))


def softmax(ids):
    scores = layers.Dense(STEPS)(layers.Flatten()(embedded(ids)))
    return layers.Dense(3)(layers.Softmax()(scores, mask=ops.not_equal(ids, 0)))


def own(style):
    return lambda ids: layers.Dense(3)(MaskedAttention(style)(embedded(ids)))


NETS = {
    "gpt": gpt,
    "llama": llama,
    "encoder": encoder,
    "attention": attention,
    "softmax": softmax,
    "added": own("add"),
    "infinite": own("infinite"),
}


def model_of(net):
    keras.utils.set_random_seed(3)
    ids = keras.Input((STEPS,), dtype="int32")
    return keras.Model(ids, net(ids))


def error_of(path, model):
    return output_error(
        penjing.LiteRTModel(path).predict(IDS),
        ops.convert_to_numpy(model(IDS)),
    )


@once
@pytest.mark.parametrize("net", NETS)
def test_masks_leave_scores_their_integers(net, tmp_path):
    model, path = model_of(NETS[net]), tmp_path / "m.tflite"
    penjing.export_litert(model, path, "int8", representative_data=IDS)
    assert error_of(path, model) < 0.1


@once
def test_samples_without_padding_are_told_where_padding_is_masked(tmp_path):
    model, path = model_of(encoder), tmp_path / "m.tflite"
    export = functools.partial(penjing.export_litert, model, path, "int8")
    with pytest.warns(penjing.CompressionWarning, match="padded ones among them"):
        export(representative_data=np.maximum(IDS, 1))
    export(representative_data=IDS)  # says nothing


@pytest.mark.costly_on_jax
def test_a_causal_model_in_training_is_as_exact(tmp_path):
    model, path = model_of(gpt), tmp_path / "m.tflite"
    trained = penjing.quantize_aware(model, activations="int8", calibration_data=IDS)
    penjing.export_litert(trained, path, "int8")
    assert error_of(path, model) < 0.15


@once
def test_attention_in_float_reads_what_training_rounds(tmp_path):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((STEPS, 32))
    x = layers.Dense(32)(inputs)
    x = x + layers.MultiHeadAttention(2, 16)(x, x, use_causal_mask=True)
    model = keras.Model(inputs, layers.Dense(3, "relu")(x))
    data = np.random.default_rng(0).normal(size=(64, STEPS, 32)).astype("float32")
    trained = penjing.quantize_aware(model, activations="int8", calibration_data=data)
    path = tmp_path / "m.tflite"
    penjing.export_litert(trained, path, "int8")
    found = penjing.LiteRTModel(path).predict(data)
    assert output_error(found, ops.convert_to_numpy(trained(data))) < 0.05


@once
def test_a_fill_below_all_scores_is_looked_for(tmp_path):
    model, path = model_of(own("large scores")), tmp_path / "m.tflite"
    penjing.export_litert(model, path, "int8", representative_data=IDS)
    assert error_of(path, model) < 0.4


@once
def test_a_fill_that_would_change_outputs_stays_and_is_named(tmp_path):
    model = model_of(own("all masked"))
    with pytest.raises(penjing.ExportError, match="a mask fills it with huge numbers"):
        penjing.export_litert(
            model, tmp_path / "m.tflite", "int8", representative_data=IDS
        )
