"""Nodes of a traced graph: read, added and made into other operations."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np


def lists_of_nodes(saved: Any) -> Iterator[Any]:
    """The nodes of each function in a SavedModel."""
    for meta in saved.meta_graphs:
        for function in meta.graph_def.library.function:
            yield function.node_def


def constant_values(node: Any) -> np.ndarray[Any, Any] | None:
    """The values of a node that is a constant."""
    if node is None or node.op != "Const":
        return None
    import tensorflow as tf

    return np.asarray(tf.make_ndarray(node.attr["value"].tensor))


def source_of(name: str) -> str:
    """The name of the node that an input comes from.

    Example:
        >>> source_of("model/dense/MatMul:product:0")
        'model/dense/MatMul'
    """
    return name.lstrip("^").split(":")[0]


def number_of(dtype: str) -> int:
    """The number of a type in a graph."""
    from tensorflow import as_dtype

    return int(as_dtype(dtype).as_datatype_enum)


def add_constant(nodes: Any, name: str, values: Any) -> str:
    """Add a constant; gives the name of its output."""
    import tensorflow as tf

    array = np.asarray(values)
    node = nodes.add(name=name, op="Const")
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array))
    node.attr["dtype"].type = tf.as_dtype(array.dtype).as_datatype_enum
    return f"{name}:output:0"


def become(node: Any, operation: str, inputs: list[str], **types: int) -> None:
    """Let a node be another operation on other inputs."""
    sources = list(inputs)
    node.op = operation
    del node.input[:]
    node.input.extend(sources)
    node.attr.clear()
    for name, kind in types.items():
        node.attr[name].type = kind
