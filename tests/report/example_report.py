"""A report with every kind of row, to render and to check."""

from penjing.channels.channel_report import ChannelReport, ChannelRow
from penjing.report.documents import (
    DataSummary,
    Environment,
    FileRow,
    Report,
    ScoreRow,
    WeightRow,
)


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
