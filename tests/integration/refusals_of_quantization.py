"""Refusals of quantization-aware training."""

from __future__ import annotations

from functools import partial
from typing import Any

import keras
import numpy as np
from tests.integration.refusal import Refusal, Unbuilt, poisoned, small

import penjing
from penjing import (
    DataError,
    ExportError,
    Grid,
    QuantizationConfig,
    UnsupportedModelError,
    export_litert,
    quantize_aware,
)

layers = keras.layers


def of_grid(name: str, says: str, **arguments: Any) -> Refusal:
    return Refusal(
        name=f"Grid: {name}",
        call=lambda bench: partial(Grid, **arguments),
        error=ValueError,
        says=says,
        once=True,
    )


def of_config(name: str, says: str, **arguments: Any) -> Refusal:
    return Refusal(
        name=f"QuantizationConfig: {name}",
        call=lambda bench: partial(QuantizationConfig, **arguments),
        error=ValueError,
        says=says,
        once=True,
    )


def of_quantize(
    name: str,
    says: str,
    error: type[Exception] = UnsupportedModelError,
    make: Any = small,
    **arguments: Any,
) -> Refusal:
    return Refusal(
        name=f"quantize_aware: {name}",
        call=lambda bench: partial(quantize_aware, make(), **arguments),
        error=error,
        says=says,
    )


def of_export(
    name: str,
    says: str,
    error: type[Exception] = ValueError,
    make: Any = small,
    **arguments: Any,
) -> Refusal:
    return Refusal(
        name=f"export: {name}",
        call=lambda bench: partial(
            export_litert, make(), bench.folder / "m.tflite", **arguments
        ),
        error=error,
        says=says,
        once=True,
    )


def looping() -> keras.Model:
    steps = keras.Input(batch_shape=(2, 5, 3))
    return keras.Model(steps, layers.Bidirectional(layers.GRU(4, name="loop"))(steps))


def half() -> keras.Model:
    return keras.Sequential(
        [keras.Input((8,)), layers.Dense(4, dtype="bfloat16")], name="half"
    )


REFUSALS = [
    of_grid("bits", "`bits` must be an integer from 2 to 16, got 1", bits=1),
    of_grid("half a bit", "`bits` must be .. got 2.5", bits=2.5),
    of_grid(
        "levels",
        "`levels` must be an integer from 3 to 2\\*\\*bits = 16, got 17. 15 gives",
        bits=4,
        levels=17,
    ),
    of_grid(
        "granularity",
        "`granularity` must be one of 'per_channel', 'per_tensor', got 'per_group'",
        granularity="per_group",
    ),
    of_config(
        "no grid", "`weights` must be a penjing.Grid .. got 8 of type", weights=8
    ),
    of_config(
        "a zero point",
        "`weights` must be symmetric .. LiteRT's kernels .. Leave `symmetric` out",
        weights=Grid(symmetric=False),
    ),
    of_config(
        "too many bits",
        "`weights` must stay within -127 to 127, got -32767 to 32767",
        weights=Grid(bits=16),
    ),
    of_config(
        "the lowest integer",
        "`weights` must stay .. got -128 to 127 .. leave `narrow_range` out",
        weights=Grid(narrow_range=False),
    ),
    of_config(
        "learn_scale", "`learn_scale` must be True or False, got 'no'", learn_scale="no"
    ),
    of_config(
        "begin_step",
        "`begin_step` must be an integer of at least 0, got -1",
        begin_step=-1,
    ),
    of_config(
        "no mapping",
        "`grids_by_layer` must be a mapping such as .. got \\[\\] of type list",
        grids_by_layer=[],
    ),
    of_config(
        "bits in place of a grid",
        "`grids_by_layer\\['head'\\]` must be a penjing.Grid .. got 4 of type int",
        grids_by_layer={"head": 4},
    ),
    of_quantize(
        "no model", "`model` must be a Keras 3 model .. builtins.str", ValueError, str
    ),
    of_quantize(
        "unbuilt subclass", "'mine' is not built", make=partial(Unbuilt, name="mine")
    ),
    of_quantize(
        "NaN weight",
        "'small/hidden/kernel' holds 1 NaN or infinite values",
        penjing.CompressionError,
        partial(poisoned, float("nan")),
    ),
    of_quantize(
        "twice",
        "'compressed_small' is being quantized already. Strip it first",
        make=lambda: quantize_aware(small()),
    ),
    of_quantize(
        "half precision",
        "'half' has no weight to compress. .*its type is bfloat16, in which no value",
        make=half,
    ),
    of_quantize(
        "a misspelt name", "`include` names 'haed' .. mean 'head'", include="haed"
    ),
    of_quantize(
        "a bias", "`include` names '\\*bias', of which nothing can", include="*bias"
    ),
    of_quantize(
        "a grid for no layer",
        "`grids_by_layer` names 'foot', which matches no quantized weight",
        grids_by_layer={"foot": Grid(bits=4)},
    ),
    of_export(
        "int2 weights",
        "Unknown `quantization` 'int2'. LiteRT's convolutions give NaN .. take .int4.",
        quantization="int2",
    ),
    of_export(
        "int4 weights without ranges",
        "quantization='int8x4' needs `representative_data`: some real inputs",
        error=DataError,
        quantization="int8x4",
    ),
    of_export(
        "an observer of nothing",
        "observer='mse' does not go with quantization='int4': only the ranges of int8",
        quantization="int4",
        observer="mse",
    ),
    of_export(
        "a loop that cannot be calibrated",
        "crashes on the loop of the layer `.*loop` .. fixed, here to 2. .. unroll=True",
        error=ExportError,
        make=looping,
        quantization="int8",
        representative_data=np.zeros((8, 5, 3), "float32"),
    ),
]
