"""The ways to quantize a `.tflite` file, one value for each.

A new way is a row of `MODES`: names, checks, tolerances, the converter's settings and
what reports call it follow from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from penjing.arguments import did_you_mean, quoted

_BITS = {"float32": 32, "float16": 16, "int8": 8, "int4": 4}
# Types of activations -> types that the inputs and outputs of the file may have.
_ALLOWED_TYPES = {
    "float32": ("float32",),
    "int8": ("float32", "int8", "uint8"),
    "int16": ("float32", "int16"),
}
_WRONG = {
    "int2": 'LiteRT\'s convolutions give NaN with int2 weights: take "int4" with '
    "weights trained on penjing.Grid(levels=3), which compress as well. ",
    "float32": "Files are float32 with quantization=None. ",
}
_HYBRID = "it has no kernels for integer weights beside float32 activations"
_FOR_INT4 = (
    "Weights of 15 levels are too few for this model as it is: train it on them with "
    "penjing.quantize_aware(model, weights=penjing.Grid(bits=4)), or use weights of "
    'eight: "dynamic" or "int8".'
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mode:
    """How the numbers of a `.tflite` file are stored and computed.

    Attributes:
        name: Its name in recipes; in `export_litert` as well, but for "float32".
        title: What a report calls it.
        weights: Type of the weights: "float32", "float16", "int8" or "int4".
        activations: Type of the activations: "float32", "int8" or "int16".
        weight_only: Whether weights become floats again when the file is loaded, so
            that nothing else is quantized.
        tolerance: Largest `output_error` that `export_litert` accepts, in standard
            deviations of the output. It is there for files that compute something
            else, not to judge accuracy: two and more times what the small models of
            the tests reach.
        advice: What to do where outputs are further off.
        no_sparse: Why no sparse kernel takes such weights; empty where some do.
        no_micro: Why TensorFlow Lite Micro does not run such files; empty where it
            does.
    """

    name: str
    title: str
    weights: str = "float32"
    activations: str = "float32"
    weight_only: bool = False
    tolerance: float
    advice: str = "Use quantization=None for this model."
    no_sparse: str = ""
    no_micro: str = ""

    @property
    def quantization(self) -> str | None:
        """The argument of `export_litert`."""
        return None if self.name == "float32" else self.name

    @property
    def weight_bits(self) -> int:
        """Bits of a weight."""
        return _BITS[self.weights]

    @property
    def has_integer_weights(self) -> bool:
        """Whether weights are stored as integers."""
        return self.weights.startswith("int")

    @property
    def needs_calibration(self) -> bool:
        """Whether activations are quantized, which takes representative data."""
        return self.activations != "float32"

    @property
    def has_int8_activations(self) -> bool:
        """Whether activations are int8, whose ranges can be observed or trained."""
        return self.activations == "int8"

    @property
    def allowed_types(self) -> tuple[str, ...]:
        """The types that inputs and outputs of the file may have."""
        return _ALLOWED_TYPES[self.activations]


_INTEGERS = "no sparse kernel takes integer weights, so zeros would save no time"

MODES = (
    Mode(
        name="float32",
        title="float32",
        tolerance=1e-3,
        advice="The converter changed an operation: please report the model.",
    ),
    Mode(
        name="dynamic",
        title="int8 weights",
        weights="int8",
        tolerance=0.2,
        no_sparse="sparse dense layers with int8 weights fail to load, or are silently "
        "wrong in blocks of 1x16, and zeros of int8 weights save no time",
        no_micro=_HYBRID,
    ),
    Mode(
        name="float16",
        title="float16 weights",
        weights="float16",
        tolerance=2e-2,
        no_micro="it reads no float16 weights",
    ),
    Mode(
        name="int8",
        title="int8",
        weights="int8",
        activations="int8",
        tolerance=0.4,
        advice="Pass representative data that covers the real inputs, or use "
        '"int16x8" or "dynamic".',
        no_sparse="sparse dense layers with int8 weights fail to load, and zeros of "
        "int8 weights save no time",
    ),
    Mode(
        name="int16x8",
        title="int16 activations, int8 weights",
        weights="int8",
        activations="int16",
        tolerance=0.1,
        no_sparse=_INTEGERS,
    ),
    Mode(
        name="int4",
        title="int4 weights",
        weights="int4",
        tolerance=0.7,
        advice=_FOR_INT4,
        no_sparse=_INTEGERS,
        no_micro=_HYBRID,
    ),
    Mode(
        name="int4_weight_only",
        title="int4 weights, float32 kernels",
        weights="int4",
        weight_only=True,
        tolerance=0.7,
        advice=_FOR_INT4,
        no_sparse=_INTEGERS,
        no_micro="it makes no floats of int4 weights",
    ),
    Mode(
        name="int8x4",
        title="int8 activations, int4 weights",
        weights="int4",
        activations="int8",
        tolerance=0.7,
        advice=_FOR_INT4,
        no_sparse=_INTEGERS,
    ),
)


def find_mode(quantization: object) -> Mode:
    """The mode that an argument `quantization` names; a ValueError if there is none.

    Example:
        >>> find_mode("int8x4").weights
        'int4'
    """
    for mode in MODES:
        if mode.quantization == quantization:
            return mode
    allowed = [mode.quantization for mode in MODES]
    advice = _WRONG.get(str(quantization), "")
    hint = "" if advice else did_you_mean(quantization, allowed)
    raise ValueError(
        f"Unknown `quantization` {quantization!r}. {advice}Allowed: "
        f"{quoted(allowed)}.{hint}"
    )


def mode_named(name: str) -> Mode:
    """The mode of a recipe, where "float32" is one of the names."""
    return next(mode for mode in MODES if mode.name == name)


def listed(modes: Iterable[Mode], conjunction: str = "or") -> str:
    """Names of modes for a message.

    Example:
        >>> listed(mode for mode in MODES if mode.needs_calibration)
        '"int8", "int16x8" or "int8x4"'
    """
    *others, last = [f'"{mode.name}"' for mode in modes]
    return f"{', '.join(others)} {conjunction} {last}" if others else last
