"""Gradients of a model's loss on data, on every backend, without training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from penjing.errors import DataError, UnsupportedModelError
from penjing.models.copying import copy_model, float_value
from penjing.models.keras_private import all_layers, compiled_config, variable_index


def loss_gradients(
    model: keras.Model, batches: Iterable[Any], paths: Sequence[str]
) -> Iterator[dict[str, np.ndarray]]:
    """Gradients of the compiled loss, batch by batch, in inference mode.

    A copy of the model makes a training step on each batch with an optimizer that notes
    the gradients and changes nothing. So the backend's own training step
    differentiates, compiled as in `fit`, and no backend is named here.

    Batches are `(x, y, sample_weight)`, the last may be None. Each gives the gradient,
    float32, of each of the float weights by its path. An UnsupportedModelError says
    that the model is not compiled with a loss, a DataError that the batches do not fit
    it.
    """
    if not model.compiled or model.loss is None:
        raise UnsupportedModelError(
            f"The model {model.name!r} is not compiled with a loss, and its gradients "
            "are needed. Call `model.compile(loss=...)`, or choose another importance, "
            'such as "l2".'
        )
    probe = _InferenceProbe(copy_model(model))
    recorder = _GradientRecorder()
    weights = compiled_config(model).get("loss_weights")
    if hasattr(model, "output_names"):  # by which losses and weights may be given
        probe.output_names = model.output_names
    probe.compile(recorder, loss=model.loss, loss_weights=weights)
    by_path = {variable.path: variable for variable in probe.inner.variables}
    for x, y, sample_weight in batches:
        try:
            given = {"sample_weight": sample_weight, "return_dict": True}
            loss = probe.train_on_batch(x, y, **given)["loss"]
        except Exception as error:
            raise DataError(
                f"The loss of {model.name!r} cannot be computed on `data`: {error}. "
                "Pass the data that the model was trained on."
            ) from error
        if not np.isfinite(loss):
            raise DataError(
                f"The loss of {model.name!r} is {float(loss)} on `data`. Check the "
                "data and the weights of the model."
            )
        noted = recorder.gradients()
        yield {path: noted[id(by_path[path])] for path in paths}


class _InferenceProbe(keras.Model):
    """Runs the model as in inference, whatever it is asked: no dropout, no updates."""

    def __init__(self, inner: keras.Model) -> None:
        super().__init__(name="loss_probe", dtype="float32", autocast=False)
        for layer in all_layers(inner):
            layer.trainable = True  # what is frozen has gradients too
        self.inner = inner
        self.built = True

    def call(self, inputs: Any, training: Any = None) -> Any:
        """Forward pass in inference mode."""
        return self.inner(inputs, training=False)


class _GradientRecorder(keras.optimizers.Optimizer):
    """Notes the gradients that it is given; variables stay as they are."""

    def __init__(self) -> None:
        super().__init__(learning_rate=0.0, name="recorder")
        self._noted: list[Any] = []
        self._keys: list[int] = []

    def build(self, variables: Any) -> None:
        """Make room for the gradients."""
        if self.built:
            return
        super().build(variables)
        self._keys = [id(variable) for variable in variables]
        self._noted = [
            self.add_variable_from_reference(variable, name="gradient")
            for variable in variables
        ]

    def update_step(self, gradient: Any, variable: Any, learning_rate: Any) -> None:
        """Note a gradient."""
        self.assign(self._noted[variable_index(self, variable)], gradient)

    def gradients(self) -> dict[int, np.ndarray]:
        """`id` of each variable -> its last gradient."""
        return {
            key: float_value(noted)
            for key, noted in zip(self._keys, self._noted, strict=True)
        }
