"""Running a mixed precision model in float32."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import keras

from penjing.models.keras_private import all_layers

_LOW_PRECISION = ("float16", "bfloat16")


class _Float32Compute(keras.dtype_policies.DTypePolicy):
    """Float32 arithmetic on variables of another type.

    Keras casts variables only where the two types of a policy differ.
    """

    def __init__(self, stored: str) -> None:
        super().__init__("float32")
        self._stored = stored

    @property
    def variable_dtype(self) -> str:
        return self._stored


_turns = threading.RLock()  # of those who change policies


@contextlib.contextmanager
def float32_compute(model: keras.Model) -> Iterator[None]:
    """Let the layers of any Keras model compute in float32 inside the block.

    The LiteRT converter has no kernels for float16 and bfloat16 arithmetic; the
    variables of a mixed precision model are float32 already. Layers that Keras itself
    quantized keep their policy. Variables are read as float32 whatever they are stored
    as. After the block the policies are as before. Threads take turns.
    """
    with _turns, _computing_in_float32(model):
        yield


@contextlib.contextmanager
def _computing_in_float32(model: keras.Model) -> Iterator[None]:
    changed = []
    try:
        for layer in all_layers(model):
            policy = layer.dtype_policy
            low = policy.compute_dtype in _LOW_PRECISION
            if low and policy.quantization_mode is None:
                changed.append((layer, policy))
                layer.dtype_policy = _Float32Compute(policy.variable_dtype)
        yield
    finally:
        for layer, policy in changed:
            layer.dtype_policy = policy
