"""Errors of layers alone, at several levels."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.one_shot.test_one_shot_pruning import images, network

from penjing.one_shot.layer_errors import bytes_of_bits, measure_layer_errors

pytestmark = pytest.mark.once


def test_fewer_bits_and_more_zeros_cost_more():
    model, x = network(), images(128)
    found = measure_layer_errors(model, x, bits=(2, 4, 8), sparsities=(0.5, 0.9))
    assert [e.path.split("/")[-2] for e in found] == ["first", "hidden", "head"]
    for errors in found:
        changes = [errors.by_bits[bits] for bits in (2, 4, 8)]
        assert changes[0] > changes[1] > changes[2] > 0
        assert errors.by_sparsity[0.9] > errors.by_sparsity[0.5] > 0
        assert not errors.reason
    assert bytes_of_bits(found[0], 4) == 18 * 8 // 2 + 8 * 4


def test_embeddings_say_why_nothing_is_made_up_for():
    model = keras.Sequential(
        [
            keras.Input((4,), dtype="int32"),
            layers.Embedding(9, 6),
            layers.Flatten(),
            layers.Dense(2),
        ]
    )
    x = np.random.default_rng(0).integers(0, 9, (20, 4))
    embedding, dense = measure_layer_errors(model, x, bits=(3, 8))
    assert "looks" in embedding.reason and not dense.reason
    assert embedding.by_bits[3] > embedding.by_bits[8] > 0
