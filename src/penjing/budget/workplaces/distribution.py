"""Trainings that are spread over the devices of one machine."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

import keras

from penjing.arguments import check_choice
from penjing.errors import CompressionError, CompressionWarning

DATA_PARALLEL = "data-parallel"
DISTRIBUTIONS = (DATA_PARALLEL,)


@contextlib.contextmanager
def distributed(name: str | None) -> Iterator[None]:
    """Let what is trained in the block be spread over all devices.

    The model has to be made or loaded within: its values then lie on each of them. So
    are trials of workers that are opened in the block, over the devices that they have.

    Args:
        name: `"data-parallel"`, Keras' own `DataParallel`: each device has the whole
            model and a part of each batch. None changes nothing.

    Raises:
        CompressionError: If the backend has no such thing: it is JAX's.
        ValueError: If the name is another one.

    Example:
        >>> with distributed(None):
        ...     keras.distribution.distribution() is None
        True
    """
    if name is None:
        yield
        return
    check_choice("distribution", name, DISTRIBUTIONS)
    backend = keras.backend.backend()
    if backend != "jax":
        raise CompressionError(
            f"`distribution={name!r}` (--distribution) is Keras' own, which works on "
            f"JAX; this is {backend}. Set KERAS_BACKEND=jax, or give more `workers` "
            "(--workers), which train several trials at a time on any backend."
        )
    devices = keras.distribution.list_devices()
    if len(devices) < 2:
        warnings.warn(
            f"There is one device here ({devices[0]}): trainings are not spread. "
            "Leave out `distribution` (--distribution).",
            CompressionWarning,
            stacklevel=3,
        )
    before = keras.distribution.distribution()
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=devices)
    )
    try:
        yield
    finally:
        keras.distribution.set_distribution(before)


def spread_over_devices() -> None:
    """Have Keras spread trainings over all devices, from now on."""
    devices = keras.distribution.list_devices()
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=devices)
    )


def is_spread() -> bool:
    """Whether Keras spreads the batches of trainings over devices."""
    return isinstance(
        keras.distribution.distribution(), keras.distribution.DataParallel
    )
