"""Zeros and shared values of a stripped model stay while it is quantized."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from tests.engine.training_cases import to_array
from tests.tfmot.quantized_models import (
    JIT,
    combine,
    data,
    dense,
    kernels,
    outputs,
    quantization,
    train,
)

import penjing


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
