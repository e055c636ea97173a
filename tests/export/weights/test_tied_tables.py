"""A table that is looked up and multiplied by lies in the file once, in integers."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import penjing
from penjing import Grid
from penjing.export.verification import output_error
from penjing.tflite.loading import load_records
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.stored_tensors import read_tflite
from penjing.tflite.tensors import TensorType, data_of

pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(
        not hasattr(layers, "ReversibleEmbedding"), reason="Keras has no tied table"
    ),
]


def tied():
    inputs = keras.Input((6,), dtype="int32")
    table = layers.ReversibleEmbedding(120, 16, name="table")
    x = layers.GlobalAveragePooling1D()(table(inputs))
    return keras.Model(inputs, table(x, reverse=True))


def words():
    return np.random.default_rng(0).integers(0, 120, (24, 6)).astype("int32")


def products(path):
    """Types of the weights of FULLY_CONNECTED, and whether they are constants."""
    model = load_records(path.read_bytes(), "a file")
    graph = model["subgraphs"][0]
    found = []
    for operator in graph["operators"]:
        if operator_code(model, operator) == Operator.FULLY_CONNECTED:
            tensor = graph["tensors"][int(operator["inputs"][1])]
            found.append(
                (TensorType(tensor["type"]).dtype, len(data_of(model, tensor)))
            )
    return found


@pytest.mark.parametrize("quantization", ["dynamic", "int4"])
@pytest.mark.parametrize("grid", [None, "per_tensor", "per_channel"])
def test_it_is_there_once_and_the_product_reads_integers(grid, quantization, tmp_path):
    model = tied()
    if grid:
        levels = Grid(levels=15, granularity=grid)
        model = penjing.strip(penjing.quantize_aware(model, weights=levels))
    path = penjing.export_litert(model, tmp_path / "m.tflite", quantization)
    large = [t for t in read_tflite(path) if t.values.size == 120 * 16]
    assert len(large) == 1
    kind = "int4" if quantization == "int4" else "int8"
    if grid != "per_channel":  # whose scales the product has along another axis
        assert products(path) == [(kind, 120 * 16 // (2 if kind == "int4" else 1))]
    found = penjing.LiteRTModel(path).predict(words())
    expected = keras.ops.convert_to_numpy(model(words()))
    limit = 0.2 if quantization == "int4" and not grid else 0.03
    assert output_error(found, expected) < limit
