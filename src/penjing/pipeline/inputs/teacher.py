"""A model as its own teacher: where there are no labels, its outputs take their place.

What a file scores is then how near it comes to what the model gives. Losses and metrics
are those of Keras, so that what is trained by them loads without penjing.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from penjing.arguments import check_choice
from penjing.data.data_sources import PARTS, UserData
from penjing.errors import (
    CompressionError,
    CompressionWarning,
    DataError,
    UnsupportedModelError,
)
from penjing.models.copying import copy_model
from penjing.models.output_metrics import CentredR2, OutputCosine
from penjing.pipeline.inputs.given_model import ends_in_sigmoid

Array = np.ndarray[Any, Any]
AGREEMENT, COSINE, R2 = "agreement", "cosine_similarity", "r2_score"
FIDELITIES = (AGREEMENT, COSINE, R2)
# Outputs of so many numbers are taken for an embedding, where no loss says otherwise.
_WIDE = 16
_SLACK = 1e-3  # of probabilities that sum to 1
_TRIED = 256
_NEARLY_ALL = 0.95  # of the answers: then agreement within some points says little


def taught_by_itself(
    model: keras.Model, data: UserData, metric: str | None = None
) -> tuple[keras.Model, UserData]:
    """Label inputs by what a model gives, and compile a copy to be judged by that.

    Args:
        model: A built model with one output, compiled or not; it is left alone.
        data: Its parts are `(x, ...)`; labels in them are not looked at.
        metric: `"agreement"`: how often the same class is chosen;
            `"cosine_similarity"` or `"r2_score"` to what the model gives. None: the
            one that suits its loss and outputs.

    Returns:
        The copy, and the data with its labels.

    Raises:
        UnsupportedModelError: If it has several outputs, or none that can be compared.
        CompressionError: If it gives the same class for all inputs: any file agrees.
        DataError: If a part is a loader.
    """
    inputs = {
        name: _inputs(data, name) for name in PARTS if getattr(data, name) is not None
    }
    given = {name: _single(model, x) for name, x in inputs.items()}
    outputs = given["test"]
    metric = metric or _metric_for(model, outputs)
    check_choice("metric", metric, FIDELITIES)
    twin = copy_model(model)
    if metric == AGREEMENT:
        is_logits, is_one = _gives_logits(model, outputs), _is_binary(model, outputs)
        given = {n: _chosen(part, is_logits, is_one) for n, part in given.items()}
        _refuse_one_class(model, given, R2 if outputs.ndim == 2 else COSINE)
        loss, judged = _of_classes(is_logits, is_one, AGREEMENT)
    else:
        loss, judged = "mse", _of_numbers(model, given, metric)
    twin.compile(_optimizer(model), loss, metrics=[judged])
    note = f"no labels: files are compared with what {model.name} gives, by {metric}"
    pairs: dict[str, Any] = {name: (x, given[name]) for name, x in inputs.items()}
    return twin, dataclasses.replace(data, **pairs, notes=(*data.notes, note))


def judged_by_labels(model: keras.Model, data: UserData) -> keras.Model:
    """A copy of a model without a loss, compiled with one that suits the labels.

    A DataError says that they do not tell which.
    """
    x, y = data.test[:2] if isinstance(data.test, tuple) else (None, None)
    if not isinstance(y, np.ndarray):
        raise DataError(
            f"The model {model.name!r} is not compiled, and only the labels of one "
            "output, as an array, tell what it is to be judged by. Compile it with a "
            "loss and metrics."
        )
    outputs = _single(model, keras.tree.map_structure(lambda a: a[:_TRIED], x))
    is_logits = _gives_logits(model, outputs)
    is_binary = bool(np.isin(y, (0, 1)).all())
    is_wide = outputs.shape[-1] > 1
    loss: Any = "mse"
    metric: Any = "mae"
    if is_wide and y.shape[1:] != outputs.shape[1:]:
        if (y == np.round(y)).all():
            loss, metric = _of_classes(is_logits, False, "sparse_categorical_accuracy")
    elif is_wide and is_binary and (y.sum(axis=-1) == 1).all():
        loss = keras.losses.CategoricalCrossentropy(from_logits=is_logits)
        metric = "categorical_accuracy"
    elif is_binary:
        loss, metric = _of_classes(is_logits, True, "binary_accuracy")
    twin = copy_model(model)
    twin.compile(_optimizer(model), loss, metrics=[metric])
    return twin


def _optimizer(model: keras.Model) -> keras.Optimizer:
    """One like a model's own, for its rate; without, one that leaves it open."""
    own = model.optimizer if model.compiled else None
    if own is None:
        return keras.optimizers.SGD()
    return type(own).from_config(own.get_config())


def _inputs(data: UserData, name: str) -> Any:
    part = getattr(data, name)
    if not isinstance(part, tuple):
        raise DataError(
            f"The {name} part is a {type(part).__name__}, and a model labels arrays "
            "alone. Give its inputs as arrays."
        )
    return part[0]


def _single(model: keras.Model, x: Any) -> Array:
    """What a model gives for inputs, as the one array that it has to be."""
    outputs = model.predict(x, verbose=0)
    if not isinstance(outputs, np.ndarray) or outputs.ndim < 2:
        raise UnsupportedModelError(
            f"The model {model.name!r} gives several outputs, or single numbers: no "
            "metric says which of them count. Give labels and a compiled model, or a "
            "model that ends in the output that counts."
        )
    return outputs


