"""Estimates of Vela for a `.tflite` file."""

from __future__ import annotations

import dataclasses
import importlib.util

from penjing.arguments import check_choice
from penjing.errors import FileFormatError, MissingDependencyError
from penjing.files import raise_limits
from penjing.json_values import JsonValue
from penjing.runtime.ethos_u import vela_worker
from penjing.runtime.file_bounds import bounds_for, said
from penjing.runtime.worker_process import (
    Bounds,
    OrderError,
    WorkerEndError,
    WorkerProcess,
)

PROCESSORS = (
    *("ethos-u55-32", "ethos-u55-64", "ethos-u55-128", "ethos-u55-256"),
    *("ethos-u65-256", "ethos-u65-512"),
    *("ethos-u85-128", "ethos-u85-256", "ethos-u85-512"),
    *("ethos-u85-1024", "ethos-u85-2048"),
)
"""What files are compiled for: the number behind the name is products in a cycle."""

_SLOWER = 8  # than running the file once
_KIB = 1024


@dataclasses.dataclass(frozen=True, kw_only=True)
class VelaEstimate(JsonValue):
    """What Vela says that a file takes; nothing of it was measured.

    Attributes:
        flash: Bytes of flash: weights as Vela compresses them, and commands.
        sram: Bytes of SRAM.
        cycles: Cycles of one inference.
        milliseconds: The same at the clock that Vela takes for the processor.
        npu_operators: Operators that run on it, after Vela's own changes.
        cpu_operators: Those that do not, and take time that is in no estimate.
        conditions: Processor, system and memory that Vela took, as it names them.
    """

    flash: int
    sram: int
    cycles: int
    milliseconds: float
    npu_operators: int
    cpu_operators: int
    conditions: str


def has_vela() -> bool:
    """Whether Vela is installed."""
    return importlib.util.find_spec("ethosu") is not None


def require_vela() -> None:
    """Raise a MissingDependencyError that says how Vela is installed, if it is not."""
    if not has_vela():
        raise MissingDependencyError(
            "Estimates for Ethos-U come from the package `ethos-u-vela`, which is not "
            'installed. Install it with: pip install "penjing[ethos]"'
        )


def estimate_by_vela(
    contents: list[bytes], where: str, processor: str = "ethos-u55-128"
) -> list[VelaEstimate]:
    """Compile files for an Ethos-U, one after the other; gives Vela's estimates.

    Raises:
        FileFormatError: If Vela cannot read one, or takes more than it may.
        MissingDependencyError: If Vela is not installed.
        ValueError: If the processor is none of `PROCESSORS`.
    """
    check_choice("processor", processor, PROCESSORS)
    require_vela()
    with WorkerProcess(vela_worker.__file__) as worker:
        return [
            _estimate(worker, content, where, processor, str(number))
            for number, content in enumerate(contents)
        ]


def _estimate(
    worker: WorkerProcess, content: bytes, where: str, processor: str, name: str
) -> VelaEstimate:
    folder = worker.folder / name
    folder.mkdir()
    file = folder / "model.tflite"
    file.write_bytes(content)
    bounds = bounds_for(len(content))
    try:
        answer = worker.ask(
            "estimate",
            bounds=Bounds(memory=bounds.memory, seconds=bounds.seconds * _SLOWER),
            file=str(file),
            folder=str(folder),
            processor=processor,
        )
    except OrderError as error:
        raise FileFormatError(f"Vela cannot compile {where}: {said(error)}") from error
    except WorkerEndError as error:
        took = "crashes" if error.seconds is None else f"takes over {error.seconds:g} s"
        raise FileFormatError(
            f"Vela {took} on {where}. The file is damaged, or too large for it. "
            f"{raise_limits()}"
        ) from error
    return _read(answer["table"], answer["operators"])


def _read(table: dict[str, str], operators: dict[str, int]) -> VelaEstimate:
    parts = ("accelerator_configuration", "system_config", "memory_mode")
    flash: tuple[str, ...] = ("on_chip_flash_memory_used", "off_chip_flash_memory_used")
    ram: tuple[str, ...] = ("sram_memory_used", "dram_memory_used")
    if "DRAM" in table["weights_storage_area"].upper():
        flash, ram = (*flash, ram[1]), ram[:1]
    return VelaEstimate(
        flash=round(_KIB * sum(float(table[key]) for key in flash)),
        sram=round(_KIB * sum(float(table[key]) for key in ram)),
        cycles=int(float(table["cycles_total"])),
        milliseconds=1e3 * float(table["inference_time"]),
        npu_operators=operators.get("NPU", 0),
        cpu_operators=operators.get("CPU", 0),
        conditions=", ".join(table[key] for key in parts),
    )
