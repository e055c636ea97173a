"""Operations of TensorFlow in other words, which the converter knows in every mode.

They are rewritten in the SavedModel that was traced, so that no function of Keras or
TensorFlow is replaced while another thread may call it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

_MODEL = "saved_model.pb"


def rewrite_operations(folder: str, *, in_integers: bool) -> None:
    """Rewrite a SavedModel in place: one-hot vectors, and the sign of zero in argmax.

    `in_integers`, one-hot vectors become comparisons, as ONE_HOT gives floats that the
    converter does not quantize. Keras tells -0.0 from 0.0 before it looks for the
    largest value, by bits that LiteRT does not know; there the two are equal.
    """
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = Path(folder, _MODEL)
    saved = SavedModel.FromString(path.read_bytes())
    changed = False
    for nodes in lists_of_nodes(saved):
        by_name = {node.name: node for node in nodes}
        for node in list(nodes):
            if node.op == "OneHot" and in_integers:
                changed |= _compared(nodes, node, by_name)
            elif node.op == "SelectV2" and _is_sign_of_zero(node, by_name):
                _pass_through(node, node.input[2])
                changed = True
    if changed:
        path.write_bytes(saved.SerializeToString())


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


def _input(
    node: Any, place: int, by_name: dict[str, Any]
) -> np.ndarray[Any, Any] | None:
    return constant_values(by_name.get(source_of(node.input[place])))


def _is_sign_of_zero(node: Any, by_name: dict[str, Any]) -> bool:
    """Whether a choice puts the smallest number below zero in place of -0.0."""
    chosen = _input(node, 1, by_name)
    if chosen is None or chosen.dtype != np.float32 or chosen.size != 1:
        return False
    return bool(chosen == -np.finfo("float32").tiny)


def _pass_through(node: Any, source: str) -> None:
    kind = node.attr["T"].type
    _become(node, "Identity", [source], T=kind)


def _compared(nodes: Any, node: Any, by_name: dict[str, Any]) -> bool:
    """Let an operation compare ids with all classes; whether it is of that kind."""
    from tensorflow import as_dtype

    depth, on, off = (_input(node, place, by_name) for place in (1, 2, 3))
    # Attributes that have their default are not saved.
    axis = node.attr["axis"].i if "axis" in node.attr else -1
    if axis != -1 or depth is None or on is None or off is None:
        return False
    ids = node.attr["TI"].type if "TI" in node.attr else _number("int64")
    values = node.attr["T"].type
    numbers = np.arange(int(depth), dtype=as_dtype(ids).as_numpy_dtype)
    last = _add_constant(nodes, f"{node.name}/last", np.int32(-1))
    classes = _add_constant(nodes, f"{node.name}/classes", numbers)
    each = nodes.add(name=f"{node.name}/each")
    _become(each, "ExpandDims", [node.input[0], last], T=ids, Tdim=_number("int32"))
    equal = nodes.add(name=f"{node.name}/equal")
    _become(equal, "Equal", [f"{each.name}:output:0", classes], T=ids)
    equal.attr["incompatible_shape_error"].b = True
    hot = f"{equal.name}:z:0"
    if values == _number("bool"):
        _pass_through(node, hot)
    else:
        _become(node, "SelectV2", [hot, node.input[2], node.input[3]], T=values)
    return True


def _number(dtype: str) -> int:
    """The number of a type in a graph."""
    from tensorflow import as_dtype

    return int(as_dtype(dtype).as_datatype_enum)


def _add_constant(nodes: Any, name: str, values: Any) -> str:
    """Add a constant; gives the name of its output."""
    import tensorflow as tf

    array = np.asarray(values)
    node = nodes.add(name=name, op="Const")
    node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(array))
    node.attr["dtype"].type = tf.as_dtype(array.dtype).as_datatype_enum
    return f"{name}:output:0"


def _become(node: Any, operation: str, inputs: list[str], **types: int) -> None:
    """Let a node be another operation on other inputs."""
    sources = list(inputs)
    node.op = operation
    del node.input[:]
    node.input.extend(sources)
    node.attr.clear()
    for name, kind in types.items():
        node.attr[name].type = kind
