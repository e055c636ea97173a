"""Whether a `.tflite` file computes what the Keras model computes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from penjing.errors import CompressionError, ExportError
from penjing.export.output_parts import Part, columns_of, joined_parts, part_errors
from penjing.export.precision import float32_compute
from penjing.models.signature import InputSignature
from penjing.runtime.interpreter import LiteRTModel, fixed_batch
from penjing.tflite.loading import load_graphs
from penjing.tflite.modes import MODES, find_mode
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, tensor_name

# Largest `output_error` accepted for each quantization.
TOLERANCES = {mode.quantization: mode.tolerance for mode in MODES}
# Samples that are compared, and the batch they run in: the last batch is a partial
# one, so a file that lost its free batch size does not pass.
VERIFIED_SAMPLES = 32
COMPARED_BATCH = 20
_HUGE = 1e8  # Half the range of a tensor that fills of a mask have taken: -1e9 say.
NO_16_BIT_KERNELS = (
    "Loops, integer inputs and several operations have no 16-bit kernels: "
    'use quantization="int8".'
)
_FINER = ', or use "int16x8", whose steps are 256 times as fine.'
_WORTHLESS = 1.0  # A part off by its own spread: its mean would be as close.


class InexactFileError(ExportError):
    """A file that runs, whose outputs are further off than its mode allows."""


def output_error(actual: np.ndarray, expected: np.ndarray) -> float:
    """Measure how far a file's output is off Keras', in units of the latter's spread.

    For floats that is the root mean square of the difference over the standard
    deviation of `expected` (over a hundredth of its root mean square where it hardly
    varies). For integers and booleans it is the fraction of different values. NaN where
    `actual` holds NaN or infinity.
    """
    if expected.dtype.kind in "iub":
        return float(np.mean(actual != expected))
    wanted = expected.astype("float64")
    difference = _root_mean_square(actual.astype("float64") - wanted)
    if not np.isfinite(difference):
        return float("nan")
    floor = max(0.01 * _root_mean_square(wanted), 1e-6)
    return difference / max(float(wanted.std()), floor)


def keras_outputs(
    model: keras.Model,
    signature: InputSignature,
    samples: Sequence[np.ndarray],
    batch_size: int | None = None,
) -> list[np.ndarray]:
    """Run a Keras model in float32, without training behaviour.

    `samples` has an array `(samples, ...)` for each input; so has the list for each
    output; it is flat where those of batches do not fit together. They run at once, or
    `batch_size` at a time: of some models what a sample gives depends on how many run
    with it. Samples that the model cannot run on are an ExportError.
    """
    count = len(samples[0])
    step = signature.inputs[0].shape[0] or batch_size or count
    batches = []
    try:
        with float32_compute(model):
            for start in range(0, count, step):
                batch = [array[start : start + step] for array in samples]
                tensors = list(map(keras.ops.convert_to_tensor, batch))
                outputs = model(signature.pack(tensors), training=False)
                flat = keras.tree.flatten(outputs)
                batches.append(list(map(keras.ops.convert_to_numpy, flat)))
    except Exception as error:
        raise ExportError(
            f"The Keras model `{model.name}` does not run on the samples that the file "
            f"would be compared on: {str(error)[:500]}\nPass `representative_data` "
            "that the model accepts."
        ) from error
    return _joined(batches)


def file_outputs(path: Path, samples: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Run a `.tflite` file as `keras_outputs` runs a model, `COMPARED_BATCH` at a time.

    What keeps it from running is a CompressionError.
    """
    model = LiteRTModel(path, isolated=False)
    count = len(samples[0])
    step = max(COMPARED_BATCH, fixed_batch(model.inputs))
    batches = []
    for start in range(0, count, step):
        outputs = model.predict([array[start : start + step] for array in samples])
        batches.append(outputs if isinstance(outputs, list) else [outputs])
    return _joined(batches)


def _joined(batches: Sequence[Sequence[np.ndarray]]) -> list[np.ndarray]:
    """The outputs of all batches; flat where these do not fit together."""
    joined = []
    for column in zip(*batches, strict=True):
        alike = column[0].ndim > 0 and len({value.shape[1:] for value in column}) == 1
        values = column if alike else [value.ravel() for value in column]
        joined.append(np.concatenate(values))
    return joined


