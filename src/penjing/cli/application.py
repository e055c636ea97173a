"""The commands and their options.

Keras is imported inside the commands, so that `--help` is fast and `--backend` can
still choose.
"""

from __future__ import annotations

import functools
import io
import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column

from penjing.cli import completions
from penjing.cli.arm_command import setup_arm
from penjing.cli.backend_choice import import_modules, select_backend
from penjing.cli.benchmark_command import benchmark
from penjing.cli.compress_command import compress
from penjing.cli.console import (
    DEBUG_VARIABLE,
    print_json,
    print_notes,
    quiet_libraries,
)
from penjing.cli.demo_command import demo
from penjing.cli.doctor.doctor_command import doctor
from penjing.cli.early_checks import (
    MODEL_FILES,
    check_alone,
    check_early,
    check_metrics,
)
from penjing.cli.files.export_c_command import export_c
from penjing.cli.files.export_command import export
from penjing.cli.files.layer_table import show_layers
from penjing.cli.files.node_data_option import (
    NodeDataOption,
    NodeValue,
    NodeValueOption,
    write_inspection_nodes,
)
from penjing.cli.files.pack_command import pack
from penjing.cli.files.real_inputs import InputsOption
from penjing.cli.files.shrink_command import shrink
from penjing.cli.files.sparsity_table import show_sparsity
from penjing.cli.files.verify_command import setup_wasm, verify
from penjing.cli.finished.card_command import card
from penjing.cli.finished.compare_command import compare
from penjing.cli.finished.image_size import image_size_of
from penjing.cli.finished.report_command import report
from penjing.cli.finished.scores import scores_by
from penjing.cli.narrow_help import NarrowCommand, NarrowGroup
from penjing.cli.recipes_command import recipes
from penjing.cli.sensitivity_command import sensitivity
from penjing.cli.shared_options import (
    BackendOption,
    DataOption,
    FileArgument,
    ImportOption,
    JsonOption,
    MetricOption,
    OutputNameOption,
    Pixels,
    PixelsOption,
    SplitSeedOption,
)
from penjing.data.data_spec import PIXELS
from penjing.report.fitting_table import print_sentence, print_table
from penjing.report.tables import (
    names,
    new_table,
    notes,
    number_text,
    numbers,
    shape_text,
)
from penjing.version import __version__

_HELP = """Make trained Keras 3 models small and fast, and prove what it cost.

[bold]The whole job on a bundled data set, in about a minute[/bold]

    $ penjing demo

[bold]Your own model[/bold]

    $ penjing compress model.keras --data data.npz --out out

[bold]Recipes, and one to begin with[/bold]

    $ penjing recipes
    $ penjing recipes new > my.toml

[bold]What is in a file, and what it scores[/bold]

    $ penjing inspect out/model.tflite
    $ penjing evaluate out/model.tflite --data data.npz

[bold]A .tflite file without any training[/bold]

    $ penjing export model.keras int8.tflite --quantization int8 --data data.npz

[bold]Finished runs and files beside each other[/bold]

    $ penjing compare out-default out-smallest

[bold]Any .tflite file in fewer bytes[/bold]

    $ penjing shrink model.tflite

[bold]Less flash on a microcontroller[/bold]

    $ penjing pack model.tflite

[bold]What each layer of a model can lose[/bold]

    $ penjing sensitivity model.keras --data data.npz --out out

[bold]How fast files are[/bold]

    $ penjing benchmark float.tflite int8.tflite

[bold]The same in WebAssembly, and whether outputs are right there[/bold]

    $ penjing setup-wasm
    $ penjing verify sparse.tflite
    $ penjing demo --browser

[bold]What is installed, and what brings the rest[/bold]

    $ penjing doctor

[bold]Commands, options and files by Tab[/bold]

    $ penjing --install-completion
"""
app = typer.Typer(
    name="penjing",
    cls=NarrowGroup,
    help=_HELP,
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
_command = functools.partial(app.command, cls=NarrowCommand)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"penjing {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            callback=_print_version,
            is_eager=True,
            help="Print the version.",
        ),
    ] = False,
    debug: Annotated[
        bool,
        typer.Option("--debug", help="Show where errors happen that nobody foresaw."),
    ] = False,
) -> None:
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"
    for stream in (sys.stdout, sys.stderr):  # names of files need not be UTF-8
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


_command()(demo)


_command()(compress)


