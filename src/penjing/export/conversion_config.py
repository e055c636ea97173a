"""How a model is to become a `.tflite` file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from penjing.arguments import did_you_mean, quoted
from penjing.engine.calibration import OBSERVERS
from penjing.tflite.modes import MODES, Mode, find_mode, listed

CONVERTED = "the converted file"  # in messages
_CALIBRATED = listed(mode for mode in MODES if mode.needs_calibration)
_OBSERVED = listed((mode for mode in MODES if mode.has_int8_activations), "and")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConversionConfig:
    """How a model becomes a `.tflite` file.

    The quantization is None, or another name of a mode, see `penjing.tflite.modes`.
    Input and output type are those of floats in the file. The observer, one of
    `OBSERVERS`, says how int8 activations get their ranges. The runtime is the one that
    the file is for, "micro" or any other. `as_for_integers`: a float32 file is traced
    as one of integers is, so that the two can be compared tensor by tensor. Layers that
    stay in float within int8 are named, or found so that outputs have at most a certain
    error, in spreads. `each_alone`: what each layer alone costs is measured as well.
    """

    quantization: str | None = None
    input_type: str = "float32"
    output_type: str = "float32"
    observer: str = "min_max"
    runtime: str | None = None
    as_for_integers: bool = False
    float_layers: Sequence[str] = ()
    float_error: float | None = None
    each_alone: bool = False

    def __post_init__(self) -> None:
        allowed = self.mode.allowed_types
        for side in ("input_type", "output_type"):
            if getattr(self, side) not in allowed:
                raise ValueError(
                    f"`{side}`={getattr(self, side)!r} does not go with "
                    f"quantization={self.quantization!r}. Allowed: {quoted(allowed)}. "
                    f"Integer inputs and outputs need quantization={_CALIBRATED}."
                )
        if self.observer not in OBSERVERS:
            raise ValueError(
                f"Unknown `observer` {self.observer!r}. Allowed: {quoted(OBSERVERS)}."
                f"{did_you_mean(self.observer, OBSERVERS)}"
            )
        if self.observer != "min_max" and not self.mode.has_int8_activations:
            raise ValueError(
                f"observer={self.observer!r} does not go with "
                f"quantization={self.quantization!r}: only the ranges of int8 "
                f"activations are observed, with {_OBSERVED}."
            )

    @property
    def is_micro(self) -> bool:
        """Whether the file is for TensorFlow Lite Micro, which knows all sizes."""
        return self.runtime == "micro"

    @property
    def mode(self) -> Mode:
        """What the quantization stands for."""
        return find_mode(self.quantization)

    @property
    def for_integers(self) -> bool:
        """Whether masks and one-hot vectors are traced so that integers hold them."""
        return self.as_for_integers or self.mode.needs_calibration

    @property
    def has_floats(self) -> bool:
        """Whether layers stay in float, by name or as many as it takes."""
        return bool(self.float_layers) or self.float_error is not None
