"""Options that several commands have."""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer

from penjing.cli import completions
from penjing.cli.backend_choice import Backend
from penjing.errors import CompressionError

ModelArgument = Annotated[
    Path,
    typer.Argument(
        metavar="MODEL",
        help="A .keras or .h5 file.",
        autocompletion=completions.models,
    ),
]
FileArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A .keras, .h5 or .tflite file.",
        autocompletion=completions.any_models,
    ),
]
LiteRTArgument = Annotated[
    Path,
    typer.Argument(
        metavar="FILE",
        help="A .tflite file.",
        autocompletion=completions.litert_files,
    ),
]
RunArgument = Annotated[
    Path,
    typer.Argument(
        metavar="OUT",
        help="The output folder of a finished run, or its report.json.",
        autocompletion=completions.reports,
    ),
]
DataOption = Annotated[
    str,
    typer.Option(
        metavar="DATA",
        help="As for `penjing compress`.",
        autocompletion=completions.arrays,
    ),
]
MetricOption = Annotated[
    list[str] | None, typer.Option(help="Name of a Keras metric. Repeatable.")
]
OutputNameOption = Annotated[
    list[str] | None,
    typer.Option(
        "--output-name",
        metavar="NAME",
        help="What an output is called in DATA, which has y_test_NAME, where FILE has "
        "other names or none. Repeatable: one for each output, in their order.",
    ),
]
BackendOption = Annotated[
    Backend | None,
    typer.Option(
        help="Keras backend. Without it: KERAS_BACKEND, else Keras' own choice.",
        rich_help_panel="Run",
    ),
]
SeedOption = Annotated[
    int,
    typer.Option(
        min=0,
        max=2**32 - 1,
        help="Seed of everything random.",
        rich_help_panel="Run",
    ),
]
RestartOption = Annotated[
    bool,
    typer.Option(
        "--restart",
        help="Begin anew, whatever an earlier run in this folder has finished.",
        rich_help_panel="Run",
    ),
]
OverwriteOption = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Write over files of the same names that penjing did not write; never "
        "over what the command reads.",
        rich_help_panel="Run",
    ),
]
ImportOption = Annotated[
    list[str] | None,
    typer.Option(
        "--import",
        metavar="MODULE",
        help="Import a module that registers classes of the model. Repeatable.",
    ),
]


SettingOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="A setting in place of the recipe's: training.epochs=5, "
        "methods.prune.schedule.final_sparsity=0.9, export.quantizations=\\[int8]. "
        "KEY= takes its default. Repeatable.",
        autocompletion=completions.settings,
    ),
]


class Pixels(enum.StrEnum):
    """What the pixels of images go from and to."""

    bytes = "0-255"
    fractions = "0-1"


PixelsOption = Annotated[
    Pixels,
    typer.Option(
        help="What pixels go from and to, where DATA is a folder of images: 0-255 as "
        "Keras' own loader gives them, or 0-1."
    ),
]
SplitSeedOption = Annotated[
    int,
    typer.Option(
        min=0,
        max=2**32 - 1,
        help="Chooses the test part of a folder of images without one: the seed that "
        "`penjing compress` was given.",
    ),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON for programs to read.")
]


class Runtime(enum.StrEnum):
    """The runtimes that files are timed in."""

    litert = "litert"
    wasm = "wasm"
    arm = "arm"


class Engine(enum.StrEnum):
    """What runs WebAssembly, and the processors that are emulated."""

    node = "node"
    chromium = "chromium"
    cortex_a72 = "cortex-a72"
    cortex_a76 = "cortex-a76"
    neoverse_n1 = "neoverse-n1"


EngineOption = Annotated[
    Engine | None,
    typer.Option(
        help="What runs WebAssembly: node, or chromium, a browser without a window. "
        "The ARM processor that is emulated: cortex-a72 (2016, Raspberry Pi 4), "
        "cortex-a76 (2018, phones) or neoverse-n1 (servers). Default: the first one.",
        show_default=False,
    ),
]
RuntimeOption = Annotated[
    Runtime,
    typer.Option(
        help="litert: the runtime of phones and servers, with this machine's kernels. "
        "wasm: LiteRT.js, the runtime of browsers; see penjing setup-wasm. arm: "
        "instructions on an emulated ARM processor; see penjing setup-arm."
    ),
]

_SPOKEN = {
    "another `out`": "another --out",
    "another `name` or folder": "another --name or folder",
    "overwrite=True": "--overwrite",
    "`representative_data`": "--data",
}


@contextlib.contextmanager
def spoken_options() -> Iterator[None]:
    """Let refusals of files that are there name options as they are typed."""
    try:
        yield
    except CompressionError as error:
        text = str(error)
        for argument, option in _SPOKEN.items():
            text = text.replace(argument, option)
        error.args = (text, *error.args[1:])
        raise