@_command()
def inspect(
    file: FileArgument,
    runtime: Annotated[
        str | None,
        typer.Option(
            metavar="x86|arm|wasm|micro|ethos-u",
            help="Say for every layer which kernel runs it there, and what its zeros "
            "buy: bytes, milliseconds, both or nothing. micro: flash and RAM once the "
            "file is packed. ethos-u: estimates of flash, "
            "SRAM and cycles by Arm's compiler Vela.",
            autocompletion=completions.kernel_runtimes,
        ),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="Compare every tensor of a .tflite FILE with that of the .keras or "
            ".h5 model that it was made of, on --data: signal-to-noise, cosine, and "
            "the layer that goes wrong first.",
            autocompletion=completions.models,
        ),
    ] = None,
    data: InputsOption = None,
    pixels: PixelsOption = Pixels.bytes,
    node_data: NodeDataOption = None,
    node_value: NodeValueOption = NodeValue.bytes,
    imports: ImportOption = None,
    backend: BackendOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show every tensor in a file: zeros, distinct values, bytes, gzipped bytes.

    Says where zeros buy nothing. With --node-data Model Explorer, which draws
    .tflite files, colors their operators by what their constants take.

    [bold]Examples[/bold]

        $ penjing inspect model.tflite
        $ penjing inspect model.tflite --runtime wasm
        $ penjing inspect model.keras --json
        $ penjing inspect model.tflite --node-data bytes.json
        $ penjing inspect int8.tflite --against model.keras --data d.npz
    """
    jobs = {"--against": against, "--runtime": runtime, "--node-data": node_data}
    check_alone({name for name, value in jobs.items() if value is not None})
    check_early(models=[file], suffixes=MODEL_FILES)
    if against is not None:
        show_layers(
            file,
            against,
            data,
            pixels=pixels.value,
            imports=imports or [],
            backend=backend,
            as_json=as_json,
        )
        return
    if data is not None:
        raise typer.BadParameter(
            "goes with --against MODEL: nothing else here runs FILE.",
            param_hint="--data",
        )
    if runtime is not None:
        show_sparsity(
            file, runtime, imports=imports or [], backend=backend, as_json=as_json
        )
        return
    with quiet_libraries():
        select_backend(backend)
        import_modules(imports or [])
        from penjing.measurement.inspection import inspect_file

        inspection = inspect_file(file)
        if node_data is not None:
            write_inspection_nodes(inspection, node_value.value, node_data)
    if as_json:
        print_json(inspection)
        return
    table = new_table(
        f"{file.name} ({inspection.format}, {inspection.bytes:,} bytes)",
        names("tensor"),
        *(Column(name, no_wrap=True) for name in ("shape", "type")),
        *map(numbers, ("zeros", "distinct", "bytes", "gzip")),
        notes("hint"),
    )
    for row in inspection.tensors:
        table.add_row(
            escape(row.name),
            shape_text(row.shape),
            str(row.dtype),
            *map(number_text, (row.zeros, row.distinct, row.bytes, row.gzip)),
            escape(row.hint),
        )
    console = Console()
    print_table(table, console)
    for hint in inspection.hints:
        print_sentence(f"[yellow]hint:[/yellow] {escape(hint)}", console)


app.add_typer(recipes, name="recipes")
_command()(report)
_command()(compare)
_command()(card)
_command()(shrink)
_command()(pack)
_command()(benchmark)
_command()(sensitivity)
_command()(verify)
_command()(export)
_command()(export_c)
_command()(doctor)
_command()(setup_wasm)
_command()(setup_arm)


@_command()
def evaluate(
    file: FileArgument,
    data: DataOption,
    metric: MetricOption = None,
    output_name: OutputNameOption = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples at once.")] = 128,
    pixels: PixelsOption = Pixels.bytes,
    seed: SplitSeedOption = 0,
    imports: ImportOption = None,
    backend: BackendOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure a file on the test part of the data.

    By the metrics that the model was compiled with; a .tflite file by accuracy.

    [bold]Examples[/bold]

        $ penjing evaluate model.tflite --data data.npz
        $ penjing evaluate model.keras --data data:load --metric accuracy --json
    """
    check_early(models=[file], suffixes=MODEL_FILES, data=data, imports=imports)
    with quiet_libraries():
        select_backend(backend)
        check_metrics(metric)
        import_modules(imports or [])
        from penjing.data.data_sources import load_data
        from penjing.packing.runnable_file import runnable_file

        with runnable_file(file) as path:
            loaded = load_data(
                data,
                image_size=image_size_of(path, data, pixels.value),
                pixel_maximum=PIXELS[pixels.value],
                seed=seed,
                split=False,
            )
            print_notes(loaded)
            scores = scores_by(
                metric, path, loaded, batch_size=batch_size, output_names=output_name
            )
    if as_json:
        print_json(scores)
        return
    table = new_table(file.name, names("metric"), numbers("value"))
    for name, value in scores.items():
        table.add_row(escape(name), f"{value:.4f}")
    print_table(table, Console())
