"""Weights rounded without training, and the integers of the exported file."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers, ops
from tests.export.test_trained_grids import stored_integers
from tests.one_shot.test_one_shot_pruning import images, kernels, network

import penjing
from penjing.errors import UnsupportedModelError
from penjing.numerics.grid_detection import find_scale


def integers(values, channel_axis=-1):
    """The integers of a grid per channel, with the coarsest step."""
    rows = np.moveaxis(values, channel_axis, 0).reshape(values.shape[channel_axis], -1)
    found = []
    for row in rows:
        scale = find_scale(row, 127)
        assert scale is not None
        found.append(np.rint(row / (scale or 1)))
    return np.array(found)


def test_weights_lie_on_their_grids_and_the_file_has_the_integers(tmp_path):
    model, x = network(), images()
    rounded, report = penjing.quantize_weights(model, x, return_report=True)
    for row in report.rows:
        if row.method:
            assert row.bits == 4 and row.error <= row.plain_error
    path = tmp_path / "model.tflite"
    penjing.export_litert(rounded, path, quantization="dynamic")
    stored = [np.sort(np.abs(values), axis=None) for values in stored_integers(path)]
    for kernel in kernels(rounded).values():
        own = np.sort(np.abs(integers(kernel)), axis=None)
        assert own.max() <= 7
        assert any(np.array_equal(own, values) for values in stored)


@pytest.mark.parametrize("weights", [penjing.Grid(bits=3), 15, penjing.Grid(levels=7)])
def test_grids_and_numbers_of_levels(weights):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(5)])
    x = np.random.default_rng(0).normal(size=(40, 8)).astype("float32")
    rounded = penjing.quantize_weights(model, x, weights=weights)
    (kernel,) = kernels(rounded).values()
    most = weights // 2 if isinstance(weights, int) else weights.highest
    assert np.abs(integers(kernel)).max() <= most


def test_rows_of_an_embedding_that_inputs_look_up_fit_best(tmp_path):
    model = keras.Sequential(
        [keras.Input((6,), dtype="int32"), layers.Embedding(400, 8), layers.Flatten()]
    )
    rng = np.random.default_rng(0)
    table = rng.normal(size=(400, 8)).astype("float32")
    table[:20] *= 5  # what occurs is large
    model.layers[0].embeddings.assign(table)
    tokens = rng.integers(0, 20, (50, 6)).astype("int32")
    errors = []
    for data in (tokens, tokens + 200):
        rounded = penjing.quantize_weights(model, data, weights=penjing.Grid(bits=4))
        values = ops.convert_to_numpy(rounded.layers[0].embeddings)
        errors.append(np.square(values[:20] - table[:20]).mean())
    assert errors[0] < errors[1] / 3


def test_one_scale_for_the_whole_tensor():
    model = keras.Sequential([keras.Input((8,)), layers.Dense(5)])
    x = np.random.default_rng(0).normal(size=(40, 8)).astype("float32")
    grid = penjing.Grid(bits=4, granularity="per_tensor")
    (kernel,) = kernels(penjing.quantize_weights(model, x, weights=grid)).values()
    assert np.unique(np.abs(kernel)).size <= 8


@pytest.mark.parametrize("bits", [4, 8])
def test_groups_share_the_one_scale_of_a_tensor(bits):
    model = keras.Sequential(
        [
            keras.Input((5, 5, 4)),
            layers.DepthwiseConv2D(2),
            layers.Conv2D(4, 2, groups=2),
        ]
    )
    x = np.random.default_rng(0).normal(size=(20, 5, 5, 4)).astype("float32")
    grid = penjing.Grid(bits=bits, granularity="per_tensor")
    rounded = penjing.quantize_weights(model, x, weights=grid, progress=False)
    for kernel in kernels(rounded).values():
        assert find_scale(kernel.ravel(), 2 ** (bits - 1) - 1) is not None


def test_bits_by_layer():
    model, x = network(), images()
    _, report = penjing.quantize_weights(
        model, x, bits_by_layer={"hidden": 2, "head": 8}, return_report=True
    )
    bits = {row.path.split("/")[-2]: row.bits for row in report.rows if row.method}
    assert bits == {"first": 4, "hidden": 2, "head": 8}


@pytest.mark.once
def test_bits_are_looked_for_within_bytes_beside_zeros_too():
    model, x = network(), images(128)
    settings = {"bits_by_layer": "auto", "return_report": True, "progress": False}
    report = penjing.sensitivity(model, x, of="bits", progress=False)
    wanted = report.bits_by_layer(2000)
    assert len(set(wanted.values())) > 1
    _, done = penjing.quantize_weights(model, x, max_bytes=2000, **settings)
    assert {row.path: row.bits for row in done.rows if row.method} == wanted
    _, done = penjing.prune_one_shot(
        model, x, 0.8, max_bytes=1300, compressed=True, **settings
    )
    assert done.sparsity > 0.79
    _, dense = penjing.quantize_weights(
        model, x, max_bytes=1300, compressed=True, **settings
    )
    bits = [
        sum(row.bits * row.size for row in one.rows if row.method)
        for one in (done, dense)
    ]
    assert bits[0] > bits[1], "zeros leave bytes for more bits"


def test_outputs_move_less_than_by_rounding():
    model, x = network(), images()
    fresh = images(200, seed=1)
    wanted = ops.convert_to_numpy(model(fresh))
    errors = []
    for method in ("gptq", "rtn"):
        rounded = penjing.quantize_weights(
            model, x, weights=penjing.Grid(bits=3), method=method
        )
        found = ops.convert_to_numpy(rounded(fresh))
        errors.append(np.square(found - wanted).mean())
    assert errors[0] < 0.8 * errors[1]


def test_every_layer_is_rounded_by_what_flows_into_it():
    inputs = keras.Input((8, 8, 4))
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(inputs)
    x = layers.SeparableConv2D(6, 3, name="separable")(x)
    x = layers.Conv2D(6, 3, groups=2, strides=2, name="grouped")(x)
    x = layers.Conv2DTranspose(4, 3, strides=2, name="transposed")(x)
    x = layers.Reshape((-1, 4))(x)
    x = layers.MultiHeadAttention(2, 2, name="attention")(x, x)
    x = layers.Conv1D(3, 2, name="conv1d")(x)
    model = keras.Model(inputs, layers.GlobalAveragePooling1D()(x))
    data = np.random.default_rng(0).normal(size=(24, 8, 8, 4)).astype("float32")
    rounded, report = penjing.quantize_weights(model, data, return_report=True)
    taken = [row for row in report.rows if row.method]
    assert len(taken) == 10 and all(row.method == "gptq" for row in taken)
    for row in taken:
        assert row.error <= row.plain_error * (1 + 1e-6)


def test_bits_of_a_layer_that_is_not_there_are_refused():
    model, x = network(), images(8)
    with pytest.raises(UnsupportedModelError, match="`bits_by_layer` names 'hiden'"):
        penjing.quantize_weights(model, x, bits_by_layer={"hiden": 2})
    penjing.quantize_weights(
        model, x, bits_by_layer={"hidden": 2, "head": 3}, exclude="hidden"
    )


@pytest.mark.once
def test_what_cannot_be_rounded_to_is_refused():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    x = np.zeros((3, 4), "float32")
    for settings, text in (
        ({"weights": penjing.Grid(bits=8, symmetric=False)}, "must be symmetric"),
        ({"weights": "int4"}, "must be a penjing.Grid"),
        ({"method": "sparsegpt"}, "`method` must be one of"),
        ({"bits_by_layer": 4}, "must be 'auto' or a mapping"),
        ({"bits_by_layer": "auto"}, "go together"),
        ({"max_bytes": 100}, "go together"),
        ({"compressed": True}, "`max_bytes` counts, which is missing"),
        ({"bits_by_layer": "auto", "max_bytes": "8MB"}, "must be an integer"),
        ({"bits_by_layer": {"dense": 1}}, r"bits_by_layer\['dense'\]` .* from 2 to 8"),
        ({"bits_by_layer": {"dense": 9}}, "from 2 to 8"),
        ({"bits_by_layer": {"dense": True}}, "from 2 to 8"),
        ({"bits_by_layer": {"dense": penjing.Grid(bits=4)}}, "from 2 to 8"),
        ({"bits_by_layer": {3: 4}}, "patterns"),
        ({"weights": 256}, "from 3 to 255, got 256. penjing.Grid.bits=8. gives"),
        ({"weights": 2}, "from 3 to 255, got 2. penjing.Grid.bits=2. gives"),
    ):
        with pytest.raises(ValueError, match=text):
            penjing.quantize_weights(model, x, **settings)
