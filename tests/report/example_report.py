"""A report with every kind of row, to render and to check."""

import dataclasses

from penjing.channels.channel_report import ChannelReport, ChannelRow
from penjing.report.documents import (
    DataSummary,
    Environment,
    FileRow,
    Report,
    WeightRow,
)
from penjing.report.evidence_rows import (
    ConfusionRow,
    Evidence,
    ExampleRow,
    LayerRow,
    TimeRow,
    WeightPicture,
)
from penjing.report.score_rows import ScoreRow
from penjing.report.search_rows import BudgetRow, ControlRow, FrontRow, StairRow


def file_row(name, kind, size):
    sizes = {"raw": size + 50, "zip": size, "gzip": size - 1, "zstd": size - 2}
    return FileRow(name=name, kind=kind, **sizes, brotli=size - 3, xz=size - 4)


def make_report(**changes):
    values = {
        "title": "<b>net</b> on data",
        "model": "<b>net</b>",
        "parameters": 20410,
        "recipe": {
            "name": "default",
            "methods": [{"method": "prune", "schedule": {"final_sparsity": 0.94}}],
            "export": {"quantizations": ["dynamic", "int8"]},
        },
        "seed": 3,
        "environment": Environment(
            packages={"keras": "3.15.1", "jax": "0.10.2"},
            backend="jax",
            python="3.11.2",
            system="Linux",
            processor="A & B <processor>",
            cores=2,
        ),
        "data": DataSummary(name="data.npz", source="file data.npz", train=90, test=9),
        "files": (
            file_row("baseline.h5", "baseline", 78_000),
            file_row("model.tflite", "compressed", 6_000),
        ),
        "scores": (
            ScoreRow(
                name="baseline",
                kind="baseline",
                runtime="keras",
                metrics={"loss": 0.5, "accuracy": 0.9012},
            ),
            ScoreRow(
                name="model.tflite",
                kind="compressed",
                runtime="litert",
                metrics={"loss": 0.6, "accuracy": 0.8987},
            ),
        ),
        "weights": (
            WeightRow(
                path="dense/kernel",
                shape=(10, 20),
                zeros=150,
                distinct=5,
                status="compressed",
                methods=("pruned", "clustered"),
            ),
            WeightRow(
                path="dense/bias",
                shape=(20,),
                zeros=20,
                status="skipped",
                reason="a bias & such",
            ),
        ),
        "history": ({"loss": 1.0}, {"loss": 0.25}, {"loss": 0.5}),
        "seconds": {"Training": 3.5},
        "channels": ChannelReport(
            rows=(
                ChannelRow(group="conv", layers=("conv", "skip"), before=48, after=16),
                ChannelRow(
                    group="head",
                    layers=("head",),
                    before=10,
                    after=10,
                    reason="it is an output & such",
                ),
            ),
            macs=(4_000_000, 800_000),
            parameters=(20410, 5000),
        ),
    }
    return Report(**{**values, **changes})


def make_regression(before=43.2, after=48.65, **changes):
    """A report on a mean error, with the float file beside the compressed one."""
    files = (
        file_row("baseline.h5", "baseline", 78_000),
        file_row("baseline.tflite", "baseline, float32", 23_950),
        file_row("model.tflite", "compressed", 5_950),
    )
    names = (("baseline", "keras", before), ("model.tflite", "litert", after))
    scores = tuple(
        ScoreRow(name=name, kind="", runtime=runtime, metrics={"mae": value})
        for name, runtime, value in names
    )
    return make_report(files=files, scores=scores, **changes)


HOSTILE = "</script><!-- <img src=x onerror=alert(1)> & {{ 7 * 7 }}"


