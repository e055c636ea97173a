"""Errors of layers alone, at several levels."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from tests.one_shot.test_one_shot_pruning import images, network

from penjing.errors import CompressionError
from penjing.one_shot.layer_errors import (
    LayerErrors,
    bits_within,
    bytes_of_bits,
    measure_layer_errors,
)

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


def test_bits_go_where_they_buy_most():
    changes = {"large": {2: 9.0, 4: 1.0, 8: 0.1}, "small": {2: 90.0, 4: 10.0, 8: 1.0}}
    errors = [
        LayerErrors(path=path, size=800, outputs=1, by_bits=own, by_sparsity={})
        for path, own in changes.items()
    ]
    assert bits_within(errors, 1608) == {"large": 8, "small": 8}
    assert bits_within(errors, 1208) == {"large": 4, "small": 8}
    assert bits_within(errors, 1008) == {"large": 2, "small": 8}
    with pytest.raises(CompressionError, match="they take 408"):
        bits_within(errors, 407)
