"""Which weights of a layer are taken."""

from __future__ import annotations

import abc
from typing import Any

import keras

from penjing.errors import UnsupportedModelError
from penjing.models.selection import (
    Obstacle,
    SelectedWeight,
    Selection,
    find_weights,
    select_weights,
)

_FROZEN = "frozen: it does not train"
_OTHER = (
    "a bias, a norm, a small kernel or a weight of a class that is not in the table"
)


class PrunableLayer(abc.ABC):
    """Mark of a layer class of one's own that says which weights may be pruned.

    Example:
        >>> class Projection(keras.layers.Layer, PrunableLayer):
        ...     def build(self, input_shape):
        ...         self.matrix = self.add_weight(shape=(input_shape[-1], 8))
        ...
        ...     def get_prunable_weights(self):
        ...         return [self.matrix]
    """

    @abc.abstractmethod
    def get_prunable_weights(self) -> list[Any]:
        """Return the variables of the built layer that may be pruned."""


def select_layer_weights(
    layer: keras.layers.Layer, obstacle: Obstacle, hook: str = "get_prunable_weights"
) -> Selection:
    """Divide the weights of a built layer into those to compress and the others.

    Args:
        layer: A built layer. A layer that has the hook says itself which they are; for
            the others penjing's table of layer classes does.
        obstacle: Gives the reason why a weight cannot be taken, or `None`.
        hook: Name of the method that lists them, as variables or as pairs of a name
            and a variable.

    Returns:
        The weights to take, which may be none, and why the others are left whole.
    """
    named = [
        as_selected(part, item[1] if isinstance(item, tuple) else item)
        for part in layer._flatten_layers()
        if hasattr(part, hook)
        for item in getattr(part, hook)()
    ]
    if named:
        return _divide_named(named, obstacle)
    try:
        return select_weights(layer, obstacle=obstacle)
    except UnsupportedModelError:
        return Selection(
            chosen=(),
            skipped={
                variable.path: _reason(layer, variable, obstacle)
                for variable in layer.weights
            },
        )


def as_selected(layer: keras.layers.Layer, variable: Any) -> SelectedWeight:
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


def _reason(layer: keras.layers.Layer, variable: Any, obstacle: Obstacle) -> str:
    if not variable.trainable:
        return _FROZEN
    try:
        return obstacle(find_weights(layer, [variable.path])[0]) or _OTHER
    except UnsupportedModelError:
        return _OTHER


def _divide_named(named: list[SelectedWeight], obstacle: Obstacle) -> Selection:
    chosen, skipped = [], {}
    for weight in named:
        reason = obstacle(weight)
        if not weight.variable.trainable:
            reason = _FROZEN
        if reason is None:
            chosen.append(weight)
        else:
            skipped[weight.path] = reason
    return Selection(chosen=tuple(chosen), skipped=skipped)
