"""`penjing compress`: the best file within a budget, or one recipe."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from penjing.budget.budget import OBJECTIVES, PARTS, RUNTIMES, Budget
from penjing.cli import completions
from penjing.cli.backend_choice import import_modules, select_backend
from penjing.cli.console import (
    print_json,
    print_result,
    progress_bar,
    quiet_libraries,
)
from penjing.cli.early_checks import MODEL_FILES, check_early
from penjing.cli.shared_options import (
    BackendOption,
    FileArgument,
    ImportOption,
    JsonOption,
    OverwriteOption,
    Pixels,
    PixelsOption,
    RestartOption,
    SeedOption,
    SettingOption,
)
from penjing.progress import Listener, ignore_progress
from penjing.recipes.overrides import parse_settings

NOT_MET = 3
_BUDGET, _SEARCH, _RECIPE = "Budget", "Search", "One recipe"


def _bound(text: str, metavar: str, complete: Any = None) -> Any:
    return typer.Option(
        help=text, metavar=metavar, rich_help_panel=_BUDGET, autocompletion=complete
    )


def compress(
    model: FileArgument,
    data: Annotated[
        str,
        typer.Option(
            metavar="DATA",
            help="An .npz file (x_train, y_train, x_test, y_test; x_validation, "
            "y_validation too, if you have them), module:function, or a folder of "
            "class folders of images. Without labels: x alone, or images in one "
            "folder.",
            autocompletion=completions.arrays,
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for models and reports.")],
    max_drop: Annotated[
        str | None,
        _bound("How much worse it may score: 0.5 points, or 1% of an error.", "DROP"),
    ] = None,
    max_bytes: Annotated[
        str | None, _bound("Bytes of the file, such as 20KB.", "SIZE")
    ] = None,
    compressed: Annotated[
        bool | None,
        typer.Option(
            "--compressed/--uncompressed",
            help="Count bytes as gzip leaves them, or as they lie in memory. Default: "
            "compressed, but not with --max-bytes or for microcontrollers.",
            rich_help_panel=_BUDGET,
            show_default=False,
        ),
    ] = None,
    max_latency: Annotated[
        str | None, _bound("Time of one inference on this machine: 2ms.", "TIME")
    ] = None,
    max_arena: Annotated[
        str | None, _bound("RAM on a microcontroller: 48KB.", "SIZE")
    ] = None,
    max_macs: Annotated[
        str | None, _bound("Multiply-accumulates of one inference: 5M.", "COUNT")
    ] = None,
    runtime: Annotated[
        str,
        _bound(
            "Where the file is to run.", "|".join(RUNTIMES), completions.budget_runtimes
        ),
    ] = "x86",
    minimize: Annotated[
        str | None,
        _bound(
            "What becomes small within the bounds.",
            "|".join(OBJECTIVES),
            completions.objectives,
        ),
    ] = None,
    metric: Annotated[
        str | None, _bound("The metric that decides. Default: the first one.", "NAME")
    ] = None,
    validation_from: Annotated[
        str | None,
        typer.Option(
            metavar="|".join(PARTS),
            help="Without x_validation: the data of which a part is held out to decide "
            "by. Default: test, where it has 300 samples.",
            autocompletion=completions.parts_of_data,
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    no_training: Annotated[
        bool,
        typer.Option(
            "--no-training",
            help="Train nothing: minutes, any model, a hundred inputs; labels count if "
            "there are any.",
            rich_help_panel=_SEARCH,
        ),
    ] = False,
    no_labels: Annotated[
        bool,
        typer.Option(
            "--no-labels",
            help="What the model itself gives takes the place of labels.",
            rich_help_panel=_SEARCH,
        ),
    ] = False,
    time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="How long to search, such as 30min. Default: 15min, or as long as "
            "--trials take.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    trials: Annotated[
        int | None,
        typer.Option(min=1, help="Trainings to try at most.", rich_help_panel=_SEARCH),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(
            min=1,
            help="Processes that try recipes at the same time.",
            rich_help_panel=_SEARCH,
        ),
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Try them on a Ray cluster (auto: the one that runs here). Needs "
            "penjing\\[ray].",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    distribution: Annotated[
        str | None,
        typer.Option(
            metavar="data-parallel",
            help="Spread each training over all devices, by Keras' own distribution: "
            "with JAX.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    recipe: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Run this recipe in place of a search: a packaged one, which "
            "`penjing recipes` lists, or a TOML file.",
            autocompletion=completions.recipes,
            rich_help_panel=_RECIPE,
        ),
    ] = None,
    settings: SettingOption = None,
    imports: ImportOption = None,
    backend: BackendOption = None,
    seed: SeedOption = 0,
    restart: RestartOption = False,
    pixels: PixelsOption = Pixels.bytes,
    accept_baseline: Annotated[
        bool,
        typer.Option(
            "--accept-baseline",
            help="Go on with a model that is at chance level before anything is done.",
        ),
    ] = False,
    overwrite: OverwriteOption = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", help="Print the result alone.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Find the smallest file of a model that is as good, and measure its cost.

    Recipes are searched: channels, zeros, levels, learning rates. Decisions are
    made on validation data; the test data is scored once, at the end. Without
    any bound: at most half a point worse (1 % of an error or a loss), the
    smallest file, 15 minutes.

    Leaves model.keras, model.tflite, recipe.toml, report.json and report.html in
    the output folder, and in front/ the files that no other one beats. Killed in
    the middle, the same command goes on where it stopped; with more --time or
    --trials it goes on from what it knows. Exit codes: 0, the budget is met; 3,
    it is not, and the report says by how much; 1, an error, or a recipe's file
    that cannot be had.

    [bold]Examples[/bold]

        $ penjing compress model.keras --data data.npz --out out
        $ penjing compress m.keras --data d.npz --max-drop 1 --time 1h --out out
        $ penjing compress m.keras --data d.npz --max-bytes 20KB --out out
        $ penjing compress m.keras --data d.npz --max-latency 2ms --out out
        $ penjing compress m.keras --data d.npz --runtime micro --out out
        $ penjing compress m.keras --data x.npz --no-training --out out
        $ penjing compress m.keras --data data:load --recipe my.toml --out out
    """
    chosen: dict[str, Any] = {
        "max_drop": max_drop,
        "max_bytes": max_bytes,
        "compressed": compressed,
        "max_latency": max_latency,
        "max_arena": max_arena,
        "max_macs": max_macs,
        "minimize": minimize,
        "metric": metric,
        "validation_from": validation_from,
        "time": time,
        "trials": trials,
    }
    bounds = {name: value for name, value in chosen.items() if value is not None}
    if runtime != "x86" or recipe is None:
        bounds["runtime"] = runtime
    budget = _budget(recipe, settings, bounds, workers, ray)
    check_early(
        models=[model],
        suffixes=MODEL_FILES,
        data=data,
        recipe=recipe,
        settings=settings,
        out=out,
        imports=imports,
    )
    if budget is not None:
        from penjing.file_verification import require_runtime

        require_runtime(budget.runtime)
    if budget is not None and not (quiet or as_json):
        typer.echo(budget.describe(training=not no_training, labels=not no_labels))
    with _listener(quiet) as progress:
        select_backend(backend)
        import_modules(imports or [])
        from penjing.budget.compression import compress as run

        report = run(
            model,
            data,
            recipe,
            budget=budget,
            out=out,
            overrides=parse_settings(settings),
            seed=seed,
            imports=imports or (),
            restart=restart,
            pixels=pixels.value,
            accept_baseline=accept_baseline,
            overwrite=overwrite,
            training=not no_training,
            labels=not no_labels,
            workers=workers,
            ray=ray,
            distribution=distribution,
            progress=progress,
        )
    _print(report, out, as_json=as_json)


