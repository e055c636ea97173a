"""Labels and predictions to metrics, resolved as Keras resolves them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from penjing.arguments import did_you_mean
from penjing.data.batches import leaves
from penjing.errors import DataError
from penjing.models.keras_private import compiled_config

_ACCURACY = ("accuracy", "acc")
_SLACK = 1e-2  # of shares that sum to 1, in bfloat16 too


class Scorer:
    """Running values of metrics over batches of labels and predictions.

    A model that does nothing holds the metrics, so that they are resolved, named and
    updated by Keras' own public `compile` and `compute_metrics`. The arguments are
    those of `compile`; a single metric holds for every output, and the mean of a loss
    is reported as "loss".
    """

    def __init__(
        self,
        metrics: Any = None,
        *,
        output_names: list[str] | None = None,
        **arguments: Any,
    ) -> None:
        self._metrics = metrics
        self._arguments = {"weighted_metrics": None, "loss": None, **arguments}
        self._output_names = output_names
        self._keras: keras.Model | None = None
        self._loss = keras.metrics.Mean(name="loss")
        for metric in _flatten((metrics, self._arguments["weighted_metrics"])):
            if isinstance(metric, keras.metrics.Metric):
                metric.reset_state()
            elif isinstance(metric, str) and (refusal := unknown_metric(metric)):
                raise DataError(f"{refusal} A metric of your own goes in as an object.")

    @classmethod
    def for_model(
        cls,
        model: keras.Model | None,
        metrics: Any = None,
        names: list[str] | None = None,
    ) -> Self:
        """Score by `metrics`; by default by those that the model was compiled with.

        Without them by its loss, else, and for a file (None), by "accuracy".
        """
        if metrics is not None:
            return cls(metrics, output_names=names)
        config = compiled_config(model) if model is not None and model.compiled else {}
        chosen = {key: config.get(key) for key in ("metrics", "weighted_metrics")}
        if any(chosen.values()):
            return cls(**chosen, output_names=names)
        if config.get("loss") is None:
            return cls("accuracy", output_names=names)
        loss = {key: config.get(key) for key in ("loss", "loss_weights")}
        return cls(**loss, output_names=names)

    def update(self, labels: Any, predictions: Any, weights: Any = None) -> None:
        """Take in a batch: arrays of shape `(batch, ...)`, lists or dicts of them."""
        labels = _in_structure(labels, predictions, self._output_names)
        self._check(labels, predictions)
        if self._keras is None:
            self._keras = self._compiled(len(keras.tree.flatten(predictions)))
        to_tensor = ops.convert_to_tensor
        tensors = [
            None if value is None else keras.tree.map_structure(to_tensor, value)
            for value in (labels, predictions, weights)
        ]
        try:
            self._keras.compute_metrics(None, *tensors)
            if self._arguments["loss"] is not None:
                loss = self._keras.compute_loss(None, *tensors)
                self._loss.update_state(loss, len(keras.tree.flatten(predictions)[0]))
        except Exception as error:
            raise DataError(
                f"Loss and metrics cannot be computed from labels of shape "
                f"{_shapes(labels)} and predictions of shape {_shapes(predictions)}: "
                f"{error}. Class numbers go with sparse losses and metrics, one-hot "
                "labels with categorical ones."
            ) from error

    def result(self) -> dict[str, float]:
        """Value of each metric by its name; each must have one value."""
        if self._keras is None:
            return {}
        results = self._keras.get_metrics_result()
        results.pop("loss", None)
        if self._arguments["loss"] is not None:
            results["loss"] = self._loss.result()
        return {name: _to_float(value, name) for name, value in results.items()}

    def _compiled(self, outputs: int) -> keras.Model:
        model = _Identity()
        if self._output_names is not None:
            model.output_names = self._output_names
        model.compile(
            optimizer=None,
            metrics=_for_each_output(self._metrics, outputs),
            jit_compile=False,
            **self._arguments,
        )
        return model

    def _check(self, labels: Any, predictions: Any) -> None:
        outputs = keras.tree.flatten(predictions)
        names = self._output_names
        if isinstance(predictions, Mapping):
            names = sorted(predictions)
        metrics = _for_each_output(self._metrics, len(outputs))
        plain = _by_output(metrics, len(outputs), names)
        weighted = _by_output(self._arguments["weighted_metrics"], len(outputs), names)
        for given, predicted, *own in zip(
            keras.tree.flatten(labels), outputs, plain, weighted, strict=True
        ):
            _check_labels(given, predicted.shape, _flatten(own))


class _Identity(keras.Model):
    """Holds metrics; is never called."""

    def call(self, inputs: Any) -> Any:
        return inputs


def first_metric(names: Iterable[str]) -> str | None:
    """The metric to speak of first: not the loss, where there is another one."""
    names = list(names)
    return next((name for name in names if name != "loss"), next(iter(names), None))


def _by_output(metrics: Any, outputs: int, names: list[str] | None) -> list[Any]:
    """Which metrics belong to each output, as Keras reads them."""
    if outputs > 1 and isinstance(metrics, Mapping):
        return [metrics.get(name) for name in names] if names else [None] * outputs
    if outputs > 1 and isinstance(metrics, (list, tuple)) and len(metrics) == outputs:
        return list(metrics)
    return [metrics] * outputs


def _check_labels(labels: Any, predicted: tuple[int, ...], metrics: list[Any]) -> None:
    """Refuse labels that "accuracy" or a sparse metric would count wrong."""
    accuracy = any(str(metric).lower() in _ACCURACY for metric in metrics)
    sparse = [metric for metric in metrics if "sparse" in _name(metric)]
    if not accuracy and not sparse:
        return
    classes_ignored = (getattr(metric, "ignore_class", None) for metric in sparse)
    ignored: list[Any] = [number for number in classes_ignored if number is not None]
    given, classes = tuple(labels.shape), predicted[-1]
    where = f"The labels have shape {given} and the predictions {predicted}"
    if classes == 1 or given == predicted:
        if accuracy and (given == predicted or given == predicted[:-1]):
            _refuse_others_than_0_and_1(labels, classes)
        elif accuracy:
            raise DataError(f"{where}. Give one label, 0 or 1, for each prediction.")
        return
    if given != predicted[:-1] and given != (*predicted[:-1], 1):
        raise DataError(
            f"{where}. Allowed: class numbers of shape {predicted[:-1]}, or one-hot "
            f"labels of shape {predicted}."
        )
    values = labels[~np.isin(labels, ignored)] if ignored else labels
    if values.dtype.kind == "f" and not np.array_equal(values, np.rint(values)):
        raise DataError(
            f"The labels hold fractions, but class numbers from 0 to {classes - 1} "
            "are needed. For a regression, name its metrics: "
            'metrics=["mean_absolute_error"].'
        )
    if values.size and (values.min() < 0 or values.max() >= classes):
        raise DataError(
            f"The labels go from {values.min()} to {values.max()}, but the model has "
            f"{classes} outputs: 0 to {classes - 1} are allowed. Number the classes "
            "from 0, or use the model that was trained on these classes."
        )


def _refuse_others_than_0_and_1(labels: Any, classes: int) -> None:
    outside = labels.size and (labels.min() < 0 or labels.max() > 1)
    if classes == 1 and not outside:
        outside = labels.dtype.kind == "f" and not np.isin(labels, (0, 1)).all()
    if outside:
        kind = "binary" if classes == 1 else "one-hot"
        raise DataError(
            f'"accuracy" with these shapes takes {kind} labels from 0 to 1, got '
            f"{labels.min()} to {labels.max()}. For a regression, name its metrics: "
            'metrics=["mean_absolute_error"].'
        )
    if classes > 1 and labels.dtype.kind == "f" and _are_no_shares(labels):
        raise DataError(
            '"accuracy" with these shapes takes one-hot labels, or shares of the '
            "classes that sum to 1, got fractions that sum to others. For a "
            'regression, name its metrics: metrics=["mean_absolute_error"]; for '
            'chances of their own, "categorical_accuracy" or "binary_accuracy".'
        )


def _are_no_shares(labels: Any) -> bool:
    """Whether there are rows with fractions that do not sum to 1."""
    sums = labels.sum(axis=-1, dtype=np.float64)
    has_fractions = ~np.isin(labels, (0, 1)).all(axis=-1)
    return bool((has_fractions & (np.abs(sums - 1) > _SLACK)).any())


def _in_structure(labels: Any, predictions: Any, names: list[str] | None) -> Any:
    """Give labels the structure of the predictions."""
    outputs = keras.tree.flatten(predictions)
    if len(leaves(labels)) != len(outputs):
        raise DataError(
            f"The model has {len(outputs)} outputs, but there are labels for "
            f"{len(leaves(labels))}. Give a list or dict with labels for each output."
        )
    if len(outputs) == 1:
        return keras.tree.pack_sequence_as(predictions, leaves(labels))
    if isinstance(labels, Mapping) and not isinstance(predictions, Mapping):
        if names is None or set(labels) != set(names) or len(names) != len(outputs):
            known = f" are {names}" if names else " have no names here"
            raise DataError(
                f"The labels are for {list(labels)}, but the outputs{known}. Give the "
                "labels by these names or as a list in the order of the outputs, or "
                "say what the outputs are called, in their order: `output_names` "
                "(--output-name)."
            )
        labels = [labels[name] for name in names]
    elif isinstance(labels, Mapping):
        if set(labels) != set(predictions):
            raise DataError(
                f"The labels are for {list(labels)}, but the outputs are "
                f"{list(predictions)}. Use the names of the outputs."
            )
        return {name: labels[name] for name in predictions}
    elif isinstance(predictions, Mapping):
        order = names if names and set(names) == set(predictions) else predictions
        by_name = dict(zip(order, labels, strict=True))
        return {name: by_name[name] for name in predictions}
    return keras.tree.pack_sequence_as(predictions, labels)


def unknown_metric(name: str) -> str:
    """The message that a name gives no metric of Keras; empty where it does."""
    by_shape = (*_ACCURACY, "crossentropy", "ce")
    try:
        with contextlib.suppress(ValueError):
            if name in by_shape or keras.metrics.get(name) is not None:
                return ""
    except TypeError:
        return f"The metric {name!r} needs arguments, which a name does not give."
    names = [*by_shape, *(key for key in dir(keras.metrics) if key[0] != "_")]
    return f"Keras has no metric {name!r}.{did_you_mean(name, names, cutoff=0.5)}"


class EachOutput(tuple[Any, ...]):
    """Metrics that each hold for every output of a model."""

    __slots__ = ()


def _for_each_output(metrics: Any, outputs: int) -> Any:
    if isinstance(metrics, EachOutput):
        return [list(metrics)] * outputs if outputs > 1 else list(metrics)
    if metrics is None or isinstance(metrics, (list, tuple, dict)):
        return metrics
    if outputs == 1:
        return [metrics]
    if isinstance(metrics, keras.metrics.Metric):
        config = metrics.get_config()
        return [[type(metrics).from_config(config)] for _ in range(outputs)]
    return [[metrics] for _ in range(outputs)]


def _flatten(metrics: Any) -> list[Any]:
    return [metric for metric in keras.tree.flatten(metrics) if metric is not None]


def _name(metric: Any) -> str:
    own = metric if isinstance(metric, str) else getattr(metric, "name", None)
    name = own or getattr(metric, "__name__", "")
    return f"{name} {type(metric).__name__}".lower()


def _to_float(value: Any, name: str) -> float:
    array = ops.convert_to_numpy(value)
    if array.size != 1:
        raise DataError(
            f"The metric {name!r} has {array.size} values. Choose one that gives a "
            "single number, for instance with `average`."
        )
    return float(array.reshape(()))


def _shapes(structure: Any) -> list[tuple[int, ...]]:
    return [tuple(array.shape) for array in keras.tree.flatten(structure)]
