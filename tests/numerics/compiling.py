"""How each backend compiles a function, for tests that run inside a compiled step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` under `tf.function` or `jax.jit`; as it is on PyTorch."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        return tf.function(function, reduce_retracing=False)
    if backend == "jax":
        import jax

        return jax.jit(function)
    return function


def array(tensor: Any) -> Any:
    """The NumPy array of a tensor of any backend."""
    return keras.ops.convert_to_numpy(tensor)
