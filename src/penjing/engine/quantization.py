"""Quantization-aware training: weights learn to live on the grids of the file."""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any, cast

import keras

from penjing.arguments import check_choice
from penjing.engine.activations.activation_config import INT8, ActivationConfig
from penjing.engine.activations.activation_grids import ActivationGrids
from penjing.engine.batchnorm_folding import can_fold, fold_batch_normalization
from penjing.engine.calibration import OBSERVERS, calibrate
from penjing.engine.compression_model import CompressionModel
from penjing.engine.transforms.clustering_transform import Cluster
from penjing.engine.transforms.method_config import OfModel, takes_settings
from penjing.engine.transforms.quantization_config import QuantizationConfig
from penjing.engine.transforms.quantization_transform import FakeQuantize
from penjing.engine.wrapping import add_transform, taken_over
from penjing.errors import CompressionWarning, UnsupportedModelError
from penjing.models.graph_flow import trace_flow
from penjing.numerics.grids import Grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class QuantizeArguments(QuantizationConfig, OfModel):
    """The signature of `quantize_aware`."""

    activations: Grid | str | None = None
    calibration_data: Any = None
    observer: str = "moving_average"
    copy: bool = True


@takes_settings(QuantizationConfig, QuantizeArguments)
def quantize_aware(
    model: keras.Model,
    config: QuantizationConfig,
    *,
    activations: Grid | str | None = None,
    calibration_data: Any = None,
    observer: str = "moving_average",
    copy: bool = True,
) -> CompressionModel:
    """Round a model's weights to evenly spaced values while it trains on.

    It acts at once, so the outputs change at once; training then brings the accuracy
    back. `penjing.strip` gives the plain model, whose weights lie exactly on their
    grids, and `penjing.export_litert(..., quantization="dynamic")` writes exactly those
    integers and scales. With `activations` the whole file computes in integers.

    Args:
        model: Any Keras model, on any backend, or one that carries transforms already:
            zeros of `penjing.prune` stay zero, shared values of `penjing.cluster` stay
            shared.
        config: What to round to which grid, and from when on: each field of
            `QuantizationConfig` is an argument.
        activations: Round the tensors between the layers too, as LiteRT's int8 kernels
            do: `"int8"`, or a grid of 8 bits. Each tensor has one scale, whatever
            `granularity` says; `"int8"` is `Grid(symmetric=False)`, whose zero points
            use the whole range. Batch normalization is folded first, see
            `penjing.fold_batch_normalization`, and `penjing.export_litert(...,
            quantization="int8")` of the model, not stripped, writes exactly the grids
            of training. Sequential and Functional models; in others the activations
            are left as they are, with a warning. Default: weights alone.
        calibration_data: Inputs on which the first ranges of the activations are
            found: arrays, or batches of `x` or `(x, y)`. Default: the first 100
            batches of training.
        observer: How a range is found on `calibration_data`: `"moving_average"` of the
            batches' least and largest values, `"min_max"` of all, `"percentile"`
            (99.99), or `"mse"`: the range with the least squared error.
        copy: Leave the given model alone. `False` trains its own weights and saves
            the memory of a copy.

    Returns:
        A model to compile and train.

    Raises:
        UnsupportedModelError: If nothing can be quantized, a named layer cannot, a
            pattern of `grids_by_layer` matches nothing, or the model is not built, is
            being quantized already or cannot be copied.
        CompressionError: If a weight is NaN or infinite.
        ValueError: If an argument is out of range.

    Example:
        >>> import keras, numpy as np, penjing
        >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
        >>> grid = penjing.Grid(levels=7, granularity="per_tensor")
        >>> quantized = penjing.quantize_aware(model, weights=grid)
        >>> quantized.compile("adam", "mse")
        >>> x, y = np.ones((64, 8), "float32"), np.ones((64, 4), "float32")
        >>> _ = quantized.fit(x, y, epochs=1, verbose=0)
        >>> len(np.unique(penjing.strip(quantized).get_weights()[0])) <= 7
        True

    Reference:
        Esser et al., 2020, https://arxiv.org/abs/1902.08153
    """
    rounding = None
    if activations is not None:
        rounding = ActivationConfig(
            grid=INT8 if activations == "int8" else cast(Grid, activations),
            learn_ranges=config.learn_scale,
            calibrated=calibration_data is not None,
            begin_step=config.begin_step,
        )
    _check_calibration(rounding, calibration_data, observer)
    quantized = apply_quantization(model, config, rounding, copy=copy)
    if calibration_data is not None and quantized.activations is not None:
        calibrate(quantized, calibration_data, observer)
    return quantized


def default_granularity(model: keras.Model) -> str:
    """One scale for each weight where a model is clustered, else one for each channel.

    A scale for each channel would split values that all channels share.
    """
    clustered = isinstance(model, CompressionModel) and any(
        isinstance(transform, Cluster) and transform.config.granularity == "per_tensor"
        for transform in model.transforms
    )
    return "per_tensor" if clustered else "per_channel"


def apply_quantization(
    model: keras.Model,
    config: QuantizationConfig,
    activations: ActivationConfig | None = None,
    *,
    copy: bool = True,
) -> CompressionModel:
    """`quantize_aware` with its settings in configs, as recipes hold them."""
    model = taken_over(model, copy=copy)
    if config.weights is None:
        weights = Grid(granularity=default_granularity(model))
        config = dataclasses.replace(config, weights=weights)
    grids = None
    if activations is not None and _can_round_activations(model):
        inner = model.model if isinstance(model, CompressionModel) else model
        if not copy and can_fold(inner):
            raise UnsupportedModelError(
                f"Batch normalization of {inner.name!r} is folded before activations "
                "are rounded, which makes other weights: leave `copy=True`."
            )
        model = fold_batch_normalization(model)
        grids = ActivationGrids(activations)
    return add_transform(model, FakeQuantize(config), activations=grids, copy=copy)


def _check_calibration(activations: Any, data: Any, observer: str) -> None:
    check_choice("observer", observer, tuple(OBSERVERS))
    if data is not None and activations is not None and activations.begin_step:
        raise ValueError(
            "`calibration_data` gives the ranges that training begins with, but with "
            f"begin_step={activations.begin_step} they are found anew until then. "
            "Leave one of the two out."
        )
    if data is not None and activations is None:
        raise ValueError(
            "`calibration_data` finds the ranges of activations, but `activations` is "
            'None. Pass activations="int8" too.'
        )


def _can_round_activations(model: keras.Model) -> bool:
    """Whether the tensors between the layers of a model are known; else it warns."""
    inner = model.model if isinstance(model, CompressionModel) else model
    if trace_flow(inner) is not None:
        return True
    if not inner.built:
        raise UnsupportedModelError(
            f"The model {inner.name!r} is not built, so its activations are not known "
            "yet. Call it once on a batch, or give it a keras.Input, first."
        )
    warnings.warn(
        f"The model {inner.name!r} of class {type(inner).__name__} runs code of its "
        "own, so only its weights are trained on grids: the ranges of its activations "
        "are found when it is exported, on `representative_data`.",
        CompressionWarning,
        stacklevel=5,
    )
    return False
