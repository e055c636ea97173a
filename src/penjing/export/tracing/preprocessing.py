"""Layers that prepare inputs, computed in operations that the converter knows.

Keras counts classes in a table of bins and looks integers up in a hash table, which
LiteRT has not. Comparisons with all classes, bounds or keys give the same.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from penjing.models.keras_private import all_layers
from penjing.models.lending import Loan, all_lent
from penjing.numerics import Tensor

Call = Callable[..., Any]


@contextlib.contextmanager
def convertible_preprocessing(model: keras.Model) -> Iterator[None]:
    """Let layers that prepare inputs trace as comparisons in the block.

    What has no such form, such as hashing, stays as it is.
    """
    loans: list[Loan] = []
    for layer in all_layers(model):
        make = _CALLS.get(type(layer).__name__)
        call = (
            make(layer)
            if make and type(layer).__module__.startswith("keras.")
            else None
        )
        if call is not None:
            loans.append((layer, "call", call))
    with all_lent(loans):
        yield


def _category_encoding(layer: Any) -> Call:
    def call(inputs: Any, count_weights: Any = None) -> Tensor:
        return _encoded(
            layer, ops.convert_to_tensor(inputs), layer.num_tokens, count_weights
        )

    return call


def _discretization(layer: Any) -> Call | None:
    if layer.bin_boundaries is None:
        return None
    bounds = np.asarray(layer.bin_boundaries, "float32")

    def call(inputs: Any) -> Tensor:
        values = ops.cast(inputs, "float32")[..., None]
        above = ops.cast(ops.greater_equal(values, bounds), "int32")
        return _encoded(layer, ops.sum(above, axis=-1), len(bounds) + 1)

    return call


def _integer_lookup(layer: Any) -> Call | None:
    if layer.invert or layer.num_oov_indices > 1 or layer.output_mode == "tf_idf":
        return None
    known = layer.get_vocabulary(include_special_tokens=False)
    first = len(layer.get_vocabulary()) - len(known)
    keys = np.asarray(known, "int64")
    places = np.arange(first, first + len(keys), dtype="int32")
    has_mask, gives_ids = layer.mask_token is not None, layer.output_mode == "int"
    # Vectors have no column for what is masked.
    masked = 0 if gives_ids else -1
    unknown = int(has_mask and gives_ids) if layer.num_oov_indices else -1

    def call(inputs: Any) -> Tensor:
        ids = ops.cast(inputs, "int64")
        hits = ops.cast(ops.equal(ids[..., None], keys), "int32")
        found = ops.sum(hits * (places - unknown), axis=-1) + unknown
        if has_mask:
            found = ops.where(ops.equal(ids, layer.mask_token), masked, found)
        depth = layer.max_tokens if layer.pad_to_max_tokens else first + len(keys)
        return _encoded(layer, found, depth)

    return call


# Class of Keras -> what makes the call that its layers trace.
_CALLS: dict[str, Callable[[Any], Call | None]] = {
    "CategoryEncoding": _category_encoding,
    "Discretization": _discretization,
    "IntegerLookup": _integer_lookup,
}


def _encoded(layer: Any, ids: Tensor, depth: int, weights: Any = None) -> Tensor:
    """Ids as the output mode of a layer wants them: as they are, or as vectors."""
    mode = layer.output_mode
    if mode == "int":
        return ops.cast(ids, getattr(layer, "output_dtype", "int64"))
    ids = ops.cast(ids, "int32")
    if mode == "one_hot" and len(ids.shape) > 1 and ids.shape[-1] == 1:
        ids = ops.squeeze(ids, -1)
    hot = ops.equal(ids[..., None], np.arange(depth, dtype="int32"))
    # A cast of booleans to integers would have a scale of its own.
    vectors = ops.where(hot, np.float32(1), np.float32(0))
    axis = min(1, len(ids.shape) - 1)
    if mode == "multi_hot":
        return ops.max(vectors, axis=axis)
    if mode == "count":
        if weights is not None:
            vectors = vectors * ops.cast(weights, "float32")[..., None]
        return ops.sum(vectors, axis=axis)
    return vectors
