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
from penjing.errors import DataError
from penjing.report.fitting_table import print_table
from penjing.report.tables import names, new_table, notes, numbers


class Method(enum.StrEnum):
    """What is cut of a layer."""

    channels = "channels"
    weights = "weights"


class Kind(enum.StrEnum):
    """What is done to a layer instead."""

    bits = "bits"
    sparsity = "sparsity"
    int8 = "int8"


DataOption = Annotated[
    str,
    typer.Option(
        metavar="DATA",
        help="As for `penjing compress`. Its validation part is measured, or its "
        "test part where there is none. --of needs inputs alone: x.",
        autocompletion=completions.arrays,
    ),
]
OutOption = Annotated[
    Path | None,
    typer.Option(
        help="Folder for sensitivity.json and sensitivity.html; with --of, where it "
        "may be left out, for sensitivity-bits.json and so on."
    ),
]
KindOption = Annotated[
    Kind | None,
    typer.Option(
        "--of",
        help="Instead of cuts, and by inputs alone: weights rounded to several bits, "
        "made zero with the others making up for it, or a layer computed in int8.",
    ),
]
MaxBytesOption = Annotated[
    str | None,
    typer.Option(
        metavar="BYTES",
        help="With --of bits: choose the bits of each layer so that all weights take "
        "at most so many bytes, such as 8MB.",
    ),
]
CompressedOption = Annotated[
    bool, typer.Option("--compressed", help="--max-bytes counts them gzipped.")
]
_RATIOS = "0.25,0.5,0.75,0.9"
_TABLE, _PAGE = "sensitivity.json", "sensitivity.html"
RatiosOption = Annotated[
    str, typer.Option(metavar="R[,R...]", help="Fractions that go.")
]


