"""Weights that fall at once, with a hundred inputs and no training."""

from __future__ import annotations

from typing import Any, Literal, Unpack, overload

import keras

from penjing.arguments import check_flag
from penjing.models.selection import Filter
from penjing.numerics.grids import Grid
from penjing.numerics.patterns import Pattern
from penjing.one_shot.one_shot_config import (
    DAMPING,
    MAX_MEMORY,
    BitsByLayer,
    CommonSettings,
    OneShotConfig,
    as_grid,
    bits_settings,
    pruning_settings,
)
from penjing.one_shot.one_shot_report import OneShotReport
from penjing.one_shot.one_shot_run import compress_once
from penjing.progress import Listener


class _Settings(CommonSettings, total=False):
    """The arguments by name, for type checkers."""

    pattern: Pattern | None
    scope: str


@overload
def prune_one_shot(
    model: keras.Model,
    calibration_data: Any = None,
    sparsity: float | None = None,
    *,
    return_report: Literal[False] = False,
    **settings: Unpack[_Settings],
) -> keras.Model: ...


@overload
def prune_one_shot(
    model: keras.Model,
    calibration_data: Any = None,
    sparsity: float | None = None,
    *,
    return_report: Literal[True],
    **settings: Unpack[_Settings],
) -> tuple[keras.Model, OneShotReport]: ...


def prune_one_shot(
    model: keras.Model,
    calibration_data: Any = None,
    sparsity: float | None = None,
    *,
    pattern: Pattern | None = None,
    method: str = "sparsegpt",
    scope: str = "auto",
    weights: Grid | int | None = None,
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
    """Make weights zero in one pass, without training: a new, plain Keras model.

    Inputs run through the model once; then the weights that stay are moved so that
    each layer gives out, on these inputs, what it did, as nearly as can be. That takes
    a minute and no labels. Biases and the averages of batch normalization follow. With
    `weights` the ones that stay are rounded in the same pass. What comes back trains,
    saves and exports as any other model: `penjing.export_litert` keeps zeros and
    integers, and `penjing.prune` starts from them.

    Args:
        model: Any built, plain Keras model: Sequential, Functional, subclassed or
            nested, frozen layers too. It is left alone.
        calibration_data: About a hundred inputs such as the model will see: an array,
            a list or dict of arrays, `(x, y)`, of which `y` is left out, or a loader.
            At most 4,096 samples are used. May be left out for `method="magnitude"`
            with `scope` "layer" or "global".
        sparsity: Fraction of zeros in the weights that are pruned, 0 to 1; default 0.5,
            or what the pattern spells.
        pattern: `penjing.Unstructured()` (default), `penjing.NM(2, 4)`,
            `penjing.Block(4, 1)`.
        method: `"sparsegpt"`: weights fall one input after the other, and the others
            make up for them; `"wanda"`: by magnitude times the norm of their input;
            `"magnitude"`. The last two move nothing but biases.
        scope: How much each layer gives. `"auto"`: as errors there cost at the model's
            outputs, measured on the inputs; `"layer"`: all alike; `"global"`: all
            weights compete by magnitude.
        weights: Round to this grid, or number of levels, in the same pass.
        bits_by_layer: Pattern -> bits in place of those of `weights` for what it
            matches; or `"auto"`: 2, 3, 4 or 8 for each layer, by what its errors cost
            at the model's outputs, within `max_bytes`; with `compressed` also 5 or 11
            levels.
        max_bytes: What the weights may take together with `bits_by_layer="auto"`, as an
            "int4" file stores them: half a byte for each up to 4 bits, else one.
        compressed: `max_bytes` counts them gzipped, as in a download.
        include: What to prune: layers, or patterns matched against weight paths, layer
            paths and layer names. Default: all that can be; depthwise kernels are
            spared.
        exclude: What to leave whole, in the same form; wins over `include`.
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
            be copied, or a named weight cannot be pruned.
        DataError: If the inputs are missing, do not fit or are not finite.
        CompressionError: If a weight is NaN or infinite, or `max_bytes` are too few.
        ValueError: If an argument is out of range.

    Example:
        >>> import keras, numpy as np, penjing
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> x = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
        >>> sparse = penjing.prune_one_shot(model, x, 0.75)
        >>> penjing.sparsity_report(sparse).rows[0].zeros
        24

    Reference:
        Frantar and Alistarh, 2023, SparseGPT, https://arxiv.org/abs/2301.00774
        Sun et al., 2023, Wanda, https://arxiv.org/abs/2306.11695
    """
    grid = as_grid(weights)
    config = OneShotConfig(
        method=method,
        **pruning_settings(sparsity, pattern, method, scope),
        weights=grid,
        **bits_settings(bits_by_layer, grid, max_bytes, compressed),
        include=include,
        exclude=exclude,
        sequential=sequential,
        damping=damping,
        max_memory=max_memory,
    )
    check_flag("return_report", return_report)
    pruned, report = compress_once(model, calibration_data, config, progress)
    return (pruned, report) if return_report else pruned
