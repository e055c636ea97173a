"""What zeros and levels buy in flash, in RAM and in time on a microcontroller."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from penjing.errors import DataError, ExportError, FileFormatError
from penjing.json_values import JsonValue
from penjing.packing.arena_estimate import arena_estimate
from penjing.packing.pack_report import PLAIN, PackedWeight, form_text
from penjing.packing.packable import why_none
from penjing.packing.packing import Chosen, choose_forms, restore
from penjing.packing.tflm_comparison import Comparison
from penjing.tflite.decode_records import is_packed
from penjing.tflite.loading import load_records
from penjing.tflite.operators import operator_name
from penjing.tflite.records import Record
from penjing.tflite.tflm_operators import tflm_method
from penjing.tflite.writing import write_records

# What decoding takes, as nothing was timed.
_DECODED = "decoded anew in each run, not timed"
_NO_TIME = "none"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayerFlash(JsonValue):
    """A constant that an operator reads, and what its values buy.

    Attributes:
        layer: Path of the Keras layer, or what the file calls the weights.
        operator: The operator that reads it, in the schema's name.
        sparsity: Fraction of zeros.
        levels: Distinct values.
        weight: The form that it would get, its bytes and the RAM it takes.
        time: What decoding adds to each run, in words: nothing was timed.
    """

    layer: str
    operator: str
    sparsity: float
    levels: int
    weight: PackedWeight
    time: str

    @property
    def buys(self) -> str:
        """What zeros and levels buy, in a few words."""
        saved = self.weight.flash_before - self.weight.flash_after
        if not saved:
            return "nothing"
        return f"{saved:,} bytes of flash for {self.weight.ram:,} of RAM"


@dataclasses.dataclass(frozen=True, kw_only=True)
class FlashExplanation(JsonValue):
    """What `explain_sparsity(..., "micro")` found; see also `penjing.pack_litert`.

    Attributes:
        name: The file or model.
        runtime: "micro".
        layers: A row for each constant that could be packed, in the order of the file.
        flash_before: Bytes of the file, plain.
        flash_after: Bytes of the file, packed.
        arena_before: Bytes of the arena that the file needs in TFLM where that was
            measured; else an estimate of its activations alone.
        arena_after: The same for the packed file.
        arena_is_measured: Whether TFLM ran both files.
        problems: What to change.
    """

    name: str
    runtime: str
    layers: tuple[LayerFlash, ...]
    flash_before: int
    flash_after: int
    arena_before: int
    arena_after: int
    arena_is_measured: bool
    problems: tuple[str, ...]

    @property
    def summary(self) -> str:
        """Flash and RAM in a sentence."""
        if self.flash_after >= self.flash_before:
            return "On microcontrollers zeros and levels save no flash here."
        if self.arena_is_measured:
            ram = f"an arena of {self.arena_after:,} bytes"
            how = "(measured)"
        else:
            ram = f"{self.arena_after:,} bytes of RAM for activations alone"
            how = "(estimated): the arena is larger"
        return (
            f"Packed, the file takes {self.flash_after:,} bytes of flash in place of "
            f"{self.flash_before:,}, and {ram} in place of {self.arena_before:,} {how}."
        )

    def __str__(self) -> str:
        lines = [f"{self.name} on {self.runtime}"]
        lines += [
            f"  {row.layer} ({row.operator}, {row.sparsity:.1%} zeros, {row.levels} "
            f"levels): {form_text(row.weight)}; buys {row.buys}; time: {row.time}"
            for row in self.layers
        ]
        return "\n".join([*lines, *self.problems, self.summary])


def explain_flash(
    content: bytes,
    name: str,
    find: Callable[[Record, Record], str] = lambda model, tensor: "",
) -> FlashExplanation:
    """Say of the bytes of a file what each of its constants gains by packing.

    A packed file is looked at as the plain one that it stands for. Where TFLM is
    installed, it runs both files, to measure their arenas.
    `find` knows the layer of a model's tensor, or gives "".

    Raises:
        FileFormatError: If the file is corrupt.
    """
    model = load_records(content, name)
    if is_packed(model):
        model = load_records(restore(content, name), name)
    chosen = choose_forms(model)
    first = [constant.places[0] for constant in chosen.constants]
    tensors = [chosen.model["subgraphs"][g]["tensors"][t] for g, t in first]
    layers = tuple(
        LayerFlash(
            layer=find(chosen.model, tensor) or constant.name,
            operator=constant.reader,
            sparsity=float(np.mean(constant.is_zero)),
            levels=len(np.unique(constant.values)),
            weight=row,
            time=_NO_TIME if row.form == PLAIN else _DECODED,
        )
        for constant, row, tensor in zip(
            chosen.constants, chosen.rows, tensors, strict=True
        )
    )
    arenas = _measured(chosen, name)
    is_measured = arenas is not None
    if arenas is None:
        packed = load_records(chosen.content, name)
        arenas = arena_estimate(chosen.model), arena_estimate(packed)
    return FlashExplanation(
        name=name,
        runtime="micro",
        layers=layers,
        flash_before=chosen.plain_size,
        flash_after=len(chosen.content),
        arena_before=arenas[0],
        arena_after=arenas[1],
        arena_is_measured=is_measured,
        problems=(*_lacking(model), *_problems(model, layers)),
    )


def _measured(chosen: Chosen, name: str) -> tuple[int, int] | None:
    """The arenas of the plain and the packed file; None where TFLM runs not both."""
    try:
        plain = write_records(chosen.model)
        with Comparison(plain, chosen.model, name) as comparison:
            if not comparison.is_possible:
                return None
            return comparison.plain.arena.total, comparison.arena(chosen.content)
    except (DataError, ExportError, FileFormatError):
        return None


def _lacking(model: Record) -> list[str]:
    """The operators that TFLM does not have: the file does not run there at all."""
    names = {
        operator_name(model, operator)
        for graph in model["subgraphs"]
        for operator in graph["operators"]
        if tflm_method(model["operator_codes"][operator["opcode_index"]]) is None
    }
    if not names:
        return []
    return [
        f"TensorFlow Lite Micro does not run this file, as it lacks "
        f"{', '.join(sorted(names))}: export it with penjing.export_litert(model, "
        "path, quantization, runtime='micro')."
    ]


def _problems(model: Record, layers: tuple[LayerFlash, ...]) -> list[str]:
    plain = [row for row in layers if row.weight.form == PLAIN]
    found = []
    many = [row.layer for row in plain if row.levels > 32 and row.sparsity < 0.5]
    if many:
        found.append(
            f"{len(many)} weights such as {many[0]!r} have too many levels and too few "
            "zeros: prune or cluster them, with one scale for each weight; the recipe "
            "'micro' does."
        )
    if not layers:
        found.append(
            "No constant of 64 numbers or more is read by a kernel that takes decoded "
            f"ones. {why_none(model)}"
        )
    return found
