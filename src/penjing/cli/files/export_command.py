"""`penjing export`: a model as a `.tflite` file, without any training."""

from __future__ import annotations

import enum
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from penjing.arguments import unknown_name
from penjing.cli import completions
from penjing.cli.backend_choice import import_modules, select_backend
from penjing.cli.console import print_json, print_notice, progress_bar
from penjing.cli.early_checks import KERAS_FILES, check_early
from penjing.cli.files.real_inputs import ARRAY_FILES
from penjing.cli.shared_options import (
    BackendOption,
    ImportOption,
    JsonOption,
    ModelArgument,
    OverwriteOption,
    Pixels,
    PixelsOption,
    SplitSeedOption,
    spoken_options,
)
from penjing.errors import CompressionError
from penjing.files import check_file, check_target
from penjing.report.fitting_table import print_sentence, print_table
from penjing.report.tables import names, new_table, numbers
from penjing.tflite.modes import MODES, Mode, mode_named


class TargetRuntime(enum.StrEnum):
    """Where a file is to run."""

    x86 = "x86"
    arm = "arm"
    wasm = "wasm"
    micro = "micro"


class Encoding(enum.StrEnum):
    """How weights are stored that are not stored one by one."""

    sparse = "sparse"
    packed = "packed"


class Finish(enum.StrEnum):
    """What is done to a finished file."""

    smallest = "smallest"


class Observer(enum.StrEnum):
    """How ranges of activations are found."""

    min_max = "min_max"
    moving_average = "moving_average"
    percentile = "percentile"
    mse = "mse"


class EndType(enum.StrEnum):
    """Types of inputs and outputs."""

    float32 = "float32"
    int8 = "int8"
    uint8 = "uint8"
    int16 = "int16"


