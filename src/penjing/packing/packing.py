"""The bytes of a `.tflite` file in, those of a packed one for TFLM out, or refused."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence

import numpy as np

from penjing.arguments import check_integer
from penjing.errors import (
    CompressionWarning,
    ExportError,
    FileFormatError,
    UnsupportedModelError,
)
from penjing.packing.arena_estimate import arena_estimate, live_bytes
from penjing.packing.choice import Forms, PackedFiles, Tick
from penjing.packing.decode_operators import decode_constants
from penjing.packing.pack_report import PLAIN, PackedWeight
from penjing.packing.packable import Constant, packable_constants, why_none
from penjing.packing.slimming import fill_scales, slim
from penjing.packing.tflm_comparison import Comparison
from penjing.tflite.cleaning import drop_names, drop_unused, refuse_memory_plan
from penjing.tflite.decode_records import is_decode, is_packed
from penjing.tflite.loading import load_records
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, all_tensors, data_of, tensor_name
from penjing.tflite.writing import write_records

ARENA_HINT = " It counts bytes of RAM."


@dataclasses.dataclass(frozen=True, kw_only=True)
class Packed:
    """A packed file, and what it saves and takes.

    Attributes:
        content: Its bytes.
        rows: Its constants.
        flash_saved: Bytes that it has less than the plain file.
        arena_before: Bytes of the arena that the plain file needs.
        arena_added: Bytes of the arena that it needs more.
        arena_is_measured: Whether TFLM said so; else it is an estimate.
        compared: Inputs on which outputs were found equal in TFLM; 0 without it.
    """

    content: bytes
    rows: tuple[PackedWeight, ...]
    flash_saved: int
    arena_before: int
    arena_added: int
    arena_is_measured: bool
    compared: int


def pack(
    content: bytes,
    *,
    max_arena: int | None = None,
    where: str = "the file",
    tick: Tick = lambda done, total: None,
) -> Packed:
    """Encode the constants of a file for TFLM, each in the form that wins most bytes.

    Args:
        content: A `.tflite` file whose sizes are all known.
        max_arena: Bytes of the arena that the packed file may need; constants whose
            decoded form does not fit stay plain. None: as many as it takes.
        where: What messages call the file.
        tick: Told of constants that are done, and of all.

    Returns:
        The packed file.

    Raises:
        FileFormatError: If the file is corrupt, already packed, leaves sizes free, has
            a memory plan of its own, or TFLM cannot run it.
        UnsupportedModelError: If nothing gets smaller, or nothing fits in the arena.
        ExportError: If the packed file computes something else in TFLM.
    """
    if max_arena is not None:
        check_integer("max_arena", max_arena, least=1, hint=ARENA_HINT)
    model = load_records(content, where)
    _check(model, where)
    plain = model.copy()
    slim(plain)
    constants = packable_constants(plain)
    _check_constants(plain, constants, where)
    drop_names(plain, keep_ends=True)
    files = PackedFiles(plain, constants)
    with Comparison(content, model, where) as comparison:
        fitting = _Fitting(files, comparison, max_arena, where)
        forms, packed, arena = fitting.find(tick)
    _check_decoded(plain, packed, where)
    if max_arena is not None and not comparison.is_possible:
        _warn_of_estimate(where, arena, max_arena)
    return Packed(
        content=packed,
        rows=_rows(constants, forms, fitting.allowed),
        flash_saved=len(content) - len(packed),
        arena_before=fitting.plain_arena,
        arena_added=arena - fitting.plain_arena,
        arena_is_measured=comparison.is_possible,
        compared=comparison.samples,
    )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Chosen:
    """The smallest packed file, not proven.

    Attributes:
        model: The plain file's tables, without what TFLM does not read.
        constants: What could be packed.
        rows: What would become of each.
        content: The packed file.
        plain_size: Bytes of the plain one.
    """

    model: Record
    constants: Sequence[Constant]
    rows: tuple[PackedWeight, ...]
    content: bytes
    plain_size: int


def choose_forms(model: Record) -> Chosen:
    """Find the form of each constant, for those who only want to know."""
    plain_size = len(write_records(model))
    plain = model.copy()
    slim(plain)
    constants = packable_constants(plain)
    drop_names(plain, keep_ends=True)
    files = PackedFiles(plain, constants)
    allowed = [True] * len(constants)
    forms = files.choose(allowed)
    return Chosen(
        model=plain,
        constants=constants,
        rows=_rows(constants, forms, allowed),
        content=files.smallest(forms),
        plain_size=plain_size,
    )


def restore(content: bytes, where: str = "the file") -> bytes:
    """Write a packed file as a plain one, which LiteRT and other tools read.

    It computes the same; names, which packing leaves out but of several inputs or
    outputs, stay out. A file that is not
    packed is written anew. A corrupt one is a FileFormatError.
    """
    model = load_records(content, where)
    decode_constants(model, where)
    fill_scales(model)
    drop_unused(model)
    return write_records(model)


def _check(model: Record, where: str) -> None:
    if is_packed(model):
        raise FileFormatError(
            f"{where} is packed already: it has operators TFLM_DECODE. Pack the plain "
            "file from which it was made."
        )
    refuse_memory_plan(model, where)
    for tensor in all_tensors(model):
        if np.any(tensor["shape_signature"] < 0):
            raise FileFormatError(
                f"{where} leaves sizes free, as of the tensor {tensor_name(tensor)!r}, "
                "which TensorFlow Lite Micro may run wrong. Write it with "
                "penjing.export_litert(model, path, quantization, runtime='micro')."
            )


def _warn_of_estimate(where: str, arena: int, most: int) -> None:
    warnings.warn(
        f"The arena of {where} was not measured, as TensorFlow Lite Micro is not "
        f"installed. The estimate of {arena:,} bytes is within max_arena={most:,}, but "
        "lacks what kernels and descriptions of tensors take: the device needs more. "
        'Measure it, where there is a wheel: pip install "penjing[micro]".',
        CompressionWarning,
        stacklevel=3,
    )


def _check_constants(model: Record, constants: Sequence[Constant], where: str) -> None:
    if constants:
        return
    found = sorted(
        {
            TensorType(t["type"]).dtype
            for t in all_tensors(model)
            if len(data_of(model, t)) > 1
        }
    )
    raise UnsupportedModelError(
        f"{where} has no constant that TensorFlow Lite Micro can decode: none of 64 "
        "numbers or more, of int8, int16, int32, int64 or float32, that a convolution, "
        f"a dense layer, GATHER, BATCH_MATMUL or arithmetic reads. Its types are "
        f"{', '.join(found) or 'none'}. {why_none(model)}"
    )


class _Fitting:
    """Finds the forms with which the packed file fits in the arena."""

    def __init__(
        self,
        files: PackedFiles,
        comparison: Comparison,
        max_arena: int | None,
        where: str,
    ) -> None:
        self._files, self._comparison = files, comparison
        self._max_arena, self._where = max_arena, where
        self.allowed = [True] * len(files.constants)
        nothing: Forms = (None,) * len(files.constants)
        self.plain_size = files.size(nothing)
        if comparison.is_possible:
            self.plain_arena = comparison.plain.arena.total
        else:
            self.plain_arena = arena_estimate(load_records(files.write(nothing), where))

    def find(self, tick: Tick) -> tuple[Forms, bytes, int]:
        """Forms, the file and its arena."""
        self._check_plain()
        least = None
        while True:
            forms = self._files.choose(self.allowed, tick)
            if not any(forms):
                raise self._nothing(least)
            content = self._files.smallest(forms)
            arena = self._arena(content)
            if self._max_arena is None or arena <= self._max_arena:
                return forms, content, arena
            least = arena if least is None else min(least, arena)
            self._leave_out_largest(forms, self._files.write(forms))

    def _arena(self, content: bytes) -> int:
        if self._comparison.is_possible:
            return self._comparison.arena(content)
        return arena_estimate(load_records(content, self._where))

    def _leave_out_largest(self, forms: Forms, content: bytes) -> None:
        """Let what is decoded where the arena is fullest stay plain."""
        model = load_records(content, self._where)
        steps = live_bytes(model)
        fullest: tuple[int, list[int]] = (-1, [])
        for g, graph in enumerate(model["subgraphs"]):
            operators = graph["operators"]
            for step, operator in enumerate(operators[:-1]):
                if not is_decode(model, operator):
                    continue
                read = {int(n) for n in operator["inputs"]}
                places = [
                    n
                    for n, constant in enumerate(self._files.constants)
                    if forms[n] and any((g, t) in constant.places for t in read)
                ]
                fullest = max(fullest, (max(steps[g][step : step + 2]), places))
        for place in fullest[1]:
            self.allowed[place] = False

    def _check_plain(self) -> None:
        if self._max_arena is not None and self.plain_arena > self._max_arena:
            raise UnsupportedModelError(
                f"{self._where} needs an arena of {self.plain_arena:,} bytes before "
                f"anything is packed, {self.plain_arena - self._max_arena:,} more than "
                f"max_arena={self._max_arena:,}. Give it more, or a smaller network: "
                "penjing.prune_channels cuts activations too."
            )

    def _nothing(self, least: int | None) -> Exception:
        if least is not None and self._max_arena is not None:
            return UnsupportedModelError(
                f"No weight of {self._where} fits in the arena once it is decoded: "
                f"with the smallest one {least:,} bytes are needed, "
                f"{least - self._max_arena:,} more than max_arena={self._max_arena:,}."
                " Give it more, or keep the plain file."
            )
        return UnsupportedModelError(
            f"No weight of {self._where} gets smaller in any form that TensorFlow Lite "
            "Micro decodes: they have too few zeros and too many levels. Prune or "
            "cluster the model with one scale for each weight: penjing.prune, "
            "penjing.cluster, penjing.quantize_aware, or the recipe 'micro'."
        )


def _rows(
    constants: Sequence[Constant], forms: Forms, allowed: Sequence[bool]
) -> tuple[PackedWeight, ...]:
    rows, counted = [], set()
    for constant, form, is_allowed in zip(constants, forms, allowed, strict=True):
        size = constant.size
        if form is not None:
            size = len(form.data)
            size += 0 if form.ancillary in counted else len(form.ancillary)
            counted.add(form.ancillary)
        note = "gets no smaller" if is_allowed else "does not fit in the arena"
        rows.append(
            PackedWeight(
                name=constant.name,
                reader=constant.reader,
                type=constant.type,
                form=form.form if form else PLAIN,
                bits=form.bits if form else 0,
                flash_before=constant.size,
                flash_after=size,
                ram=constant.size if form else 0,
                note="" if form else note,
            )
        )
    return tuple(rows)


def _check_decoded(plain: Record, packed: bytes, where: str) -> None:
    """Compare all that operators read and give in the packed file with the plain."""
    model = load_records(packed, where)
    decode_constants(model, where)
    for before, after in zip(plain["subgraphs"], model["subgraphs"], strict=True):
        pairs = zip(before["operators"], after["operators"], strict=True)
        if not all(
            _reads_the_same((plain, before, first), (model, after, second))
            for first, second in [*pairs, (before, after)]
        ):
            raise ExportError(
                f"{where} packed does not decode to the same constants, or its tensors "
                "have other scales, so it was not written. Please report it with the "
                "file."
            )


def _reads_the_same(
    first: tuple[Record, Record, Record], second: tuple[Record, Record, Record]
) -> bool:
    """Whether two operators, or graphs, take and give the same tensors.

    Constants are compared by their bytes, and of all tensors what numbers mean.
    """

    def described(model: Record, graph: Record, reader: Record) -> list[object]:
        numbers = [n for side in ("inputs", "outputs") for n in reader[side]]
        tensors = [graph["tensors"][n] for n in numbers if n >= 0]
        return [
            (
                t["type"],
                tuple(t["shape"]),
                _meaning(t),
                bytes(data_of(model, t).tobytes()),
            )
            for t in tensors
        ]

    return described(*first) == described(*second)


def _meaning(tensor: Record) -> tuple[object, ...]:
    """Scales and zero points, the latter 0 where none are stored."""
    table = tensor["quantization"] or Record("QuantizationParameters")
    scales, points = table["scale"].tolist(), table["zero_point"].tolist()
    axis = int(table["quantized_dimension"]) if scales else 0
    return tuple(scales), tuple(points) if any(points) else (), axis
