"""From a Keras model on the TensorFlow backend to the bytes of a `.tflite` file."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from penjing.errors import CompressionError, ExportError
from penjing.export.conversion_config import CONVERTED, ConversionConfig
from penjing.export.converter_messages import explain
from penjing.export.ends.affine_inputs import fold_affine
from penjing.export.ends.end_grids import EndGrids
from penjing.export.ends.end_types import check_types
from penjing.export.float_readers import restore_floats
from penjing.export.integers.calibrated_files import CalibratedFiles
from penjing.export.integers.fewest_floats import fewest_floats
from penjing.export.recurrence import check_calibration
from penjing.export.samples import (
    compared_samples,
    random_samples,
    repeated,
    spread_evenly,
)
from penjing.export.tracing.graph_rewriting import rewrite_operations
from penjing.export.tracing.mask_fills import soften_fills
from penjing.export.tracing.saved_model import save_traced
from penjing.export.trained_grids import TrainedGrids, has_trained_grids
from penjing.export.verification import (
    COMPARED_BATCH,
    VERIFIED_SAMPLES,
    file_outputs,
    keras_outputs,
    output_error,
    verify,
)
from penjing.export.weights.calibrated_weights import keep_calibrated_weights
from penjing.files import temporary_folder
from penjing.models.keras_private import all_layers
from penjing.models.signature import InputSignature
from penjing.runtime.silence import captured_output
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.loading import load_graphs, load_records
from penjing.tflite.records import Record, read_records

ALL = "(all)"  # layers, among errors of each alone
_MARGIN = 0.98  # of a bound: other backends and their last bits are to pass it too
# What says in which order inputs and outputs come.
_ENDS = {
    "Model": ("subgraphs", "signature_defs"),
    "SubGraph": ("inputs", "outputs"),
    "SignatureDef": ("inputs", "outputs"),
    "TensorMap": ("name", "tensor_index"),
}


def convert_model(
    model: keras.Model,
    signature: InputSignature,
    config: ConversionConfig,
    samples: Sequence[np.ndarray] | None = None,
) -> EditedFile:
    """Convert a model on the TensorFlow backend; an ExportError if that cannot be done.

    It is built and without transforms, or for "int8" one that was trained with its
    activations rounded. `samples`, for calibration, has an array `(samples, ...)` for
    each input. The file's inputs and outputs have the order of the model's.
    """
    if config.mode.needs_calibration and not has_trained_grids(model):
        check_calibration(model, signature.inputs[0].shape[0])
    log = None
    try:
        with (
            captured_output() as log,
            warnings.catch_warnings(),
            temporary_folder("penjing-export") as folder,
        ):
            warnings.simplefilter("ignore")  # TensorFlow's, about its own parts.
            notes: list[str] = []
            file = _convert(model, signature, config, samples, str(folder), notes)
            file.notes += notes
            graphs = load_graphs(file.content, CONVERTED)
            check_types(graphs, config.input_type, config.output_type)
            return file
    except CompressionError:
        raise
    except Exception as error:
        raise ExportError(
            _failure(model, config, error, log() if log else "")
        ) from error


def _convert(
    model: keras.Model,
    signature: InputSignature,
    config: ConversionConfig,
    samples: Sequence[np.ndarray] | None,
    folder: str,
    notes: list[str],
) -> EditedFile:
    trained = None
    if config.mode.has_int8_activations and has_trained_grids(model):
        trained = TrainedGrids(model)
    forward = trained.forward if trained else functools.partial(model, training=False)
    ends = None
    if trained is not None:
        types = {"input_type": config.input_type, "output_type": config.output_type}
        ends = EndGrids(model, signature, samples, **types)
    outputs, scopes = save_traced(
        model, signature, folder, forward, ends, growing=not config.is_micro
    )
    rewrite_operations(folder, in_integers=config.for_integers)
    if config.for_integers:
        notes += _soften_fills(model, signature, samples, folder)
    converter = _converter(
        folder, signature, config, samples, has_ranges=trained is not None
    )
    inputs = [item.name for item in signature.inputs]
    in_order = functools.partial(_in_order, inputs, outputs)
    if trained is not None:
        file = EditedFile(in_order(converter.convert()), CONVERTED)
        file.edit(restore_floats)
        file.edit(trained.correct)
        if config.mode.weight_bits == 4:
            one_scale = config.is_micro
            keep = functools.partial(
                keep_calibrated_weights, bits=4, dense_one_scale=one_scale
            )
            file.edit(keep)
        file.edit(fold_affine)
    elif config.mode.needs_calibration:
        floats = functools.partial(_float_model, folder, signature)
        files = CalibratedFiles(
            model, converter, floats, in_order, config, samples, scopes
        )
        if config.each_alone:
            return _with_errors(files, model, signature, samples, folder)
        if config.float_error is None:
            return files.make(config.float_layers)
        judge = _judge(model, signature, samples, config, folder)
        make = functools.partial(files.make, exact=True)
        return fewest_floats(make, judge, files.compared, files.costs())
    else:
        file = EditedFile(in_order(converter.convert()), CONVERTED)
    file.scopes = scopes
    return file


def _with_errors(
    files: CalibratedFiles,
    model: keras.Model,
    signature: InputSignature,
    samples: Sequence[np.ndarray] | None,
    folder: str,
) -> EditedFile:
    """The file of integers, and how far outputs are off with one layer of it alone."""
    given = None if samples is None else list(samples)
    chosen = compared_samples(given, signature, model, VERIFIED_SAMPLES)
    expected = keras_outputs(model, signature, chosen, COMPARED_BATCH)
    path = Path(folder, "alone.tflite")

    def error(file: EditedFile) -> float:
        path.write_bytes(file.content)
        outputs = file_outputs(path, chosen)
        return max(output_error(*pair) for pair in zip(outputs, expected, strict=True))

    whole = files.make(())
    whole.layer_errors = {layer: error(file) for layer, file in files.alone()}
    whole.layer_errors[ALL] = error(whole)
    return whole


def _judge(
    model: keras.Model,
    signature: InputSignature,
    samples: Sequence[np.ndarray] | None,
    config: ConversionConfig,
    folder: str,
) -> Callable[[EditedFile], None]:
    """What refuses a file whose outputs are further off than layers in float allow."""
    given = None if samples is None else list(samples)
    chosen = compared_samples(given, signature, model, VERIFIED_SAMPLES)
    expected = keras_outputs(model, signature, chosen, COMPARED_BATCH)
    bound = (config.float_error or 0.0) * _MARGIN

    def judge(file: EditedFile) -> None:
        path = Path(folder, "judged.tflite")
        path.write_bytes(file.content)
        verify(path, chosen, expected, config.quantization, tolerance=bound)

    return judge


def _soften_fills(
    model: keras.Model,
    signature: InputSignature,
    samples: Sequence[np.ndarray] | None,
    folder: str,
) -> list[str]:
    """Make masks fit for integers; gives what is to be said of them."""
    count = signature.inputs[0].shape[0] or VERIFIED_SAMPLES
    given = samples is not None
    if samples is None:
        samples = random_samples(signature, model, count)
    chosen = repeated(spread_evenly(list(samples), count), count)
    masks_nothing = soften_fills(folder, signature, chosen)
    if not (masks_nothing and given):
        return []
    return [
        f"`{model.name}` masks scores of its attention, but none of those samples of "
        "`representative_data` that were tried: the file may not know the mask. Give "
        "samples as they come later, padded ones among them."
    ]


def _float_model(folder: str, signature: InputSignature) -> Record:
    plain = _converter(folder, signature, ConversionConfig(), None, has_ranges=False)
    return load_records(plain.convert(), "the float file")


def _converter(
    folder: str,
    signature: InputSignature,
    config: ConversionConfig,
    samples: Sequence[np.ndarray] | None,
    *,
    has_ranges: bool,
) -> Any:
    import tensorflow as tf

    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    if config.quantization is not None:
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if config.mode.weights == "float16":
        converter.target_spec.supported_types = [tf.float16]
    if not config.mode.needs_calibration:
        return converter
    converter.inference_input_type = getattr(tf, config.input_type)
    converter.inference_output_type = getattr(tf, config.output_type)
    if not has_ranges:  # which the converter reads off the fake quantization
        sets = tf.lite.OpsSet
        integer = {
            "int8": sets.TFLITE_BUILTINS_INT8,
            "int16": sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8,
        }[config.mode.activations]
        # The second set keeps in float what has no integer kernel.
        converter.target_spec.supported_ops = [integer, sets.TFLITE_BUILTINS]
        converter.representative_dataset = lambda: _feeds(signature, samples or ())
    return converter


def _feeds(
    signature: InputSignature, samples: Sequence[np.ndarray]
) -> Iterator[dict[str, np.ndarray]]:
    step = signature.inputs[0].shape[0] or 1
    if 0 < len(samples[0]) < step:  # a batch that is larger than all samples
        samples = repeated(samples, step)
    for start in range(0, len(samples[0]) - step + 1, step):
        yield {
            item.name: array[start : start + step]
            for item, array in zip(signature.inputs, samples, strict=True)
        }


def _in_order(inputs: list[str], outputs: list[str], content: bytes) -> bytes:
    """Put inputs and outputs of the file in the model's order.

    The converter orders them as it likes. The two lists of tensor numbers in the
    file are as long as before, so they are overwritten in place.
    """
    buffer = bytearray(content)  # which the arrays of the records lie in
    model = read_records(buffer, CONVERTED, _ENDS)
    signature, graph = model["signature_defs"][0], model["subgraphs"][0]
    for names, side in ((inputs, "inputs"), (outputs, "outputs")):
        by_name = {
            entry["name"].decode(): entry["tensor_index"] for entry in signature[side]
        }
        wanted = [by_name.get(name, -1) for name in names]
        if sorted(wanted) != sorted(graph[side].tolist()):
            raise ExportError(
                f"The converter changed the inputs or outputs: expected {names}, "
                f"got {sorted(by_name)}. Return each tensor once from the model."
            )
        graph[side][:] = wanted
    return bytes(buffer)


def _failure(
    model: keras.Model, config: ConversionConfig, error: Exception, log: str
) -> str:
    layers = all_layers(model)
    names = {x.name for x in layers if not isinstance(x, keras.Model)}
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = " ".join(lines[:3])[:600] or type(error).__name__
    found = explain(f"{error}\n{log}", names, config.mode.activations)
    parts = [
        f"TensorFlow cannot convert the model `{model.name}` with "
        f"quantization={config.quantization!r}. {found}",
        f"The converter's words: {reason}",
    ]
    if log:
        parts.append(f"Its last ones:\n{log[-800:]}")
    return "\n".join(parts)
