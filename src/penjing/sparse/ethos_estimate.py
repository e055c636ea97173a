"""What zeros and levels buy on Ethos-U, by the estimates of its compiler.

Ethos-U reads weights compressed: the fewer values there are and the more of them are
zero, the fewer bits each takes, in flash and on the way from it. So a file is compared
with a twin of the same network that nobody pruned.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from penjing.errors import ExportError
from penjing.json_values import JsonValue
from penjing.runtime.ethos_u import VelaEstimate, estimate_by_vela
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.records import Record
from penjing.tflite.tensors import (
    TensorType,
    all_tensors,
    is_plain,
    set_values,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class EthosExplanation(JsonValue):
    """What zeros and levels buy on Ethos-U: estimates of Vela, nothing measured.

    Attributes:
        name: The file or model.
        runtime: "ethos-u".
        file: What the file takes.
        twin: What the same network takes with int8 weights that are normally
            distributed, as those that nobody pruned are, and in which no value is
            missing.
        problems: What is in no estimate, and what to change.
    """

    json_properties = ("flash_ratio", "cycle_ratio")

    name: str
    runtime: str
    file: VelaEstimate
    twin: VelaEstimate
    problems: tuple[str, ...]

    @property
    def flash_ratio(self) -> float:
        """How many times less flash the file takes than its twin."""
        return self.twin.flash / max(self.file.flash, 1)

    @property
    def cycle_ratio(self) -> float:
        """How many times fewer cycles it takes."""
        return self.twin.cycles / max(self.file.cycles, 1)

    @property
    def summary(self) -> str:
        """The outcome in a sentence."""
        return (
            f"By Vela's estimates zeros and levels of weights make it take "
            f"{self.flash_ratio:.1f}x less flash and {self.cycle_ratio:.1f}x fewer "
            "cycles."
        )

    def __str__(self) -> str:
        rows = [
            f"  {label}: {found.flash:,} bytes of flash, {found.sram:,} of SRAM, "
            f"{found.cycles:,} cycles (estimates)"
            for label, found in (("file", self.file), ("dense twin", self.twin))
        ]
        head = f"{self.name} on {self.runtime} ({self.file.conditions})"
        return "\n".join([head, *rows, *self.problems, self.summary])


def explain_for_ethos(content: bytes, name: str) -> EthosExplanation:
    """Compare the bytes of an int8 file with its dense twin, on an Ethos-U55.

    Raises:
        ExportError: If none of it would run on Ethos-U.
        FileFormatError: If it is corrupt, or Vela cannot read it.
        MissingDependencyError: If Vela is not installed.
    """
    twin = EditedFile(content, name)
    twin.edit(_fill_weights)
    file, other = estimate_by_vela([content, twin.content], name)
    if not file.npu_operators:
        raise ExportError(
            f"Nothing of {name} would run on Ethos-U, which computes with integers: "
            "export it with quantization='int8' and representative_data."
        )
    problems = []
    if file.cpu_operators:
        problems.append(
            f"{file.cpu_operators} operators run on the processor beside Ethos-U; what "
            "they take is in no estimate."
        )
    return EthosExplanation(
        name=name, runtime="ethos-u", file=file, twin=other, problems=tuple(problems)
    )


def _fill_weights(model: Record) -> None:
    """Give a file weights as they are before anybody prunes."""
    generator = np.random.default_rng(0)
    for tensor in all_tensors(model):
        if is_weight(model, tensor):
            set_values(model, tensor, _normal(tensor, generator))


def is_weight(model: Record, tensor: Record) -> bool:
    """Whether a tensor is a constant of int8 with two axes or more."""
    return (
        tensor["type"] == TensorType.INT8
        and len(tensor["shape"]) > 1
        and is_plain(model, tensor)
    )


def _normal(
    tensor: Record, generator: np.random.Generator
) -> np.ndarray[Any, np.dtype[np.int8]]:
    """Normal values; the largest of all that share a scale is 127."""
    values = np.abs(drawn := generator.normal(size=tensor["shape"]))
    grid = tensor["quantization"]
    if len(grid["scale"]) > 1:
        axis = int(grid["quantized_dimension"])
        others = tuple(place for place in range(values.ndim) if place != axis)
        largest = values.max(axis=others, keepdims=True)
    else:
        largest = values.max()
    return np.asarray(np.rint(127 * drawn / largest), np.int8)
