"""The examples, run as their users run them, on less data."""

from __future__ import annotations

import json
import os
import re
import runpy
import string
import struct
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def run(script, *arguments):
    environment = {**os.environ, "KERAS_BACKEND": keras.backend.backend()}
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.mark.once
def test_the_article_runs(tmp_path):
    output = run(
        "article.py",
        *("--images", 640, "--epochs", 2, "--pruning-epochs", 1, "--out", tmp_path),
    )
    assert "Total params: 40,805" in output
    assert "First kernel, 80% zeros" in output
    assert "Total params: 20,410" in output
    sizes = dict(re.findall(r"(\S+): [\d,]+ bytes gzipped, ([\d,]+) zipped", output))
    zipped = {name: int(size.replace(",", "")) for name, size in sizes.items()}
    assert list(zipped) == ["baseline.h5", "pruned.h5", "pruned.tflite"]
    assert zipped["baseline.h5"] > 3 * zipped["pruned.h5"]
    assert zipped["baseline.h5"] > 8 * zipped["pruned.tflite"]
    accuracies = dict(re.findall(r"(\w[\w ]+) accuracy: (\d\.\d+)", output))
    assert list(accuracies) == ["Baseline", "Pruned", "Pruned and quantized"]
    assert float(accuracies["Baseline"]) > 0.3
    pruned = float(accuracies["Pruned"])
    # Eight bits move a few images over the border.
    assert float(accuracies["Pruned and quantized"]) == pytest.approx(pruned, abs=0.03)
    assert (tmp_path / "logs" / "metrics").is_dir()


@pytest.mark.once
def test_the_first_model_and_its_data_are_written(tmp_path, monkeypatch):
    script = EXAMPLES / "first_model.py"
    small = ("--images", "200", "--epochs", "1", "--photos", "--out", str(tmp_path))
    monkeypatch.setattr(sys, "argv", [str(script), *small])
    runpy.run_path(str(script), run_name="__main__")
    data = np.load(tmp_path / "data.npz")
    assert data["x_train"].shape == (200, 28, 28, 1)
    assert data["x_test"].max() == 255
    model = keras.saving.load_model(tmp_path / "model.keras")
    assert model.predict(data["x_test"][:5], verbose=0).shape == (5, 10)
    assert len(list((tmp_path / "photos").glob("*/*.png"))) == 1500


def write_encoder(folder, width=32, inner=64, positions=24):
    """A BERT of one block with random weights, as sentence-transformers stores it."""
    letters = [*string.ascii_lowercase, *string.digits, *string.punctuation]
    pieces = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        *letters,
        *(f"##{x}" for x in letters),
    ]
    (folder / "vocab.txt").write_text("\n".join(pieces))
    config = {"num_hidden_layers": 1, "num_attention_heads": 2, "hidden_size": width}
    config["intermediate_size"] = inner
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {
        "embeddings.word_embeddings.weight": (len(pieces), width),
        "embeddings.position_embeddings.weight": (positions, width),
        "embeddings.token_type_embeddings.weight": (2, width),
    }
    block = "encoder.layer.0"
    for norm in (
        "embeddings",
        f"{block}.attention.output",
        f"{block}.output",
    ):
        shapes[f"{norm}.LayerNorm.weight"] = (width,)
        shapes[f"{norm}.LayerNorm.bias"] = (width,)
    for name, outputs, inputs in (
        *((f"attention.self.{x}", width, width) for x in ("query", "key", "value")),
        ("attention.output.dense", width, width),
        ("intermediate.dense", inner, width),
        ("output.dense", width, inner),
    ):
        shapes[f"{block}.{name}.weight"] = (outputs, inputs)
        shapes[f"{block}.{name}.bias"] = (outputs,)
    generator, header, content = np.random.default_rng(0), {}, b""
    for name, shape in shapes.items():
        values = generator.normal(scale=0.3, size=shape).astype("<f4").tobytes()
        ends = [len(content), len(content) + len(values)]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": ends}
        content += values
    text = json.dumps(header).encode()
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + content)


@pytest.mark.once
def test_the_sentence_encoder_runs(tmp_path):
    write_encoder(tmp_path)
    output = run(
        "sentence_encoder.py",
        *("--weights", tmp_path, "--out", tmp_path / "out", "--pairs", 40),
        *("--length", 24, "--quantization", "dynamic"),
    )
    found = {
        name: float(value.replace(",", ""))
        for name, value in re.findall(r"^([\w ]+): ([\d.,]+\d)", output, re.MULTILINE)
    }
    assert found["Weights"] > 10_000
    assert found["File"] == (tmp_path / "out" / "encoder.tflite").stat().st_size
    assert found["Cosine to the float model"] > 0.999
    float_rank = found["Retrieval of the float model"]
    assert 0 < float_rank < 1  # by chance it is 0.1, and its weights are random
    assert found["Retrieval of the file"] == pytest.approx(float_rank, abs=0.05)
