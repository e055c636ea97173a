"""Keras models of any backend into `.tflite` files that LiteRT runs."""

from __future__ import annotations

import importlib.util
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np

from penjing.arguments import quoted
from penjing.errors import (
    CompressionWarning,
    DataError,
    MissingDependencyError,
    UnsupportedModelError,
    require_extra,
)
from penjing.export.conversion_config import ConversionConfig
from penjing.export.ends.end_grids import check_columns
from penjing.export.file_notes import file_notes, slow_kernels, wide_weights
from penjing.export.integers.float_layers import chosen_floats
from penjing.export.mode_conversion import converted
from penjing.export.samples import representative_samples, without_spread
from penjing.export.targets.target_runtime import Target
from penjing.export.trained_grids import has_trained_grids
from penjing.export.twins.file_check import check_file
from penjing.export.weights.fixed_weights import weights_of
from penjing.export.weights.kept_weights import told
from penjing.files import atomic_path, check_target
from penjing.models.keras_quantized import make_plain, quantized_by_keras
from penjing.models.signature import InputSignature, input_signature
from penjing.shrinking.shrinking import ShrinkConfig, shrink_file
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.modes import find_mode

FloatLayers: TypeAlias = str | float | keras.layers.Layer | Sequence[Any] | None
_COMPARED = 10_000  # bytes of float32 weights, below which a twin is not worth it


