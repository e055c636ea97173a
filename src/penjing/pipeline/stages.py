"""The stages of one compression, from the baseline's file to the report."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from penjing.channels.channel_report import ChannelReport
from penjing.measurement.machine import describe_environment
from penjing.measurement.weight_report import WeightRow
from penjing.pipeline.file_stages import (
    BASELINE_FILE,
    BASELINE_KERAS,
    PACKED_FILE,
    RESULT_KERAS,
    UNSTRIPPED,
    FileStages,
    modes_of,
)
from penjing.pipeline.inputs.run_data import summarize, without_folders
from penjing.pipeline.recipe import Recipe
from penjing.pipeline.runs.model_writing import write_h5
from penjing.pipeline.runs.output_folder import claim_outputs
from penjing.pipeline.staged_run import StagedRun
from penjing.pipeline.staircase import staircase_of
from penjing.pipeline.training import metric_directions
from penjing.report.documents import Report, write_json
from penjing.report.evidence.gathering import EvidenceSources, gather_evidence
from penjing.report.evidence_rows import Evidence
from penjing.report.pages import write_html
from penjing.report.search_rows import StairRow

REPORTS = ("report.json", "report.html")


def output_names(recipe: Recipe) -> list[str]:
    """Names of all files that a run with a recipe may write."""
    models = [BASELINE_KERAS, BASELINE_FILE, RESULT_KERAS, UNSTRIPPED]
    packed = [PACKED_FILE] if recipe.export.encoding else []
    return [*models, *modes_of(recipe), *packed, *REPORTS]


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class Stages:
    """The stages of one compression, of which the report is the last.

    The data has `data_name` in the report; `warned` is what was warned of before, and
    `commands` what gives the same again; `before` are steps of the staircase in front
    of the result's, and `more` fields of the report, that others know of.
    """

    run: StagedRun
    data_name: str
    warned: tuple[str, ...] = ()
    before: tuple[StairRow, ...] = ()
    more: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    commands: tuple[str, ...] = ()

    def report(self) -> Report:
        """Run what is not finished and write the report."""
        run = self.run
        model, recipe, folder = run.model, run.recipe, run.folder
        path = folder / BASELINE_KERAS
        baseline = run.stage(
            "Baseline", [path], lambda: write_h5(model, path), leads_on=False
        )
        trained = run.trained
        files = run.files()
        files.export()
        scores = files.scores()
        sizes = files.sizes(baseline)
        # Of these files: it is gathered anew where another one is the result.
        seen = [folder / RESULT_KERAS, folder / files.result]
        evidence = run.stage(
            f"Looking at {files.result}", seen, lambda: self._evidence(files)
        )
        channels = trained.get("channels")
        data = summarize(run.data, self.data_name, trained.get("notes", ()))
        report = Report(
            title=f"{model.name} on {self.data_name}",
            model=model.name,
            parameters=model.count_params(),
            recipe=recipe.to_dict(),
            seed=run.seed,
            environment=describe_environment(keras.backend.backend()),
            data=data,
            files=tuple(sizes),
            scores=tuple(scores),
            weights=tuple(map(WeightRow.from_dict, trained["weights"])),
            history=tuple(trained["history"]),
            seconds=run.state.seconds(),
            reference=baseline,
            result=files.result,
            channels=channels and ChannelReport.from_dict(channels),
            warnings=self._warnings(),
            directions=metric_directions(model, recipe.training, scores[0].metrics),
            refused=tuple(files.refused.values()),
            evidence=Evidence.from_dict(evidence),
            **{
                "staircase": staircase_of(
                    files, sizes, scores, metric=self._metric, before=self.before
                ),
                "commands": self.commands,
                **self.more,
            },
        )
        claim_outputs(folder, REPORTS)
        write_json(report, folder / REPORTS[0])
        write_html(report, folder / REPORTS[1])
        return report

    @property
    def _metric(self) -> str | None:
        """The metric that decided, where one did."""
        return getattr(self.more.get("budget"), "metric", None)

    def _evidence(self, files: FileStages) -> dict[str, Any]:
        run = self.run
        with warnings.catch_warnings():
            # What the stages before warned of is in the report; nothing new is said.
            warnings.simplefilter("ignore")
            found = gather_evidence(
                EvidenceSources(
                    baseline=run.model,
                    compressed=run.folder / RESULT_KERAS,
                    file=_existing(run.folder / files.result),
                    float_file=_existing(run.folder / BASELINE_FILE),
                    test=run.data.test,
                    weights=tuple(map(WeightRow.from_dict, run.trained["weights"])),
                    class_names=run.data.class_names,
                )
            )
        reasons = {name: without_folders(why) for name, why in found.left_out.items()}
        return dataclasses.replace(found, left_out=reasons).to_dict()

    def _warnings(self) -> tuple[str, ...]:
        texts = map(without_folders, [*self.warned, *self.run.state.warnings()])
        return tuple(dict.fromkeys(texts))


def _existing(file: Path) -> Path | None:
    """A `.tflite` file that is there."""
    return file if file.suffix == ".tflite" and file.is_file() else None
