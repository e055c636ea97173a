"""`penjing demo`: the whole job on real images, in the terminal or in a browser."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated

import typer

from penjing.cli import completions
from penjing.cli.backend_choice import select_backend
from penjing.cli.browser_command import (
    BrowserOption,
    NoOpenOption,
    PortOption,
    refuse_with_browser,
    show_in_browser,
)
from penjing.cli.console import print_result, progress_bar
from penjing.cli.early_checks import check_early
from penjing.cli.shared_options import (
    BackendOption,
    OverwriteOption,
    RestartOption,
    SeedOption,
)
from penjing.demo_config import DemoConfig
from penjing.errors import DataError


class DatasetName(enum.StrEnum):
    """The named data sets."""

    small = "fashion-mnist-small"
    full = "fashion-mnist"


class Architecture(enum.StrEnum):
    """The models that the demo can train."""

    article = "article"
    lenet_300_100 = "lenet-300-100"
    lenet_5 = "lenet-5"
    cnn = "cnn"
    resnet_20 = "resnet-20"
    mobilenet = "mobilenet"


DatasetOption = Annotated[
    DatasetName, typer.Option(help="Bundled part or whole of Fashion-MNIST.")
]
FolderOption = Annotated[
    Path | None, typer.Option(help="Folder with the four files of the whole data set.")
]
ModelOption = Annotated[Architecture, typer.Option(help="The baseline to train.")]
RecipeOption = Annotated[
    str,
    typer.Option(
        metavar="NAME|FILE",
        help="Packaged recipe, or a TOML file.",
        autocompletion=completions.recipes,
    ),
]
OutOption = Annotated[Path, typer.Option(help="Folder for models and reports.")]
BaselineEpochsOption = Annotated[
    int | None,
    typer.Option(
        min=1, max=100_000, help="Epochs of the baseline. Default: 8, with --browser 3."
    ),
]
EpochsOption = Annotated[
    int | None,
    typer.Option(
        min=1,
        max=100_000,
        help="Epochs of the compression. Default: the recipe's, with --browser 4.",
    ),
]


def demo(
    dataset: DatasetOption = DatasetName.small,
    data_dir: FolderOption = None,
    model: ModelOption = Architecture.article,
    recipe: RecipeOption = "default",
    out: OutOption = Path("penjing-demo"),
    baseline_epochs: BaselineEpochsOption = None,
    epochs: EpochsOption = None,
    backend: BackendOption = None,
    seed: SeedOption = 0,
    restart: RestartOption = False,
    overwrite: OverwriteOption = False,
    browser: BrowserOption = False,
    port: PortOption = 0,
    no_open: NoOpenOption = False,
) -> None:
    """Run the whole job on real images: train, prune, strip, export, measure.

    Trains a baseline, prunes it with a recipe, exports float and quantized
    .tflite files, runs them, and prints the size and the accuracy of every one.

    With --browser: a page on which a network runs in WebAssembly twice, with its
    zeros and without the work that they would be. It has its own network and
    recipe.

    [bold]Examples[/bold]

        $ penjing demo
        $ penjing demo --model lenet-300-100 --recipe article
        $ penjing demo --backend jax --dataset fashion-mnist
        $ penjing demo --browser
    """
    config = DemoConfig(
        dataset=dataset.value,
        data_dir=data_dir,
        model=model.value,
        recipe=recipe,
        seed=seed,
        out=out / "browser" if browser else out,
        baseline_epochs=baseline_epochs,
        epochs=epochs,
        restart=restart,
        overwrite=overwrite,
    )
    check_early(recipe=recipe, out=Path(config.out))
    if data_dir is not None and dataset is DatasetName.small:
        raise DataError(
            f"`data_dir` ({data_dir}) has no use with {dataset.value!r}, which is "
            f"bundled. Leave it out, or ask for {DatasetName.full.value!r}."
        )
    if browser:
        refuse_with_browser(
            model=model is not Architecture.article, recipe=recipe != "default"
        )
        show_in_browser(config, backend=backend, port=port, opened=not no_open)
        return
    with progress_bar() as progress:
        select_backend(backend)
        from penjing.demo import run_demo

        report = run_demo(config, progress=progress)
    print_result(report, out)
    raise typer.Exit(int(bool(report.refused)))
