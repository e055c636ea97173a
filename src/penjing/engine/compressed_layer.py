"""The engine around a single layer, for use inside any model."""

from __future__ import annotations

import inspect
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import keras

from penjing.engine.engine import TransformEngine
from penjing.engine.transforms.weight_transform import Transform
from penjing.errors import CompressionWarning, UnsupportedModelError
from penjing.models.copying import copy_values
from penjing.models.keras_private import call_signature, forward_pass, take_call_over
from penjing.models.layer_making import build_as, make_layer_again


@keras.saving.register_keras_serializable(package="penjing")
class CompressedLayer(TransformEngine, keras.layers.Layer):
    """Trains one layer through weight transforms.

    Put it wherever the layer would stand: in a Sequential or Functional model, or in
    the constructor of a subclassed one with a training step of its own. A layer that
    is called several times in one forward pass counts one step. `penjing.strip` takes
    it out of a Sequential or Functional model again. Masked weights are zero in every
    output; `write_back` makes them zero in `weights` too.

    Args:
        layer: A Keras layer, built or not.
        transforms: What its weights pass through.

    Raises:
        ValueError: If `layer` is not a Keras layer, or is a model.
    """

    inner_name = "layer"

    def __init__(
        self,
        layer: keras.layers.Layer,
        transforms: Sequence[Transform],
        **kwargs: Any,
    ) -> None:
        _check_layer(layer)
        kwargs.setdefault("name", f"compressed_{layer.name}")
        super().__init__(dtype="float32", autocast=False, **kwargs)
        self.layer = layer
        self.supports_masking = layer.supports_masking
        take_call_over(layer, self, _with_training(call_signature(layer)))
        self._counted: Callable[[], Any] = _nothing
        self._start_engine(transforms)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Build the layer from the arguments where needed, then run it."""
        if not self.layer.built:
            _call_symbolically(self.layer, args, kwargs)
        if not all(transform.built for transform in self.transforms):
            self._attach_transforms()
        return super().__call__(*args, **kwargs)

    def call(self, *args: Any, training: Any = None, **kwargs: Any) -> Any:
        """Forward pass on the transformed weights."""
        running = forward_pass(self)
        advance = bool(training) and self._counted() is not running
        if training:
            self._counted = weakref.ref(running)
        if training is not None:
            kwargs["training"] = training
        return self._run(args, kwargs, advance=advance)

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        """Shapes and types that the inner layer gives."""
        if "training" not in call_signature(self.layer).parameters:
            kwargs.pop("training", None)
        outputs = _call_symbolically(self.layer, args, kwargs)
        return keras.tree.map_structure(_stand_in, outputs)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        """Mask that the inner layer gives."""
        return self.layer.compute_mask(inputs, previous_mask)

    def strip(self, *, copy: bool = True, stacklevel: int = 2) -> keras.layers.Layer:
        """The plain layer, as `penjing.strip_layer` gives it.

        Args:
            copy: Give a new layer and leave this one in training.
            stacklevel: Of the warning that nothing was trained: 2 is the caller.

        Raises:
            CompressionError: If a compressed weight is NaN or infinite.
        """
        if self.built and self._is_untrained():
            warnings.warn(
                f"The layer {self.name!r} saw no training step, so nothing was "
                "compressed. If it was trained, a model around it does not tell it: "
                "call it with `training=training` inside the `call` of that model, and "
                "that model, or each part that a `train_step` of your own calls, with "
                "`training=True`.",
                CompressionWarning,
                stacklevel=stacklevel,
            )
        if not copy:
            self.write_values(self.layer)
            return self.layer
        twin = make_layer_again(self.layer)
        build_as(self.layer, twin)
        if twin.built:
            copy_values(self.layer, twin)
            self.write_values(twin)
        return twin

    def _inner(self) -> keras.layers.Layer:
        return self.layer


def _nothing() -> None:
    """What a weak reference gives once its object is gone."""


def _check_layer(layer: Any) -> None:
    if not isinstance(layer, keras.layers.Layer):
        raise ValueError(
            "`layer` must be a Keras 3 layer, got an object of type "
            f"{type(layer).__module__}.{type(layer).__name__}."
        )
    if isinstance(layer, keras.Model):
        raise UnsupportedModelError(
            f"{layer.name!r} is a model; compress it with penjing.prune, or wrap the "
            "layers inside it."
        )


def _with_training(signature: inspect.Signature) -> inspect.Signature:
    parameters = list(signature.parameters.values())
    if "training" in signature.parameters:
        return signature
    training = inspect.Parameter(
        "training", inspect.Parameter.KEYWORD_ONLY, default=None
    )
    tail = [p for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
    head = [p for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    return signature.replace(parameters=[*head, training, *tail])


def _call_symbolically(
    layer: keras.layers.Layer, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call a layer on symbolic stand-ins of its arguments, which builds it."""
    args, kwargs = keras.tree.map_structure(_stand_in, (args, kwargs))
    return layer(*args, **kwargs)


def _stand_in(value: Any) -> Any:
    """A symbolic tensor for a tensor; anything else as it is."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        dtype = keras.backend.standardize_dtype(value.dtype)
        return keras.KerasTensor(value.shape, dtype=dtype)
    return value
