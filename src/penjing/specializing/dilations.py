"""Dilated convolutions as one operator again.

With a free batch, converters write them as SPACE_TO_BATCH_ND, a convolution on the
pieces and BATCH_TO_SPACE_ND. TensorFlow Lite Micro fills what the first one adds with
the integer 0, which need not stand for 0.0, and silently gives something else; it has
no such operator of int16. Once shapes are known, the convolution itself can be dilated,
with the same products in the same order, and takes less memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from penjing.specializing.composition import Array, Composition
from penjing.tflite.cleaning import drop_unused
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.records import Record

_CONVOLUTIONS = (Operator.CONV_2D, Operator.DEPTHWISE_CONV_2D)
_MOVES = (Operator.EXPAND_DIMS, Operator.RESHAPE, Operator.SQUEEZE)
_SAME, _VALID = 0, 1
_LONGEST = 8  # operators from the first to the last


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class _Dilated:
    """The operators of one dilated convolution, in their order."""

    split: Record
    convolution: Record
    join: Record
    all: tuple[Record, ...]


def join_dilations(model: Record) -> bool:
    """Write dilated convolutions as one operator, in place; whether there were any."""
    found = False
    for graph in model["subgraphs"]:
        for dilated in list(_dilated(model, graph)):
            replaced = _joined(model, graph, dilated)
            if replaced:
                place = dict.fromkeys(map(id, dilated.all), list[Record]())
                place[id(dilated.join)] = replaced
                graph["operators"] = [
                    new for op in graph["operators"] for new in place.get(id(op), [op])
                ]
                found = True
    if found:
        drop_unused(model)
    return found


def _dilated(model: Record, graph: Record) -> Iterator[_Dilated]:
    readers = _readers(graph)
    for operator in graph["operators"]:
        if operator_code(model, operator) != Operator.SPACE_TO_BATCH_ND:
            continue
        chain = [operator]
        while (reader := _only_reader(graph, readers, chain[-1])) is not None:
            chain.append(reader)
            code = operator_code(model, reader)
            if code not in (*_CONVOLUTIONS, *_MOVES) or len(chain) > _LONGEST:
                break
        codes = [operator_code(model, item) for item in chain]
        convolutions = [
            item
            for item, code in zip(chain, codes, strict=True)
            if code in _CONVOLUTIONS
        ]
        if codes[-1] == Operator.BATCH_TO_SPACE_ND and len(convolutions) == 1:
            yield _Dilated(
                split=operator,
                convolution=convolutions[0],
                join=chain[-1],
                all=tuple(chain),
            )


def _readers(graph: Record) -> dict[int, list[Record]]:
    """Number of a tensor -> the operators that read it."""
    found: dict[int, list[Record]] = {}
    for operator in graph["operators"]:
        for number in {int(n) for n in operator["inputs"]}:
            found.setdefault(number, []).append(operator)
    return found


def _only_reader(
    graph: Record, readers: dict[int, list[Record]], operator: Record
) -> Record | None:
    if len(operator["outputs"]) != 1:
        return None
    output = int(operator["outputs"][0])
    found = readers.get(output, [])
    return None if len(found) != 1 or output in graph["outputs"] else found[0]


def _joined(model: Record, graph: Record, dilated: _Dilated) -> list[Record]:
    """The operators in place of them; none where they are something else."""
    split = Composition(model, graph, dilated.split)
    join = Composition(model, graph, dilated.join)
    it = Composition(model, graph, dilated.convolution)
    blocks, pads, other_blocks, crops = (
        c.values(c.call.input(place)) for c in (split, join) for place in (1, 2)
    )
    options = it.call.options
    if blocks is None or other_blocks is None or pads is None or crops is None:
        return []
    if options is None or not _is_usual(it, split, join, (blocks, pads, crops)):
        return []
    x, output = split.call.input(0), join.call.output
    plain = {"stride_w": 1, "stride_h": 1, "padding": _VALID}
    plain |= {"dilation_w_factor": 1, "dilation_h_factor": 1}
    if (
        not np.array_equal(blocks, other_blocks)
        or any(it.call.option(name) != value for name, value in plain.items())
        or crops[:, 0].any()
    ):
        return []
    added = np.stack([pads[:, 0], pads[:, 1] - crops[:, 1]], axis=1)
    if added.min() < 0:
        return []
    sizes, dilations = it.shape(it.call.input(1))[1:3], [int(b) for b in blocks]
    if len(blocks) == 1:  # a sequence, as an image of one row
        dilations, added = [1, *dilations], np.concatenate([[[0, 0]], added])
        x = it.reshape(x, [it.shape(x)[0], 1, *it.shape(x)[1:]])
    _write(it, x, output, added, (sizes, dilations))
    return it.operators


def _is_usual(
    it: Composition,
    split: Composition,
    join: Composition,
    sizes: tuple[Array, Array, Array],
) -> bool:
    """Whether ranks are those of images or sequences; a damaged file has any."""
    blocks, pads, crops = sizes
    count = blocks.size
    numbers = (split.call.input(0), it.call.input(1), *join.call.outputs)
    if len(numbers) != 3 or min(numbers) < 0:
        return False
    x, kernel, output = (len(it.shape(number)) for number in numbers)
    return (
        count in (1, 2)
        and blocks.ndim == 1
        and pads.shape == crops.shape == (count, 2)
        and x == output == count + 2
        and kernel == 4
    )


def _write(
    it: Composition,
    x: int,
    output: int,
    added: Array,
    kernel: tuple[list[int], list[int]],
) -> None:
    """Write the convolution; sizes and dilations of its kernel are by axis."""
    sizes, dilations = kernel
    reach = np.array([(s - 1) * d for s, d in zip(sizes, dilations, strict=True)])
    same = np.stack([reach // 2, reach - reach // 2], axis=1)
    padding = _VALID
    if np.array_equal(added, same) and added.any():
        padding, added = _SAME, np.zeros_like(added)
    if added.any():
        rows = np.concatenate([[[0, 0]], added, [[0, 0]]])
        shape = [s + int(a.sum()) for s, a in zip(it.shape(x), rows, strict=True)]
        padded = it.tensor(x, shape)
        pads = it.constant(rows, "<i4")
        x = it.add(Operator.PAD, [x, pads], padded, Record("PadOptions"), 2)
    old, image = it.call.options, it.shape(output)
    is_sequence = len(image) == 3
    if old is None:
        return
    options = old.copy()
    options["padding"] = padding
    options["dilation_h_factor"], options["dilation_w_factor"] = dilations
    end = it.tensor(output, [image[0], 1, *image[1:]]) if is_sequence else output
    code = Operator(it.call.code)
    it.add(code, [x, *it.call.inputs[1:]], end, options, max(it.version, 3))
    if is_sequence:
        it.reshape(end, image, output)
