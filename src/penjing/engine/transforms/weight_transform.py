"""What a weight passes through on its way into the forward pass."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, ClassVar, Self, TypeAlias

import keras
import numpy as np
from keras import ops

from penjing.errors import CompressionError, UnsupportedModelError
from penjing.models.keras_private import lay_out_as
from penjing.models.selection import (
    SelectedWeight,
    Selection,
    find_weights,
    select_weights,
)
from penjing.numerics import Tensor
from penjing.numerics.grids import SMALLEST

Values = dict[str, Tensor]
Incoming: TypeAlias = Callable[[], Mapping[str, np.ndarray] | None]


class Transform(keras.layers.Layer):
    """Base of the transforms: masks, codebooks, grids.

    A transform holds its state (masks, centroids, ranges) as ordinary Keras weights, so
    that it is trained, saved and loaded with the model. The engine calls `attach` once,
    then for every forward pass `update` (in training only) and `apply`.

    What is frozen does not change. A weight that is frozen while the transform is on
    keeps its mask, centroids or scales as they are, from the next `compile` on, as all
    that freezing does in Keras; they go on once it is not frozen any more. Weights that
    were frozen before are left out by masks and codebooks, and taken by grids: rounding
    needs no training.

    `order` fixes the place among the transforms of a model: masks, then codebooks, then
    grids, so that zeros survive clustering and centroids survive quantization.
    `waits_for_training` says that it changes nothing before the first training step.

    `paths` are weights that were selected before; `None` selects them. `start_step`
    counts the training steps that the model had behind it when the transform was added;
    its own steps are counted from there.
    """

    order: ClassVar[int]
    display_name: ClassVar[str]
    waits_for_training: bool = False

    def __init__(
        self,
        *,
        paths: Sequence[str] | None = None,
        start_step: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(autocast=False, dtype="float32", **kwargs)
        self.weights_by_path: Mapping[str, SelectedWeight] = {}
        self.paths = None if paths is None else tuple(paths)
        self._restored = paths is not None
        self.start_step = start_step
        self.skipped: dict[str, str] = {}

    def select(self, owner: keras.layers.Layer) -> Sequence[SelectedWeight]:
        """Weights of the built `owner` that this transform takes: those of `paths`."""
        return find_weights(owner, self.paths or ())

    def create_state(
        self, weights: Sequence[SelectedWeight], incoming: Incoming
    ) -> None:
        """Add the state variables of the selected weights; called once.

        `incoming` gives their values by path, float32, as the earlier transforms leave
        them; `None` where the model is built by its first batch, inside a function that
        is traced.
        """
        raise NotImplementedError

    def update(self, step: int | Tensor, values: Values) -> None:
        """Advance the state in a training step; runs inside the compiled step.

        The step is a Python number where `readable_step` gives one.
        """

    def apply(self, values: Values, training: bool) -> Values:
        """Values that the forward pass uses, for those paths that are given."""
        raise NotImplementedError

    @property
    def is_restored(self) -> bool:
        """Whether its weights were chosen, and its state made, in an earlier run."""
        return self._restored

    def trained_state(self) -> Iterable[tuple[str, Any]]:
        """Path of a weight and each variable that is trained along with it."""
        return ()

    def training_weights(self) -> list[tuple[int, SelectedWeight]]:
        """Weights that are not frozen, and their places among all."""
        every = enumerate(self.weights_by_path.values())
        return [(i, weight) for i, weight in every if weight.variable.trainable]

    @property
    def variables(self) -> list[Any]:
        """The state; what belongs to a frozen weight does not train."""
        self._follow_frozen()
        return super().variables  # type: ignore[no-any-return]

    @property
    def weights(self) -> list[Any]:
        """The same but for random states."""
        self._follow_frozen()
        return super().weights  # type: ignore[no-any-return]

    def _follow_frozen(self) -> None:
        for path, variable in self.trained_state():
            trains = self.trainable and self.weights_by_path[path].variable.trainable
            if variable.trainable != trains:
                variable.trainable = trains

    def penalty(self) -> Tensor | None:
        """A scalar to add to the loss, or `None`."""
        return None

    def persist(self, values: Values) -> Values:
        """Raw values that may replace the stored ones after an epoch.

        Masked weights become zero; values that must stay continuous for training
        (behind a codebook or a grid) are left as they are.
        """
        return {}

    def pending(self, last_step: int) -> str | None:
        """What will not be reached by `last_step` of training, or `None`."""
        return None

    def attach(
        self, owner: keras.layers.Layer, earlier: Sequence[Transform] = ()
    ) -> None:
        """Select the weights of a built model or layer and create the state.

        `earlier` are attached transforms that its values pass through before.
        """
        weights = self.select(owner)
        self.paths = tuple(weight.path for weight in weights)
        self.weights_by_path = {weight.path: weight for weight in weights}
        with keras.name_scope(self.name, caller=self):
            self.create_state(weights, lambda: _known_values(weights, earlier))
        self.built = True

    def add_state(
        self, path: str, name: str, *, trainable: bool = False, **kwargs: Any
    ) -> Any:
        """A variable named after the weight that it belongs to.

        `>` is what TensorFlow, whose names take no `|`, and PyTorch, whose names take
        no `.`, both allow.
        """
        return self.add_weight(
            name=f"{path.replace('/', '>')}>{name}",
            trainable=trainable,
            autocast=False,
            aggregation="mean" if trainable else "only_first_replica",
            **kwargs,
        )

    def add_mask(self, weight: SelectedWeight) -> Any:
        """A boolean mask that keeps all of a weight, and lies on devices as it does."""
        mask = self.add_state(
            weight.path, "mask", shape=weight.shape, dtype="bool", initializer="ones"
        )
        lay_out_as(weight.variable, mask)
        return mask

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, with the paths once they are selected."""
        return {
            "name": self.name,
            "trainable": self.trainable,
            "paths": None if self.paths is None else list(self.paths),
            "start_step": self.start_step,
        }


