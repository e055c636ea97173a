"""Pruning: low-scoring weights become zero while the model trains on."""

from __future__ import annotations

from collections.abc import Mapping

import keras

from penjing.engine.compressed_layer import CompressedLayer
from penjing.engine.compression_model import CompressionModel
from penjing.engine.schedules import Schedule
from penjing.engine.transforms.pruning_config import PruningConfig
from penjing.engine.transforms.pruning_transform import Prune
from penjing.engine.wrapping import add_transform
from penjing.models.selection import Filter
from penjing.numerics.importance import Importance
from penjing.numerics.patterns import Pattern, Unstructured


def prune(
    model: keras.Model,
    schedule: Schedule,
    *,
    scope: str = "layer",
    allocation: str = "uniform",
    pattern: Pattern | None = None,
    importance: str | Importance = "magnitude",
    include: Filter = None,
    exclude: Filter = None,
    sparsity_by_layer: Mapping[str, float] | None = None,
    l1: float = 0.0,
    copy: bool = True,
) -> CompressionModel:
    """Prune a model's weights on a schedule while it trains on.

    Compile what comes back and train it; no callback is needed. `penjing.strip` then
    gives the plain model with its zeros.

    Args:
        model: Any Keras model, on any backend: Sequential, Functional, subclassed or
            nested; or one that carries transforms already, to which pruning is added.
        schedule: Training step -> sparsity.
        scope: `"layer"`: every weight reaches the schedule's sparsity; `"global"`: all
            weights compete and reach it together, each keeping at least 5 % of its even
            share so that no layer dies.
        allocation: With scope "layer": `"uniform"`, or `"erk"` (Erdos-Renyi-Kernel),
            which cuts large layers more and reaches the sparsity over all of them.
        pattern: `penjing.Unstructured()` (default), `penjing.Block(rows, columns)` or
            `penjing.NM(n, m)`.
        importance: `"magnitude"`, `"normalized_magnitude"` (for the global scope),
            `"lamp"`, `"random"` (a control), or a function from a weight tensor to
            non-negative scores of its shape.
        include: What to prune: layers, or patterns matched against weight paths, layer
            paths and layer names (`"dense_1"`, `"conv*"`, `"*/kernel"`). Default: all
            that can be.
        exclude: What to leave whole, in the same form; wins over `include`.
        sparsity_by_layer: Pattern -> final sparsity in place of the schedule's for
            the weights that it matches; approached in proportion.
        l1: Penalty on the magnitudes of the kept weights, added to the loss: the file
            gets smaller at the same accuracy. 1e-6 to 1e-4 are typical.
        copy: Leave the given model alone. `False` trains its own weights and saves
            the memory of a copy.

    Returns:
        A model to compile and train, whose outputs are those of `model` until the
        schedule begins.

    Raises:
        UnsupportedModelError: If nothing can be pruned, a named layer cannot, the
            model is not built or cannot be copied.
        CompressionError: If a weight is NaN or infinite.
        ValueError: If an argument is out of range.

    Example:
        >>> import keras, penjing
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> schedule = penjing.PolynomialDecay(
        ...     final_sparsity=0.75, begin_step=0, end_step=2
        ... )
        >>> pruned = penjing.prune(model, schedule)
        >>> pruned.compile("adam", "mse")
        >>> x, y = keras.ops.ones((64, 8)), keras.ops.ones((64, 4))
        >>> _ = pruned.fit(x, y, epochs=1, verbose=0)
        >>> penjing.sparsity_report(penjing.strip(pruned)).rows[0].zeros
        24
    """
    config = PruningConfig(
        schedule=schedule,
        scope=scope,
        allocation=allocation,
        pattern=Unstructured() if pattern is None else pattern,
        importance=importance,
        include=include,
        exclude=exclude,
        sparsity_by_layer=sparsity_by_layer,
        l1=l1,
    )
    return apply_pruning(model, config, copy=copy)


def apply_pruning(
    model: keras.Model, config: PruningConfig, *, copy: bool = True
) -> CompressionModel:
    """`prune` with its arguments in a config, as recipes hold them.

    Args:
        model: See `prune`.
        config: What to prune, how much and when.
        copy: See `prune`.

    Returns:
        A model to compile and train.
    """
    return add_transform(model, Prune(config), copy=copy)


def prune_layer(
    layer: keras.layers.Layer,
    schedule: Schedule,
    *,
    pattern: Pattern | None = None,
    importance: str | Importance = "magnitude",
) -> CompressedLayer:
    """Prune one layer on a schedule, inside whatever model it is put in.

    Args:
        layer: A Keras layer, built or not. It is not copied.
        schedule: Training step -> sparsity; the layer counts the steps itself.
        pattern: See `prune`.
        importance: See `prune`.

    Returns:
        A layer to use in place of the given one.

    Raises:
        ValueError: If `layer` is not a Keras layer or an argument is out of range.
        UnsupportedModelError: If the layer has no weight that can be pruned.

    Example:
        >>> import keras, penjing
        >>> dense = penjing.prune_layer(keras.layers.Dense(4), penjing.OneShot(0.5))
        >>> dense(keras.ops.ones((1, 8)), training=True).shape[-1]
        4
    """
    config = PruningConfig(
        schedule=schedule,
        pattern=Unstructured() if pattern is None else pattern,
        importance=importance,
    )
    return CompressedLayer(layer, [Prune(config)])
