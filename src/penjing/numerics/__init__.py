"""Pure functions on tensors, written once in `keras.ops`.

They know no file, clock, chance or backend, and so run inside compiled steps and
eagerly alike. Their tests compare them with a NumPy twin written from the paper. What
was chosen and why: docs/engine.md.
"""

from typing import Any, TypeAlias

Tensor: TypeAlias = Any
