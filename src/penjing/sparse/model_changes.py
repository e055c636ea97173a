"""A model in the layout that sparse kernels need, computing the same.

Two identities do most of it. Keras pads "same" with stride 2 on even sizes below and to
the right, sparse kernels on every side.

- Turned by half a turn, an image has its padding above and to the left, and there
  padding on every side comes to the same: the last row and column are never reached. So
  a network that ends in global pooling, which does not see the turn, gives the same for
  turned kernels, if its first convolution turns what it reads.
- A 3x3 kernel within a 5x5 one, beside zeros, reads any pixels that it read before, and
  5x5 depthwise kernels are padded by 2.
"""

from __future__ import annotations

import dataclasses
import warnings
from typing import Any

import keras
from keras import ops

from penjing.errors import CompressionWarning
from penjing.models.copying import copy_values
from penjing.models.graph_flow import as_graph
from penjing.models.keras_private import graph_nodes, operation_behind, takes_training
from penjing.models.layer_making import make_layer_again
from penjing.sparse.sparse_changes import LayerChange, needs_turn, plan_changes
from penjing.sparse.sparse_layers import is_stem, place_layers

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
    changes, is_turned = _plan(model, equivalent)
    return SparseLayout(
        changes={c.placed.name: c.text for c in changes if c.text},
        obstacles={c.placed.name: c.obstacle for c in changes if c.obstacle},
        is_turned=is_turned,
        is_equivalent=all(c.is_equivalent for c in changes),
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
    changes, _ = _plan(model, equivalent)
    obstacles = [f"{c.placed.name}: {c.obstacle}" for c in changes if c.obstacle]
    if obstacles:
        more = len(obstacles) - _MOST_ROWS
        shown = obstacles[:_MOST_ROWS] + ([f"and {more} more"] if more > 0 else [])
        warnings.warn(
            f"`{model.name}` does not fit sparse kernels as a whole: "
            f"{'; '.join(shown)}. See penjing.sparse_layout(model).",
            CompressionWarning,
            stacklevel=2,
        )
    return _Rebuilding(model, changes).model()


def _plan(model: Any, equivalent: bool) -> tuple[list[LayerChange], bool]:
    """What is changed, and whether images and kernels are turned by half a turn."""
    layers = place_layers(model)
    hint = ""
    if equivalent and needs_turn(layers):
        changes = plan_changes(layers, turned=True, equivalent=True)
        first = next((change for change in changes if change.obstacle), None)
        if first is None:
            return changes, True
        hint = (
            f"; images cannot be turned for it, as `{first.placed.name}` would not fit "
            f"({first.obstacle})"
        )
    changes = plan_changes(layers, turned=False, equivalent=equivalent)
    changes = [
        dataclasses.replace(change, obstacle=change.obstacle + hint)
        if change.obstacle and is_stem(change.placed)
        else change
        for change in changes
    ]
    return changes, False


class _Rebuilding:
    """The graph once more, nested ones opened up, with new layers in place of some."""

    def __init__(self, model: keras.Model, changes: list[LayerChange]) -> None:
        self._model = model
        self._changes = {
            id(change.placed.layer): change
            for change in changes
            if change.make is not None
        }
        self._again: dict[int, Any] = {}
        self._names: set[str] = set()

    def model(self) -> keras.Model:
        """Make the new model."""
        graph = as_graph(self._model)
        inputs = [
            keras.Input(
                batch_shape=tensor.shape,
                dtype=tensor.dtype,
                name=operation_behind(tensor).name,
            )
            for tensor in graph.inputs
        ]
        outputs = self._run(graph, inputs)
        return keras.Model(
            keras.tree.pack_sequence_as(graph.input, inputs),
            keras.tree.pack_sequence_as(graph.output, outputs),
            name=self._model.name,
        )

    def _run(
        self, graph: Any, inputs: list[Any], training: bool | None = None
    ) -> list[Any]:
        made = dict(zip(map(id, graph.inputs), inputs, strict=True))
        for node in graph_nodes(graph):
            operation, sources = node.operation, node.input_tensors
            args, kwargs = node.arguments.fill_in(made)
            if takes_training(operation) and kwargs.get("training") is None:
                kwargs["training"] = training
            nested = as_graph(operation)
            results: Any
            if nested is not None:
                given = [made[id(tensor)] for tensor in sources]
                results = self._run(nested, given, kwargs.get("training"))
            elif id(operation) in self._changes:
                results = self._changed(operation, made[id(sources[0])])
            else:
                results = self._unchanged(operation, args, kwargs)
            flat = keras.tree.flatten(results)
            made.update(zip(map(id, node.outputs), flat, strict=True))
        return [made[id(tensor)] for tensor in graph.outputs]

    def _changed(self, operation: Any, images: Any) -> Any:
        change = self._changes[id(operation)]
        for step in (change.make or list)():
            self._name(step)
            images = step(images)
            if getattr(step, "weights", None):
                _fill(operation, step, change.kernel)
        return images

    def _unchanged(self, operation: Any, args: Any, kwargs: Any) -> Any:
        if id(operation) in self._again:
            return self._again[id(operation)](*args, **kwargs)
        again = self._again[id(operation)] = make_layer_again(operation)
        self._name(again)
        results = again(*args, **kwargs)
        if isinstance(operation, keras.layers.Layer):
            copy_values(operation, again)
        return results

    def _name(self, step: Any) -> None:
        if not isinstance(step, keras.Operation):
            return
        name, number = step.name, 1
        while step.name in self._names:
            step.name = f"{name}_{number}"
            number += 1
        self._names.add(step.name)


def _fill(old: Any, new: Any, kernel: Any) -> None:
    """Give a built layer the weights of the old one, with another kernel."""
    first = old.variables[0]

    def value_of(variable: Any) -> Any:
        if variable is not first:
            return ops.copy(variable.value)
        return kernel(ops.convert_to_numpy(variable.value))

    copy_values(old, new, value_of)
