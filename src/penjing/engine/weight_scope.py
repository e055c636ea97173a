"""The block in which the inner model sees transformed weights in place of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import keras
from keras import ops

from penjing.models.keras_private import OutsideScope
from penjing.numerics import Tensor

Taken: TypeAlias = Sequence[tuple[Any, Tensor]]


class WeightScope(keras.StatelessScope):
    """Lets some variables have other values; all others stay what they are.

    What the model assigns to a variable that no transform takes is assigned, at once,
    as without the scope: averages, random states, and what a layer writes to weights
    that are trained, as `SpectralNormalization` does. (With a scope around it, as in a
    compiled step on JAX, that decides; there Keras drops what is written to trained
    weights.)

    What it assigns to a weight that a transform takes changes the raw weight by as much
    as it differs from what the model saw. So what training holds behind a mask, a
    codebook or a grid is not lost. From there on the model sees what the transforms
    make of the new raw weight: it is masked, shared or rounded as before.

    `taken` pairs variables with the values that the model sees. `renew` takes one of
    them, and gives that value anew.
    """

    def __init__(self, taken: Taken, renew: Callable[[Any], Tensor]) -> None:
        super().__init__(state_mapping=taken, collect_losses=True)
        self._renew = renew
        self._written: set[int] = set()
        self._taken = {id(variable) for variable, _ in taken}

    def get_current_value(self, variable: Any) -> Any:
        """The value that the model sees."""
        key = id(variable)
        if key in self._written:
            with OutsideScope(self):
                return self._renew(variable)
        if key in self._taken:
            return self.state_mapping[key]
        with OutsideScope(self):
            return variable.value

    def add_update(self, update: tuple[Any, Tensor]) -> None:
        """Assign what the model writes."""
        variable, value = update
        seen = self.get_current_value(variable) if id(variable) in self._taken else None
        with OutsideScope(self):
            if seen is not None:
                difference = value - ops.cast(seen, value.dtype)
                value = ops.convert_to_tensor(variable.value) + difference
            variable.assign(value)
        if seen is not None:
            # Not kept: it may have been written in a branch, of which no tensor may
            # be read outside.
            self._written.add(id(variable))
