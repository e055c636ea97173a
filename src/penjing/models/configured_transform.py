"""Transforms that select their weights by a config, and are saved with it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any, ClassVar, Self

import keras

from penjing.errors import UnsupportedModelError
from penjing.models.selection import (
    SelectedWeight,
    Selection,
    find_weights,
    select_weights,
)
from penjing.models.transforms import Transform


class ConfiguredTransform(Transform):
    """Base of the transforms whose config says which weights they take.

    `spares_weights` says that weights which the layer table spares are left whole
    unless they are named.

    Args:
        config: A frozen config with `include` and `exclude`.
        **kwargs: Passed to `Transform`.
    """

    spares_weights: ClassVar[bool] = True
    config: Any

    def __init__(self, config: Any, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.config = config
        self._restored = self.paths is not None

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
        )
