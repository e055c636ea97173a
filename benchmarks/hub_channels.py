"""Channels removed from small backbones of keras-hub, with random weights.

Random units are removed from what can be cut; the smaller model must compute what the
whole one does with these units silenced. Then a fifth is pruned, and the smaller model
is saved and loaded. --packages names a folder with keras-hub in it:
`pip install --no-deps --target FOLDER keras-hub==0.32.0 tokenizers regex`.
Run: python benchmarks/hub_channels.py --packages FOLDER
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from environment import write_results
from hub_models import EFFICIENT, MOBILENET, RESNET, cut_at_random, disturb

_SEED, _SAMPLES, _LENGTH = 0, 2, 6
_RATIO, _TOLERANCE = 0.5, 1e-4
_TEXT = {"vocabulary_size": 50, "num_layers": 2, "hidden_dim": 16}
_HEADS = {**_TEXT, "num_heads": 2, "intermediate_dim": 32, "max_sequence_length": 12}
_GROUPED = {**_TEXT, "num_query_heads": 4, "num_key_value_heads": 2}
BACKBONES: dict[str, tuple[str, dict[str, Any]]] = {
    "ResNet": ("ResNetBackbone", {**RESNET, "block_type": "basic_block"}),
    "ResNet V2": (
        "ResNetBackbone",
        {**RESNET, "block_type": "bottleneck_block", "use_pre_activation": True},
    ),
    "MobileNet": ("MobileNetBackbone", MOBILENET),
    "EfficientNet": (
        "EfficientNetBackbone",
        {**EFFICIENT, "stackwise_block_types": ["v1", "v1"]},
    ),
    "EfficientNet V2": (
        "EfficientNetBackbone",
        {**EFFICIENT, "stackwise_block_types": ["fused", "unfused"]},
    ),
    "ViT": (
        "ViTBackbone",
        {
            "image_shape": (16, 16, 3),
            "patch_size": 4,
            "num_layers": 2,
            "num_heads": 2,
            "hidden_dim": 16,
            "mlp_dim": 32,
        },
    ),
    "BERT": ("BertBackbone", _HEADS),
    "DistilBERT": ("DistilBertBackbone", _HEADS),
    "RoBERTa": ("RobertaBackbone", _HEADS),
    "GPT-2": ("GPT2Backbone", _HEADS),
    "Gemma": ("GemmaBackbone", {**_GROUPED, "intermediate_dim": 64, "head_dim": 8}),
    "Llama": ("LlamaBackbone", {**_GROUPED, "intermediate_dim": 32}),
}


def outputs(model) -> list[np.ndarray]:
    """What a model gives for random inputs; tokens are numbers below 2."""
    import keras

    generator = np.random.default_rng(_SEED)

    def make(tensor):
        shape = (_SAMPLES, *(size or _LENGTH for size in tensor.shape[1:]))
        if "int" in tensor.dtype:
            return np.maximum(generator.integers(0, 2, shape), np.arange(shape[1]) == 0)
        return generator.normal(size=shape).astype("float32")

    given = keras.tree.map_structure(make, model.input)
    found = keras.tree.flatten(model(given, training=False))
    return [keras.ops.convert_to_numpy(value) for value in found]


def loads(model) -> bool:
    """Whether a model is the same once it is saved and loaded."""
    import keras

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "small.keras")
        model.save(path)
        try:
            twin = keras.models.load_model(path)
        except (TypeError, ValueError):  # its own layers do not take their config
            return False
    return bool(twin.count_params() == model.count_params())


def cut(model) -> dict[str, Any]:
    """Remove random units, compare, prune by a target, save and load."""
    import penjing

    graph, small, silenced = cut_at_random(model, _RATIO)
    difference = max(
        float(np.abs(mine - other).max() / max(np.abs(other).max(), 1e-3))
        for mine, other in zip(outputs(small), outputs(silenced), strict=True)
    )
    pruned = penjing.prune_channels(model, ratio=0.2)
    return {
        "parameters": model.count_params(),
        "groups_cut": sum(group.reason is None for group in graph.groups),
        "left_whole": len(graph.skipped),
        "parameters_after": small.count_params(),
        "parameters_pruned": pruned.count_params(),
        "difference": difference,
        "loads": loads(pruned),
    }


def main() -> None:
    """Cut every backbone, print a line for each and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--packages", help="folder with keras-hub")
    arguments = parser.parse_args()
    if arguments.packages:
        sys.path.insert(0, arguments.packages)
    import keras
    import keras_hub

    keras.utils.set_random_seed(_SEED)
    results: dict[str, Any] = {}
    for name, (kind, config) in BACKBONES.items():
        model = getattr(keras_hub.models, kind)(**config)
        disturb(model)
        try:
            results[name] = cut(model)
        except Exception as error:
            results[name] = {"error": f"{type(error).__name__}: {error}"}
        print(name, results[name], flush=True)
    wrong = [n for n, r in results.items() if r.get("difference", 1) > _TOLERANCE]
    write_results("hub_channels", {"ratio": _RATIO, "backbones": results})
    if wrong:
        sys.exit(f"wrong or refused: {', '.join(wrong)}")


if __name__ == "__main__":
    main()
