"""What runs a `.tflite` file, as options of commands."""

from __future__ import annotations

import enum
from typing import Annotated

import typer


class Runtime(enum.StrEnum):
    """The runtimes that files are timed in."""

    litert = "litert"
    wasm = "wasm"


class Engine(enum.StrEnum):
    """What runs WebAssembly."""

    node = "node"
    chromium = "chromium"


EngineOption = Annotated[
    Engine,
    typer.Option(help="What runs WebAssembly: Node, or a browser without a window."),
]
RuntimeOption = Annotated[
    Runtime,
    typer.Option(
        help="litert: the runtime of phones and servers, with this machine's kernels. "
        "wasm: LiteRT.js, the runtime of browsers; see penjing setup-wasm."
    ),
]
