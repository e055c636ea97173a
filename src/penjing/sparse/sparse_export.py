"""Sparse encoding for speed: only where it is right, and only where it pays."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from penjing.errors import ExportError
from penjing.sparse import sparse_rules
from penjing.sparse.explicit_padding import make_padding_explicit
from penjing.sparse.sparse_graph import Layout, graph_layout
from penjing.sparse.sparse_nodes import NOT_FLOAT, Node, read_nodes
from penjing.sparse.sparse_rules import RUNTIMES, rule_pays
from penjing.sparse.sparse_weights import SparseWeight, block_sparsity, store_sparse
from penjing.tflite.modes import find_mode
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, is_plain, values_of

ENCODINGS = (None, "sparse")
_MOST_REASONS = 6
_NO_CONVOLUTIONS = (
    "Zeros of convolutions save no time on x86: XNNPACK turns its sparse kernels off "
    "there."
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SparseConfig:
    """Where a file, of dense weights or with encoding "sparse", is to run.

    The runtime, one of `RUNTIMES`, may be None without an encoding.
    """

    encoding: str | None = None
    runtime: str | None = None
    quantization: str | None = None

    def __post_init__(self) -> None:
        if self.encoding not in ENCODINGS:
            raise ValueError(
                f"`encoding` must be None or 'sparse', got {self.encoding!r}."
            )
        if self.encoding is not None or self.runtime is not None:
            check_runtime(self.runtime)
        if self.encoding is not None:
            self._check_quantization()

    def finish(self, model: Record, where: str) -> bool:
        """Make a converted file what the runtime wants; False if it was already.

        Sparse encoding that would be wrong or buy no time there is refused.
        """
        if self.encoding and self.runtime:
            encode_for(model, self.runtime, where)
            return True
        return False

    def _check_quantization(self) -> None:
        mode = find_mode(self.quantization)
        if mode.no_sparse:
            raise ValueError(
                "encoding='sparse' does not go with "
                f"quantization={self.quantization!r}: {mode.no_sparse}. Use "
                "quantization=None or 'float16', or finish='smallest' for bytes."
            )
        if mode.weights == "float16" and self.runtime == "x86":
            raise ValueError(
                "encoding='sparse' with runtime='x86' does not go with "
                "quantization='float16': block-sparse dense layers give NaN with "
                "float16 weights. Use quantization=None."
            )


def check_runtime(runtime: object, known: Sequence[str] = RUNTIMES) -> None:
    """Refuse what is none of the known runtimes."""
    if runtime not in known:
        raise ValueError(
            f"`runtime` must be one of {', '.join(map(repr, known))}, got "
            f"{runtime!r}: which zeros save time, and whether outputs stay right, "
            "depends on it."
        )


def encode_for(model: Record, runtime: str, where: str) -> None:
    """Store the weights without zeros that the kernels of a runtime read so.

    For "wasm" no size may be free: LiteRT.js runs no such file. Where zeros would save
    no time, or outputs would be wrong, it is refused.
    """
    chosen: list[SparseWeight] = []
    problems: list[str] = []
    if rule_pays("CONV_2D", runtime):
        make_padding_explicit(model)
        chosen, problems = _chosen_convolutions(model, runtime, where)
    if rule_pays("FULLY_CONNECTED", runtime):
        blocks, failures = _chosen_blocks(model, runtime)
        chosen, problems = chosen + blocks, problems + failures
    if runtime == "x86":
        problems.append(_NO_CONVOLUTIONS)
    if not chosen:
        raise ExportError(_no_gain(where, runtime, problems))
    store_sparse(model, chosen)


def layout_problems(nodes: Sequence[Node], layout: Layout) -> list[str]:
    """Why a graph does not run with the channels first, a sentence for each operator.

    The layout is that of the graph with zeros enough.
    """
    if layout.outcome == "fast":
        return []
    if any(node.failure == NOT_FLOAT and node.weights is not None for node in nodes):
        return [
            "It computes with integers, and sparse kernels compute in float: export "
            "float32 or float16 weights."
        ]
    pooled = reached_from_poolings(nodes)
    found = [
        f"{node.label} ({node.name}): {node.failure}."
        for number, node in enumerate(nodes)
        if node.failure is not None and number in pooled
    ]
    if not any(
        node.is_exit and node.name in sparse_rules.POOLING_OPERATORS for node in nodes
    ):
        found.append(
            "Nothing ends in a global average pooling, where sparse kernels begin to "
            "look: put GlobalAveragePooling2D before the classifier."
        )
    if found:
        return found
    return [
        f"{nodes[n].label} ({nodes[n].name}): others read what it gives, and would "
        "read it in the wrong order."
        for n in layout.misread
    ] or [
        "No 3x3 convolution with stride 2 and explicit padding of 1 on an image of 3 "
        "channels leads to the global average pooling, or a value on the way is read "
        "elsewhere too."
    ]


def reached_from_poolings(nodes: Sequence[Node]) -> frozenset[int]:
    """Numbers of the operators that a global average pooling depends on.

    All where there is no such pooling. Those before a stem, which may be anything, are
    left out.
    """
    makers = {node.output: number for number, node in enumerate(nodes)}
    pending = [n for n, node in enumerate(nodes) if node.is_exit]
    if not pending:
        return frozenset(range(len(nodes)))
    seen: set[int] = set()
    while pending:
        number = pending.pop()
        if number in seen:
            continue
        seen.add(number)
        if not nodes[number].is_stem:
            inputs = nodes[number].inputs
            pending.extend(makers[value] for value in inputs if value in makers)
    pooled = {node.output for node in nodes if node.is_exit}
    for number, node in enumerate(nodes):  # 1x1 convolutions behind a pooling
        if node.name == "CONV_2D" and node.failure and pooled.intersection(node.inputs):
            seen.add(number)
    return frozenset(seen)


def _chosen_convolutions(
    model: Record, runtime: str, where: str
) -> tuple[list[SparseWeight], list[str]]:
    """The convolutions that run on sparse weights, and why others do not."""
    chosen = []
    problems: list[str] = []
    for g, graph in enumerate(model["subgraphs"]):
        nodes, layout = read_nodes(model, graph), graph_layout(model, graph)
        ideal = graph_layout(model, graph, if_zeros=True)
        problems += layout_problems(nodes, ideal)
        if layout.outcome == "wrong" or (problems and ideal.outcome == "wrong"):
            raise ExportError(_wrong(where, runtime, problems))
        if layout.outcome == "dense" and not problems:
            problems.append(_too_few(nodes, ideal))
        chosen += [
            SparseWeight(graph=g, tensor=weights)
            for n in layout.sparse
            if (weights := nodes[n].weights) is not None
            and is_plain(model, graph["tensors"][weights])
        ]
    return list(dict.fromkeys(chosen)), problems


def _too_few(nodes: Sequence[Node], ideal: Layout) -> str:
    counted = [nodes[n] for n in ideal.sparse]
    weights = sum(node.weights_count for node in counted)
    zeros = sum(node.zeros for node in counted)
    return (
        f"{zeros / max(weights, 1):.0%} of the weights of its 1x1 convolutions are "
        "zero, and XNNPACK asks for more than two of three: prune further."
    )


def _chosen_blocks(model: Record, runtime: str) -> tuple[list[SparseWeight], list[str]]:
    """The dense layers that run on blocks, and why others do not."""
    chosen = []
    problems = []
    for g, graph in enumerate(model["subgraphs"]):
        uses = Counter(int(n) for op in graph["operators"] for n in op["inputs"])
        for node in read_nodes(model, graph):
            if node.name != "FULLY_CONNECTED" or node.weights is None:
                continue
            failure = block_failure(model, graph["tensors"][node.weights], runtime)
            if failure is None and uses[node.weights] > 1:
                failure = "its weights are used more than once"
            if failure is None:
                chosen.append(
                    SparseWeight(graph=g, tensor=node.weights, in_blocks=True)
                )
            else:
                problems.append(f"{node.label}: {failure}.")
    return chosen, problems


def block_failure(model: Record, tensor: Record, runtime: str) -> str | None:
    """Why a dense layer is not faster with block-sparse weights, or None.

    The weights are `(outputs, inputs)`.
    """
    if tensor["type"] != TensorType.FLOAT32 or not is_plain(model, tensor):
        return "its weights are not float32; the block-sparse kernel takes no others"
    values = values_of(model, tensor)
    if values.ndim != 2:
        return "its weights are no matrix"
    if values.shape[1] % sparse_rules.DENSE_BLOCK:
        return f"its {values.shape[1]} inputs are no multiple of 4"
    if values.size < sparse_rules.MIN_BLOCK_WEIGHTS:
        return (
            f"its {values.size:,} weights are fewer than "
            f"{sparse_rules.MIN_BLOCK_WEIGHTS:,}; a dense kernel is faster"
        )
    zeros, needed = block_sparsity(values), sparse_rules.MIN_BLOCK_ZEROS[runtime]
    if zeros >= needed:
        return None
    return (
        f"{zeros:.0%} of its blocks of 4 inputs hold no value, and "
        f"{needed:.0%} are needed; {_block_advice(values, needed)}"
    )


def _block_advice(values: np.ndarray, needed: float) -> str:
    across = block_sparsity(np.ascontiguousarray(values.T))
    if across >= needed:
        return (
            "its blocks lie along the outputs: prune with pattern=penjing.Block(4, 1), "
            "4 inputs of one output, not Block(1, 4)"
        )
    return (
        "prune with pattern=penjing.Block(4, 1), 4 inputs of one output, or to a "
        "sparsity of 0.95 where no pattern is given"
    )


def _wrong(where: str, runtime: str, problems: Sequence[str]) -> str:
    return (
        f"`{where}` is not exported with sparse encoding: on {runtime} its outputs "
        "may be silently wrong, as XNNPACK would switch only a part of it to its "
        f"sparse kernels. {_listed(problems)} Try "
        "penjing.prepare_for_sparse_inference(model), or export it dense."
    )


def _no_gain(where: str, runtime: str, problems: Sequence[str]) -> str:
    return (
        f"`{where}` is not exported with sparse encoding: on {runtime} no kernel would "
        f"use its zeros. {_listed(problems)} See penjing.explain_sparsity; for fewer "
        "bytes alone use finish='smallest'."
    )


def _listed(problems: Sequence[str]) -> str:
    shown = list(problems[:_MOST_REASONS])
    if len(problems) > _MOST_REASONS:
        shown.append(f"And {len(problems) - _MOST_REASONS} more.")
    return " ".join(shown)
