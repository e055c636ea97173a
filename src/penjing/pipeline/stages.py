"""The stages of one compression, from the baseline's file to the report."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from penjing.channels.channel_report import ChannelReport, channel_report
from penjing.data.data_sources import UserData
from penjing.engine.stripping import is_compressed, strip
from penjing.export.litert import export_litert
from penjing.measurement.accuracy import evaluate
from penjing.measurement.machine import describe_environment
from penjing.measurement.size import lower_levels, measure_size
from penjing.measurement.weight_report import WeightRow, sparsity_report
from penjing.models.model_files import load_keras_model
from penjing.pipeline.model_writing import write_h5, write_keras
from penjing.pipeline.recipe import Recipe
from penjing.pipeline.recipe_run import run_recipe, split_channels
from penjing.pipeline.run_data import summarize, without_folders
from penjing.pipeline.run_state import RunState
from penjing.pipeline.training import (
    compile_arguments,
    evaluation_metrics,
    metric_directions,
)
from penjing.progress import Listener, Progress
from penjing.report.documents import FileRow, Report, ScoreRow, write_json
from penjing.report.pages import write_html
from penjing.tflite.modes import Mode, mode_named

BASELINE = "baseline"
RESULT = "model"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Stages:
    """The stages of one compression; each is skipped where it is finished.

    The data fits the model, and has `data_name` in the report; `imports` are modules
    that the exporting process must import; `warned` is what was warned of before.
    """

    model: keras.Model
    data: UserData
    data_name: str
    recipe: Recipe
    folder: Path
    seed: int
    imports: tuple[str, ...]
    state: RunState
    progress: Listener
    warned: tuple[str, ...] = ()

    def report(self) -> Report:
        """Run what is not finished and write the report."""
        path = self.folder / f"{BASELINE}.h5"
        baseline = self._stage("Baseline", [path], lambda: write_h5(self.model, path))
        trained = self._stage("Training", [self._result], self._train)
        exported = self._exported_files()
        scores = self._scores(exported)
        files = self._files(baseline, exported)
        channels = trained.get("channels")
        report = Report(
            title=f"{self.model.name} on {self.data_name}",
            model=self.model.name,
            parameters=self.model.count_params(),
            recipe=self.recipe.to_dict(),
            seed=self.seed,
            environment=describe_environment(keras.backend.backend()),
            data=summarize(self.data, self.data_name),
            files=tuple(files),
            scores=tuple(scores),
            weights=tuple(map(WeightRow.from_dict, trained["weights"])),
            history=tuple(trained["history"]),
            seconds=self.state.seconds(),
            reference=baseline,
            channels=channels and ChannelReport.from_dict(channels),
            warnings=self._warnings(),
            directions=metric_directions(
                self.model, self.recipe.training, scores[0].metrics
            ),
        )
        write_json(report, self.folder / "report.json")
        write_html(report, self.folder / "report.html")
        return report

    def _warnings(self) -> tuple[str, ...]:
        texts = map(without_folders, [*self.warned, *self.state.warnings()])
        return tuple(dict.fromkeys(texts))

    def _stage(
        self, name: str, files: Sequence[Path], function: Callable[[], Any]
    ) -> Any:
        self.progress(Progress(stage=name))
        return self.state.run_stage(name, files, function)

    def _train(self) -> dict[str, Any]:
        compressed = run_recipe(
            self.model,
            self.data.train,
            self.recipe,
            seed=self.seed,
            state=self.state,
            progress=self.progress,
        )
        # Plain where channels were cut and nothing else.
        stripped = strip(compressed) if is_compressed(compressed) else compressed
        arguments = compile_arguments(self.model, self.recipe.training, steps=1)
        # Loss and metrics stay with the file; SGD has no slots that would be stored.
        stripped.compile(**{**arguments, "optimizer": "sgd"})
        if getattr(compressed, "activations", None) is not None:
            # The ranges of its activations are in no plain model.
            compressed.compile(**{**arguments, "optimizer": "sgd"})
            write_keras(compressed, self._unstripped)
        write_keras(stripped, self._result)
        self.state.forget_variables()
        return {
            "weights": [row.to_dict() for row in sparsity_report(compressed).rows],
            "history": self.state.history,
            "channels": (
                channel_report(self.model, stripped).to_dict()
                if split_channels(self.recipe)[0]
                else None
            ),
        }

    def _exported_files(self) -> dict[str, str]:
        """Export all `.tflite` files; file name -> what it is."""
        first, *others = self.recipe.export.quantizations
        if "float32" not in self.recipe.export.quantizations:
            others = ["float32", *others]
        wanted = {f"{RESULT}.{mode}.tflite": mode_named(mode) for mode in others}
        wanted[f"{RESULT}.tflite"] = mode_named(first)
        self._export(f"{BASELINE}.tflite", mode_named("float32"), self.model)
        for name, mode in wanted.items():
            # From the model in training, where that has ranges of activations.
            trained = mode.has_int8_activations and self._unstripped.is_file()
            source = self._unstripped if trained else self._result
            self._export(name, mode, source, self.recipe.export.finish)
        return {
            f"{BASELINE}.tflite": "baseline, float32",
            **{name: f"compressed, {mode.title}" for name, mode in wanted.items()},
        }

    def _export(
        self,
        name: str,
        mode: Mode,
        source: keras.Model | Path,
        finish: str | None = None,
    ) -> None:
        path = self.folder / name

        def write() -> None:
            # Inputs to calibrate with and to verify the files on.
            train = self.data.train
            # The recipe's observer, where ranges have to be found and were not trained.
            observed = mode.has_int8_activations and not self._unstripped.is_file()
            export_litert(
                load_keras_model(source) if isinstance(source, Path) else source,
                path,
                quantization=mode.quantization,
                representative_data=train[0] if isinstance(train, tuple) else train,
                imports=self.imports,
                finish=finish,
                observer=self.recipe.export.observer if observed else "min_max",
            )

        self._stage(f"Exporting {name}", [path], write)

    @property
    def _unstripped(self) -> Path:
        return self.folder / f"{RESULT}.trained.keras"

    @property
    def _result(self) -> Path:
        return self.folder / f"{RESULT}.keras"

    def _scores(self, exported: dict[str, str]) -> list[ScoreRow]:
        result = self._result
        return [
            self._score(BASELINE, "baseline, float32", "keras", self.model),
            self._score(result.name, "compressed, float32", "keras", result),
            *(
                self._score(name, kind, "litert", self.folder / name)
                for name, kind in exported.items()
            ),
        ]

    def _score(
        self, name: str, kind: str, runtime: str, model: keras.Model | Path
    ) -> ScoreRow:
        def measure() -> dict[str, float]:
            test = self.data.test
            x, y = test if isinstance(test, tuple) else (test, None)
            metrics = evaluation_metrics(self.model, self.recipe.training)
            # What Keras calls a list of outputs, which files only number.
            numbered = isinstance(getattr(self.model, "output", None), (list, tuple))
            names = self.model.output_names if numbered else None
            return dict(evaluate(model, x, y, metrics=metrics, output_names=names))

        metrics = self._stage(f"Evaluating {name}", [], measure)
        return ScoreRow(name=name, kind=kind, runtime=runtime, metrics=metrics)

    def _files(self, baseline: str, exported: dict[str, str]) -> list[FileRow]:
        kinds = {
            baseline: "baseline, Keras float32 without optimizer",
            f"{BASELINE}.tflite": exported[f"{BASELINE}.tflite"],
            self._result.name: "compressed, Keras float32",
            **exported,
        }
        return [self._file(name, kind) for name, kind in kinds.items()]

    def _file(self, name: str, kind: str) -> FileRow:
        path = self.folder / name
        stage = f"Measuring {name}"
        sizes = self._stage(stage, [], lambda: measure_size(path).to_dict())
        row = FileRow.from_dict({**sizes, "name": name, "kind": kind})
        lower = ", ".join(f"{key} {level}" for key, level in lower_levels(row).items())
        if lower:
            row = dataclasses.replace(row, kind=f"{kind}; large, so levels are {lower}")
        return row
