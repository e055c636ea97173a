"""A model in the layout that sparse kernels need, computing the same.

Two identities do most of it. Keras pads "same" with stride 2 on even sizes below and to
the right, sparse kernels on every side.

- Turned by half a turn, an image has its padding above and to the left, and there
  padding on every side comes to the same: the last row and column are never reached. So
  a network that ends in global pooling, which does not see the turn, gives the same for
  turned images with turned kernels.
- A 3x3 kernel within a 5x5 one, beside zeros, reads any pixels that it read before, and
  5x5 depthwise kernels are padded by 2.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.errors import CompressionWarning
from penjing.models.copying import make_layer_again
from penjing.models.graph_flow import as_graph
from penjing.models.sparse_changes import (
    LayerChange,
    needs_turn,
    plan_changes,
    turn_obstacle,
    turned_kernel,
    turned_layer,
)
from penjing.models.sparse_layers import is_convolution, is_stem, place_layers

_MOST_ROWS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseLayout:
    """What `penjing.sparse_layout` found.

    Attributes:
        changes: Layer -> what is changed in it.
        obstacles: Layer -> why it does not fit, and what would.
        is_turned: Whether images and kernels are turned by half a turn.
        is_equivalent: Whether the changed model computes the same.
    """

    changes: dict[str, str]
    obstacles: dict[str, str]
    is_turned: bool
    is_equivalent: bool

    def __str__(self) -> str:
        rows = [f"{layer}: {text}" for layer, text in self.changes.items()]
        rows += [
            f"{layer} does not fit: {why}" for layer, why in self.obstacles.items()
        ]
        if self.is_turned:
            rows.insert(0, "the image is turned by half a turn, and so are all kernels")
        return "\n".join(rows or ["nothing to change"])


def sparse_layout(model: keras.Model, *, equivalent: bool = True) -> SparseLayout:
    """Say what `prepare_for_sparse_inference` changes, and what does not fit.

    Args:
        model: A built Sequential or Functional model.
        equivalent: See `prepare_for_sparse_inference`.

    Returns:
        A row for each layer that is changed or does not fit.

    Raises:
        UnsupportedModelError: If the model is subclassed or not built.
    """
    plan = _plan(model, equivalent)
    return SparseLayout(
        changes={c.placed.name: c.text for c in plan.changes if c.text},
        obstacles={c.placed.name: c.obstacle for c in plan.changes if c.obstacle},
        is_turned=plan.is_turned,
        is_equivalent=all(c.is_equivalent for c in plan.changes),
    )


def prepare_for_sparse_inference(
    model: keras.Model, *, equivalent: bool = True
) -> keras.Model:
    """Give a model the layout that sparse kernels of phones and browsers need.

    They run 1x1 convolutions with more than 2/3 zeros several times faster, if the
    whole network from its first convolution to a global average pooling fits. The model
    that comes back computes the same, and more of it fits:

    - Convolutions with stride 2 get explicit padding. Where Keras pads on two sides
      only, as "same" does on even sizes, images and kernels are turned by half a turn,
      which makes it the same; or a 3x3 depthwise kernel becomes part of a 5x5 one.
    - A grey image is stacked three times where the first convolution reads one channel.
    - Pooling over the whole map becomes global pooling; a classifier that is a 1x1
      convolution behind it becomes a dense layer.

    What does not fit, such as pooling between convolutions, stays, with a warning that
    names it: zeros then buy no time, and `export_litert` refuses to encode it. Do this
    before pruning and training; it also works after.

    Args:
        model: A built Sequential or Functional model on any backend, which is left
            alone. Models within it are opened up.
        equivalent: False pads on every side where nothing else helps, too: the image
            moves by a pixel there, so the model needs some epochs of training after.

    Returns:
        An uncompiled Functional model with the same inputs and outputs.

    Raises:
        UnsupportedModelError: If the model is subclassed or not built.

    Example:
        >>> import keras, penjing
        >>> image = keras.Input((32, 32, 3))
        >>> x = keras.layers.Conv2D(8, 3, strides=2, padding="same")(image)
        >>> x = keras.layers.Conv2D(16, 1)(x)
        >>> x = keras.layers.GlobalAveragePooling2D()(x)
        >>> model = keras.Model(image, x)
        >>> fitting = penjing.prepare_for_sparse_inference(model)
        >>> pixels = keras.random.uniform((2, 32, 32, 3), seed=0)
        >>> difference = keras.ops.max(keras.ops.abs(fitting(pixels) - model(pixels)))
        >>> bool(difference < 1e-5)
        True
    """
    plan = _plan(model, equivalent)
    obstacles = [f"{c.placed.name}: {c.obstacle}" for c in plan.changes if c.obstacle]
    if obstacles:
        more = len(obstacles) - _MOST_ROWS
        shown = obstacles[:_MOST_ROWS] + ([f"and {more} more"] if more > 0 else [])
        warnings.warn(
            f"`{model.name}` does not fit sparse kernels as a whole: "
            f"{'; '.join(shown)}. See penjing.sparse_layout(model).",
            CompressionWarning,
            stacklevel=2,
        )
    return _Rebuilding(model, plan).model()


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Plan:
    changes: tuple[LayerChange, ...]
    is_turned: bool


def _plan(model: Any, equivalent: bool) -> _Plan:
    layers = place_layers(model)
    obstacle = None
    if equivalent and needs_turn(layers):
        obstacle = turn_obstacle(layers)
        changes = plan_changes(layers, turned=True, equivalent=True)
        if obstacle is None and not any(change.obstacle for change in changes):
            return _Plan(changes=tuple(changes), is_turned=True)
    changes = plan_changes(layers, turned=False, equivalent=equivalent)
    if obstacle is not None:
        changes = [
            dataclasses.replace(change, obstacle=f"{change.obstacle}; {obstacle}")
            if change.obstacle and is_stem(change.placed)
            else change
            for change in changes
        ]
    return _Plan(changes=tuple(changes), is_turned=False)


class _Rebuilding:
    """The graph once more, nested ones opened up, with new layers in place of some."""

    def __init__(self, model: keras.Model, plan: _Plan) -> None:
        self._model = model
        self._is_turned = plan.is_turned
        self._changes = {
            id(change.placed.layer): change
            for change in plan.changes
            if change.make is not None
        }
        self._made: dict[int, list[Any]] = {}
        self._names: set[str] = set()

    def model(self) -> keras.Model:
        """Make the new model."""
        graph = as_graph(self._model)
        inputs = [
            keras.Input(
                batch_shape=tensor.shape,
                dtype=tensor.dtype,
                name=tensor._keras_history.operation.name,
            )
            for tensor in graph.inputs
        ]
        images = inputs
        if self._is_turned:
            images = [
                _turned(tensor) if len(tensor.shape) == 4 else tensor
                for tensor in inputs
            ]
        outputs = self._run(graph, images)
        return keras.Model(
            keras.tree.pack_sequence_as(self._model.input, inputs),
            keras.tree.pack_sequence_as(self._model.output, outputs),
            name=self._model.name,
        )

    def _run(self, graph: Any, inputs: list[Any]) -> list[Any]:
        made = dict(zip(map(id, graph.inputs), inputs, strict=True))
        for depth in sorted(graph._nodes_by_depth, reverse=True):
            for node in graph._nodes_by_depth[depth]:
                if node.is_input:
                    continue
                nested = as_graph(node.operation)
                if nested is not None:
                    sources = [made[id(tensor)] for tensor in node.input_tensors]
                    results: Any = self._run(nested, sources)
                else:
                    args, kwargs = node.arguments.fill_in(made)
                    results = self._call(node.operation, args, kwargs)
                flat = keras.tree.flatten(results)
                made.update(zip(map(id, node.outputs), flat, strict=True))
        return [made[id(tensor)] for tensor in graph.outputs]

    def _call(self, operation: Any, args: Any, kwargs: Any) -> Any:
        if id(operation) not in self._changes:
            (new,) = self._layers(operation)
            result = new(*args, **kwargs)
            self._fill(operation, new, np.asarray)
            return result
        result = args[0]
        for layer in self._layers(operation):
            result = layer(result)
            if getattr(layer, "weights", None):
                self._fill(operation, layer, self._changes[id(operation)].kernel)
        return result

    def _layers(self, operation: Any) -> list[Any]:
        """What stands in the place of a layer, made once."""
        if id(operation) not in self._made:
            change = self._changes.get(id(operation))
            if change is not None and change.make is not None:
                found = change.make()
            elif self._is_turned:
                found = [turned_layer(operation)]
            else:
                found = [make_layer_again(operation)]
            for layer in found:
                self._name(getattr(layer, "layer", layer))
            self._made[id(operation)] = found
        return self._made[id(operation)]

    def _name(self, layer: Any) -> None:
        name, number = layer.name, 1
        while layer.name in self._names:
            layer.name = f"{name}_{number}"
            number += 1
        self._names.add(layer.name)

    def _fill(self, old: Any, new: Any, kernel: Any) -> None:
        """Give a built layer the weights and states of the old one."""
        if not isinstance(old, keras.layers.Layer):
            return
        turns = self._is_turned and is_convolution(old)
        for number, (mine, yours) in enumerate(
            zip(new.variables, old.variables, strict=True)
        ):
            value = ops.copy(yours.value)
            if number == 0 and (turns or kernel is not np.asarray):
                array = ops.convert_to_numpy(value)
                value = kernel(turned_kernel(array) if turns else array)
            mine.assign(value)
        if new._trainable != old._trainable:
            new.trainable = old._trainable


def _turned(images: Any) -> Any:
    """Images turned by 180 degrees; Keras 3.12 flips one axis at a time."""
    return ops.flip(ops.flip(images, axis=1), axis=2)
