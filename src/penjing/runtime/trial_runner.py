"""Runs `.tflite` files in a process of its own: a script, not a module to import.

Files of strangers can crash the C++ runtime, so nothing else may live in this process.
It reads `job.json` and `inputs.npz` in the folder that it is given, and leaves
`result.json` and `outputs.npz` there. It imports neither Keras nor penjing.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


def _limit(memory: int, seconds: int) -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits; the parent's clock remains.
        return
    pages = Path("/proc/self/statm")  # what this interpreter has reserved already
    if pages.exists():
        memory += int(pages.read_text().split()[0]) * resource.getpagesize()
    for kind, value in (
        (resource.RLIMIT_AS, memory),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_CORE, 0),
    ):
        hard = resource.getrlimit(kind)[1]
        if hard == resource.RLIM_INFINITY or value < hard:
            resource.setrlimit(kind, (value, hard))


def _describe(detail: Any) -> dict[str, Any]:
    quantization = detail["quantization_parameters"]
    return {
        "name": detail["name"],
        "index": int(detail["index"]),
        "shape": [int(size) for size in detail["shape"]],
        "signature": [int(size) for size in detail["shape_signature"]],
        "dtype": np.dtype(detail["dtype"]).name,
        "scales": [float(value) for value in quantization["scales"]],
        "zero_points": [int(value) for value in quantization["zero_points"]],
    }


def _left_over(operators: list[Any]) -> list[str]:
    """Names of the operators that no delegate took over, sorted."""
    parts = [item for item in operators if item["op_name"] == "DELEGATE"]
    others = [item for item in operators if item["op_name"] != "DELEGATE"]
    producers = {int(t): n for n, item in enumerate(others) for t in item["outputs"]}
    taken: set[int] = set()
    for part in parts:
        given = {int(t) for t in part["inputs"]}
        waiting = [int(t) for t in part["outputs"]]
        while waiting:
            tensor = waiting.pop()
            n = producers.get(tensor)
            if n is not None and n not in taken and tensor not in given:
                taken.add(n)
                waiting += [int(t) for t in others[n]["inputs"]]
    return sorted(
        str(item["op_name"]) for n, item in enumerate(others) if n not in taken
    )


def _run(file: str, kernels: str, rounds: list[list[np.ndarray]]) -> tuple[Any, Any]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_path=file,
        num_threads=1,
        experimental_op_resolver_type=OpResolverType[kernels],
    )
    interpreter.allocate_tensors()
    outputs = interpreter.get_output_details()
    signatures = interpreter._get_full_signature_list()
    operators = interpreter._get_ops_details()
    description = {
        "inputs": [_describe(d) for d in interpreter.get_input_details()],
        "outputs": [_describe(d) for d in outputs],
        "signatures": signatures,
        "delegated": [
            [len(detail["inputs"]), len(detail["outputs"])]
            for detail in operators
            if detail["op_name"] == "DELEGATE"
        ],
        "left_over": _left_over(operators),
    }
    results: list[Any] = []
    for arrays in rounds:
        inputs = interpreter.get_input_details()
        for detail, array in zip(inputs, arrays, strict=True):
            if list(detail["shape"]) != list(array.shape):
                interpreter.resize_tensor_input(detail["index"], array.shape)
        interpreter.allocate_tensors()
        for detail, array in zip(inputs, arrays, strict=True):
            interpreter.set_tensor(detail["index"], array)
        try:
            interpreter.invoke()
        except RuntimeError as error:  # an input that the file refuses, such as an id
            results.append(str(error)[:300])
            continue
        results.append([interpreter.get_tensor(d["index"]) for d in outputs])
    return description, results


def _main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text())
    _limit(job["memory"], job["seconds"])
    rounds: list[list[np.ndarray]] = []
    if job["rounds"]:
        with np.load(folder / "inputs.npz") as stored:
            rounds = [[stored[name] for name in names] for names in job["rounds"]]
    result: dict[str, Any] = {"outputs": []}
    arrays: dict[str, np.ndarray] = {}
    try:
        for kernels in job["kernels"]:
            description, outputs = _run(job["file"], kernels, rounds)
            result.setdefault("description", description)
            names: list[Any] = []
            for values in outputs:
                if isinstance(values, str):
                    names.append(values)
                    continue
                names.append([])
                for value in values:
                    if value.dtype.kind == "O":
                        raise ValueError("It gives texts, which cannot be compared.")
                    names[-1].append(f"array_{len(arrays)}")
                    arrays[names[-1][-1]] = value
            result["outputs"].append(names)
    except (ValueError, RuntimeError, OverflowError, MemoryError, KeyError) as error:
        result["error"] = str(error)[:1000] or type(error).__name__
    np.savez(folder / "outputs.npz", **arrays)  # type: ignore[arg-type]
    (folder / "result.json").write_text(json.dumps(result))


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
