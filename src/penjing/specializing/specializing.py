"""A file of free sizes as one of a batch of 1, by running it."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Sequence

import numpy as np

from penjing.errors import FileFormatError, require_extra
from penjing.runtime.interpreter import TensorSpec
from penjing.runtime.sample_inputs import bound_inputs, random_inputs, spec_of
from penjing.runtime.tensor_values import FileExaminer, TensorValues
from penjing.specializing.constant_folding import (
    Array,
    Place,
    fold_constants,
    foldable_tensors,
)
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.records import Record, pointed_to
from penjing.tflite.tensors import all_tensors, data_of, tensor_name

_SEEDS = 2
_IDS = ("int32", "int64")
_LARGER_IDS = 8  # Random ones are 0 and 1: a vocabulary may be small.
_MOST_BYTES = 2**20  # of a constant that is computed


def specialize(content: bytes, *, batch: int = 1, where: str = "the file") -> bytes:
    """Give a file whose sizes are all known, and which computes the same.

    Args:
        content: A `.tflite` file. It runs in a process of its own.
        batch: The batch size, where it is free.
        where: What messages call the file.

    Returns:
        The file with the shapes of a run, without free sizes; what depends on shapes
        and constants alone is constant. Signatures stay.

    Raises:
        FileFormatError: If a size other than the batch is free, a shape depends on the
            values of inputs, or the file is damaged or does not run.

    Example:
        >>> small = specialize(content)  # doctest: +SKIP
    """
    file = EditedFile(content, where)
    specialize_file(file, batch=batch)
    return file.content


def leaves_sizes_free(model: Record) -> bool:
    """Whether a file leaves sizes free."""
    return any(np.any(t["shape_signature"] < 0) for t in all_tensors(model))


def _has_unknown_sizes(model: Record) -> bool:
    """Whether a file leaves sizes free, or computes some while it runs."""
    return leaves_sizes_free(model) or any(
        operator_code(model, operator) == Operator.SHAPE
        for graph in model["subgraphs"]
        for operator in graph["operators"]
    )


def specialize_file(file: EditedFile, *, batch: int = 1) -> None:
    """Make all sizes of a file known, in place; see `specialize`."""
    if not _has_unknown_sizes(file.model):
        return
    require_extra("ai_edge_litert.interpreter", "litert")
    original = _Original(file)
    rounds = sample_rounds(file.model, batch, file.where)
    graphs = _steady_graphs(file.model)
    wanted = foldable_tensors(file.model, graphs)
    with FileExaminer(len(file.content)) as examiner:
        before = examiner.run(
            file.content,
            rounds,
            file.where,
            tensors=original.tensors,
            wanted=wanted,
            most=_MOST_BYTES,
        )
        graphs -= _growing_graphs(file.model, before[0].shapes)
        original.check_shapes(before, graphs)
        values = _same_values(wanted, before)
        values = {place: value for place, value in values.items() if place[0] in graphs}
        edit = functools.partial(_make_known, shapes=before[0].shapes, graphs=graphs)
        file.edit(edit)
        file.edit(functools.partial(fold_constants, values=values))
        after = examiner.run(file.content, rounds, file.where)
        same = all(map(_same_outputs, before, after))
        more = _more_rounds(file.model, batch, file.where)
        if not same or not _is_same_for(more, examiner, original, file, before[0]):
            raise _other_outputs(file.where, batch)


class _Original:
    """A file as it was before it is edited.

    Attributes:
        content: The file.
        tensors: How many tensors each graph has.
    """

    def __init__(self, file: EditedFile) -> None:
        self.content, self._where = file.content, file.where
        graphs = file.model["subgraphs"]
        self._names = [[tensor_name(t) for t in graph["tensors"]] for graph in graphs]
        self.tensors = [len(names) for names in self._names]

    def check_shapes(
        self, runs: Sequence[TensorValues], graphs: Collection[int]
    ) -> None:
        """Refuse it where the shape of a tensor depends on the inputs' values."""
        first, second = (run.shapes for run in runs)
        for g in graphs:
            for name, one, other in zip(
                self._names[g], first[g], second[g], strict=True
            ):
                if one != other:
                    raise FileFormatError(
                        f"The tensor `{name}` of {self._where} has the shape {one} for "
                        f"some inputs and {other} for others: sizes that depend on "
                        "values cannot be fixed. Compute them outside of the model."
                    )


def _other_outputs(where: str, batch: int) -> FileFormatError:
    return FileFormatError(
        f"{where} gives other outputs once its batch is fixed to {batch}: it draws "
        "random numbers, or the sizes that it computes depend on the values of its "
        "inputs. Give the model a fixed batch, and export it anew."
    )


def sample_rounds(model: Record, batch: int, where: str) -> list[list[Array]]:
    """Random inputs of two runs; all sizes but the batch have to be known."""
    specs = _input_specs(model, batch, where)
    return [random_inputs(specs, seed) for seed in range(_SEEDS)]


