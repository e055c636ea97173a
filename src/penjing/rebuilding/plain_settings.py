"""Keras as files mean it, whatever its user has set."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import keras


@contextlib.contextmanager
def plain_settings() -> Iterator[None]:
    """Make layers of float32 with channels last in a block; then all is as before."""
    policy, floats = keras.config.dtype_policy(), keras.config.floatx()
    order = keras.config.image_data_format()
    try:
        keras.config.set_floatx("float32")
        keras.config.set_dtype_policy("float32")
        keras.config.set_image_data_format("channels_last")
        yield
    finally:
        keras.config.set_floatx(floats)
        keras.config.set_dtype_policy(policy)
        keras.config.set_image_data_format(order)
