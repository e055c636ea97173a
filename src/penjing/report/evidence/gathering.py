"""All parts of the evidence, each of which may fail alone."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import keras

from penjing.measurement.latency import measure_latency
from penjing.measurement.weight_report import WeightRow
from penjing.models.model_files import load_keras_model
from penjing.packing.packing import restore
from penjing.report.evidence.layer_evidence import describe_layers
from penjing.report.evidence.reasons import reason_of
from penjing.report.evidence.sample_evidence import SampleEvidence, compare_samples
from penjing.report.evidence.stored_weights import StoredWeight, stored_weights
from penjing.report.evidence.weight_evidence import draw_weights
from penjing.report.evidence_rows import Evidence, LayerRow, TimeRow, WeightPicture
from penjing.runtime.file_bounds import is_for_tflm
from penjing.tflite.loading import read_litert

_ROUNDS = 10

Part = TypeVar("Part")


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class EvidenceSources:
    """What evidence is gathered from.

    Args:
        baseline: The model as it was.
        compressed: File of the compressed Keras model.
        file: The `.tflite` file that is the result; None where there is none.
        float_file: The baseline's float `.tflite` file, where there is one.
        test: The test part of the data: `(x, y)` or a loader.
        weights: What became of each weight, with the reasons for those skipped.
        class_names: Names of the classes, where they are known.
    """

    baseline: keras.Model
    compressed: Path
    file: Path | None
    float_file: Path | None
    test: Any
    weights: tuple[WeightRow, ...]
    class_names: tuple[str, ...] | None = None


def gather_evidence(sources: EvidenceSources) -> Evidence:
    """Gather what can be had, and say of the rest why it is not there."""
    return _Gathering(sources).evidence()


class _Gathering:
    """Parts that were had, and reasons of those that were not."""

    def __init__(self, sources: EvidenceSources) -> None:
        self._sources = sources
        self._left_out: dict[str, str] = {}

    def evidence(self) -> Evidence:
        sources = self._sources
        with contextlib.ExitStack() as stack:
            plain = self._had("file", _plain_file, sources.file)
            file = stack.enter_context(plain) if plain else None
            samples = self._had("samples", self._samples, file)
            times = self._had("times", measure_times, sources, file)
            stored = self._had("bytes of layers", self._stored, file)
        compressed = self._had("compressed model", load_keras_model, sources.compressed)
        layers = self._had("layers", self._layers, compressed, stored or [])
        weights = self._had("weights", self._weights, compressed)
        return Evidence(
            layers=layers or (),
            weights=weights or (),
            **(samples or SampleEvidence()).rows(),
            times=times or (),
            left_out=self._left_out,
        )

    def _had(self, name: str, make: Callable[..., Part], *args: Any) -> Part | None:
        """What a function gives; where it fails None, with the reason kept."""
        try:
            return make(*args)
        except Exception as error:  # of the user's own code, too
            self._left_out[name] = reason_of(error)
            return None

    def _samples(self, file: Path | None) -> SampleEvidence:
        sources = self._sources
        return compare_samples(
            sources.baseline, _there(file), sources.test, sources.class_names
        )

    def _stored(self, file: Path | None) -> list[StoredWeight]:
        return stored_weights(_there(file), self._sources.file)

    def _layers(
        self, compressed: keras.Model | None, stored: list[StoredWeight]
    ) -> tuple[LayerRow, ...]:
        sources = self._sources
        return describe_layers(
            sources.baseline,
            _there(compressed),
            sources.weights,
            stored=stored,
            test=sources.test,
            left_out=self._left_out,
        )

    def _weights(self, compressed: keras.Model | None) -> tuple[WeightPicture, ...]:
        return draw_weights(self._sources.baseline, _there(compressed))


def _there(value: Part | None) -> Part:
    """A value that other parts are made of; a ValueError where it could not be had."""
    if value is None:
        raise ValueError("There is no file, or no model, to look at.")
    return value


@contextlib.contextmanager
def _as_plain(file: Path, content: bytes | None) -> Iterator[Path]:
    """A file, or one of other content with its name."""
    if content is None:
        yield file
        return
    with tempfile.TemporaryDirectory() as folder:
        twin = Path(folder) / file.name
        twin.write_bytes(content)
        yield twin


def _plain_file(file: Path | None) -> contextlib.AbstractContextManager[Path]:
    """The file as LiteRT runs it: of a packed one the plain one that it stands for."""
    content = read_litert(file := _there(file))
    is_packed = is_for_tflm(content, str(file))
    return _as_plain(file, restore(content, str(file)) if is_packed else None)


def measure_times(sources: EvidenceSources, file: Path | None) -> tuple[TimeRow, ...]:
    """What the float file and the result take; a packed file is not timed here."""
    if file is None or file != sources.file or sources.float_file is None:
        return ()
    report = measure_latency(
        [sources.float_file, file], rounds=_ROUNDS, warm_up=1, progress=False
    )
    first, last = report.files
    runtime = f"{report.conditions.runtime}, 1 thread"
    return (
        TimeRow(
            name=sources.float_file.name,
            runtime=runtime,
            seconds=first.milliseconds / 1000,
        ),
        TimeRow(
            name=file.name,
            runtime=runtime,
            seconds=last.milliseconds / 1000,
            speedup=last.speedup,
            speedup_low=last.speedup_low,
            speedup_high=last.speedup_high,
        ),
    )
