"""What a proof found, in any runtime."""

from __future__ import annotations

import dataclasses

from penjing.json_values import JsonValue
from penjing.measurement.latency_report import LatencyReport
from penjing.runtime.tflm import TflmComparison

SUMMED = "summed roundings"


@dataclasses.dataclass(frozen=True, kw_only=True)
class VerifyReport(JsonValue):
    """What `verify` found; it raises where outputs differ.

    Attributes:
        file: The file.
        twin: The file that it was compared with in the same runtime; "(the same file,
            dense)" where it was made from the file; None where there was none.
        samples: How many inputs were compared.
        difference: Largest difference to the outputs of the twin in the same runtime;
            None without a twin.
        relative_difference: The same over the largest magnitude of that output, and of
            integers over so many steps at least that their rounding passes.
        python_difference: Largest difference to the outputs of the LiteRT runtime in
            Python, for "micro" and "x86" by its reference kernels.
        python_relative_difference: The same over the same magnitude.
        passed_by: Why outputs that differ from those in Python are right: "rounding" of
            an operator, if any; for "x86" and "micro" also "summed roundings" of
            operators that are each right, and for "micro" the "tolerance" given.
        latency: Times of the twin, which comes first, and of the file; None where the
            runtime tells no times of the device.
        runtime: Name of what ran the file.
        micro: What it takes on a microcontroller; None in other runtimes.
    """

    json_properties = ("ratio",)

    file: str
    twin: str | None
    samples: int
    difference: float | None
    relative_difference: float | None
    python_difference: float
    python_relative_difference: float
    passed_by: str = "rounding"
    latency: LatencyReport | None = None
    runtime: str = ""
    micro: TflmComparison | None = None

    @property
    def ratio(self) -> float | None:
        """How many times faster the file is than its twin; None without times."""
        return None if self.latency is None else self.latency.files[1].speedup

    def __str__(self) -> str:
        to_twin = ""
        if self.difference is not None:
            to_twin = f"from those of {self.twin} by at most {self.difference:.2g}, "
        parts = [
            f"{self.file} in {self.runtime}: outputs of {self.samples} samples differ "
            f"{to_twin}from those in Python by {self.python_difference:.2g}."
        ]
        if self.passed_by == SUMMED:
            parts.append("That is the sum of roundings: each operator is right.")
        if self.latency is not None:
            twin, file = self.latency.files
            parts.append(
                f"{file.milliseconds:.4g} ms against {twin.milliseconds:.4g} ms: "
                f"{self.ratio:.2f}x."
            )
        if self.micro is not None:
            parts.append(str(self.micro))
        return " ".join(parts)
