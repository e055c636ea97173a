"""Operations of TensorFlow in other words, which the converter knows in every mode.

They are rewritten in the SavedModel that was traced, so that no function of Keras or
TensorFlow is replaced while another thread may call it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from penjing.export.tracing.fourier_matrices import multiply_out
from penjing.export.tracing.graph_nodes import (
    add_constant,
    become,
    constant_values,
    lists_of_nodes,
    number_of,
    source_of,
)
from penjing.export.tracing.new_axes import add_axes_apart

_MODEL = "saved_model.pb"


def rewrite_operations(folder: str, *, in_integers: bool) -> None:
    """Rewrite a SavedModel in place, where the converter or its kernels lack a case.

    `in_integers`, one-hot vectors become comparisons, as ONE_HOT gives floats that the
    converter does not quantize. Keras tells -0.0 from 0.0 before it looks for the
    largest value, by bits that LiteRT does not know; there the two are equal. Of
    integers it knows neither the size nor the sign, so they become the larger of two.
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
            elif node.op in ("FFT", "FFT2D"):
                changed |= multiply_out(nodes, node, by_name)
            elif node.op in ("Abs", "Sign"):
                changed |= _clipped(nodes, node)
            elif node.op == "StridedSlice":
                numbers = [_input(node, place, by_name) for place in (1, 2, 3)]
                changed |= add_axes_apart(nodes, node, numbers)
    if changed:
        path.write_bytes(saved.SerializeToString())


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
    become(node, "Identity", [source], T=kind)


def _clipped(nodes: Any, node: Any) -> bool:
    """Let the size or the sign of integers be a limit; whether they are integers.

    The last operation is a negation, as its output is named like that of the first.
    """
    from tensorflow import as_dtype

    kind = node.attr["T"].type
    dtype = as_dtype(kind)
    if not dtype.is_integer or dtype.is_unsigned:
        return False

    def add(name: str, operation: str, *inputs: str) -> str:
        made = nodes.add(name=f"{node.name}/{name}")
        become(made, operation, list(inputs), T=kind)
        return f"{made.name}:{'y' if operation == 'Neg' else 'z'}:0"

    def constant(name: str, value: int) -> str:
        number = np.asarray(value, dtype.as_numpy_dtype)
        return add_constant(nodes, f"{node.name}/{name}", number)

    given = node.input[0]
    lower = add("negative", "Neg", given)
    if node.op == "Abs":
        lower = add("smaller", "Minimum", given, lower)
    else:
        lower = add("from", "Maximum", lower, constant("least", -1))
        lower = add("to", "Minimum", lower, constant("most", 1))
    become(node, "Neg", [lower], T=kind)
    return True


def _compared(nodes: Any, node: Any, by_name: dict[str, Any]) -> bool:
    """Let an operation compare ids with all classes; whether it is of that kind."""
    from tensorflow import as_dtype

    depth, on, off = (_input(node, place, by_name) for place in (1, 2, 3))
    # Attributes that have their default are not saved.
    axis = node.attr["axis"].i if "axis" in node.attr else -1
    if axis != -1 or depth is None or on is None or off is None:
        return False
    ids = node.attr["TI"].type if "TI" in node.attr else number_of("int64")
    values = node.attr["T"].type
    numbers = np.arange(int(depth), dtype=as_dtype(ids).as_numpy_dtype)
    last = add_constant(nodes, f"{node.name}/last", np.int32(-1))
    classes = add_constant(nodes, f"{node.name}/classes", numbers)
    each = nodes.add(name=f"{node.name}/each")
    become(each, "ExpandDims", [node.input[0], last], T=ids, Tdim=number_of("int32"))
    equal = nodes.add(name=f"{node.name}/equal")
    become(equal, "Equal", [f"{each.name}:output:0", classes], T=ids)
    equal.attr["incompatible_shape_error"].b = True
    hot = f"{equal.name}:z:0"
    if values == number_of("bool"):
        _pass_through(node, hot)
    else:
        become(node, "SelectV2", [hot, node.input[2], node.input[3]], T=values)
    return True