def _metric_for(model: keras.Model, outputs: Array) -> str:
    """What suits a model: by its loss, else by what its outputs look like."""
    loss = _loss_of(model)
    if "crossentropy" in _name_of(loss):
        return AGREEMENT
    if loss is None and outputs.shape[-1] > 1 and _are_probabilities(outputs):
        return AGREEMENT
    if loss is None and ends_in_sigmoid(model):
        return AGREEMENT
    is_wide = outputs.shape[-1] >= _WIDE and (
        loss is None or "cosine" in _name_of(loss)
    )
    return COSINE if is_wide or outputs.ndim > 2 else R2


def _gives_logits(model: keras.Model, outputs: Array) -> bool:
    """Whether scores of classes are logits: as the loss has it, else as they look."""
    loss = _loss_of(model)
    if "crossentropy" not in _name_of(loss):
        return not (_are_probabilities(outputs) or ends_in_sigmoid(model))
    return isinstance(loss, keras.losses.Loss) and bool(
        loss.get_config().get("from_logits", False)
    )


def _loss_of(model: keras.Model) -> Any:
    """The loss that a model of one output was compiled with; None without."""
    losses = keras.tree.flatten(model.loss) if model.compiled else []
    return losses[0] if losses else None


def _name_of(loss: Any) -> str:
    name = loss if isinstance(loss, str) else type(loss).__name__
    if callable(loss) and not isinstance(loss, keras.losses.Loss):
        name = getattr(loss, "__name__", name)
    return str(name).lower().replace("_", "")


def _are_probabilities(outputs: Array) -> bool:
    """Whether they lie from 0 to 1, and those of several classes sum to 1."""
    if not (outputs.min() >= 0 and outputs.max() <= 1 + _SLACK):
        return False
    sums = outputs.sum(axis=-1)
    return outputs.shape[-1] == 1 or bool(np.abs(sums - 1).max() < _SLACK)


def _is_binary(model: keras.Model, outputs: Array) -> bool:
    """Whether each output is a yes or no of its own."""
    loss = _loss_of(model)
    if outputs.shape[-1] == 1 or "binary" in _name_of(loss):
        return True
    return loss is None and ends_in_sigmoid(model)


def _chosen(outputs: Array, is_logits: bool, is_binary: bool) -> Array:
    """The classes that outputs stand for."""
    if is_binary:
        return np.asarray(outputs > (0.0 if is_logits else 0.5), "int32")
    return np.asarray(outputs.argmax(axis=-1), "int32")


def _refuse_one_class(
    model: keras.Model, labels: Mapping[str, Array], other: str
) -> None:
    """Warn or refuse where the answers hardly differ; `other` is a metric to take."""
    chosen = np.concatenate([part.ravel() for part in labels.values()])
    _, counts = np.unique(chosen, return_counts=True)
    if 1 > (most := counts.max() / counts.sum()) > _NEARLY_ALL:
        warnings.warn(
            f"The model {model.name!r} gives one class for {100 * most:.3g} % of the "
            "inputs, so a file that gave nothing else would agree as often. Give more "
            "inputs of other classes, or compare the outputs themselves: "
            f'metric="{other}" (--metric {other}).',
            CompressionWarning,
            stacklevel=2,
        )
    if len(counts) < 2:
        raise CompressionError(
            f"The model {model.name!r} gives the same class for all inputs, with which "
            "any file agrees. Give inputs of all classes, or compare the outputs "
            f'themselves: metric="{other}" (--metric {other}).'
        )


def _refuse_constant(model: keras.Model, given: Mapping[str, Array]) -> None:
    for name, outputs in given.items():
        same = np.flatnonzero(np.ptp(outputs, axis=0) == 0)
        if len(same):
            raise CompressionError(
                f"Output {int(same[0])} of the model {model.name!r} is the same for "
                f"all inputs of the {name} part, so it has no {R2}. Give more and "
                f'other inputs, or compare by metric="{COSINE}" (--metric {COSINE}).'
            )


def _of_classes(is_logits: bool, is_binary: bool, name: str) -> tuple[Any, Any]:
    """Loss and metric for classes that are numbered."""
    losses, metrics = keras.losses, keras.metrics
    if not is_binary:
        loss = losses.SparseCategoricalCrossentropy(from_logits=is_logits)
        return loss, metrics.SparseCategoricalAccuracy(name=name)
    threshold = 0.0 if is_logits else 0.5
    return (
        losses.BinaryCrossentropy(from_logits=is_logits),
        metrics.BinaryAccuracy(name=name, threshold=threshold),
    )


def _of_numbers(model: keras.Model, given: Mapping[str, Array], metric: str) -> Any:
    """Metric for what a model gives of each part of the data."""
    outputs = given["test"]
    if metric == COSINE:
        wide = [axis for axis, size in enumerate(outputs.shape) if axis and size > 1]
        if wide and wide[-1] == outputs.ndim - 1:
            return keras.metrics.CosineSimilarity(name=COSINE)
        if wide:
            return OutputCosine(name=COSINE, axis=wide[-1])
    elif outputs.ndim == 2:
        _refuse_constant(model, given)
        return CentredR2(np.concatenate([*given.values()]).mean(0), name=R2)
    raise UnsupportedModelError(
        f"The model {model.name!r} gives outputs of shape {outputs.shape[1:]}, which "
        f"have no {metric}. Allowed: {R2} for one axis, {COSINE} for several."
    )
