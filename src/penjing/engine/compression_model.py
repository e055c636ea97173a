"""A model that trains through weight transforms, and its way back to a plain one."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from penjing.engine.activations.activation_grids import ActivationGrids
from penjing.engine.engine import TransformEngine, count_regularizers
from penjing.engine.training_guard import TrainingGuard
from penjing.engine.transforms.quantization_transform import FakeQuantize
from penjing.engine.transforms.weight_transform import ConfiguredTransform, Transform
from penjing.engine.weight_scope import Taken
from penjing.errors import CompressionWarning, UnsupportedModelError
from penjing.models.copying import (
    OWN_STEPS,
    copy_model,
    copy_values,
    name_weights,
    weight_paths,
)
from penjing.models.keras_private import (
    build_loss,
    compiled_as,
    compute_loss_takes_training,
    own_metrics,
    takes_mask,
)
from penjing.models.layer_making import defined_by_keras


@keras.saving.register_keras_serializable(package="penjing")
class CompressionModel(TransformEngine, keras.Model):
    """Trains any Keras model through weight transforms.

    It owns the inner model, which stays untouched; compile it and train it as any
    other Keras model. `penjing.strip` gives the plain, compressed model.

    Args:
        model: A built Keras model, or a Sequential one that is built by the first
            batch.
        transforms: What the weights pass through.
        activations: Rounds the tensors between the layers of a Sequential or
            Functional model; `None` leaves them as they are.

    Raises:
        UnsupportedModelError: If the model is not built and cannot build itself.
        ValueError: If `model` is not a Keras model.
    """

    inner_name = "model"

    def __init__(
        self,
        model: keras.Model,
        transforms: Sequence[Transform],
        *,
        activations: ActivationGrids | None = None,
        **kwargs: Any,
    ) -> None:
        if not isinstance(model, keras.Model):
            raise ValueError(
                "`model` must be a Keras 3 model, got an object of type "
                f"{type(model).__module__}.{type(model).__name__}."
            )
        if not model.built and not isinstance(model, keras.Sequential):
            raise UnsupportedModelError(
                f"The model {model.name!r} is not built, so it has no weights yet. "
                "Call it once on a batch, or `model.build(input_shape)`, first."
            )
        kwargs.setdefault("name", f"compressed_{model.name}")
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.model = model
        self.activations = activations
        self._start_engine(transforms)

    def _attach_transforms(self) -> None:
        super()._attach_transforms()
        if self.activations is not None and not self.activations.built:
            self.activations.attach(self.model, on_grids(self.transforms))

    def _forward(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, training: bool
    ) -> Any:
        if self.activations is None:
            return super()._forward(args, kwargs, training=training)
        return self.activations.run(self.model, args, kwargs, training=training)

    def _further_values(self) -> Taken:
        if self.activations is None:
            return ()
        return self.activations.rounded_biases(
            {
                id(transform.weights_by_path[path].variable): scale
                for transform in self.transforms
                if isinstance(transform, FakeQuantize)
                for path, scale in transform.scales().items()
            }
        )

    def _inner(self) -> keras.Model:
        return self.model

    def build(self, input_shape: Any) -> None:
        """Build the inner model where it is not, then select its weights."""
        if not self.model.built:
            self.model.build(input_shape)
            paths = weight_paths(self.model)
            name_weights(
                self.model, [path.removeprefix(f"{self.name}/") for path in paths]
            )
        self._attach_transforms()

    def call(self, inputs: Any, training: Any = None, mask: Any = None) -> Any:
        """Forward pass on the transformed weights."""
        kwargs = {} if training is None else {"training": training}
        if mask is not None and takes_mask(self.model):
            kwargs["mask"] = mask
        return self._run((inputs,), kwargs, advance=bool(training))

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Mask that the inner model gives."""
        return self.model.compute_mask(inputs, previous_mask)

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """Metrics that were compiled, and those that the inner model keeps itself."""
        return [*super().metrics, *own_metrics(self.model)]

    @property
    def output_names(self) -> list[str]:
        """Names by which losses, metrics and labels can be given, as for the inner."""
        return self.model.output_names  # type: ignore[no-any-return]

    def compile(
        self,
        optimizer: Any = "rmsprop",
        *args: Any,
        auto_scale_loss: bool = True,
        **kwargs: Any,
    ) -> None:
        """Compile as any Keras model; under mixed float16 the loss is scaled.

        Raises:
            UnsupportedModelError: If the inner model has a training step of its own.
        """
        _refuse_own_steps(self.model)
        half = self.model.dtype_policy.name == "mixed_float16"
        if auto_scale_loss and half and optimizer is not None:
            optimizer = keras.optimizers.get(optimizer)
            if not isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
                optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        super().compile(optimizer, *args, auto_scale_loss=False, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as the saved model was."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.optimizer is not None and self.built:
            self.optimizer.build(self.trainable_variables)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Loss of the compiled model; that of the inner model where it has its own."""
        if not _overrides(self.model, "compute_loss"):
            return super().compute_loss(x, y, y_pred, sample_weight, training)
        return self._inner_loss(x, y, y_pred, sample_weight, training)

    def compute_metrics(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None
    ) -> dict[str, Any]:
        """Compiled metrics; those of the inner model where it computes its own."""
        if not _overrides(self.model, "compute_metrics"):
            return super().compute_metrics(x, y, y_pred, sample_weight)  # type: ignore[no-any-return]
        inner = compiled_as(self.model, self)
        return inner.compute_metrics(x, y, y_pred, sample_weight)  # type: ignore[no-any-return]

    def fit(self, *args: Any, **kwargs: Any) -> Any:
        """Train as any Keras model.

        Masked weights are written back as zeros at the end of every epoch, and a
        schedule that ends after the training is reported when it begins.
        """
        given = inspect.signature(super().fit).bind(*args, **kwargs).arguments
        guard = TrainingGuard(self, given.get("initial_epoch", 0))
        given["callbacks"] = guard.before(given.get("callbacks"))
        history = super().fit(**given)
        guard.check_end()
        return history

    def export(self, *args: Any, **kwargs: Any) -> None:
        """Export the plain model that `penjing.strip` gives, as any Keras model."""
        self.strip().export(*args, **kwargs)

    def strip(self, *, copy: bool = True, stacklevel: int = 2) -> keras.Model:
        """The plain model, as `penjing.strip` gives it.

        Args:
            copy: Give a new model and leave this one in training.
            stacklevel: Of the warning that nothing was trained: 2 is the caller.

        Raises:
            UnsupportedModelError: If the model is not built.
            CompressionError: If a compressed weight is NaN or infinite.
        """
        if not self.built:
            raise UnsupportedModelError(
                f"The model {self.name!r} is not built yet, so no weight was "
                "compressed. Train it, then strip it."
            )
        if self._is_untrained():
            warnings.warn(
                f"The model {self.name!r} was not trained since it was compressed, so "
                "nothing was: a schedule acts from the first training batch on. If it "
                "was trained, then in a `train_step` or loop of your own that calls "
                "it, or its parts in `model.model`, without `training=True`: call the "
                "whole with `training=True`, which counts the steps.",
                CompressionWarning,
                stacklevel=stacklevel,
            )
        inner = copy_model(self.model) if copy else self.model
        self.write_values(inner)
        return inner

    def get_config(self) -> dict[str, Any]:
        """The inner model, the transforms and the activations, serialized by Keras."""
        activations = keras.saving.serialize_keras_object(self.activations)
        return {**super().get_config(), "activations": activations}

    def around(self, model: keras.Model) -> Self:
        """A twin that trains another model; it takes the state over, but no weights.

        What the user wrote is not serialized, so it needs no name that Keras finds.

        Args:
            model: A built model with weights of the same paths and shapes.
        """
        parts = [_made_again(transform) for transform in self.transforms]
        grids = self.activations and _made_again(self.activations)
        twin = type(self)(model, parts, activations=grids, name=self.name)
        for old, new in zip(self.transforms, parts, strict=True):
            copy_values(old, new)
        if grids is not None:
            copy_values(self.activations, grids)
        twin.step.assign(ops.copy(self.step.value))
        return twin

    def _inner_loss(
        self, x: Any, y: Any, y_pred: Any, sample_weight: Any, training: bool
    ) -> Any:
        """`compute_loss` of the inner model, seeing the transformed weights."""
        build_loss(self, y, y_pred)
        inner = compiled_as(self.model, self)
        arguments = {"x": x, "y": y, "y_pred": y_pred, "sample_weight": sample_weight}
        if compute_loss_takes_training(inner):
            arguments["training"] = training
        losses = self.losses
        added = losses[: len(losses) - count_regularizers(self)]
        with self._weight_scope(self.transformed_values()):
            for loss in added:
                inner.add_loss(loss)
            return inner.compute_loss(**arguments)


def _made_again(part: Any) -> Any:
    """A twin of a transform, whose frozen config is shared, or of activation grids."""
    if isinstance(part, ConfiguredTransform):
        return type(part)(part.config, **Transform.get_config(part))
    return type(part).from_config(part.get_config())


def on_grids(transforms: Sequence[Transform]) -> set[int]:
    """`id` of each weight that quantization rounds to a grid."""
    return {
        id(weight.variable)
        for transform in transforms
        if isinstance(transform, FakeQuantize)
        for weight in transform.weights_by_path.values()
    }


def _overrides(model: keras.Model, method: str) -> bool:
    """Whether the class of a model defines a method that Keras defines too."""
    return not defined_by_keras(getattr(type(model), method))


def _refuse_own_steps(model: keras.Model) -> None:
    for name in OWN_STEPS:
        if _overrides(model, name):
            raise UnsupportedModelError(
                f"The model {model.name!r} of class {type(model).__name__} defines its "
                f"own `{name}`, which would run on the raw weights. Either move what "
                "it does into `compute_loss`, or wrap single layers inside the model "
                "with penjing.prune_layer and keep the step, or train the compressed "
                "model in a loop of your own."
            )
