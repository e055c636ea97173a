"""What the wrappers of single layers share, whatever they do to the weights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras

from penjing.engine.compressed_layer import CompressedLayer
from penjing.engine.stripping import is_compressed, strip
from penjing.engine.transforms.method_config import MethodConfig
from penjing.engine.transforms.weight_transform import ConfiguredTransform, Transform
from penjing.errors import UnsupportedModelError
from penjing.models.copying import clone_graph, copy_model
from penjing.models.graph_flow import is_plain_graph
from penjing.models.keras_private import all_layers, given_input_shape
from penjing.models.layer_making import defined_by_keras
from penjing.models.layer_specs import find_weight_specs
from penjing.models.selection import (
    SelectedWeight,
    Selection,
    find_weights,
    select_weights,
)

_FROZEN = "frozen: it does not train"
_OTHER = (
    "a bias, a norm, a small kernel or a weight of a class that is not in the table"
)


class LayerTransform(ConfiguredTransform):
    """Base of the transforms of one layer's weights, which may be none.

    Args:
        config: What is done to them; its filters are not looked at.
        positions: Places of the taken weights among the weights of the layer, where
            they were chosen before; `None` chooses all that can be taken.
        **kwargs: Passed to the transform.
    """

    hook: ClassVar[str]

    def __init__(
        self, config: MethodConfig, positions: Sequence[int] | None, **kwargs: Any
    ) -> None:
        super().__init__(config, **kwargs)
        self.positions = positions
        self._restored = positions is not None

    def select(self, owner: keras.layers.Layer) -> Sequence[SelectedWeight]:
        """Weights of the layer that train and that the transform can take."""
        if self.positions is not None:
            return [_as_selected(owner, owner.weights[i]) for i in self.positions]
        selection = self._selection(owner)
        self.skipped = selection.skipped
        places = {id(variable): i for i, variable in enumerate(owner.weights)}
        self.positions = [places[id(weight.variable)] for weight in selection.chosen]
        return selection.chosen

    def _selection(self, owner: keras.layers.Layer) -> Selection:
        """The weights to take, which may be none, and why others are left whole.

        A layer that has the hook says itself which they are; for the others penjing's
        table of layer classes does.
        """
        named = [
            _as_selected(part, item[1] if isinstance(item, tuple) else item)
            for part in all_layers(owner)
            if hasattr(part, self.hook)
            for item in getattr(part, self.hook)()
        ]
        if named:
            reasons = {
                weight.path: self.obstacle(weight)
                if weight.variable.trainable
                else _FROZEN
                for weight in named
            }
            return Selection(
                chosen=tuple(weight for weight in named if not reasons[weight.path]),
                skipped={path: why for path, why in reasons.items() if why},
            )
        try:
            return select_weights(owner, obstacle=self.obstacle)
        except UnsupportedModelError:
            skipped = {v.path: self._reason(owner, v) for v in owner.weights}
            return Selection(chosen=(), skipped=skipped)

    def _reason(self, layer: keras.layers.Layer, variable: Any) -> str:
        if not variable.trainable:
            return _FROZEN
        with contextlib.suppress(UnsupportedModelError):
            return self.obstacle(find_weights(layer, [variable.path])[0]) or _OTHER
        return _OTHER

    def number(self, path: str) -> str:
        """End of the names of a weight's state: a number from the second weight on."""
        place = list(self.weights_by_path).index(path)
        return f"_{place}" if place else ""