def export_litert(
    model: keras.Model,
    path: str | os.PathLike[str],
    quantization: str | None = None,
    *,
    representative_data: Any = None,
    input_type: str = "float32",
    output_type: str = "float32",
    observer: str = "min_max",
    imports: Sequence[str] = (),
    finish: str | None = None,
    encoding: str | None = None,
    runtime: str | None = None,
    max_arena: int | None = None,
    float_layers: FloatLayers = (),
    verify: bool = True,
) -> Path:
    """Write a model as a `.tflite` file, and check that the file computes the same.

    The batch size stays free, and so do other free axes, unless `runtime` needs them
    known. Inputs and outputs keep the
    order of the model's; inputs are named as in the model, outputs by their key in a
    dict or `output_0`, `output_1`, ... A mixed precision model is exported in
    float32. A model that still carries transforms is stripped first; only "int8" of a
    model whose activations were trained, see `penjing.quantize_aware`, needs it as it
    is: the file gets exactly the integers and ranges of training, and no
    `representative_data` is needed.

    Args:
        model: A built Keras model on any backend.
        path: File to write, with the suffix `.tflite`.
        quantization: None for float32; "dynamic" for int8 weights, which keep the
            grid that they lie on, see `penjing.quantize_aware`; "float16" for
            float16 weights; "int8" or "int16x8" for int8 weights and integer
            activations, which needs `representative_data`. Operations that have no
            integer kernel stay in float. "int4" for int4 weights of dense layers and
            convolutions, whose kernels quantize their inputs to int8 while they run;
            depthwise kernels stay int8, as those operations take no others.
            "int4_weight_only" for int4 weights that become float32 when the file is
            loaded: a small download with exact activations, but the memory of float32
            and up to 37 times its time, for LiteRT's fast kernels take no weights that
            are made so. Weights on a
            grid of at most 15 levels keep it, others get the scales with the least
            squared error; those below 1,024 elements stay float. "int8x4" for int8
            activations and int4 weights of dense layers, convolutions and depthwise
            convolutions; what "int8" says applies. Other weights stay int8, and so do
            those below 1,024 elements on no grid of 15 levels; which ones is printed.
        representative_data: Real inputs: array, list or dict of arrays, or a data
            set of batches. Of a tuple of 2 or 3 arrays for one input, `(x, y)`, `x`
            counts. At most 500 samples are used, for calibration and for the
            comparison. Without it the comparison runs on random inputs. An input whose
            values are all equal has no range, which is warned of.
        input_type: "float32"; also "int8" or "uint8" with "int8" and "int8x4", "int16"
            with "int16x8". Applies to float inputs. Where a model whose activations
            were trained begins or ends with an operation in float, the range is that of
            `representative_data`.
        output_type: The same for the outputs.
        observer: How the ranges of activations are found on `representative_data` with
            "int8" and "int8x4": "min_max", the least and the largest value;
            "moving_average" of those of batches; "percentile" (99.99); or "mse", the
            range with the least squared error of rounding. Tensors within loops have
            "min_max".
        imports: Names of modules that register classes of the model. Needed on JAX
            and PyTorch, where another process converts, for classes that are not
            found from the model's layers.
        finish: "smallest" rewrites the file in fewer bytes by `shrink_litert`, with
            its defaults; files of narrower weights than float16 get the fewest bits
            for biases too. None leaves it as converted.
        encoding: "sparse" stores weights without their zeros, as the sparse kernels
            of `runtime` read them: a smaller and faster file. Only with float32 and
            float16 weights. Refused where no kernel would use the zeros, and where
            outputs would be silently wrong there; `penjing.explain_sparsity` says
            which layers decide. "packed", with runtime "micro" alone: weights that are
            decoded while the file runs take less flash and more RAM, see
            `penjing.pack_litert`; both are printed. None: dense.
        runtime: Where the file is to run. Sparse kernels are those of "wasm" (browsers)
            and "arm" (phones) for 1x1 convolutions, and of "x86" and "arm" for dense
            layers pruned in blocks, `pattern=penjing.Block(4, 1)`. "wasm" also fixes
            the batch size to 1, with and without `encoding`: LiteRT.js runs no others.
            "micro" is TensorFlow Lite Micro, the interpreter of microcontrollers, with
            None, "int8", "int16x8" and "int8x4": a batch of 1, all shapes as they are
            when it runs, and equal operators in place of those that it lacks. Where the
            extra penjing[micro] is installed, the file also runs there, and is
            compared with LiteRT's kernels.
        max_arena: With encoding "packed": bytes of RAM that the arena may take. Layers
            whose decoded weight does not fit stay plain. None: as many as it takes.
        float_layers: Layers that stay in float within "int8" and "int8x4": their names
            or paths, patterns of these such as "encoder/*", or the layers themselves;
            one stands for those within it. "auto" finds the fewest with which the file
            passes the comparison, by what `penjing.compare_layers` sees and by trial; a
            number such as 0.15 those with which outputs are off by at most that many
            spreads. Which ones is printed.
        verify: Whether to compare the file with the model. The largest difference
            accepted for each mode is in `penjing.export.verification.TOLERANCES`.

    Returns:
        The path.

    Raises:
        ExportError: If the conversion fails, the file computes something else, or
            sparse encoding would be wrong or buy no time; no file is left then.
        UnsupportedModelError: If this is no built Keras model, or no weight gets
            smaller by packing or fits in the arena.
        DataError: If `representative_data` is missing or does not fit.
        ValueError: If an argument is out of range.

    Example:
        >>> export_litert(model, "small.tflite", "dynamic")  # doctest: +SKIP
        PosixPath('small.tflite')
    """
    names, error = chosen_floats(float_layers, model, find_mode(quantization))
    config = ConversionConfig(
        quantization=quantization,
        input_type=input_type,
        output_type=output_type,
        observer=observer,
        runtime=runtime,
        float_layers=names,
        float_error=error,
    )
    goal = Target(
        encoding=encoding,
        runtime=runtime,
        quantization=quantization,
        max_arena=max_arena,
    )
    if finish not in (None, "smallest"):
        raise ValueError(f"`finish` must be None or 'smallest', got {finish!r}.")
    target = _checked_path(path)
    model, notes = _exported_model(model, config)
    _check_ranges(model, config, representative_data)
    modules = checked_imports(imports)
    require_converter()
    signature = input_signature(model.model if has_trained_grids(model) else model)
    _check_input_types(signature)
    notes += goal.check_model(model, signature)
    samples = None
    if representative_data is not None:
        samples = representative_samples(representative_data, signature)
        check_columns(samples, signature, input_type)
        if config.mode.needs_calibration:
            notes += without_spread(samples, signature)
    with atomic_path(target) as temporary:
        file = converted(model, signature, config, samples, modules)
        notes += file.notes
        if config.mode.has_integer_weights:
            notes += file_notes(file, _weights(model), config.mode, model.name)
            _tell_costs(file, model, signature, config, modules)
        goal.fit(file, model)
        if finish:
            bits = "auto" if config.mode.has_integer_weights else None
            smallest = ShrinkConfig(bias_bits=bits)
            shrink_file(file, smallest, representative_data=samples)
        goal.encode(file, model.name)
        temporary.write_bytes(file.content)
        if verify:
            check_file(temporary, model, signature, samples, config, modules)
            notes += goal.prove(file.content, samples, model.name)
        written = goal.packed(file.content, model.name)
        if written is not file.content:
            temporary.write_bytes(written)
        for note in notes:  # before the file has its name: warnings may be errors
            warnings.warn(note, CompressionWarning, stacklevel=2)
    return target


def _check_ranges(model: keras.Model, config: ConversionConfig, data: Any) -> None:
    """Refuse ranges of activations that nothing gives, or that two would give."""
    trained = has_trained_grids(model)
    if trained and config.observer != "min_max":
        raise ValueError(
            f"The activations of `{model.name}` were trained, so observer="
            f"{config.observer!r} has nothing to find. Leave it out, or strip the "
            "model first."
        )
    if trained and config.mode.has_int8_activations and config.has_floats:
        raise ValueError(
            f"The activations of `{model.name}` were trained to be rounded in all of "
            "its layers, so none is left in float by `float_layers`. Leave those out "
            "of `quantize_aware` by `exclude`, or strip the model and give "
            "`representative_data`."
        )
    if config.mode.needs_calibration and not trained and data is None:
        raise DataError(
            f"quantization={config.quantization!r} needs `representative_data`: some "
            "real inputs, as in x_train[:500], from which it learns the ranges."
        )


