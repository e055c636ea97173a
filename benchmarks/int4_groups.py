"""int4 weights with a scale for each group of inputs in LiteRT: right, and how fast.

    python benchmarks/int4_groups.py

A dense layer of random weights is written by hand as the format describes it
(`BlockwiseQuantization`), beside float inputs, and compared with the product of the
values that its integers stand for; then with files of other types, one sample at a
time, one thread.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from environment import write_results

import penjing
from penjing.runtime.reference_runner import OPTIMIZED, ReferenceRunner
from penjing.tflite.cleaning import drop_unused
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.graph_edits import add_tensor
from penjing.tflite.operators import Operator, operator_code
from penjing.tflite.records import Record
from penjing.tflite.tensors import TensorType, set_values

_WIDTH, _GROUPS, _ROUNDS = 1024, (32, 64, 128), 5


def _grouped(weights: np.ndarray, group: int) -> tuple[np.ndarray, np.ndarray]:
    """Integers -7..7 of `(outputs, inputs)`, and float16 scales of each group."""
    parts = weights.reshape(len(weights), -1, group)
    scales = (np.abs(parts).max(axis=2) / 7).astype("float16")
    wide = np.repeat(scales.astype("float32"), group, axis=1)
    return np.clip(np.rint(weights / wide), -7, 7).astype("int8"), scales


def _write_groups(model: Record, group: int) -> np.ndarray:
    """Make the weights of the only dense layer int4 in groups; gives their values."""
    graph = model["subgraphs"][0]
    call = next(
        op
        for op in graph["operators"]
        if operator_code(model, op) == Operator.FULLY_CONNECTED
    )
    model["operator_codes"][call["opcode_index"]]["version"] = 13
    tensor = graph["tensors"][int(call["inputs"][1])]
    data = model["buffers"][tensor["buffer"]]["data"]
    weights = np.ascontiguousarray(data).view("<f4").reshape(tensor["shape"])
    integers, scales = _grouped(weights, group)
    values = Record(
        "Tensor",
        shape=np.array(scales.shape, "<i4"),
        type=TensorType.FLOAT16,
        name=b"scales",
    )
    set_values(model, values, scales)
    details = Record(
        "BlockwiseQuantization", scales=add_tensor(graph, values), block_size=group
    )
    pairs = (integers.reshape(-1, 2) & 15).astype("u1")
    set_values(model, tensor, pairs[:, 0] | pairs[:, 1] << 4)
    tensor["type"] = TensorType.INT4
    tensor["quantization"] = Record("QuantizationParameters", details=details)
    drop_unused(model)
    return integers * np.repeat(scales.astype("float32"), group, axis=1)


def _milliseconds(path: Path, x: np.ndarray) -> float:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    detail = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(detail["index"], x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(detail["index"], x)
    interpreter.invoke()
    taken = []
    for _ in range(50):
        start = time.perf_counter()
        interpreter.invoke()
        taken.append(time.perf_counter() - start)
    return 1000 * float(np.median(taken))


def _error(found: np.ndarray, wanted: np.ndarray) -> float:
    return float(np.sqrt(np.mean((found - wanted) ** 2)) / wanted.std())


def _grouped_row(
    floats: Path, folder: Path, group: int, x: np.ndarray
) -> tuple[dict[str, Any], Path]:
    file = EditedFile(floats.read_bytes(), "the float file")
    wanted = x @ file.edit(lambda model: _write_groups(model, group)).T
    path = folder / f"groups{group}.tflite"
    path.write_bytes(file.content)
    row: dict[str, Any] = {"group": group, "bytes": path.stat().st_size}
    for name, run in (
        ("delegated", lambda: penjing.LiteRTModel(path).predict(x)),
        ("plain", lambda: _plain(path, x)),
    ):
        try:
            row[name] = {"error": _error(run(), wanted)}
        except penjing.CompressionError as error:
            row[name] = {"refused": str(error)[:300]}
    return row, path


def _plain(path: Path, x: np.ndarray) -> np.ndarray:
    with ReferenceRunner() as runner:
        run = runner.run(path.read_bytes(), [[x]], where="it", kernels=OPTIMIZED)
    return run.outputs[0][0]


def main() -> None:
    """Measure, print and write."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((_WIDTH,)), keras.layers.Dense(_WIDTH, use_bias=False)]
    )
    x = np.random.default_rng(0).normal(size=(4, _WIDTH)).astype("float32")
    rows, files = [], {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for mode in (None, "dynamic", "int4"):
            path = folder / f"{mode}.tflite"
            files[mode or "float32"] = penjing.export_litert(model, path, mode)
        for group in _GROUPS:
            row, path = _grouped_row(files["float32"], folder, group, x)
            rows.append(row)
            if "error" in row["delegated"]:
                files[f"groups of {group}"] = path
        times: dict[str, list[float]] = {label: [] for label in files}
        for _ in range(_ROUNDS):
            for label, path in files.items():
                times[label].append(_milliseconds(path, x[:1]))
        found = {label: float(np.median(values)) for label, values in times.items()}
        sizes = {label: path.stat().st_size for label, path in files.items()}
    print(rows, found, sizes, sep="\n")
    results = {"width": _WIDTH, "groups": rows, "milliseconds": found, "bytes": sizes}
    write_results("int4_groups", results)


if __name__ == "__main__":
    main()
