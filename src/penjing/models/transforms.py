"""What a weight passes through on its way into the forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import keras
from keras import ops

from penjing.models.selection import SelectedWeight
from penjing.numerics import Tensor

Values = dict[str, Tensor]


class Transform(keras.layers.Layer):
    """Base of the transforms: masks, codebooks, grids.

    A transform holds its state (masks, centroids, ranges) as ordinary Keras weights,
    so that it is trained, saved and loaded with the model. The engine calls `attach`
    once, then for every forward pass `update` (in training only) and `apply`.

    `order` fixes the place among the transforms of a model: masks, then codebooks,
    then grids, so that zeros survive clustering and centroids survive quantization.
    """

    order: ClassVar[int]
    display_name: ClassVar[str]

    def __init__(self, *, paths: Sequence[str] | None = None, **kwargs: Any) -> None:
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.weights_by_path: Mapping[str, SelectedWeight] = {}
        self.paths = None if paths is None else tuple(paths)
        self.skipped: dict[str, str] = {}

    def select(self, owner: keras.layers.Layer) -> Sequence[SelectedWeight]:
        """Weights of the built `owner` that this transform takes."""
        raise NotImplementedError

    def create_state(self, weights: Sequence[SelectedWeight]) -> None:
        """Add the state variables; called once, with the selected weights."""
        raise NotImplementedError

    def update(self, step: Tensor, values: Values) -> None:
        """Advance the state in a training step; runs inside the compiled step."""

    def apply(self, values: Values, training: bool) -> Values:
        """Values that the forward pass uses, for the paths of this transform."""
        raise NotImplementedError

    def persist(self, values: Values) -> Values:
        """Raw values that may replace the stored ones after an epoch.

        Masked weights become zero; values that must stay continuous for training
        (behind a codebook or a grid) are left as they are.
        """
        return {}

    def pending(self, last_step: int) -> str | None:
        """What will not be reached by `last_step`, or `None`."""
        return None

    def attach(self, owner: keras.layers.Layer) -> None:
        """Select the weights of a built model or layer and create the state."""
        weights = self.select(owner)
        self.paths = tuple(weight.path for weight in weights)
        self.weights_by_path = {weight.path: weight for weight in weights}
        with keras.name_scope(self.name, caller=self):
            self.create_state(weights)
        self.built = True

    def add_state(self, path: str, name: str, **kwargs: Any) -> Any:
        """A non-trainable variable named after the weight that it belongs to.

        `>` is what TensorFlow, whose names take no `|`, and PyTorch, whose names take
        no `.`, both allow.
        """
        return self.add_weight(
            name=f"{path.replace('/', '>')}>{name}",
            trainable=False,
            autocast=False,
            aggregation="only_first_replica",
            **kwargs,
        )

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, with the paths once they are selected."""
        config = {"name": self.name, "trainable": self.trainable}
        return {**config, "paths": None if self.paths is None else list(self.paths)}


def choose(
    condition: Tensor,
    when_true: Callable[[], Sequence[Tensor]],
    when_false: Callable[[], Sequence[Tensor]],
) -> Sequence[Tensor]:
    """`keras.ops.cond`, which does not make JAX or PyTorch compile what is rare.

    JAX would compile it at every call outside a compiled step, and `torch.compile`
    would break the search for a mask into dozens of graphs.

    Args:
        condition: Boolean tensor of shape `()`.
        when_true: What to compute where it holds.
        when_false: What to compute where it does not.

    Returns:
        The tensors of the one that was called.
    """
    if keras.backend.backend() == "torch":
        import torch

        if torch.compiler.is_compiling():
            choose_eagerly = torch.compiler.disable(ops.cond)
            return choose_eagerly(condition, when_true, when_false)  # type: ignore[no-any-return]
    known: bool | None = None
    if keras.backend.backend() == "jax":
        # `TypeError` is what JAX raises for the bool of a value that it traces.
        with contextlib.suppress(TypeError):
            known = bool(condition)
    if known is None:
        return ops.cond(condition, when_true, when_false)  # type: ignore[no-any-return]
    return when_true() if known else when_false()
