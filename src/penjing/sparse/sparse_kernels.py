"""Which kernel of a runtime runs each operator with weights, and what zeros buy."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from penjing.json_values import JsonValue
from penjing.sparse.sparse_export import block_failure, layout_problems
from penjing.sparse.sparse_graph import graph_layout
from penjing.sparse.sparse_nodes import Node, read_nodes, weight_values
from penjing.sparse.sparse_rules import DENSE_BLOCK, rule_for
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import (
    FLOATS,
    TensorType,
    data_of,
    is_plain,
    unpack,
    values_of,
)

BOTH, BYTES = "bytes and milliseconds", "bytes"
COMPRESSED, NOTHING = "compressed bytes", "nothing"
_DENSE = {
    "CONV_2D": "XNNPACK dense convolution",
    "DEPTHWISE_CONV_2D": "XNNPACK dense depthwise convolution",
    "FULLY_CONNECTED": "XNNPACK dense layer",
}
_WRONG_BLOCKS = "in blocks such weights give NaN, fail to load, or are silently wrong"
_NO_AVX_KERNELS = "XNNPACK turns sparse convolutions off on x86"
_ENCODE = 'the file stores its zeros: export it with encoding="sparse"'


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerSparsity(JsonValue):
    """One operator with weights, and what runs it.

    Attributes:
        layer: Path of the Keras layer, or what the file calls the weights.
        operator: Name of the operator in a `.tflite` file.
        sparsity: Fraction of zeros in its weights.
        kernel: What runs it.
        buys: What its zeros buy there: "bytes and milliseconds", "bytes", "compressed
            bytes" (after gzip or the like), or "nothing".
        reason: Which condition fails and what to change, "" where none does.
    """

    layer: str
    operator: str
    sparsity: float
    kernel: str
    buys: str
    reason: str = ""


class GraphKernels:
    """The kernels of one graph of a file on one of `RUNTIMES`.

    `is_planned` files stand for one that is to be exported with sparse encoding, where
    that is right and pays.
    """

    def __init__(
        self, model: Record, graph: Record, runtime: str, *, is_planned: bool
    ) -> None:
        self._model = model
        self._graph = graph
        self._runtime = runtime
        self._is_planned = is_planned
        self._nodes = read_nodes(model, graph)
        self._layout = graph_layout(model, graph)
        self._ideal = graph_layout(model, graph, if_zeros=True)
        self._densified = {
            number
            for operator in graph["operators"]
            if operator_code(model, operator) == Operator.DENSIFY
            for number in map(int, operator["inputs"])
        }

    @property
    def is_encoded(self) -> bool:
        """Whether zeros are left out."""
        if self._is_planned:
            return any(row.buys == BOTH for _, row in self.rows())
        return any(bool(tensor["sparsity"]) for tensor in self._graph["tensors"])

    @property
    def outcome(self) -> str:
        """What the runtime makes of it: "fast", "dense" or "wrong"."""
        rows = [row for _, row in self.rows()]
        if any(row.reason == _WRONG_BLOCKS for row in rows):
            return "wrong"
        pays = any(row.buys == BOTH for row in rows)
        if self._runtime == "x86":
            return "fast" if pays else "dense"
        would_be_wrong = self._ideal.outcome == "wrong"
        if self._is_planned:
            found = "wrong" if would_be_wrong else self._layout.outcome
        elif self._densified:
            found = self._layout.outcome
        else:
            found = "wrong" if would_be_wrong and not pays else "dense"
        # Dense layers in blocks do not ask for the channels first.
        return "fast" if found == "dense" and pays else found

    def problems(self) -> list[str]:
        """What keeps the graph as a whole from sparse kernels."""
        convolves = any(node.name == "CONV_2D" for node in self._nodes)
        if self._runtime == "x86" or not convolves:
            return []
        return layout_problems(self._nodes, self._ideal)

    def rows(self) -> Iterator[tuple[Record, LayerSparsity]]:
        """The weights and a row of each operator that has some, in their order."""
        for number, node in enumerate(self._nodes):
            if node.weights is None:
                continue
            tensor = self._graph["tensors"][node.weights]
            kernel, reason = self._kernel(number, node, node.weights)
            sparsity = self._sparsity(tensor)
            yield (
                tensor,
                LayerSparsity(
                    layer=node.label,
                    operator=node.name,
                    sparsity=sparsity,
                    kernel=kernel,
                    buys=self._bought(tensor, sparsity, kernel, reason),
                    reason=reason,
                ),
            )

    def _bought(self, tensor: Record, sparsity: float, kernel: str, reason: str) -> str:
        if not sparsity:
            return NOTHING
        if not reason and kernel in map(self._fast_kernel, _DENSE):
            return BOTH
        return BYTES if tensor["sparsity"] else COMPRESSED

    def _kernel(self, number: int, node: Node, weights: int) -> tuple[str, str]:
        """The kernel, and the condition that fails."""
        dense = _DENSE[node.name]
        tensor = self._graph["tensors"][weights]
        if tensor["sparsity"] and weights not in self._densified:
            return self._read_sparse(node, tensor)
        if tensor["type"] not in FLOATS:
            return f"{dense}, integer weights", "sparse kernels take float weights"
        fast = self._fast_kernel(node.name)
        if fast is None:
            return dense, self._why_never(node)
        if node.name == "FULLY_CONNECTED":
            if tensor["sparsity"]:
                return dense, "DENSIFY gives its zeros back when the file is loaded"
            return self._dense_layer(tensor, fast)
        return self._convolution(number, node, fast)

    def _fast_kernel(self, operator: str) -> str | None:
        """The kernel that zeros make faster; None without any."""
        rule = rule_for(operator, self._runtime)
        return rule.kernel if rule is not None and rule.milliseconds else None

    def _why_never(self, node: Node) -> str:
        if node.name == "FULLY_CONNECTED":
            return f"no sparse kernel for dense layers on {self._runtime}"
        if node.name == "DEPTHWISE_CONV_2D":
            return "no runtime has a sparse depthwise kernel"
        return _NO_AVX_KERNELS

    def _read_sparse(self, node: Node, tensor: Record) -> tuple[str, str]:
        """The kernel of an operator that reads a sparse tensor itself."""
        kernel = f"LiteRT sparse {node.name}"
        if node.name != "FULLY_CONNECTED" or tensor["type"] != TensorType.FLOAT32:
            return kernel, _WRONG_BLOCKS
        fast = self._fast_kernel(node.name)
        if fast is None:
            return kernel, f"its speed on {self._runtime} was not measured"
        sizes = [int(d["dense_size"]) for d in tensor["sparsity"]["dim_metadata"]]
        axes = [int(axis) for axis in tensor["sparsity"]["block_map"]]
        if (sizes[2:], axes) != ([DENSE_BLOCK], [1]):
            return kernel, "its zeros are not stored in blocks of 1x4"
        return fast, ""

    def _dense_layer(self, tensor: Record, sparse_kernel: str) -> tuple[str, str]:
        dense = _DENSE["FULLY_CONNECTED"]
        failure = block_failure(self._model, tensor, self._runtime)
        if failure is not None:
            return dense, failure
        return (sparse_kernel, "") if self._is_planned else (dense, _ENCODE)

    def _convolution(
        self, number: int, node: Node, sparse_kernel: str
    ) -> tuple[str, str]:
        dense = _DENSE["CONV_2D"]
        if node.is_stem:
            return dense, "the first convolution runs dense; it has few weights"
        if node.failure is not None:
            return dense, node.failure
        asks = bool(self._densified) or self._is_planned
        if self._ideal.outcome == "wrong":
            if self._densified and self._layout.outcome == "wrong":
                return sparse_kernel, "outputs are silently wrong, see the problems"
            return dense, "sparse encoding would make outputs wrong, see the problems"
        if number not in self._ideal.sparse:
            return dense, "the network does not fit, see the problems"
        if number not in self._layout.sparse:
            return dense, (
                "XNNPACK asks for more than 2/3 zeros in all 1x1 convolutions "
                "together: prune further"
            )
        return (sparse_kernel, "") if asks else (dense, _ENCODE)

    def _sparsity(self, tensor: Record) -> float:
        """The fraction of zeros, those that stand for an integer zero included."""
        count = math.prod(int(size) for size in tensor["shape"])
        if is_plain(self._model, tensor):
            values = values_of(self._model, tensor)
            quantization = tensor["quantization"]
            points = quantization["zero_point"] if quantization else np.zeros(0)
            zero = int(points[0]) if len(points) == 1 else 0
            return float(np.mean(values == zero)) if values.size else 0.0
        kind = TensorType(tensor["type"])
        if kind.is_packed and not tensor["sparsity"]:
            codes = unpack(data_of(self._model, tensor), kind.bits)[:count]
            return float(np.mean(codes == 0)) if count else 0.0
        stored = weight_values(self._model, tensor)
        if tensor["sparsity"] and not kind.is_packed:  # the zeros are left out
            stored = np.ascontiguousarray(data_of(self._model, tensor))
            stored = stored.view(kind.numpy_type)
        if stored is None or not count:
            return 0.0
        return 1 - int(np.count_nonzero(stored)) / count
