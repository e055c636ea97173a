"""Trained models of others: loaded, quantized, shrunk, and compared with theirs."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import penjing
from penjing.models.model_files import load_keras_model

pytestmark = pytest.mark.once

FOLDER = Path(__file__).parents[1] / "data/mlperf_tiny"


@pytest.fixture(scope="module")
def model():
    return load_keras_model(f"{FOLDER}/keyword_spotting.h5")


@pytest.fixture(scope="module")
def spectrograms():
    """Noise around a level of its own for each sample, in the range of the features."""
    generator = np.random.default_rng(0)
    levels = generator.uniform(0, 224, (600, 1, 1, 1))
    noise = generator.uniform(0, 224, (600, 50, 10, 1))
    return ((levels + noise) / 2).astype("float32")


def test_a_keras_2_file_with_groups_gives_keras_own_layers(model):
    assert model.count_params() == 24_908
    depthwise = [x for x in model.layers if "depthwise" in x.name]
    assert {type(layer) for layer in depthwise} == {keras.layers.DepthwiseConv2D}
    assert len(depthwise) == 4


def test_more_groups_than_one_are_still_refused(tmp_path):
    import h5py

    path = tmp_path / "model.h5"
    with open(f"{FOLDER}/keyword_spotting.h5", "rb") as file:
        path.write_bytes(file.read())
    with h5py.File(path, "a") as file:
        config = file.attrs["model_config"].replace('"groups": 1', '"groups": 2')
        assert config != file.attrs["model_config"]
        file.attrs["model_config"] = config
    with pytest.raises(penjing.CompressionError):
        load_keras_model(path)


def test_our_file_is_as_near_to_the_float_model_as_the_authors_own(
    model, spectrograms, tmp_path
):
    path = tmp_path / "model.tflite"
    calibration, x = spectrograms[:200], spectrograms[200:]
    penjing.export_litert(
        model, path, "int8", representative_data=calibration, finish="smallest"
    )
    expected = model.predict(x, verbose=0)
    ours = penjing.LiteRTModel(path).predict(x)
    theirs = penjing.LiteRTModel(f"{FOLDER}/keyword_spotting.tflite").predict(x)

    def agreement(a, b):
        return np.mean(a.argmax(-1) == b.argmax(-1))

    assert agreement(ours, expected) >= agreement(theirs, expected) - 0.02
    assert agreement(ours, expected) >= 0.9
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.95
    report = penjing.shrink_litert(f"{FOLDER}/keyword_spotting.tflite", tmp_path / "a")
    gzipped = penjing.measure_size(path).gzip
    assert gzipped < 1.05 * report.gzip_after < 0.9 * report.gzip_before
