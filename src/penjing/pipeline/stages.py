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
from penjing.measurement.machine import describe_environment
from penjing.measurement.weight_report import WeightRow, sparsity_report
from penjing.pipeline.file_stages import (
    BASELINE_FILE,
    BASELINE_KERAS,
    RESULT_KERAS,
    UNSTRIPPED,
    FileStages,
    modes_of,
)
from penjing.pipeline.recipe import Recipe
from penjing.pipeline.recipe_run import cut_and_train, split_channels
from penjing.pipeline.run_data import summarize, without_folders
from penjing.pipeline.runs.model_writing import write_h5, write_keras
from penjing.pipeline.runs.output_folder import claim_outputs
from penjing.pipeline.runs.random_state import set_global_seeds, stage_seed
from penjing.pipeline.runs.run_state import RunState
from penjing.pipeline.training import compile_arguments, metric_directions
from penjing.progress import Listener, Progress
from penjing.report.documents import Report, write_json
from penjing.report.pages import write_html

REPORTS = ("report.json", "report.html")


def output_names(recipe: Recipe) -> list[str]:
    """Names of all files that a run with a recipe may write."""
    models = [BASELINE_KERAS, BASELINE_FILE, RESULT_KERAS, UNSTRIPPED]
    return [*models, *modes_of(recipe), *REPORTS]


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
        path = self.folder / BASELINE_KERAS
        baseline = self._stage("Baseline", [path], lambda: write_h5(self.model, path))
        written = [self.folder / RESULT_KERAS, self.folder / UNSTRIPPED]
        trained = self._stage("Training", written, self._train)
        files = FileStages(
            model=self.model,
            data=self.data,
            recipe=self.recipe,
            folder=self.folder,
            imports=self.imports,
            has_ranges=(self.folder / UNSTRIPPED).is_file(),
            stage=self._stage,
            progress=self.progress,
        )
        files.export()
        scores = files.scores()
        channels = trained.get("channels")
        report = Report(
            title=f"{self.model.name} on {self.data_name}",
            model=self.model.name,
            parameters=self.model.count_params(),
            recipe=self.recipe.to_dict(),
            seed=self.seed,
            environment=describe_environment(keras.backend.backend()),
            data=summarize(self.data, self.data_name),
            files=tuple(files.sizes(baseline)),
            scores=tuple(scores),
            weights=tuple(map(WeightRow.from_dict, trained["weights"])),
            history=tuple(trained["history"]),
            seconds=self.state.seconds(),
            reference=baseline,
            result=files.result,
            channels=channels and ChannelReport.from_dict(channels),
            warnings=self._warnings(),
            directions=metric_directions(
                self.model, self.recipe.training, scores[0].metrics
            ),
            refused=tuple(files.refused.values()),
        )
        claim_outputs(self.folder, REPORTS)
        write_json(report, self.folder / REPORTS[0])
        write_html(report, self.folder / REPORTS[1])
        return report

    def _warnings(self) -> tuple[str, ...]:
        texts = map(without_folders, [*self.warned, *self.state.warnings()])
        return tuple(dict.fromkeys(texts))

    def _stage(
        self, name: str, files: Sequence[Path], function: Callable[[], Any]
    ) -> Any:
        """Run a stage unless it is finished; chance begins anew in each."""
        self.progress(Progress(stage=name))
        set_global_seeds(stage_seed(self.seed, name))

        def work() -> Any:
            claim_outputs(self.folder, [file.name for file in files])
            return function()

        return self.state.run_stage(name, files, work)

    def _train(self) -> dict[str, Any]:
        compressed, cut = cut_and_train(
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
        unstripped = self.folder / UNSTRIPPED
        unstripped.unlink(missing_ok=True)  # of another recipe
        if getattr(compressed, "activations", None) is not None:
            # The ranges of its activations are in no plain model.
            compressed.compile(**{**arguments, "optimizer": "sgd"})
            write_keras(compressed, unstripped)
        write_keras(stripped, self.folder / RESULT_KERAS)
        cuts_channels, _ = split_channels(self.recipe)
        found = channel_report(self.model, cut).to_dict() if cuts_channels else None
        rows = sparsity_report(compressed).rows
        self.state.forget_variables()
        return {
            "weights": [row.to_dict() for row in rows],
            "history": self.state.history,
            "channels": found,
        }