def sensitivity(
    model: ModelArgument,
    data: DataOption,
    out: OutOption = None,
    of: KindOption = None,
    max_bytes: MaxBytesOption = None,
    compressed: CompressedOption = False,
    method: Annotated[Method, typer.Option(help="What is cut.")] = Method.channels,
    ratios: RatiosOption = _RATIOS,
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

    Killed in the middle, the same command without --of goes on where it
    stopped. With --node-data and --nodes-of Model Explorer colors the
    operators of a .tflite file by what the cut of their layers costs.

    [bold]Examples[/bold]

        $ penjing sensitivity model.keras --data data.npz --out out
        $ penjing sensitivity model.keras --data photos --method weights --out out
        $ penjing sensitivity m.keras --data data.npz --of bits --max-bytes 8MB
    """
    fractions = _ratios(ratios)
    _check_counted(of, ratios=ratios, method=method, metric=metric)
    check_nodes(node_data, nodes_of, model, Path(data), overwrite=overwrite)
    limit = _max_bytes(max_bytes, of, compressed)
    if of is None and out is None:
        raise typer.BadParameter("is needed where layers are cut.", param_hint="--out")
    if of is not None and node_data is not None:
        raise typer.BadParameter(
            "colors operators by what cuts cost, and --of cuts nothing.",
            param_hint="--node-data",
        )
    check_early(
        models=[model], suffixes=KERAS_FILES, data=data, out=out, imports=imports
    )
    settings: dict[str, Any] = {}
    if of in (None, Kind.sparsity):
        settings["ratios"] = fractions
    if of is None:
        settings["method"] = method.value
    with progress_bar() as progress:
        select_backend(backend)
        check_metrics(metric)
        import_modules(imports or [])
        from penjing.measurement.scoring import EachOutput
        from penjing.models.model_files import load_keras_model
        from penjing.pipeline.inputs.run_data import image_size_for

        if metric:
            settings["metrics"] = EachOutput(metric)
        loaded = load_keras_model(model)
        used = _part_to_measure(
            data,
            of,
            loaded,
            image_size=image_size_for(loaded, data, pixels.value),
            pixel_maximum=PIXELS[pixels.value],
            seed=seed,
        )
        settings |= {"of": of and of.value, "progress": progress}
        table = _measured(
            loaded, used, settings, out, inputs=(model, data), overwrite=overwrite
        )
    if of is None:
        write_sensitivity_nodes(table, nodes_of, node_data, overwrite=overwrite)
    chosen = (
        None if limit is None else table.bits_by_layer(limit, compressed=compressed)
    )
    if as_json:
        print_json(table if chosen is None else {"bits_by_layer": chosen})
        return
    _print(table, of, chosen, out)


def _part_to_measure(data: str, of: Kind | None, model: Any, **settings: Any) -> Any:
    """Inputs and labels; inputs alone where there are no labels and none are needed."""
    from penjing.data.data_checks import output_shapes
    from penjing.data.data_sources import load_data
    from penjing.data.unlabeled_data import UnlabeledDataError, inputs_to_measure

    try:
        parts = load_data(data, split=False, **settings)
    except UnlabeledDataError as error:
        if of is None:
            raise DataError(
                f"{error} `penjing sensitivity` needs none with --of."
            ) from error
        return inputs_to_measure(error.read())
    print_notes(parts)
    if of is None:
        parts.check_classes(output_shapes(model))
    return parts.test if parts.validation is None else parts.validation


def _measured(
    model: Any,
    used: Any,
    settings: dict[str, Any],
    out: Path | None,
    *,
    inputs: tuple[Any, ...],
    overwrite: bool,
) -> Any:
    """Measure, and write what was measured where that is wanted."""
    from penjing.layer_sensitivity.sensitivity import sensitivity as measure
    from penjing.pipeline.runs.output_folder import claim_outputs, output_folder
    from penjing.report.pages import write_sensitivity

    if out is None:
        return measure(model, used, **settings)
    cuts = settings["of"] is None
    name = _TABLE if cuts else _table_of(settings["of"])
    written = [_PAGE] if cuts else [name]
    # The table itself says whether it is one: it is read before it is written.
    ours = overwrite or (cuts and _is_ours(out))
    with output_folder(out, written, inputs=inputs, overwrite=ours) as folder:
        claim_outputs(folder, [] if cuts else written)
        table = measure(model, used, path=folder / name, **settings)
        if cuts:
            claim_outputs(folder, written)
            write_sensitivity(table, folder / _PAGE)
    return table


def _table_of(kind: str) -> str:
    return f"sensitivity-{kind}.json"


def _print(
    table: Any, of: Kind | None, chosen: dict[str, int] | None, out: Path | None
) -> None:
    console = Console()
    has_levels = of in (Kind.bits, Kind.sparsity)
    print_table(
        errors_table(table) if has_levels else sensitivity_table(table), console
    )
    if chosen is not None:
        bits = new_table("Bits of each layer", names("layer"), numbers("bits"))
        for path, number in chosen.items():
            bits.add_row(escape(path), str(number))
        print_table(bits, console)
    if out is not None:
        where = escape(str(out))
        written = f"{_TABLE} and {_PAGE} are" if of is None else f"{_table_of(of)} is"
        console.print(f"{written} in {where}/", soft_wrap=True)


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
    title = f"{table.metric} with one layer cut; {whole:.4f} whole"
    heads = [f"{ratio:.0%} gone" for ratio in table.ratios]
    if table.method == "int8":
        title, heads = "error of the outputs with one layer in int8", ["spreads"]
    shown = new_table(title, names("layer"), *map(numbers, heads))
    for name in table.names:
        shown.add_row(escape(name), *table.cells(name))
    return shown


def errors_table(report: Any) -> Table:
    """Build the table of a `LayerErrorReport`: one row for each weight."""
    head, *rows = report.cells()
    columns = [names(head[0]), *(numbers(text) for text in head[1:-1]), notes("")]
    shown = new_table(report.title, *columns)
    for row in rows:
        shown.add_row(*map(escape, row))
    return shown


def _max_bytes(text: str | None, of: Kind | None, compressed: bool) -> int | None:
    if text is None and not compressed:
        return None
    if of is not Kind.bits or text is None:
        wrong, needed = "--max-bytes", "--of bits"
        if text is None:
            wrong, needed = "--compressed", "--max-bytes"
        raise typer.BadParameter(f"needs {needed}.", param_hint=wrong)
    from penjing.budget.bounds.quantities import parse_bytes

    return parse_bytes("--max-bytes", text)


def _check_counted(
    of: Kind | None, *, ratios: str, method: Method, metric: list[str] | None
) -> None:
    """Refuse options that count for cuts alone beside --of."""
    given = {
        "--ratios": ratios != _RATIOS and of is not Kind.sparsity,
        "--method": method is not Method.channels,
        "--metric": bool(metric),
    }
    for option, is_given in given.items():
        if of is not None and is_given:
            raise typer.BadParameter(
                f"counts for nothing with --of {of.value}.", param_hint=option
            )


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