def verify(
    path: Path,
    samples: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    quantization: str | None,
    unrounded: Callable[[], Sequence[np.ndarray]] | None = None,
    tolerance: float | None = None,
) -> float:
    """Compare a file with the outputs of the Keras model.

    Args:
        path: The `.tflite` file.
        samples: For each input an array `(samples, ...)`.
        expected: Outputs of the Keras model on them.
        quantization: Mode of the file; its row of `TOLERANCES` applies.
        unrounded: Gives what the model would put out if it did not round activations
            itself, as one in training does: rounding may have spoiled a part already.
        tolerance: Another bound of the outputs than that of `TOLERANCES`.

    Returns:
        The largest error of any output.

    Raises:
        ExportError: If the file does not run, gives NaN or differs too much. Then it is
            an InexactFileError.
    """
    try:
        outputs = file_outputs(path, samples)
    except CompressionError as error:
        advice = ""
        if find_mode(quantization).activations == "int16":
            advice = f" {NO_16_BIT_KERNELS}"
        raise ExportError(
            f"The converted file does not run, so it was not written: {error}{advice}"
        ) from error
    shapes = [value.shape for value in outputs], [value.shape for value in expected]
    if shapes[0] != shapes[1]:
        raise ExportError(
            "The converted file was not written: its outputs have the shapes "
            f"{shapes[0]}, those of the Keras model {shapes[1]}."
        )
    errors = [output_error(a, e) for a, e in zip(outputs, expected, strict=True)]
    tolerance = TOLERANCES[quantization] if tolerance is None else tolerance
    for number, measured in enumerate(errors):
        if not measured <= tolerance:
            raise InexactFileError(
                f"{_difference(number, measured, tolerance, quantization)} "
                f"{_advice(path, quantization)}{_of_masks(path)}"
            )
    if find_mode(quantization).needs_calibration:
        _judge_parts(path, outputs, expected, quantization, unrounded)
    return max(errors)


def _judge_parts(
    path: Path,
    outputs: Sequence[np.ndarray],
    expected: Sequence[np.ndarray],
    quantization: str | None,
    unrounded: Callable[[], Sequence[np.ndarray]] | None,
) -> None:
    """Refuse a file where one scale is too coarse for a part of an output.

    Parts that the model joined are outputs in their own right. A column of one tensor
    is worthless where it is off by its whole spread: its mean would be closer. So is
    what training has moved away from the values without rounding.
    """
    model = load_graphs(path.read_bytes(), str(path))
    joined = joined_parts(model)
    columns = [
        parts or columns_of(e) for parts, e in zip(joined, expected, strict=True)
    ]
    if unrounded is not None and any(columns):
        expected = unrounded()
    tolerance = TOLERANCES[quantization]
    for number, (actual, wanted) in enumerate(zip(outputs, expected, strict=True)):
        if wanted.dtype.kind != "f" or wanted.ndim < 2:
            continue
        strict = joined[number] and unrounded is None
        allowed = tolerance if strict else max(tolerance, _WORTHLESS)
        errors = part_errors(actual, wanted, columns[number])
        if errors and errors[0][0] > allowed:
            finer = quantization != "int16x8" and _can_be_16_bit(model)
            problem = _coarse_part(number, *errors[0], wanted, quantization)
            raise InexactFileError(problem + (_FINER if finer else "."))


def _coarse_part(
    number: int, error: float, part: Part, wanted: np.ndarray, quantization: str | None
) -> str:
    return (
        f"The file converted with quantization={quantization!r} was not written: in "
        f"output {number}, {part} is off by {error:.3g} times the spread of these "
        f"values, which is {part.of(wanted).std():.3g}. One scale serves the whole "
        f"output, whose values go from {wanted.min():.3g} to {wanted.max():.3g}. "
        "Give the parts as outputs of their own, one for each size"
    )


def _difference(
    number: int, error: float, tolerance: float, quantization: str | None
) -> str:
    if np.isnan(error):
        found = "holds NaN or infinity"
    else:
        found = (
            f"is off by {error:.3g} times the spread of the Keras model's output "
            f"(root mean square); {tolerance:g} is allowed"
        )
    return (
        f"The file converted with quantization={quantization!r} computes something "
        f"else, so it was not written: output {number} {found}."
    )


def _advice(path: Path, quantization: str | None) -> str:
    advice = find_mode(quantization).advice
    if _can_be_16_bit(load_graphs(path.read_bytes(), str(path))):
        return advice
    return advice.replace('"int16x8" or ', "")


def _can_be_16_bit(model: Record) -> bool:
    """Whether the converter may find 16-bit kernels: never for integer inputs."""
    (graph, *_) = model["subgraphs"]
    wide = (TensorType.INT32, TensorType.INT64)
    return not any(graph["tensors"][place]["type"] in wide for place in graph["inputs"])


def _of_masks(path: Path) -> str:
    """What to do where numbers for infinity have taken the range of scores."""
    (graph, *_) = load_graphs(path.read_bytes(), str(path))["subgraphs"]
    for tensor in graph["tensors"]:
        quantization, kind = tensor["quantization"], TensorType(tensor["type"])
        if kind not in (TensorType.INT8, TensorType.INT16) or not quantization:
            continue
        if (quantization["scale"] * np.iinfo(kind.dtype).max > _HUGE).any():
            return (
                f" The steps of the tensor {tensor_name(tensor)!r} are "
                f"{quantization['scale'].max():.3g}, as a mask fills it with huge "
                "numbers: smaller ones, 20 to 300 below the scores, gave other outputs "
                "here, or were not found in the graph. Fill with -100 in the model."
            )
    return ""


def _root_mean_square(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