def _tell_costs(
    file: EditedFile,
    model: keras.Model,
    signature: InputSignature,
    config: ConversionConfig,
    imports: Sequence[str],
) -> None:
    """Print where a file is larger than its float32 twin, slower or of more bits.

    A float32 file is larger than its weights. So only a file that is too needs a twin
    to be compared with; the smallest are not worth that time.
    """
    name = f'The "{config.mode.name}" file of `{model.name}`'
    if config.float_error is not None and file.float_layers:
        count = len(file.float_layers)
        print(
            f"{name} keeps {count} layer{'' if count == 1 else 's'} in float: "
            f"{quoted(file.float_layers)}.",
            file=sys.stderr,
        )
    for cost in (
        wide_weights(file.model, config.mode, config.is_micro),
        slow_kernels(file.model, config.mode),
    ):
        if cost:
            print(f"{name} {cost}.", file=sys.stderr)
    floats = 4 * model.count_params()
    if has_trained_grids(model) or not _COMPARED < floats < len(file.content):
        return
    twin = converted(model, signature, ConversionConfig(), None, imports).content
    if len(twin) < len(file.content):
        print(
            f"{name} has {len(file.content):,} bytes, the float32 file {len(twin):,}: "
            "its scales and operators cost more than its weights save.",
            file=sys.stderr,
        )


def _weights(model: keras.Model) -> dict[str, np.ndarray]:
    """What a model computes with, by path, whether or not it is in training."""
    if not has_trained_grids(model):
        return weights_of(model)
    values = model.transformed_values()
    return {path: keras.ops.convert_to_numpy(value) for path, value in values.items()}


def _check_input_types(signature: InputSignature) -> None:
    for item in signature.inputs:
        if item.dtype == "uint64":
            raise UnsupportedModelError(
                f"The input `{item.name}` takes uint64, which LiteRT cannot read. "
                'Build the model with keras.Input(..., dtype="int64"), or "int32".'
            )


def _checked_path(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, str | os.PathLike):
        raise ValueError(
            "`path` must be the path of the file to write, such as 'small.tflite', got "
            f"an object of type {type(path).__name__}."
        )
    target = Path(path)
    if target.suffix != ".tflite":
        raise ValueError(
            f"The file must end in `.tflite`, got {str(path)!r}. LiteRT and its tools "
            "go by the suffix."
        )
    check_target(target)
    return target


def _exported_model(
    model: Any, config: ConversionConfig
) -> tuple[keras.Model, list[str]]:
    """The plain model, or the one in training where the file carries its ranges.

    With what is to be said of its file.
    """
    if not isinstance(model, keras.Model):
        raise UnsupportedModelError(
            f"`model` must be a keras.Model, got {type(model).__name__}. Load a saved "
            "model with keras.models.load_model first."
        )
    from penjing.engine.stripping import is_compressed, strip

    if quantized_by_keras(model):
        return _taken_over(model, config)
    if not is_compressed(model):
        return model, []
    if config.mode.has_int8_activations and has_trained_grids(model):
        model.activations.grids()  # raises where they are not known yet
        return model, []
    print(
        f"The model `{model.name}` still carries its transforms: stripped for export.",
        file=sys.stderr,
    )
    return strip(model), []


def _taken_over(
    model: keras.Model, config: ConversionConfig
) -> tuple[keras.Model, list[str]]:
    """The model of floats in place of one that Keras quantized."""
    twin = make_plain(model)
    print(f"{twin}.", file=sys.stderr)
    notes = []
    if twin.off_grid and config.mode.has_integer_weights:
        notes.append(
            f"{told(twin.off_grid)} of `{model.name}` have scales that change along "
            f'their inputs, and weights of a "{config.mode.name}" file one for each '
            "channel: their integers were rounded anew. float32 and float16 files hold "
            "their values"
        )
    return twin.model, notes


def checked_imports(imports: Sequence[str]) -> tuple[str, ...]:
    """Give modules to import as a tuple; a ValueError if Python does not find one."""
    modules = (imports,) if isinstance(imports, str) else tuple(imports)
    for name in modules:
        try:
            found = importlib.util.find_spec(name) is not None
        except (ImportError, AttributeError, TypeError, ValueError):
            found = False
        if not found:
            raise ValueError(
                f"`imports` names {name!r}, which is no module that can be imported. "
                'Give dotted names, as in imports=["my_package.layers"].'
            )
    return modules


def require_converter() -> None:
    """Raise a MissingDependencyError where what exports files is not installed."""
    require_extra("ai_edge_litert.interpreter", "tensorflow")
    # Found, not imported: a JAX or PyTorch process should not load TensorFlow.
    if importlib.util.find_spec("tensorflow") is None:
        raise MissingDependencyError(
            "Exporting needs TensorFlow's converter, also from JAX and PyTorch. "
            'Install it with: pip install "penjing[tensorflow]"'
        )
