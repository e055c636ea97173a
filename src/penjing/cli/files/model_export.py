"""The work of `penjing export`, which takes Keras: the file, its sizes, its score."""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penjing.cli.files.real_inputs import ARRAY_FILES, read_inputs
from penjing.data.data_checks import output_shapes
from penjing.data.unlabeled_data import UnlabeledDataError, inputs_to_measure
from penjing.errors import CompressionError, CompressionWarning
from penjing.export.litert import export_litert
from penjing.measurement.accuracy import evaluate
from penjing.measurement.size import measure_size
from penjing.models.model_files import load_keras_model
from penjing.packing.runnable_file import runnable_file
from penjing.pipeline.inputs.run_data import as_user_data
from penjing.pipeline.recipe import TrainingRecipe
from penjing.pipeline.training import evaluation_arguments
from penjing.progress import Listener, Progress
from penjing.tflite.modes import Mode


class ModelExport:
    """A model that is loaded, and its data, for one file to be written and measured.

    `notes` are what was warned of on the way.
    """

    def __init__(
        self,
        path: Path,
        data: str | None,
        *,
        pixels: str,
        seed: int,
        progress: Listener,
    ) -> None:
        self.notes: list[str] = []
        self._listen = progress
        self._say(f"Loading {path.name}")
        self._model = load_keras_model(path)
        self._parts: Any = None
        self._inputs: Any = None
        if data is not None:
            self._read(data, path, pixels, seed)

    def _read(self, data: str, path: Path, pixels: str, seed: int) -> None:
        if Path(data).suffix.lower() in ARRAY_FILES:
            self._inputs = read_inputs(data, path, pixels)
            return
        try:
            parts, _ = as_user_data(data, self._model, seed, pixels)
        except UnlabeledDataError as error:
            self._inputs = inputs_to_measure(error.read())
            return
        self._parts = parts
        train = parts.train
        self._inputs = train[0] if isinstance(train, tuple) else train
        parts.validate_against(self._model, labels_match_outputs=False)
        for note in parts.notes:
            self._listen(Progress(stage=f"Data: {note}.", notice=True))

    def write(self, file: Path, quantization: str | None, **settings: Any) -> None:
        """Write the file, by `export_litert`."""
        self._say(f"Writing {file.name}")
        with self._noting():
            export_litert(
                self._model,
                file,
                quantization,
                representative_data=self._inputs,
                **settings,
            )

    def measured(self, file: Path, mode: Mode) -> dict[str, Any]:
        """What the file weighs, and scores beside the model where there are labels."""
        sizes = measure_size(file)
        found: dict[str, Any] = {
            "file": str(file),
            "quantization": mode.name,
            "bytes": sizes.raw,
            "gzip": sizes.gzip,
            "float_bytes": 4 * self._model.count_params(),
            "scores": self._scores(file),
        }
        return {**found, "notes": self.notes}

    def _scores(self, file: Path) -> dict[str, dict[str, float]]:
        """Scores of the model and of the file on the test part, by their metrics.

        Where they cannot be had, none, and a note that says why: the file is written.
        """
        if self._parts is None:
            return {}
        if not self._model.compiled:
            self.notes.append(
                "Not scored: the model was saved without a loss and metrics. `penjing "
                "evaluate FILE --data DATA --metric accuracy` scores any file"
            )
            return {}
        parts, test = self._parts, self._parts.test
        x, y = test if isinstance(test, tuple) else (test, None)
        try:
            parts.check_classes(output_shapes(self._model))
            with self._noting(), runnable_file(file) as path:
                arguments = evaluation_arguments(self._model, TrainingRecipe())
                scores = {}
                for name, source in (("model", self._model), ("file", path)):
                    self._say(f"Scoring the {name}")
                    scores[name] = dict(evaluate(source, x, y, **arguments))
        except (CompressionError, ValueError) as error:
            self.notes.append(f"Not scored: {error}")
            return {}
        return scores

    def _say(self, stage: str) -> None:
        self._listen(Progress(stage=stage))

    @contextlib.contextmanager
    def _noting(self) -> Iterator[None]:
        """Keep for the end what is warned of, and what is printed about the model.

        That goes to the error stream, which the command turns away, as libraries log
        to it.
        """
        printed = io.StringIO()
        with (
            contextlib.redirect_stderr(printed),
            warnings.catch_warnings(record=True) as caught,
        ):
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", CompressionWarning)
            yield
        name = f"`{self._model.name}`"
        self.notes += [n for n in printed.getvalue().splitlines() if name in n]
        self.notes += [str(warning.message) for warning in caught]
