"""Activations that mix channels, told from those that do not."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

_ELEMENTWISE = frozenset(
    (
        "celu",
        "elu",
        "exponential",
        "gelu",
        "hard_shrink",
        "hard_sigmoid",
        "hard_silu",
        "hard_tanh",
        "leaky_relu",
        "linear",
        "log_sigmoid",
        "mish",
        "relu",
        "relu6",
        "selu",
        "sigmoid",
        "silu",
        "soft_shrink",
        "softplus",
        "softsign",
        "sparse_plus",
        "sparse_sigmoid",
        "squareplus",
        "tanh",
        "tanh_shrink",
    )
)


def is_elementwise(activation: Any) -> bool:
    """Whether an activation handles each value by itself.

    Functions that Keras does not know are tried on a few numbers.

    Args:
        activation: A function, or an activation layer.
    """
    if getattr(keras.activations, _name(activation), None) is activation:
        return _name(activation) in _ELEMENTWISE
    try:
        return _is_elementwise(activation)
    except Exception:  # whatever a stranger's function raises, it is not trusted
        return False


def _name(activation: Any) -> str:
    return str(getattr(activation, "__name__", ""))


@functools.lru_cache(maxsize=64)
def _is_elementwise(activation: Callable[..., Any]) -> bool:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(3, 6)).astype("float32") * 3

    def run(array: np.ndarray) -> np.ndarray:
        return np.asarray(
            ops.convert_to_numpy(activation(ops.convert_to_tensor(array)))
        )

    whole = run(values)
    parts = [run(values[:, :2]), run(values[:, 2:])]
    return whole.shape == values.shape and bool(
        np.allclose(whole, np.concatenate(parts, axis=1), atol=1e-5)
    )