def make_evidence(layers=3, **changes):
    """What a run shows of its layers, weights and examples, for so many layers."""
    values = {
        "layers": (
            *(layer_row(number) for number in range(layers)),
            LayerRow(name="flatten", kind="Flatten", parameters=0),
        ),
        "weights": tuple(picture(number) for number in range(min(layers, 200))),
        "examples": (
            ExampleRow(
                index=7,
                label="shirt",
                before="shirt",
                after="coat",
                change="worse",
                picture=PNG,
            ),
            ExampleRow(
                index=9,
                label="coat",
                before="shirt",
                after="coat",
                change="better",
                series=(0.0, 0.5, -1.0, 2.0),
            ),
            ExampleRow(
                index=11,
                label="ham",
                before="ham",
                after="spam",
                change="worse",
                text=HOSTILE,
            ),
        ),
        "confusion": (
            ConfusionRow(label="shirt", taken_for="coat", before=12, after=19),
            ConfusionRow(label="coat", taken_for="coat", before=80, after=83),
        ),
        "samples": 2000,
        "turned_wrong": 31,
        "turned_right": 12,
        "times": (
            TimeRow(name="baseline.tflite", runtime="LiteRT 2.3.0", seconds=2e-4),
            TimeRow(
                name="model.tflite",
                runtime="LiteRT 2.3.0",
                seconds=1e-4,
                speedup=2.0,
                speedup_low=1.8,
                speedup_high=2.2,
            ),
        ),
        "left_out": {"flash": "the file is not for microcontrollers"},
    }
    return Evidence(**{**values, **changes})


# One white pixel.
PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGP4DwABAQEAGOwMSwAAAABJ"
    "RU5ErkJggg=="
)


def layer_row(number):
    size = 1000 + 37 * number
    skipped = number % 7 == 3
    return LayerRow(
        name=f"block_{number}/conv",
        kind="Conv2D",
        parameters=size,
        parameters_after=size // 2,
        channels=32,
        channels_after=16,
        zeros=0 if skipped else size // 3,
        levels=15,
        bits=8,
        bytes=size // 2,
        bytes_before=4 * size,
        flash=size // 3,
        macs=size * 100,
        macs_after=size * 50,
        seconds=1e-5 * (number + 1),
        error=0.01 * (number % 9),
        reason="it is named in `exclude`" if skipped else "",
    )


def picture(number):
    return WeightPicture(
        path=f"block_{number}/conv/kernel",
        shape=(3, 3, 8, 16),
        low=-0.5,
        high=0.5,
        before=tuple(40 - abs(place - 20) for place in range(41)),
        after=tuple(20 if place in (5, 12, 28, 35) else 0 for place in range(41)),
        zeros_before=0,
        zeros_after=900,
        mask=tuple(
            "".join(str((x * y + number) % 10) for x in range(16)) for y in range(12)
        ),
    )


def front_row(number, **changes):
    size = 4000 + 900 * number
    values = {
        "name": f"{number:04d}",
        "file": f"trials/{number:04d}/model.tflite",
        "folder": f"trials/{number:04d}",
        "description": f"{95 - 5 * number} % zeros, {15 + 8 * number} levels",
        "raw": 3 * size,
        "gzip": size,
        "latency": 1e-4 * (number + 1),
        "validation_score": 0.88 + 0.004 * number,
        "test_score": 0.878 + 0.004 * number,
        "recipe": f'name = "trial {number}"\n\n[training]\nepochs = {number + 1}\n',
    }
    return FrontRow(**{**values, **changes})


def make_searched(layers=3, **changes):
    """A report of a search, with everything that a page can show."""
    front = (*map(front_row, range(5)), front_row(5, description=HOSTILE))
    values = {
        "budget": BudgetRow(
            bounds=("at most 0.5 points of accuracy lost", "at most 6.00 kB"),
            met=False,
            gaps=("0.2 points of accuracy more are lost",),
            minimized="bytes",
            metric="accuracy",
            baseline=0.902,
            lowest=0.897,
            trials=23,
            seconds=840.0,
            notes=("0.5 points are less than twice the noise of the test data",),
        ),
        "front": (dataclasses.replace(front[0], chosen=True), *front[1:]),
        "control": ControlRow(
            name="dense.keras",
            kind="dense, trained as long",
            runtime="keras",
            metrics={"loss": 0.4, "accuracy": 0.9101},
            epochs=12.0,
            steps=5625,
        ),
        "staircase": (
            StairRow(step="float file", bytes=77_999, score=0.9012, raw=81_000),
            StairRow(step="pruned and trained", bytes=18_000, score=0.9001, raw=81_000),
            StairRow(step="int8", bytes=5_999, score=0.8987, raw=21_000),
        ),
        "evidence": make_evidence(layers),
        "commands": ("penjing compress net.keras --data data.npz --out out",),
    }
    return make_with_float_file(**{**values, **changes})


def make_with_float_file(**changes):
    """A report with the float file beside the compressed one."""
    files = (
        file_row("baseline.h5", "baseline", 78_000),
        file_row("baseline.tflite", "baseline, float32", 76_000),
        file_row("model.tflite", "compressed", 6_000),
    )
    return make_report(files=files, **changes)