def _more_rounds(model: Record, batch: int, where: str) -> list[list[Array]]:
    """Inputs at the bounds of their types, and ids that a file may not have."""
    specs = _input_specs(model, batch, where)
    rounds = bound_inputs(specs, [spec.shape for spec in specs])
    if any(spec.dtype in _IDS for spec in specs):
        arrays = random_inputs(specs, seed=0)
        rounds.append([_larger(a) if a.dtype.name in _IDS else a for a in arrays])
    return rounds


def _larger(ids: Array) -> Array:
    return np.arange(ids.size, dtype=ids.dtype).reshape(ids.shape) % _LARGER_IDS


def _input_specs(model: Record, batch: int, where: str) -> list[TensorSpec]:
    graph = model["subgraphs"][0]
    specs = []
    for tensor in (graph["tensors"][number] for number in graph["inputs"]):
        sizes = tensor["shape_signature"]
        sizes = sizes if len(sizes) == len(tensor["shape"]) else tensor["shape"]
        shape = tuple(map(int, sizes))
        if any(size < 0 for size in shape[1:]):
            raise FileFormatError(
                f"The input `{tensor_name(tensor)}` of {where} has the shape {shape}: "
                "sizes besides the batch are free (-1), and only the batch can be "
                "chosen here. Give keras.Input every size, and export the model anew."
            )
        shape = tuple(batch if size < 0 else size for size in shape)
        specs.append(spec_of(tensor, shape))
    return specs


def _steady_graphs(model: Record) -> set[int]:
    """Graphs that run in each run, with the same shapes: the first one, and loops."""
    loops: set[int] = set()
    others: Counter[int] = Counter()
    for graph in model["subgraphs"]:
        for operator in graph["operators"]:
            used = pointed_to(operator, "graph")
            if operator_code(model, operator) == Operator.WHILE:
                loops.update(used)
            others.update(used)
    return {0} | {g for g in loops if others[g] == 1}


def _growing_graphs(model: Record, shapes: list[list[list[int] | None]]) -> set[int]:
    """Conditions and bodies of loops of which a state changes its shape."""
    growing: set[int] = set()
    for operator in _loops(model):
        condition, body = pointed_to(operator, "graph")
        inputs, outputs = (
            [shapes[body][int(n)] for n in model["subgraphs"][body][side]]
            for side in ("inputs", "outputs")
        )
        if inputs != outputs:
            growing.update((condition, body))
    return growing


def _is_same_for(
    rounds: Sequence[list[Array]],
    examiner: FileExaminer,
    original: _Original,
    file: EditedFile,
    usual: TensorValues,
) -> bool:
    """Compare two files on inputs on which the first need not run.

    Shapes in the main graph are to be the `usual` ones; a loop may not run at all.
    """
    for arrays in rounds:
        try:
            (before,) = examiner.run(
                original.content, [arrays], file.where, tensors=original.tensors
            )
        except FileFormatError:
            continue
        original.check_shapes((usual, before), {0})
        (after,) = examiner.run(file.content, [arrays], file.where)
        if not _same_outputs(before, after):
            return False
    return True


def _same_values(
    places: Sequence[Place], runs: Sequence[TensorValues]
) -> dict[Place, Array]:
    """What was computed from no input: the same in each run."""
    first, second = (run.values for run in runs)
    columns = zip(places, first, second, strict=True)
    return {
        place: one
        for place, one, other in columns
        if one is not None and other is not None and one.tobytes() == other.tobytes()
    }


def _make_known(
    model: Record, shapes: list[list[list[int] | None]], graphs: Collection[int]
) -> None:
    """Give tensors the shapes that they have in a run, in place."""
    for tensor in all_tensors(model):
        tensor.drop("shape_signature")
    for g in graphs:
        tensors = model["subgraphs"][g]["tensors"]
        for tensor, shape in zip(tensors, shapes[g], strict=True):
            if shape is not None and not len(data_of(model, tensor)):
                tensor["shape"] = np.array(shape, "<i4")
    for operator in _loops(model):
        _match_condition(model, operator, graphs)


def _loops(model: Record) -> list[Record]:
    return [
        operator
        for graph in model["subgraphs"]
        for operator in graph["operators"]
        if operator_code(model, operator) == Operator.WHILE
    ]


def _match_condition(model: Record, loop: Record, graphs: Collection[int]) -> None:
    """Give what a condition takes, but need not look at, the shapes of the body's."""
    condition, body = pointed_to(loop, "graph")
    if condition not in graphs or body not in graphs:
        return
    taken, given = (model["subgraphs"][g] for g in (condition, body))
    for mine, other in zip(taken["inputs"], given["inputs"], strict=True):
        taken["tensors"][mine]["shape"] = given["tensors"][other]["shape"]


def _same_outputs(one: TensorValues, other: TensorValues) -> bool:
    pairs = list(zip(one.outputs, other.outputs, strict=True))
    return all(
        a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()
        for a, b in pairs
    )
