"""Pure functions on tensors, written once in `keras.ops`."""

from typing import Any, TypeAlias

Tensor: TypeAlias = Any
