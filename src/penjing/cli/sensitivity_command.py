"""`penjing sensitivity`: what each layer of a model can lose."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from penjing.cli import completions
from penjing.cli.backend_choice import import_modules, select_backend
from penjing.cli.console import print_json, print_notes, progress_bar
from penjing.cli.early_checks import KERAS_FILES, check_early, check_metrics
from penjing.cli.files.node_data_option import (
    NodeDataOption,
    check_nodes,
    write_sensitivity_nodes,
)
from penjing.cli.shared_options import (
    BackendOption,
    ImportOption,
    JsonOption,
    MetricOption,
    ModelArgument,
    OverwriteOption,
    Pixels,
    PixelsOption,
    SplitSeedOption,
)
from penjing.data.data_spec import PIXELS
from penjing.report.fitting_table import print_table
from penjing.report.tables import names, new_table, numbers


class Method(enum.StrEnum):
    """What is cut of a layer."""

    channels = "channels"
    weights = "weights"


DataOption = Annotated[
    str,
    typer.Option(
        metavar="DATA",
        help="As for `penjing compress`. Its validation part is measured, or its "
        "test part where there is none.",
        autocompletion=completions.arrays,
    ),
]
OutOption = Annotated[
    Path, typer.Option(help="Folder for sensitivity.json and sensitivity.html.")
]
_TABLE, _PAGE = "sensitivity.json", "sensitivity.html"
RatiosOption = Annotated[
    str, typer.Option(metavar="R[,R...]", help="Fractions that go.")
]


def sensitivity(
    model: ModelArgument,
    data: DataOption,
    out: OutOption,
    method: Annotated[Method, typer.Option(help="What is cut.")] = Method.channels,
    ratios: RatiosOption = "0.25,0.5,0.75,0.9",
    metric: MetricOption = None,
    pixels: PixelsOption = Pixels.bytes,
    seed: SplitSeedOption = 0,
    imports: ImportOption = None,
    backend: BackendOption = None,
    node_data: NodeDataOption = None,
    nodes_of: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="With --node-data: the .tflite file of the same model, whose "
            "operators are told what the cut of their layers costs.",
            autocompletion=completions.litert_files,
        ),
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Measure a model with each layer cut alone, at several ratios; nothing is trained.

    Killed in the middle, the same command goes on where it stopped. With
    --node-data and --nodes-of Model Explorer colors the operators of a .tflite
    file by what the cut of their layers costs.

    [bold]Examples[/bold]

        $ penjing sensitivity model.keras --data data.npz --out out
        $ penjing sensitivity model.keras --data photos --method weights --out out
    """
    fractions = _ratios(ratios)
    check_nodes(node_data, nodes_of)
    check_early(
        models=[model], suffixes=KERAS_FILES, data=data, out=out, imports=imports
    )
    with progress_bar() as progress:
        select_backend(backend)
        check_metrics(metric)
        import_modules(imports or [])
        from penjing.data.data_sources import load_data
        from penjing.layer_sensitivity import sensitivity as measure
        from penjing.models.model_files import load_keras_model
        from penjing.pipeline.inputs.run_data import image_size_for
        from penjing.pipeline.runs.output_folder import claim_outputs, output_folder
        from penjing.report.pages import write_sensitivity

        loaded = load_keras_model(model)
        parts = load_data(
            data,
            image_size=image_size_for(loaded, data, pixels.value),
            pixel_maximum=PIXELS[pixels.value],
            seed=seed,
        )
        print_notes(parts)
        # The table itself says whether it is one: it is read before it is written.
        with output_folder(
            out, [_PAGE], inputs=(model, data), overwrite=overwrite or _is_ours(out)
        ) as folder:
            table = measure(
                loaded,
                parts.test if parts.validation is None else parts.validation,
                method=method.value,
                ratios=fractions,
                metrics=metric,
                path=folder / _TABLE,
                progress=progress,
            )
            claim_outputs(folder, [_PAGE])
            write_sensitivity(table, folder / _PAGE)
        write_sensitivity_nodes(table, nodes_of, node_data, overwrite=overwrite)
    if as_json:
        print_json(table)
        return
    console = Console()
    print_table(sensitivity_table(table), console)
    written = f"{_TABLE} and {_PAGE} are in {escape(str(out))}/"
    console.print(written, soft_wrap=True)


def _is_ours(out: Path) -> bool:
    """Whether an earlier measurement was written here; its page is ours too then."""
    from penjing.errors import FileFormatError
    from penjing.measurement.sensitivity_table import SensitivityTable

    try:
        return bool(SensitivityTable.from_json(out / _TABLE))
    except (FileFormatError, OSError):
        return False


def sensitivity_table(table: Any) -> Table:
    """Build the table of a `SensitivityTable`: one row for each layer."""
    whole = table.baseline[table.metric]
    shown = new_table(
        f"{table.metric} with one layer cut; {whole:.4f} whole",
        names("layer"),
        *(numbers(f"{ratio:.0%} gone") for ratio in table.ratios),
    )
    for name in table.names:
        shown.add_row(escape(name), *table.cells(name))
    return shown


def _ratios(text: str) -> list[float]:
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < ratio < 1 for ratio in found):
        raise typer.BadParameter(
            "takes fractions between 0 and 1 with commas between them, as in 0.25,0.5; "
            f"got {text!r}.",
            param_hint="--ratios",
        )
    return found
