"""Masks before a softmax, with fills that leave the scores their integers.

Masked scores get a number so low that softmax makes zeros of them: -2.4e38 in Keras'
attention, -1e9 in its softmax and in most code of users, or minus infinity. An integer
scale that reaches there has one step for all real scores. A fill a little below the
scores gives the same outputs; that it does is tried on samples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penjing.export.tracing.graph_nodes import (
    constant_values,
    lists_of_nodes,
    source_of,
)
from penjing.export.verification import output_error
from penjing.models.signature import InputSignature

FILLS = (20.0, 50.0, 100.0, 300.0)  # the smallest that changes nothing is taken
_LEAST = 1e4  # Numbers from here on stand for infinity.
_SOFTMAX = ("Softmax", "LogSoftmax")
# What masks and fills go through on their way to a softmax.
_CARRIERS = frozenset(
    (
        *("Add", "AddV2", "Sub", "Mul", "Neg", "Maximum", "Minimum"),
        *("Select", "SelectV2", "Cast", "Identity", "StopGradient"),
        *("BroadcastTo", "Fill", "Pack", "Tile"),
        *("ExpandDims", "Reshape", "Squeeze", "Transpose"),
    )
)
_SAME = 1e-3  # root mean square of the difference, in spreads of an output
_MODEL = "saved_model.pb"

Array = np.ndarray[Any, Any]


def soften_fills(
    folder: str, signature: InputSignature, samples: Sequence[Array]
) -> bool:
    """Give masks in a SavedModel the first of `FILLS` with the same outputs.

    Where none has, it stays as it is. Gives whether it masks scores, but none that it
    computes from the samples: outputs are the same with fills that hide nothing then.
    `samples` has an array for each input of the only signature.
    """
    path = Path(folder, _MODEL)
    original = path.read_bytes()
    if not _replaced(original, FILLS[0]):
        return False
    wanted = _outputs(folder, signature, samples)

    def changes_nothing(fill: float) -> bool:
        path.write_bytes(_replaced(original, fill))
        found = _outputs(folder, signature, samples)
        return all(_is_same(found[name], wanted[name]) for name in wanted)

    masks_nothing = changes_nothing(0.0)
    if not any(map(changes_nothing, FILLS)):
        path.write_bytes(original)
    return masks_nothing


def _replaced(content: bytes, fill: float) -> bytes:
    """The bytes of a SavedModel with other fills; none where it has no mask."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    saved = SavedModel.FromString(content)
    count = 0
    for nodes in lists_of_nodes(saved):
        for constant in _fills(nodes):
            _clip(constant, fill)
            count += 1
    return bytes(saved.SerializeToString()) if count else b""


def _fills(nodes: Any) -> Iterator[Any]:
    """Constants that are, or hold, fills of what a softmax reads."""
    by_name = {node.name: node for node in nodes}
    waiting = [node for node in nodes if node.op in _SOFTMAX]
    seen = {node.name for node in waiting}
    while waiting:
        node = waiting.pop()
        for name in node.input:
            before = by_name.get(source_of(name))
            if before is None or before.name in seen:
                continue
            seen.add(before.name)
            if before.op in _CARRIERS:
                waiting.append(before)
            elif _is_fill(constant_values(before)):
                yield before


def _is_fill(values: Array | None) -> bool:
    if values is None or values.dtype.kind != "f":
        return False
    return bool((np.abs(values) >= _LEAST).any())


def _clip(constant: Any, fill: float) -> None:
    import tensorflow as tf

    values = np.asarray(constant_values(constant))
    large = np.abs(values) >= _LEAST
    clipped = np.where(large, np.sign(values) * fill, values).astype(values.dtype)
    constant.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(clipped))


def _outputs(
    folder: str, signature: InputSignature, samples: Sequence[Array]
) -> Mapping[str, Array]:
    import tensorflow as tf

    function = tf.saved_model.load(folder).signatures["serving_default"]
    arrays = zip(signature.inputs, samples, strict=True)
    found = function(**{item.name: tf.constant(array) for item, array in arrays})
    return {name: value.numpy() for name, value in found.items()}


def _is_same(found: Array, wanted: Array) -> bool:
    if wanted.dtype.kind != "f":
        return bool(np.array_equal(found, wanted))
    return output_error(found, wanted) <= _SAME