def check_values(weight: SelectedWeight, values: np.ndarray) -> None:
    """Refuse values that cannot be ranked or rounded: NaN, infinities, or too small."""
    if not np.isfinite(values).all():
        raise CompressionError(
            f"The weight {weight.path!r} holds "
            f"{int((~np.isfinite(values)).sum())} NaN or infinite values, so it "
            "cannot be compressed. Train the model again or restore sound weights."
        )
    largest = float(np.abs(values).max(initial=0.0))
    if 0 < largest < SMALLEST:
        raise CompressionError(
            f"The largest value of the weight {weight.path!r} is {largest:.2g}, below "
            f"{SMALLEST:g}: too small to be ranked, shared or rounded in float32. Set "
            "it to zero if it is not used, train the model again, or leave the weight "
            f"out: exclude={[weight.path]}."
        )


class _KnownValues(Mapping[str, np.ndarray]):
    """Values of weights behind the earlier transforms, each computed when it is read.

    So the weights are held a second time one by one, not all together.
    """

    def __init__(
        self, weights: Sequence[SelectedWeight], earlier: Sequence[Transform]
    ) -> None:
        self._weights = {weight.path: weight for weight in weights}
        self._earlier = earlier

    def __getitem__(self, path: str) -> np.ndarray:
        # A copy, as a variable that TensorFlow mirrors is no array.
        values = {path: ops.copy(self._weights[path].variable.value)}
        for transform in self._earlier:
            if path in transform.weights_by_path:
                values |= transform.apply(values, training=False)
        array: np.ndarray = ops.convert_to_numpy(ops.cast(values[path], "float32"))
        return array

    def __iter__(self) -> Iterator[str]:
        return iter(self._weights)

    def __len__(self) -> int:
        return len(self._weights)


def _known_values(
    weights: Sequence[SelectedWeight], earlier: Sequence[Transform]
) -> Mapping[str, np.ndarray] | None:
    """Values behind the earlier transforms, or `None` inside a traced function."""
    known = _KnownValues(weights, earlier)
    with contextlib.suppress(NotImplementedError, TypeError):
        for weight in sorted(weights, key=lambda weight: weight.size)[:1]:
            known[weight.path]
        return known
    return None


class ConfiguredTransform(Transform):
    """Base of the transforms whose config, frozen, says which weights they take.

    `spares_weights` says that weights which the layer table spares are left whole
    unless they are named, `takes_frozen` that those are taken too which do not train.
    """

    spares_weights: ClassVar[bool] = True
    takes_frozen: ClassVar[bool] = False
    config: Any

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config

    def select(self, owner: keras.layers.Layer) -> Sequence[SelectedWeight]:
        """Weights that the config names; those of `paths` where it was loaded."""
        if self.paths is not None:
            with contextlib.suppress(UnsupportedModelError):
                self.skipped = dict(self._selection(owner).skipped)
            return find_weights(owner, self.paths)
        selection = self._selection(owner)
        self.skipped = dict(selection.skipped)
        return selection.chosen

    def obstacle(self, weight: SelectedWeight) -> str | None:
        """Why this transform cannot take a weight, or `None`."""
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, with the paths once they are selected."""
        return {
            **super().get_config(),
            "config": keras.saving.serialize_keras_object(self.config),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """Transform from the dictionary that `get_config` gave."""
        config = dict(config)
        config["config"] = keras.saving.deserialize_keras_object(config["config"])
        return cls(**config)

    def _selection(self, owner: keras.layers.Layer) -> Selection:
        return select_weights(
            owner,
            self.config.include,
            self.config.exclude,
            self.obstacle,
            spare=self.spares_weights,
            frozen=self.takes_frozen,
        )