def _budget(
    recipe: str | None,
    settings: list[str] | None,
    bounds: dict[str, Any],
    workers: int,
    ray: str | None,
) -> Budget | None:
    """The budget that options give; None for a recipe, which goes with none of them."""
    if recipe is None and not settings:
        return Budget(**bounds)
    if recipe is None:
        raise typer.BadParameter(
            "changes a setting of a recipe, and a search chooses all of them. Give "
            "--recipe too, or leave --set out.",
            param_hint="--set",
        )
    extra = {"workers": workers if workers != 1 else None, "ray": ray}
    given = [*bounds, *(name for name, value in extra.items() if value is not None)]
    if given:
        options = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        raise typer.BadParameter(
            f"runs one recipe, and {options} is for a search. Leave one of them out.",
            param_hint="--recipe",
        )
    return None


@contextlib.contextmanager
def _listener(quiet: bool) -> Iterator[Listener]:
    if not quiet:
        with progress_bar() as progress:
            yield progress
        return
    with quiet_libraries():
        yield ignore_progress


def _print(report: Any, out: Path, *, as_json: bool) -> None:
    budget = report.budget
    if as_json:
        print_json(report)
    else:
        print_result(report, out)
    if budget is None:
        raise typer.Exit(int(bool(report.refused)))
    if not as_json:
        for gap in budget.gaps:
            Console().print(f"[red]Not met:[/red] {gap}", soft_wrap=True)
        if budget.met:
            Console().print(f"Within the budget: {_met(budget)}.", soft_wrap=True)
    raise typer.Exit(0 if budget.met else NOT_MET)


def _met(budget: Any) -> str:
    """What was allowed and is kept, and against which score."""
    texts = list(budget.bounds)
    if budget.lowest is not None:  # the first bounds the score
        texts[0] += f" than {budget.baseline:.4f}, on validation data"
    return ", ".join(texts)