def export(
    model: ModelArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="The .tflite file to write.")
    ],
    quantization: Annotated[
        str,
        typer.Option(
            metavar="MODE",
            help="float32; dynamic: int8 weights, floats otherwise; float16, int4, "
            "int4_weight_only: weights alone; int8, int16x8, int8x4: integers "
            "throughout, which needs --data.",
            autocompletion=completions.quantizations,
        ),
    ] = "float32",
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="As for penjing compress: inputs of its training part show the ranges "
            "of activations, and on its test part model and file are scored. An .npy "
            "file of inputs shows ranges alone.",
            autocompletion=completions.arrays,
        ),
    ] = None,
    runtime: Annotated[
        TargetRuntime | None,
        typer.Option(help="Where it is to run. Default: wherever LiteRT does."),
    ] = None,
    input_type: Annotated[
        EndType, typer.Option(help="Type of the inputs that are floats in the model.")
    ] = EndType.float32,
    output_type: Annotated[
        EndType, typer.Option(help="Type of the outputs.")
    ] = EndType.float32,
    observer: Annotated[
        Observer, typer.Option(help="How ranges of int8 activations are found.")
    ] = Observer.min_max,
    float_layers: Annotated[
        list[str] | None,
        typer.Option(
            metavar="auto|ERROR|LAYER",
            help="Layers that stay in float in a file of int8 activations: a name, "
            "path or pattern, repeatable; auto: the fewest with which the file passes; "
            "a number such as 0.15: those with which outputs are off by at most so "
            "many spreads.",
        ),
    ] = None,
    finish: Annotated[
        Finish | None,
        typer.Option(help="smallest: rewrite the file in fewer bytes, as shrink does."),
    ] = None,
    encoding: Annotated[
        Encoding | None,
        typer.Option(
            help="sparse: without the zeros, for sparse kernels of --runtime. packed: "
            "less flash and more RAM, for --runtime micro."
        ),
    ] = None,
    max_arena: Annotated[
        int | None,
        typer.Option(
            min=1, metavar="BYTES", help="packed: RAM that the arena may take."
        ),
    ] = None,
    no_verify: Annotated[
        bool,
        typer.Option("--no-verify", help="Do not compare the file with the model."),
    ] = False,
    pixels: PixelsOption = Pixels.bytes,
    seed: SplitSeedOption = 0,
    imports: ImportOption = None,
    backend: BackendOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a model as a .tflite file, without training it.

    The file is run and compared with the model before it gets its name. What is
    asked of it and cannot be had is refused, and no file is left then.

    [bold]Examples[/bold]

        $ penjing export model.keras model.tflite
        $ penjing export model.keras small.tflite --quantization dynamic
        $ penjing export model.keras int8.tflite --quantization int8 --data d.npz
        $ penjing export m.keras m.tflite --runtime micro --encoding packed
    """
    mode = _checked_mode(quantization)
    _check_encoding(mode, runtime, encoding, max_arena)
    _check_ends(mode, input_type, output_type, observer)
    if float_layers and not mode.has_int8_activations:
        raise CompressionError(_only_int8("--float-layers", mode))
    is_array = data is not None and Path(data).suffix.lower() in ARRAY_FILES
    if data is not None and is_array:
        check_file(Path(data).expanduser())
    check_early(
        models=[model],
        suffixes=KERAS_FILES,
        data=None if is_array else data,
        imports=imports,
    )
    _check_file(file, model, data, overwrite=overwrite)
    with progress_bar() as progress, spoken_options():
        select_backend(backend)
        import_modules(imports or [])
        from penjing.cli.files.model_export import ModelExport

        job = ModelExport(
            model, data, pixels=pixels.value, seed=seed, progress=progress
        )
        job.write(
            file,
            mode.quantization,
            input_type=input_type.value,
            output_type=output_type.value,
            observer=observer.value,
            float_layers=_floats(float_layers or []),
            imports=imports or (),
            finish=finish and finish.value,
            encoding=encoding and encoding.value,
            runtime=runtime and runtime.value,
            max_arena=max_arena,
            verify=not no_verify,
        )
        found = job.measured(file, mode)
    if as_json:
        print_json(found)
    else:
        _print(found)


def _checked_mode(quantization: str) -> Mode:
    allowed = [mode.name for mode in MODES]
    if quantization not in allowed:
        message = unknown_name("quantization", quantization, allowed)
        raise CompressionError(f"--quantization: {message}")
    return mode_named(quantization)


def _check_encoding(
    mode: Mode,
    runtime: TargetRuntime | None,
    encoding: Encoding | None,
    max_arena: int | None,
) -> None:
    """Refuse what no file can be; the rest is known once the model is loaded."""
    if encoding is Encoding.packed and runtime is not TargetRuntime.micro:
        raise CompressionError(
            "--encoding packed is for TensorFlow Lite Micro alone, which decodes "
            "weights while it runs. Add --runtime micro."
        )
    if max_arena is not None and encoding is not Encoding.packed:
        raise CompressionError(
            "--max-arena bounds what decoded weights take: it goes with --encoding "
            "packed."
        )
    if encoding is Encoding.sparse and runtime in (None, TargetRuntime.micro):
        raise CompressionError(
            "--encoding sparse needs the runtime whose kernels read it: --runtime x86, "
            "arm or wasm."
        )
    if encoding is Encoding.sparse and mode.no_sparse:
        raise CompressionError(
            f"--encoding sparse does not go with --quantization {mode.name}: "
            f"{mode.no_sparse}."
        )
    if runtime is TargetRuntime.micro and mode.no_micro:
        allowed = ", ".join(one.name for one in MODES if not one.no_micro)
        raise CompressionError(
            f"--quantization {mode.name} does not go with --runtime micro: TensorFlow "
            f"Lite Micro does not run such files, for {mode.no_micro}. Use {allowed}."
        )


def _check_ends(
    mode: Mode, input_type: EndType, output_type: EndType, observer: Observer
) -> None:
    for option, kind in (("input", input_type), ("output", output_type)):
        if kind.value not in mode.allowed_types:
            raise CompressionError(
                f"--{option}-type {kind.value} does not go with --quantization "
                f"{mode.name}. Allowed: {', '.join(mode.allowed_types)}."
            )
    if observer is not Observer.min_max and not mode.has_int8_activations:
        found = f"--observer {observer.value} finds ranges of"
        raise CompressionError(_only_int8(found, mode))


def _only_int8(option: str, mode: Mode) -> str:
    allowed = ", ".join(one.name for one in MODES if one.has_int8_activations)
    needs = option if option.endswith(" of") else f"{option} goes with"
    return (
        f"{needs} int8 activations, which --quantization {mode.name} does not have. "
        f"Use {allowed}."
    )


def _floats(given: list[str]) -> str | float | list[str]:
    """What `--float-layers` stands for: see `export_litert`."""
    if given == ["auto"]:
        return "auto"
    try:
        (error,) = map(float, given)
    except ValueError:
        return given
    return error


def _check_file(file: Path, model: Path, data: str | None, *, overwrite: bool) -> None:
    """Refuse a file that is read, or that is there already, or cannot be written."""
    if file.suffix != ".tflite":
        raise CompressionError(
            f"The file must end in .tflite, got {str(file)!r}. LiteRT and its tools go "
            "by the suffix."
        )
    check_target(file)
    for read in (model, data):
        if read is None:
            continue
        if file.exists() and Path(read).exists() and file.samefile(read):
            raise CompressionError(
                f"{file} is the same file as {read}, which is read. Give another FILE."
            )
    if os.path.lexists(file) and not overwrite:
        raise CompressionError(
            f"There is a file {file} already. Give another FILE, or --overwrite to "
            "write over it."
        )


def _print(found: dict[str, Any]) -> None:
    console = Console()
    print_sentence(
        f"{escape(found['file'])}: {found['bytes']:,} bytes, {found['gzip']:,} after "
        f"gzip. The weights of the model take {found['float_bytes']:,} as float32.",
        console,
    )
    scores = found["scores"]
    if scores:
        table = new_table(
            "On the test part", names("metric"), *map(numbers, ("model", "file"))
        )
        for metric, value in scores["model"].items():
            table.add_row(
                escape(metric), f"{value:.4f}", f"{scores['file'][metric]:.4f}"
            )
        print_table(table, console)
    for note in found["notes"]:
        print_notice(f"Note: {note.rstrip('.')}.", "yellow")
