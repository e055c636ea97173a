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


@keras.saving.register_keras_serializable("penjing-tests")
class Distances(layers.Layer):
    """Size and sign of the distance between places, as relative attention has it."""

    def call(self, places):
        apart = places[:, :, None] - places[:, None, :]
        far = ops.cast(ops.sign(apart) * ops.minimum(ops.absolute(apart), 3), "float32")
        return ops.sum(far, axis=-1)


@pytest.mark.costly_on_jax
def test_integers_have_a_size_and_a_sign(tmp_path):
    places = keras.Input((None,), dtype="int32")
    model = keras.Model(places, Distances()(places))
    data = np.random.default_rng(0).integers(-9, 9, (8, 5)).astype("int32")
    path = penjing.export_litert(model, tmp_path / "m.tflite", representative_data=data)
    found = penjing.LiteRTModel(path).predict(data)
    np.testing.assert_array_equal(found, ops.convert_to_numpy(model(data)))


@keras.saving.register_keras_serializable("penjing-tests")
class Mixed(layers.Layer):
    """Words mixed by Fourier transforms, as in F-Net, and the parts of one axis."""

    def call(self, x):
        mixed, _ = ops.fft2((x, ops.zeros_like(x)))
        real, imaginary = ops.fft((x, 0.5 * x))
        return mixed, real, imaginary


@pytest.mark.costly_on_jax
@pytest.mark.parametrize("length", [None, pytest.param(7, marks=pytest.mark.once)])
def test_fourier_transforms_are_products(length, tmp_path):
    inputs = keras.Input((length, 6))
    model = keras.Model(inputs, Mixed()(inputs))
    data = np.random.default_rng(0).normal(size=(8, 7, 6)).astype("float32")
    path = penjing.export_litert(model, tmp_path / "m.tflite", representative_data=data)
    for found, wanted in zip(
        penjing.LiteRTModel(path).predict(data), model(data), strict=True
    ):
        np.testing.assert_allclose(found, ops.convert_to_numpy(wanted), atol=1e-4)
