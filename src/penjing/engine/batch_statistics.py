"""Batch normalization's averages, estimated anew on data."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.arguments import check_integer
from penjing.data.batches import input_batches
from penjing.engine.stripping import is_compressed
from penjing.errors import DataError, UnsupportedModelError
from penjing.models.copying import copy_model
from penjing.models.keras_private import all_layers
from penjing.models.lending import all_lent, method_of

_BATCH = 128


def reestimate_batch_normalization(
    model: keras.Model, data: Any, *, batches: int = 50
) -> keras.Model:
    """Measure the averages and variances of batch normalization anew.

    What a model normalizes with was averaged while it trained. After a cut, or any
    change of weights, it no longer fits what flows through the model; this alone can
    cost most of the accuracy. No weight is trained: each normalization averages the
    statistics of the batches, each batch alike, with dropout off.

    Args:
        model: A built, plain Keras model. It is left alone.
        data: Inputs: an array, `(x, y)`, or a loader that gives `x`, `(x, y)` or
            `(x, y, sample_weight)`.
        batches: How many batches are averaged at most; those of arrays have 128
            samples.

    Returns:
        A new, uncompiled model; frozen normalizations keep their statistics.

    Raises:
        UnsupportedModelError: If the model is not built or is being compressed.
        DataError: If the data is empty, does not fit or gives no finite numbers.

    Example:
        >>> import keras, numpy as np, penjing
        >>> model = keras.Sequential(
        ...     [keras.Input((2,)), keras.layers.BatchNormalization()])
        >>> x = np.array([[1.0, 0.0], [3.0, 0.0]], "float32")
        >>> fitted = penjing.reestimate_batch_normalization(model, x)
        >>> fitted.layers[0].moving_mean.numpy().tolist()
        [2.0, 0.0]

    Reference:
        Wu and Johnson, 2021, https://arxiv.org/abs/2105.07576
    """
    if is_compressed(model) or not isinstance(model, keras.Model) or not model.built:
        raise UnsupportedModelError(
            "`model` must be a built, plain Keras model, got "
            f"{getattr(model, 'name', model)!r}. Call it on data, or strip it first: "
            "penjing.strip(model)."
        )
    check_integer("batches", batches, least=1)
    twin = copy_model(model)
    norms = find_batch_normalizations(twin)
    count = 0
    with _averaging(norms):
        for inputs in itertools.islice(_inputs(data, model), batches):
            run_on_data(twin, inputs)
            count += 1
    if not count:
        raise DataError("`data` is empty: there is no batch to average.")
    for norm in norms:
        if not np.isfinite(ops.convert_to_numpy(norm.moving_variance.value)).all():
            raise DataError(
                f"What {norm.name!r} normalizes is NaN or infinite on `data`. Check "
                "the data and the weights of the model."
            )
    return twin


def run_on_data(model: keras.Model, inputs: Any, argument: str = "data") -> None:
    """Run a built model on a batch of inputs in inference mode.

    If they do not fit, a DataError says that they are from `argument`.
    """
    try:
        model(keras.tree.map_structure(ops.convert_to_tensor, inputs), training=False)
    except Exception as error:
        raise DataError(
            f"The model {model.name!r} cannot run on `{argument}`: {error}. Pass the "
            "data that the model was trained on."
        ) from error


def find_batch_normalizations(model: keras.Model, *, frozen: bool = False) -> list[Any]:
    """Every trained `BatchNormalization` in a model, nested ones too.

    With `frozen` those too that do not train.
    """
    return [
        layer
        for layer in all_layers(model)
        if isinstance(layer, keras.layers.BatchNormalization)
        and (frozen or layer.trainable)
    ]


@contextlib.contextmanager
def _averaging(norms: Sequence[Any]) -> Iterator[None]:
    """Let normalizations alone run as in training, and weigh all their calls alike."""
    momenta = [norm.momentum for norm in norms]
    try:
        with all_lent((norm, "call", _in_training(norm)) for norm in norms):
            yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _in_training(norm: Any) -> Callable[..., Any]:
    call, calls = method_of(norm, "call"), itertools.count()

    def run(inputs: Any, training: Any = None, mask: Any = None) -> Any:
        count = next(calls)
        norm.momentum = count / (count + 1)
        return call(inputs, training=True, mask=mask)

    return run


def _inputs(data: Any, model: keras.Model) -> Iterator[Any]:
    if isinstance(data, tuple) and data:  # (x, y)
        data = data[0]
    return input_batches(data, _BATCH, "data", model)
