"""Operations that are traced in other words."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops

import penjing

X = np.random.default_rng(0).normal(size=(40, 8)).astype("float32")


@pytest.mark.costly_on_jax
@pytest.mark.parametrize(
    "quantization", [None, pytest.param("int8", marks=pytest.mark.once)]
)
def test_the_largest_class_is_an_output_on_every_backend(quantization, tmp_path):
    inputs = keras.Input((8,))
    scores = layers.Dense(4)(inputs)
    model = keras.Model(inputs, [ops.argmax(scores, -1), ops.argmin(scores, 1)])
    path = tmp_path / "m.tflite"
    penjing.export_litert(model, path, quantization, representative_data=X)
    for found, wanted in zip(
        penjing.LiteRTModel(path).predict(X), model(X), strict=True
    ):
        assert np.mean(found == ops.convert_to_numpy(wanted)) > 0.9


@pytest.mark.once
@pytest.mark.parametrize("trained", [False, True])
def test_a_spectrogram_converts_before_an_integer_layer(trained, tmp_path):
    inputs = keras.Input((512,))
    x = layers.MelSpectrogram(128, 64, num_mel_bins=8, sampling_rate=8000)(inputs)
    model = keras.Model(inputs, layers.Dense(3)(layers.Flatten()(x)))
    data = np.random.default_rng(0).normal(size=(40, 512)).astype("float32")
    if trained:
        model = penjing.quantize_aware(model, activations="int8", calibration_data=data)
    penjing.export_litert(
        model, tmp_path / "m.tflite", "int8", representative_data=data
    )
