"""Weights rounded at once, with a hundred inputs and no training."""

from __future__ import annotations

from typing import Any, Literal, Unpack, overload

import keras

from penjing.arguments import check_choice, check_flag
from penjing.models.selection import Filter
from penjing.numerics.grids import Grid
from penjing.one_shot.one_shot_config import (
    DAMPING,
    MAX_MEMORY,
    ROUNDING_METHODS,
    BitsByLayer,
    CommonSettings,
    OneShotConfig,
    as_grid,
    bits_settings,
)
from penjing.one_shot.one_shot_report import OneShotReport
from penjing.one_shot.one_shot_run import compress_once
from penjing.progress import Listener


@overload
def quantize_weights(
    model: keras.Model,
    calibration_data: Any = None,
    *,
    return_report: Literal[False] = False,
    **settings: Unpack[CommonSettings],
) -> keras.Model: ...


@overload
def quantize_weights(
    model: keras.Model,
    calibration_data: Any = None,
    *,
    return_report: Literal[True],
    **settings: Unpack[CommonSettings],
) -> tuple[keras.Model, OneShotReport]: ...


def quantize_weights(
    model: keras.Model,
    calibration_data: Any = None,
    *,
    weights: Grid | int | None = None,
    method: str = "gptq",
    bits_by_layer: BitsByLayer = None,
    max_bytes: int | None = None,
    compressed: bool = False,
    include: Filter = None,
    exclude: Filter = None,
    sequential: bool = False,
    damping: float = DAMPING,
    max_memory: int = MAX_MEMORY,
    progress: Listener | bool = True,
    return_report: bool = False,
) -> keras.Model | tuple[keras.Model, OneShotReport]:
    """Round weights to evenly spaced values, without training: a new, plain model.

    Inputs run through the model once; then weights are rounded one input after the
    other, and those that still can make up for it. What comes back is a model of
    floats, exactly on its grids: `penjing.export_litert` writes the same integers, and
    `penjing.quantize_aware` starts from them. Zeros stay zeros.

    Args:
        model: Any built, plain Keras model: Sequential, Functional, subclassed or
            nested, frozen layers too. It is left alone.
        calibration_data: About a hundred inputs such as the model will see: an array,
            a list or dict of arrays, `(x, y)`, of which `y` is left out, or a loader.
            At most 4,096 samples are used. May be left out for `method="rtn"`.
        weights: The grid, or the number of its levels. Default: 4 bits with a scale for
            each output channel.
        method: `"gptq"`, or `"rtn"`: each weight to the nearest value.
        bits_by_layer: Pattern -> bits in place of those of `weights` for what it
            matches; or `"auto"`: 2, 3, 4 or 8 for each layer, by what its errors cost
            at the model's outputs, within `max_bytes`; with `compressed` also 5 or 11
            levels.
        max_bytes: What the weights may take together with `bits_by_layer="auto"`, as an
            "int4" file stores them: half a byte for each up to 4 bits, else one.
        compressed: `max_bytes` counts them gzipped, as in a download.
        include: What to round: layers, or patterns matched against weight paths, layer
            paths and layer names. Default: all kernels and embeddings.
        exclude: What to leave as it is, in the same form; wins over `include`.
        sequential: Collect what flows into a layer behind the ones that are compressed
            already. It takes a run over the data for each layer.
        damping: Added to the diagonal of the inputs' products, as a part of its mean.
            With few rows for each input it is more; the report says so.
        max_memory: Bytes that the inputs' products may take at a time. Where they need
            more, layers go in turns, each behind the ones before; one layer alone may
            take more.
        progress: True for a bar in terminals and notebooks, False for silence, or a
            function that is told each `penjing.Progress`.
        return_report: Give `(model, OneShotReport)`: what became of each weight, its
            error, and why others were left.

    Returns:
        A new, uncompiled model.

    Raises:
        UnsupportedModelError: If the model is not built, is being compressed, cannot
            be copied, or a named weight cannot be rounded.
        DataError: If the inputs are missing, do not fit or are not finite.
        CompressionError: If a weight is NaN or infinite, or `max_bytes` are too few.
        ValueError: If an argument is out of range.

    Example:
        >>> import keras, numpy as np, penjing
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
        >>> rounded = penjing.quantize_weights(model, x, weights=penjing.Grid(bits=3))
        >>> np.unique(rounded.get_weights()[0][:, 0]).size <= 7
        True

    Reference:
        Frantar et al., 2022, GPTQ, https://arxiv.org/abs/2210.17323
    """
    check_choice("method", method, ROUNDING_METHODS)
    grid = Grid(bits=4) if weights is None else as_grid(weights)
    config = OneShotConfig(
        method=method,
        weights=grid,
        **bits_settings(bits_by_layer, grid, max_bytes, compressed),
        include=include,
        exclude=exclude,
        sequential=sequential,
        damping=damping,
        max_memory=max_memory,
    )
    check_flag("return_report", return_report)
    rounded, report = compress_once(model, calibration_data, config, progress)
    return (rounded, report) if return_report else rounded
