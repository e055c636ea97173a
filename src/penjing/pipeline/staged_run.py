"""A recipe's run in stages whose files and results are kept."""

from __future__ import annotations

import dataclasses
import functools
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from penjing.channels.channel_report import channel_report
from penjing.data.data_sources import UserData
from penjing.engine.stripping import is_compressed, strip
from penjing.measurement.weight_report import sparsity_report
from penjing.models.output_metrics import CentredR2, OutputCosine
from penjing.pipeline.file_stages import RESULT_KERAS, UNSTRIPPED, FileStages
from penjing.pipeline.recipe import Recipe
from penjing.pipeline.recipe_run import cut_and_train, split_channels
from penjing.pipeline.runs.model_writing import write_keras
from penjing.pipeline.runs.output_folder import claim_outputs
from penjing.pipeline.runs.random_state import set_global_seeds, stage_seed
from penjing.pipeline.runs.run_state import RunState
from penjing.pipeline.training import loss_and_metrics
from penjing.progress import Listener, Progress

STATE_FOLDER = ".state/compression"


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class StagedRun:
    """What all stages of one run share; each is skipped where it is finished.

    The data fits the model, and its validation part is not in the training part;
    `imports` are modules that the exporting process must import. `lowest` is a
    validation score: a training that is worse is stopped by a `HopelessError`.
    """

    model: keras.Model
    data: UserData
    recipe: Recipe
    folder: Path
    seed: int
    imports: tuple[str, ...]
    state: RunState
    progress: Listener
    lowest: float | None = None

    def stage(
        self,
        name: str,
        files: Sequence[Path],
        function: Callable[[], Any],
        *,
        leads_on: bool = True,
    ) -> Any:
        """Run a stage unless it is finished; chance begins anew in each.

        `leads_on` says whether others come of it.
        """
        self.progress(Progress(stage=name))
        set_global_seeds(stage_seed(self.seed, name))

        def work() -> Any:
            claim_outputs(self.folder, [file.name for file in files])
            return function()

        return self.state.run_stage(name, files, work, leads_on=leads_on)

    @functools.cached_property
    def trained(self) -> dict[str, Any]:
        """What it gave: `weights`, `history`, `channels` and `notes`, for JSON.

        The models that it made are in the folder.
        """
        written = [self.folder / RESULT_KERAS, self.folder / UNSTRIPPED]
        trained: dict[str, Any] = self.stage("Training", written, self._train)
        return trained

    def _train(self) -> dict[str, Any]:
        trained = cut_and_train(
            self.model,
            self.data.train,
            self.recipe,
            seed=self.seed,
            state=self.state,
            progress=self.progress,
            validation=self.data.validation,
            lowest=self.lowest,
        )
        compressed = trained.model
        # Plain where channels were cut and nothing else.
        stripped = strip(compressed) if is_compressed(compressed) else compressed
        arguments = _as_of_keras(loss_and_metrics(self.model, self.recipe.training))
        # Loss and metrics stay with the file; SGD has no slots that would be stored.
        # Its name is in the file too: by itself Keras numbers those of a process.
        sgd = keras.optimizers.SGD
        stripped.compile(**{**arguments, "optimizer": sgd(name="sgd")})
        unstripped = self.folder / UNSTRIPPED
        unstripped.unlink(missing_ok=True)  # of another recipe
        if getattr(compressed, "activations", None) is not None:
            # The ranges of its activations are in no plain model.
            compressed.compile(**{**arguments, "optimizer": sgd(name="sgd")})
            write_keras(compressed, unstripped)
        write_keras(stripped, self.folder / RESULT_KERAS)
        cuts_channels, _ = split_channels(self.recipe)
        found = (
            channel_report(self.model, trained.cut).to_dict() if cuts_channels else None
        )
        rows = sparsity_report(compressed).rows
        self.state.forget_variables()
        return {
            "weights": [row.to_dict() for row in rows],
            "history": self.state.history,
            "channels": found,
            "notes": trained.notes,
        }

    def files(self, **options: Any) -> FileStages:
        """The stages after the training, which is run first; see `FileStages`."""
        _ = self.trained
        return FileStages(
            model=self.model,
            data=self.data,
            recipe=self.recipe,
            folder=self.folder,
            imports=self.imports,
            has_ranges=(self.folder / UNSTRIPPED).is_file(),
            stage=self.stage,
            progress=self.progress,
            **options,
        )


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class TakenOver(StagedRun):
    """A run whose training, and file to deploy, are those of another one, `source`.

    Both have the same recipe; what the other one did not write is made here.
    """

    source: StagedRun

    def _train(self) -> dict[str, Any]:
        trained = self.source.trained
        (self.folder / UNSTRIPPED).unlink(missing_ok=True)  # of another recipe
        for name in (RESULT_KERAS, UNSTRIPPED):
            path = self.source.folder / name
            if path.is_file():
                shutil.copy2(path, self.folder / name)
        return trained

    def files(self, **options: Any) -> FileStages:
        """The stages after the training; the other run's file is copied."""
        taken = self.source.files(only_result=True, part="validation")
        taken.export()  # finished, or it is done again
        return super().files(taken=taken, **options)


def _as_of_keras(arguments: dict[str, Any]) -> dict[str, Any]:
    """Arguments of `compile` without classes of penjing: files load without it."""

    def plain(metric: Any) -> Any:
        is_ours = isinstance(metric, CentredR2 | OutputCosine)
        return metric.of_keras() if is_ours else metric

    metrics = arguments.get("metrics")
    if not metrics:
        return arguments
    return {**arguments, "metrics": keras.tree.map_structure(plain, metrics)}
