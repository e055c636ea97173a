"""The model card of a compressed model."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from penjing.channels.channel_report import ChannelReport
from penjing.errors import FileFormatError
from penjing.report.card.markdown import (
    block,
    bullets,
    code,
    front_matter,
    plain,
    table,
    toml,
)
from penjing.report.comparison.finished_files import read_run
from penjing.report.documents import RESTORED, RUNTIMES, Report, smaller
from penjing.version import __version__

_TAGS = ("keras", "litert", "tflite", "model-compression", "penjing")
# A missing row ends the parts with a RuntimeError.
_DAMAGE = (KeyError, RuntimeError, TypeError, ValueError, ZeroDivisionError)


def model_card(
    report: Report | str | os.PathLike[str], *, license: str | None = None
) -> str:
    """Describe a compressed model in Markdown, as README.md of hubs.

    Everything in it is from the report: what was compressed and how, the files with
    bytes and scores beside those of the float model and of the dense control, the
    runtimes that they ran in, data, seed and limits, and how to run the result. Hubs
    read the head, which is YAML as in the cards of Hugging Face.

    Args:
        report: A report, the output folder of a finished run, or its `report.json`.
        license: The licence of the model, as hubs name it, such as "apache-2.0".

    Returns:
        The text of the card.

    Raises:
        FileFormatError: If the folder holds no finished run, or the report does not
            fit together.

    Example:
        >>> card = penjing.model_card("out", license="mit")  # doctest: +SKIP
        >>> pathlib.Path("out/README.md").write_text(card)  # doctest: +SKIP

    Reference:
        https://huggingface.co/docs/hub/model-cards
    """
    found = report if isinstance(report, Report) else read_run(Path(report))[0]
    try:
        return "\n\n".join(_parts(found, license)) + "\n"
    except _DAMAGE as error:
        raise FileFormatError(
            f"This report does not fit together: {type(error).__name__}: {error}. It "
            "was changed, or is damaged."
        ) from error


def _parts(report: Report, license: str | None) -> Iterator[str]:
    yield _head(report, license)
    yield f"# {plain(report.title)}"
    yield _summary(report)
    yield "## Files"
    yield _files(report)
    yield "Scores are of the test data. Servers send files gzipped."
    if len(report.staircase) > 1:
        yield "## What each step bought"
        yield _staircase(report)
    yield "## How it was compressed"
    yield from _methods(report)
    yield "## Where it ran"
    yield bullets(list(_runs(report)))
    yield "## Data"
    yield bullets(list(_data(report)))
    yield "## Limits"
    yield bullets(list(_limits(report)))
    yield "## How to run it"
    yield from _usage(report)
    if report.commands:
        yield "## How to make it again"
        yield block("\n".join(report.commands), "bash")
    yield f"Written by penjing {__version__}."


def _head(report: Report, license: str | None) -> str:
    values: dict[str, Any] = {"license": license} if license else {}
    values |= {"library_name": "keras", "tags": list(_TAGS)}
    if report.metric is not None:
        values["metrics"] = [report.metric]
    return front_matter(values)


def _summary(report: Report) -> str:
    times, word = smaller(report.ratio)
    lines = [
        f"**{times} times {word}**: {code(report.reference)} zipped takes "
        f"{report.file(report.reference).zip:,} bytes, {code(report.result)} zipped "
        f"{report.file(report.result).zip:,}.",
    ]
    if report.before is not None and report.after is not None:
        change = " (worse)" if report.change == "worse" else ""
        lines.append(
            f"{plain(report.metric)}: {report.before:.4f} before, {report.after:.4f} "
            f"after{change}."
        )
    if report.control is not None and report.control_score is not None:
        lines.append(
            f"A dense model that was trained on as long scores "
            f"{report.control_score:.4f}."
        )
    return " ".join(lines)


def _files(report: Report) -> str:
    metric = report.metric
    headings = ["file", "what it is", ">bytes", ">gzipped", ">zipped"]
    headings += [f">{plain(metric)}", ">against the float model"] if metric else []
    rows = []
    for file in report.files:
        sizes = [f"{size:,}" for size in (file.raw, file.gzip, file.zip)]
        row = [code(file.name), plain(file.kind), *sizes]
        if metric:
            scored = report.score(file.name)
            if scored is None and file is report.files[0] and report.scores:
                scored = report.scores[0]  # the baseline is scored as a model
            score = None if scored is None else scored.metrics.get(metric)
            row += [_score(score), report.difference(scored) if scored else ""]
        rows.append(row)
    if metric and report.control is not None and report.control_score is not None:
        kind = plain(report.control.kind)
        rows.append(["", kind, "", "", "", _score(report.control_score), ""])
    return table(headings, rows)


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _staircase(report: Report) -> str:
    headings = ["step", ">gzipped", f">{plain(report.metric or 'score')}"]
    rows = [
        [plain(row.step), f"{row.bytes:,}", _score(row.score)]
        for row in report.staircase
    ]
    return table(headings, rows)


def _methods(report: Report) -> Iterator[str]:
    lines = [f"{report.parameters:,} parameters before."]
    if report.channels is not None:
        lines += _channels(report.channels)
    if report.weights:
        lines.append(f"{report.sparsity:.1%} of the compressed weights are zero.")
    yield bullets(lines)
    yield "The recipe:"
    yield toml(report.recipe)


def _channels(channels: ChannelReport) -> Iterator[str]:
    before = sum(row.before for row in channels.rows)
    after = sum(row.after for row in channels.rows)
    yield f"{after:,} of {before:,} channels are left."
    if channels.macs is not None:
        whole, left = channels.macs
        yield f"{left:,} multiply-accumulates, of {whole:,}."


def _runs(report: Report) -> Iterator[str]:
    machine = report.environment
    for runtime in dict.fromkeys(row.runtime for row in report.scores):
        ran = [row.name for row in report.scores if row.runtime == runtime]
        yield f"{RUNTIMES.get(runtime, plain(runtime))}: {', '.join(map(code, ran))}"
    packages = ", ".join(
        f"{plain(name)} {plain(version)}" for name, version in machine.packages.items()
    )
    yield (
        f"On {plain(machine.system)}, {plain(machine.processor)}, Python "
        f"{plain(machine.python)}, Keras' backend {plain(machine.backend)}: {packages}"
    )
    yield (
        "Other runtimes have kernels of their own: `penjing verify` proves a file in "
        "TensorFlow Lite Micro, in WebAssembly and on ARM"
    )


def _data(report: Report) -> Iterator[str]:
    data = report.data
    yield (
        f"{plain(data.name)}: {plain(data.count('train'))} to train, "
        f"{plain(data.count('test'))} to test"
    )
    yield from map(plain, data.notes)
    yield f"Seed {report.seed}"


def _limits(report: Report) -> Iterator[str]:
    yield (
        f"It was scored on {plain(report.data.count('test'))} of one data "
        "set; nothing is known of others"
    )
    yield "Zeros make a file smaller; whether also faster, depends on the runtime"
    if any(row.runtime == RESTORED for row in report.scores):
        yield (
            f"{code(report.result)} runs in TensorFlow Lite Micro alone; its score is "
            "that of the plain file with the same constants"
        )
    if report.budget is not None:
        yield from map(plain, (*report.budget.gaps, *report.budget.notes))
    yield from map(plain, report.warnings)
    for row in report.refused:
        yield f"{code(row.name)} could not be had: {plain(row.reason)}"


def _usage(report: Report) -> Iterator[str]:
    if any(row.runtime == RESTORED for row in report.scores):
        command = f"penjing export-c {shlex.quote(report.result)} firmware"
        yield "As C++ sources for TensorFlow Lite Micro:"
        yield block(command, "bash")
        return
    if not report.result.endswith(".tflite"):
        yield "With Keras, on inputs of the model's shape:"
        yield block(_KERAS.format(file=report.result), "python")
        return
    yield "With LiteRT (`pip install ai-edge-litert`), on inputs of the model's shape:"
    yield block(_LITERT.format(file=report.result), "python")


_KERAS = """
import keras

model = keras.saving.load_model({file!r})
outputs = model.predict(inputs)
"""
_LITERT = """
from ai_edge_litert.interpreter import Interpreter

interpreter = Interpreter({file!r})
run = interpreter.get_signature_runner()
print(run.get_input_details(), run.get_output_details())
outputs = run(**inputs)  # arrays by the names that are printed
"""
