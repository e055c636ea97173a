"""The engine: runs a model or a layer on weights that passed through transforms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

import keras
import numpy as np
from keras import ops

from penjing.engine.transforms.state_renewal import readable_step
from penjing.engine.transforms.weight_transform import Transform, Values
from penjing.engine.weight_scope import Taken, WeightScope
from penjing.errors import CompressionError, UnsupportedModelError
from penjing.models.copying import name_weights, weight_paths
from penjing.models.kept_calls import FUNCTION, REMAT, find_kept_calls
from penjing.models.keras_private import clear_losses
from penjing.models.selection import SelectedWeight
from penjing.numerics import Tensor

_KEPT = {
    FUNCTION: "runs {where!r} as a tf.function, which keeps the weights of its first "
    "call",
    REMAT: "may compute its outputs again in the backward pass ({where}), where it "
    "sees the raw weights",
}
_WAYS_OUT = {
    FUNCTION: "Take the decorator off: Keras compiles the whole step anyway.",
    REMAT: "Make the model without it, of a class whose code does not call it: that "
    "takes more memory and gives the same numbers. Or train it on the JAX backend.",
}


class TransformEngine:
    """Mixin of `CompressionModel` and `CompressedLayer`.

    The inner model or layer is called as it is, inside a `WeightScope` that lets the
    compressed weights have their transformed values. (`stateless_call` would do the
    same but for what Keras does around `call`: casts, masks, activity regularizers.)

    `inner_name` is the argument of the constructor that takes the inner model or layer,
    `parts` are others that Keras serializes. Weights pass through the transforms in
    their order. The variable `step` counts the training batches.
    """

    inner_name: ClassVar[str]
    parts: ClassVar[Sequence[str]] = ("transforms", "activations")
    transforms: Sequence[Transform]
    step: Any
    _calls_checked: bool

    def _inner(self) -> keras.layers.Layer:
        """The inner model or layer; a method, so that Keras saves it only once."""
        raise NotImplementedError

    def _start_engine(self, transforms: Sequence[Transform]) -> None:
        """Take the transforms in; attach them if the inner object is built."""
        for transform in transforms:
            if not isinstance(transform, Transform):
                raise ValueError(
                    "`transforms` takes penjing transforms, got "
                    f"{transform!r} of type {type(transform).__name__}."
                )
        self.transforms = sorted(transforms, key=lambda transform: transform.order)
        self._calls_checked = False
        self.step = self.add_weight(  # type: ignore[attr-defined]
            name="step",
            shape=(),
            dtype="int32",
            initializer="zeros",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
        )
        if self._inner().built:
            self._attach_transforms()

    def _attach_transforms(self) -> None:
        for i, transform in enumerate(self.transforms):
            if not transform.built:
                transform.attach(self._inner(), self.transforms[:i])
        # What is loaded may be for inference alone, as where it is converted.
        if not all(transform.is_restored for transform in self.transforms):
            self._check_calls()
        self.built = True

    def _check_calls(self) -> None:
        """Refuse layers that read weights at other times than in the forward pass."""
        self._calls_checked = True
        if keras.backend.backend() == "jax":  # recomputes what was traced
            return
        taken = {id(weight.variable): p for p, weight in self._selected().items()}
        for layer, how, where in find_kept_calls(self._inner()):
            paths = [taken[id(v)] for v in layer.variables if id(v) in taken]
            if paths:
                raise UnsupportedModelError(
                    f"The layer {layer.name!r} of class {type(layer).__name__} "
                    f"{_KEPT[how].format(where=where)}, so the weight {paths[0]!r} "
                    f"would not train as it is compressed. {_WAYS_OUT[how]} Or leave "
                    f"the layer out: exclude={[layer.name]}."
                )

    def _selected(self) -> dict[str, SelectedWeight]:
        """Every weight that some transform takes, by path."""
        return {
            path: weight
            for transform in self.transforms
            for path, weight in transform.weights_by_path.items()
        }

    def transformed_values(
        self, *, training: bool = False, batch: Any = None
    ) -> Values:
        """Values of the compressed weights as the forward pass uses them, by path.

        `training` counts a training step, of which `batch` is the data, and lets the
        transforms advance.
        """
        values = {
            path: ops.convert_to_tensor(weight.variable.value)
            for path, weight in self._selected().items()
        }
        step = readable_step(self.step.value)
        if training:
            step = step + _one_batch(batch)
            self.step.assign(step)
        for transform in self.transforms:
            if training:
                transform.update(step - transform.start_step, values)
            values |= transform.apply(values, training)
        return values

    def write_back(self) -> None:
        """Write zeros into the masked weights of the inner model.

        It changes no output: the masks stay. `fit` does it at the end of every epoch.
        """
        for transform in self.transforms:
            for path, weight in transform.weights_by_path.items():
                values = {path: ops.convert_to_tensor(weight.variable.value)}
                for value in transform.persist(values).values():
                    weight.variable.assign(value)

    def write_values(self, target: keras.layers.Layer) -> None:
        """Write the transformed values into a twin of the inner model or layer.

        NaN and infinite ones are a CompressionError.
        """
        twins = {
            id(old): new
            for old, new in zip(self._inner().variables, target.variables, strict=True)
        }
        for path, weight in self._selected().items():
            value = self._transformed(path, training=False)
            array = ops.convert_to_numpy(ops.cast(value, "float32"))
            if not np.isfinite(array).all():
                raise CompressionError(
                    f"The weight {path!r} holds {int((~np.isfinite(array)).sum())} NaN "
                    "or infinite values: training diverged. Lower the learning rate or "
                    "clip the gradients, and train again."
                )
            twins[id(weight.variable)].assign(value)

    def _is_untrained(self) -> bool:
        """Whether a transform that acts in training alone saw no step."""
        step = self.count_steps()
        return any(
            t.waits_for_training and step <= t.start_step for t in self.transforms
        )

    def count_steps(self) -> int:
        """Training steps that lie behind it."""
        # A copy, as a variable that TensorFlow mirrors is no array.
        return int(ops.convert_to_numpy(ops.copy(self.step.value)))

    def _run(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, advance: bool
    ) -> Any:
        """Forward pass of the inner object on transformed weights."""
        inner = self._inner()
        if advance and not self._calls_checked:
            self._check_calls()
        values = self.transformed_values(training=advance, batch=(args, kwargs))
        losses = []
        with self._weight_scope(values, training=advance) as scope:
            outputs = self._forward(args, kwargs, training=advance)
            if scope.losses:  # else the model's need not be asked for in every step
                losses = inner.losses
                clear_losses(inner)
        if losses:
            self._add_inner_losses(losses)
        for transform in self.transforms:
            penalty = transform.penalty()
            if penalty is not None:
                self.add_loss(penalty)  # type: ignore[attr-defined]
        return outputs

    def _weight_scope(self, values: Values, *, training: bool = False) -> WeightScope:
        """The block in which the inner object sees transformed values, by path."""
        selected = self._selected()
        paths = {id(selected[path].variable): path for path in values}
        taken = {
            id(variable): (variable, value)
            for variable, value in (
                *((selected[path].variable, value) for path, value in values.items()),
                *self._further_values(),
            )
        }

        def renew(variable: Any) -> Tensor:
            for each, value in self._further_values():
                if each is variable:
                    return value
            return self._transformed(paths[id(variable)], training)

        return WeightScope(list(taken.values()), renew)

    def _transformed(self, path: str, training: bool) -> Tensor:
        """The value of one weight as the forward pass uses it, from the raw one."""
        weight = self._selected()[path]
        values = {path: ops.convert_to_tensor(weight.variable.value)}
        for transform in self.transforms:
            if path in transform.weights_by_path:
                values |= transform.apply(values, training)
        return values[path]

    def _forward(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, training: bool
    ) -> Any:
        """Call the inner object, whose weights are transformed by now."""
        return self._inner()(*args, **kwargs)

    def _further_values(self) -> Taken:
        """Variables that no transform takes, with other values in `_forward` too."""
        return ()

    def _add_inner_losses(self, losses: Sequence[Any]) -> None:
        """Add what layers of the inner object added; Keras adds regularizers itself."""
        own = losses[: len(losses) - count_regularizers(self._inner())]
        for loss in own:
            self.add_loss(loss)  # type: ignore[attr-defined]

    def get_config(self) -> dict[str, Any]:
        """The inner model or layer and the transforms, serialized by Keras."""
        serialize = keras.saving.serialize_keras_object
        return {
            "name": self.name,  # type: ignore[attr-defined]
            "trainable": self.trainable,  # type: ignore[attr-defined]
            self.inner_name: serialize(self._inner()),
            "paths": weight_paths(self._inner()),
            "transforms": [serialize(transform) for transform in self.transforms],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any], custom_objects: Any = None) -> Self:
        """What `get_config` described."""
        config = dict(config)
        for name in config.keys() & {cls.inner_name, *cls.parts}:
            config[name] = keras.saving.deserialize_keras_object(
                config[name], custom_objects=custom_objects
            )
        name_weights(config[cls.inner_name], config.pop("paths", ()))
        return cls(**config)

    def skipped_weights(self) -> dict[str, str]:
        """Path of each weight that no transform takes -> the reason."""
        selected = self._selected()
        reasons: dict[str, str] = {}
        for transform in self.transforms:
            for path, reason in transform.skipped.items():
                if path not in selected:
                    reasons.setdefault(path, reason)
        return reasons


def _one_batch(batch: Any) -> int | Tensor:
    """One, which a compiled TensorFlow step does not know before it has its data.

    Else it would count the step that finds its data at an end.
    """
    if keras.backend.backend() != "tensorflow":
        return 1
    dense = [
        value
        for value in keras.tree.flatten(batch)
        if ops.is_tensor(value)
        and not hasattr(value, "indices")  # sparse
        and not hasattr(value, "row_splits")  # ragged
    ]
    if not dense:
        return 1
    first = ops.reshape(dense[0], (-1,))[:1]
    return 1 + ops.sum(ops.zeros_like(first, dtype="int32"))


def count_regularizers(layer: keras.layers.Layer) -> int:
    """Regularized weights: Keras lists their losses last in `layer.losses`."""
    return sum(v.regularizer is not None for v in layer.trainable_variables)