class LayerWrapper(CompressedLayer):
    """A layer that stands for the one inside it, with state beside its weights.

    Args:
        layer: The layer.
        make: Name of the wrapper -> the transform of the layer's weights.
        **kwargs: Passed to `keras.layers.Layer`.
    """

    prefix: ClassVar[str]

    def __init__(
        self, layer: keras.layers.Layer, make: Callable[[str], Transform], **kwargs: Any
    ) -> None:
        kwargs.setdefault("name", f"{self.prefix}_{layer.name}")
        shape = given_input_shape(layer)
        if shape is not None:
            kwargs.setdefault("input_shape", shape)
        super().__init__(layer, [make(kwargs["name"])], **kwargs)

    @property
    def weights(self) -> list[Any]:
        """Weights of the layer, then the state of the transform and the step."""
        inner = self.layer.trainable_weights + self.layer.non_trainable_weights
        return [*inner, *self._state(), self.step]

    def build(self, input_shape: Any = None) -> None:
        """Build the layer where it is not, then add the state."""
        if not self.layer.built:
            self.layer.build(input_shape)
        self._attach_transforms()

    def get_weights(self) -> list[Any]:
        """Values of the weights of the layer, without any state."""
        values: list[Any] = self.layer.get_weights()
        return values

    def set_weights(self, weights: list[Any]) -> None:
        """Set the weights of the layer, as `get_weights` gives them."""
        self.layer.set_weights(weights)

    def get_config(self) -> dict[str, Any]:
        """Name and layer; the subclass adds its own arguments."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "layer": keras.saving.serialize_keras_object(self.layer),
        }

    def _state(self) -> list[Any]:
        return list(self.transforms[0].weights)


def wrap(
    given: Any,
    wrap_layer: Callable[..., Any],
    compress: Callable[[keras.Model], keras.Model],
    *,
    call: str,
    argument: str,
    done: str,
    further: Mapping[str, Any],
) -> Any:
    """Wrap the layers of a model, of a list, or a single one.

    Args:
        given: What the user passed.
        wrap_layer: Layer, and further arguments -> its wrapper, or the layer itself.
        compress: Does the same for a model whose layers cannot be replaced.
        call: Name of the function that the user called, for messages.
        argument: Name of the argument that `given` is.
        done: What is done to weights, such as "pruned".
        further: Arguments for the wrapper of a single layer.

    Returns:
        A copy of the model with wrappers, not compiled, or the wrapped layers.

    Raises:
        TypeError: If there are further arguments for several layers.
        ValueError: If `given` is something else, or nothing of it can be wrapped.
    """
    if isinstance(given, list | keras.Model) and further:
        raise TypeError(
            f"{call}() got unknown arguments {sorted(further)}. Arguments for the "
            "wrapper are taken with a single layer only."
        )
    if isinstance(given, list):
        return wrap_layers(given, wrap_layer)
    if isinstance(given, keras.Model):
        if not is_plain_graph(given):
            return compress(given)
        wrapped = wrap_layers(given, wrap_layer)
        _check_something_taken(wrapped, done)
        return wrapped
    if isinstance(given, keras.layers.Layer):
        return wrap_layer(given, **further)
    raise ValueError(
        f"`{argument}` must be a Keras 3 model, a layer or a list of layers, got an "
        f"object of type {type(given).__module__}.{type(given).__name__}."
    )


def wrap_layers(to_wrap: Any, wrap: Callable[[Any], Any]) -> Any:
    """Put layers into wrappers; inputs and operations such as `x + y` stay bare.

    `to_wrap` is a list of layers, or a Sequential or Functional model, which is copied
    and comes uncompiled. `wrap` gives for a layer its wrapper, or the layer itself.
    """

    def wrap_one(layer: Any) -> Any:
        if isinstance(layer, keras.layers.InputLayer):
            return type(layer).from_config(layer.get_config())
        is_operation = isinstance(layer, keras.Operation) and not isinstance(
            layer, keras.layers.Layer
        )
        return layer if is_operation else wrap(layer)

    if isinstance(to_wrap, list):
        return [wrap_one(layer) for layer in to_wrap]
    return clone_graph(copy_model(to_wrap), wrap_one)


def strip_wrappers(model: keras.Model) -> keras.Model:
    """Copy a model without any wrappers, its weights as they computed them, uncompiled.

    What is no Keras model is a ValueError.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            "`model` must be a Keras 3 model, got an object of type "
            f"{type(model).__module__}.{type(model).__name__}."
        )
    return strip(model) if is_compressed(model) else copy_model(model)


def _check_something_taken(model: keras.Model, done: str) -> None:
    """Refuse a built model whose wrappers found no weight."""
    wrappers = [layer for layer in all_layers(model) if isinstance(layer, LayerWrapper)]
    if not model.built or any(layer._selected() for layer in wrappers):
        return
    reasons = [
        f"{path}: {reason}"
        for layer in wrappers
        for path, reason in layer.skipped_weights().items()
    ]
    raise UnsupportedModelError(
        f"The model {model.name!r} has no weight that can be {done}. "
        f"{'; '.join(reasons[:5]) or f'No layer of it may be {done}.'}"
    )


def check_known(layer: Any, *, hook: str, mark: str, done: str) -> None:
    """Refuse a layer of a class that nothing is known of.

    Args:
        layer: What to wrap.
        hook: Method by which a class of a user's own lists its weights.
        mark: Base class that stands for that method.
        done: What is done to weights, such as "pruned".

    Raises:
        ValueError: If it is no Keras layer.
        UnsupportedModelError: If its weights are not known, or it is a wrapper.
    """
    if not isinstance(layer, keras.layers.Layer):
        raise ValueError(
            f"Only Keras 3 layers can be {done}, got an object of type "
            f"{type(layer).__module__}.{type(layer).__name__}."
        )
    if is_compressed(layer):
        raise UnsupportedModelError(
            f"The layer {layer.name!r} is being pruned, clustered or quantized "
            f"already, so it cannot be {done}. Strip the model first (strip_pruning, "
            "strip_clustering, penjing.strip), or combine methods with penjing.prune, "
            "penjing.cluster and penjing.quantize_aware."
        )
    parts = all_layers(layer)
    known = any(find_weight_specs(part) or hasattr(part, hook) for part in parts)
    if known or defined_by_keras(type(layer)):
        return
    if layer.built and not layer.trainable_weights:
        return
    raise UnsupportedModelError(
        f"Which weights of the layer {layer.name!r} of class {type(layer).__name__} "
        f"can be {done} is not known. Give the class a `{hook}()` that returns them "
        f"(see {mark}), list them with penjing.register_layer_spec, or leave the "
        "layer out."
    )


def _as_selected(layer: keras.layers.Layer, variable: Any) -> SelectedWeight:
    """A weight seen as a matrix, with the view of penjing's table where it has one."""
    try:
        return find_weights(layer, [variable.path])[0]
    except UnsupportedModelError:
        return SelectedWeight(
            path=variable.path,
            variable=variable,
            layer=layer,
            output_axes=(len(variable.shape) - 1,),
        )
