"""`penjing compare`: finished runs and files beside each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from penjing.cli import completions
from penjing.cli.backend_choice import import_modules, select_backend
from penjing.cli.console import print_json, print_notes, print_notice, quiet_libraries
from penjing.cli.early_checks import check_early, check_metrics
from penjing.cli.finished.image_size import image_size_of
from penjing.cli.finished.scores import scores_by
from penjing.cli.shared_options import (
    BackendOption,
    ImportOption,
    JsonOption,
    MetricOption,
    OutputNameOption,
    OverwriteOption,
    Pixels,
    PixelsOption,
    SplitSeedOption,
)
from penjing.data.data_spec import PIXELS
from penjing.files import check_not_read
from penjing.report.fitting_table import print_table
from penjing.report.tables import names, new_table, number_text, numbers


def compare(
    files: Annotated[
        list[Path],
        typer.Argument(
            metavar="A B [C ...]",
            help="Output folders of finished runs, or .tflite, .keras and .h5 files.",
            autocompletion=completions.any_models,
        ),
    ],
    out: Annotated[Path, typer.Option(help="The page that is written.")] = Path(
        "compare.html"
    ),
    data: Annotated[
        str | None,
        typer.Option(
            metavar="DATA",
            help="As for `penjing compress`: every file is scored on its test part. "
            "Without it: the scores in the reports of the runs.",
            autocompletion=completions.arrays,
        ),
    ] = None,
    metric: MetricOption = None,
    output_name: OutputNameOption = None,
    pixels: PixelsOption = Pixels.bytes,
    seed: SplitSeedOption = 0,
    imports: ImportOption = None,
    backend: BackendOption = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare finished runs and files: bytes and scores, in a table and as a page.

    The first is what the others are compared with. Says which of them no other
    beats in both, and where scores cannot be compared.

    [bold]Examples[/bold]

        $ penjing compare out-default out-smallest
        $ penjing compare mine.tflite out/model.tflite --data data.npz
        $ penjing compare out-a out-b out-c --out three.html
    """
    check_early(data=data, imports=imports)
    with quiet_libraries():
        select_backend(backend)
        check_metrics(metric)
        import_modules(imports or [])
        from penjing.report.comparison.compare_page import check_page, write_comparison
        from penjing.report.comparison.finished_files import compare_finished

        check_page(out, overwrite=overwrite)
        check_not_read(out, _read_of(files, data))
        score = None
        if data is not None:
            score = _scorer(data, pixels.value, seed, metric, output_name)
        found = compare_finished(files, score=score, data=data or "")
        write_comparison(found, out, overwrite=overwrite)
    if as_json:
        print_json(found)
        return
    console = Console()
    print_table(comparison_table(found), console)
    for text in found.notes:
        print_notice(text, "yellow")
    console.print(f"The page is {escape(str(out))}", soft_wrap=True)


def _read_of(files: list[Path], data: str | None) -> list[Path]:
    """What the command reads: files, those in folders of runs, and the data."""
    from penjing.report.comparison.finished_files import REPORT

    inside = [
        path
        for file in files
        if file.is_dir()
        for path in file.iterdir()
        if path.name == REPORT or path.suffix in (".tflite", ".keras")
    ]
    return [*files, *inside, *([Path(data).expanduser()] if data else [])]


def _scorer(
    data: str,
    pixels: str,
    seed: int,
    metric: list[str] | None,
    output_names: list[str] | None,
) -> Callable[[Path], Mapping[str, float]]:
    """What scores a file on the test part of the data, which is read once."""
    from penjing.data.data_sources import load_data
    from penjing.packing.runnable_file import runnable_file

    loaded: dict[Any, Any] = {}

    def score(file: Path) -> Mapping[str, float]:
        with runnable_file(file) as path:
            return scored(path)

    def scored(file: Path) -> Mapping[str, float]:
        size = image_size_of(file, data, pixels)
        if size not in loaded:
            loaded[size] = load_data(
                data,
                image_size=size,
                pixel_maximum=PIXELS[pixels],
                seed=seed,
                split=False,
            )
            print_notes(loaded[size])
        return scores_by(metric, file, loaded[size], output_names=output_names)

    return score


def comparison_table(found: Any) -> Table:
    """Build the table of a `Comparison`: one row for each file."""
    shown = new_table(
        "Files compared; bold: none beats it in bytes and score",
        names("file"),
        *map(numbers, ("bytes", "gzip", *found.metrics)),
    )
    if found.metric is not None:
        shown.add_column("to the first", justify="right", no_wrap=True)
    for row in found.files:
        cells = [number_text(row.metrics.get(name), ".4f") for name in found.metrics]
        if found.metric is not None:
            cells.append(_against(found, row))
        shown.add_row(
            escape(row.name),
            number_text(row.raw),
            number_text(row.gzip),
            *cells,
            style="bold" if row.name in found.best else None,
        )
    return shown


def _against(found: Any, row: Any) -> str:
    """The first metric less that of the first file; it says where that is worse."""
    from penjing.report.documents import signed

    score, first = found.score(row), found.score_beside(row, found.files[0])
    if row is found.files[0] or score is None or first is None:
        return ""
    color = {"better": "green", "worse": "red"}.get(found.change(row, first))
    worse = " worse" if color == "red" else ""
    text = signed(score - first) + worse
    return f"[{color}]{text}[/]" if color else text
