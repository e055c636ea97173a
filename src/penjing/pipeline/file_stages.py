"""The stages of one compression after the training: files, their scores and sizes."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import keras

from penjing.data.data_sources import UserData
from penjing.errors import CompressionError, MissingDependencyError
from penjing.export.integers.float_layers import AUTO
from penjing.export.litert import export_litert
from penjing.export.packed_files import pack_litert
from penjing.files import atomic_path
from penjing.measurement.accuracy import evaluate
from penjing.measurement.size import lower_levels, measure_size
from penjing.models.model_files import load_keras_model
from penjing.packing.runnable_file import runnable_file
from penjing.pipeline.recipe import Recipe
from penjing.pipeline.runs.machine_faults import raise_machine_fault
from penjing.pipeline.training import evaluation_arguments
from penjing.progress import Listener, Progress
from penjing.report.documents import RESTORED, FileRow, RefusedFile
from penjing.report.score_rows import ScoreRow
from penjing.tflite.modes import Mode, mode_named

BASELINE = "baseline"
RESULT = "model"
BASELINE_KERAS = f"{BASELINE}.h5"
BASELINE_FILE = f"{BASELINE}.tflite"
RESULT_KERAS = f"{RESULT}.keras"
RESULT_FILE = f"{RESULT}.tflite"
PACKED_FILE = f"{RESULT}.packed.tflite"
# The model in training, where it has ranges of activations, which no plain model has.
UNSTRIPPED = f"{RESULT}.trained.keras"


class _LeftOutError(Exception):
    """Says why a file is not there, or does not run."""


@contextlib.contextmanager
def _leaving_out() -> Iterator[None]:
    """Turn what the work on one file raises into a reason to leave the file out.

    No error, foreseen or not, is worth the training before it. A package that is
    missing is needed for all files: the same call goes on once it is there.
    """
    try:
        yield
    except MissingDependencyError:
        raise
    except Exception as error:
        raise_machine_fault(error)
        reason = str(error)
        if not isinstance(error, (CompressionError, ValueError)):
            reason = f"{type(error).__name__}, which nobody foresaw: {reason}"
        raise _LeftOutError(reason) from error


def _floats(given: tuple[str, ...]) -> str | tuple[str, ...]:
    """Layers in float as `export_litert` takes them."""
    return given[0] if given == (AUTO,) else given


def modes_of(recipe: Recipe) -> dict[str, Mode]:
    """The compressed `.tflite` files of a recipe, the one to deploy last."""
    first, *others = recipe.export.quantizations
    if "float32" not in recipe.export.quantizations:
        others = ["float32", *others]
    modes = {f"{RESULT}.{mode}.tflite": mode_named(mode) for mode in others}
    return {**modes, RESULT_FILE: mode_named(first)}


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class FileStages:
    """Exports, scores and sizes; each stage is skipped where it is finished.

    `stage` runs one, given its name and files; `has_ranges` says that the model in
    training was written too. `only_result` leaves out all files but the one to deploy,
    and what it is made of. `part` of the data is what files are scored on. `taken` is
    another run of the recipe whose training this one took over: the files that it wrote
    are copied. `refused` holds the files that could not be written or run, by their
    names.
    """

    model: keras.Model
    data: UserData
    recipe: Recipe
    folder: Path
    imports: tuple[str, ...]
    has_ranges: bool
    stage: Callable[[str, Sequence[Path], Callable[[], Any]], Any]
    progress: Listener
    only_result: bool = False
    part: Literal["test", "validation"] = "test"
    taken: FileStages | None = None
    refused: dict[str, RefusedFile] = dataclasses.field(default_factory=dict)
    # Flash and RAM of the packed file, once it is written.
    packed: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def modes(self) -> dict[str, Mode]:
        """The compressed `.tflite` files to write, the one to deploy last."""
        modes = modes_of(self.recipe)
        return {RESULT_FILE: modes[RESULT_FILE]} if self.only_result else modes

    @property
    def kinds(self) -> dict[str, str]:
        """File name -> what it is, of all `.tflite` files that were written."""
        kinds = {} if self.only_result else {BASELINE_FILE: "baseline, float32"}
        for name, mode in self.modes.items():
            kinds[name] = f"compressed, {mode.title}"
        if self.recipe.export.encoding:
            kinds[PACKED_FILE] = ", ".join(
                ["packed for microcontrollers", *self.packed.values()]
            )
        return {name: kind for name, kind in kinds.items() if name not in self.refused}

    @property
    def result(self) -> str:
        """The file to deploy: the recipe's first one that was written, packed if so."""
        modes = self.modes
        packed = [PACKED_FILE] if self.recipe.export.encoding else []
        wanted = [
            *packed,
            RESULT_FILE,
            *(name for name in modes if "float32" not in name),
        ]
        found = [name for name in [*wanted, *modes] if name not in self.refused]
        return next(iter(found), RESULT_KERAS)

    def export(self) -> None:
        """Write the `.tflite` files, but those that are refused."""
        if not self.only_result:
            self._unless_refused(BASELINE_FILE, self._export_baseline)
        for name in self.modes:
            self._unless_refused(name, self._export_result)
        if self.recipe.export.encoding:
            self._unless_refused(PACKED_FILE, self._pack)

    def _unless_refused(self, name: str, work: Callable[[str], Any]) -> Any:
        """Do something with a file; where that is refused, keep the reason, go on."""
        try:
            return work(name)
        except _LeftOutError as error:
            reason = str(error)
            kind = self.kinds[name]
            self.refused[name] = RefusedFile(name=name, kind=kind, reason=reason)
            notice = f"{name} is left out: {reason}"
            self.progress(Progress(stage=notice, notice=True))
            return None

    def _export_baseline(self, name: str) -> None:
        self._export(name, quantization=mode_named("float32").quantization)

    def _export_result(self, name: str) -> None:
        mode = self.modes[name]
        export = self.recipe.export
        # Ranges of activations are those of the model in training, where it has them,
        # and else found by the recipe's observer.
        trained = mode.has_int8_activations and self.has_ranges
        observed = mode.has_int8_activations and not self.has_ranges
        self._export(
            name,
            self.folder / (UNSTRIPPED if trained else RESULT_KERAS),
            quantization=mode.quantization,
            finish=export.finish,
            runtime=export.runtime,
            observer=export.observer if observed else "min_max",
            float_layers=_floats(export.float_layers) if observed else (),
        )

    def _export(self, name: str, source: Path | None = None, **settings: Any) -> None:
        path = self.folder / name

        def write() -> None:
            # No file of an earlier run stays where the export is refused.
            path.unlink(missing_ok=True)
            if self._take_over(name):
                return
            # Inputs to calibrate with and to verify the files on.
            train = self.data.train
            with _leaving_out():
                export_litert(
                    self.model if source is None else load_keras_model(source),
                    path,
                    representative_data=train[0] if isinstance(train, tuple) else train,
                    imports=self.imports,
                    **settings,
                )

        self.stage(f"Exporting {name}", [path], write)

    def _take_over(self, name: str) -> bool:
        """Copy a file of the other run, if that has it."""
        if self.taken is None or name not in self.taken.kinds:
            return False
        with atomic_path(self.folder / name) as temporary:
            shutil.copyfile(self.taken.folder / name, temporary)
        return True

    def _pack(self, name: str) -> None:
        path = self.folder / name
        if RESULT_FILE in self.refused:
            path.unlink(missing_ok=True)
            raise _LeftOutError(f"{RESULT_FILE}, of which it is made, is left out.")

        def write() -> dict[str, str]:
            path.unlink(missing_ok=True)
            if self.taken is not None and self._take_over(name):
                return self.taken.packed
            with _leaving_out():
                report = pack_litert(
                    self.folder / RESULT_FILE,
                    path,
                    max_arena=self.recipe.export.max_arena,
                    progress=False,
                )
            how = "measured" if report.arena_is_measured else "estimated"
            return {
                "flash": f"{report.flash_saved:,} bytes less flash",
                "arena": f"{report.arena_added:,} more RAM ({how})",
            }

        self.packed.update(self.stage(f"Packing {name}", [path], write))

    def scores(self) -> list[ScoreRow]:
        """Score all models and files on the data, but those that cannot run."""
        result = self.folder / RESULT_KERAS
        rows = [
            self._score(BASELINE, "baseline, float32", "keras", self.model),
            self._score(RESULT_KERAS, "compressed, float32", "keras", result),
            *(self.score_file(name) for name in list(self.kinds)),
        ]
        return [row for row in rows if row is not None]

    def score_file(self, name: str) -> ScoreRow | None:
        """Score a `.tflite` file in its runtime; None where it cannot run."""
        row: ScoreRow | None = self._unless_refused(name, self._score_file)
        return row

    def _score_file(self, name: str) -> ScoreRow:
        path = self.folder / name
        if name != PACKED_FILE:
            return self._score(name, self.kinds[name], "litert", path)
        with runnable_file(path) as twin:
            return self._score(name, self.kinds[name], RESTORED, twin)

    def _score(
        self, name: str, kind: str, runtime: str, model: keras.Model | Path
    ) -> ScoreRow:
        def measure() -> dict[str, float]:
            part = getattr(self.data, self.part)
            x, y = part if isinstance(part, tuple) else (part, None)
            arguments = evaluation_arguments(self.model, self.recipe.training)
            with _leaving_out() if runtime != "keras" else contextlib.nullcontext():
                return dict(evaluate(model, x, y, **arguments))

        metrics = self.stage(f"Evaluating {name}", [], measure)
        return ScoreRow(name=name, kind=kind, runtime=runtime, metrics=metrics)

    def sizes(self, baseline: str) -> list[FileRow]:
        """Measure all files that were written and run; the baseline's comes first."""
        kinds = {baseline: "baseline, Keras float32 without optimizer", **self.kinds}
        rows = list(kinds.items())
        place = 2 if BASELINE_FILE in kinds else 1  # behind the baseline's files
        rows.insert(place, (RESULT_KERAS, "compressed, Keras float32"))
        return [self._size(name, kind) for name, kind in rows]

    def _size(self, name: str, kind: str) -> FileRow:
        path = self.folder / name
        # The file counts: a stage of its own is done again where that changes.
        sizes = self.stage(
            f"Measuring {name}", [path], lambda: measure_size(path).to_dict()
        )
        row = FileRow.from_dict({**sizes, "name": name, "kind": kind})
        lower = ", ".join(f"{key} {level}" for key, level in lower_levels(row).items())
        if lower:
            row = dataclasses.replace(row, kind=f"{kind}; large, so levels are {lower}")
        return row
