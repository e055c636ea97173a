"""Runs and times `.tflite` files in a process of its own; see `worker_process`.

Files of strangers can crash the C++ runtime, and memory can only be told apart where
nothing else runs. So this is a script: it imports neither Keras nor penjing.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

_CACHE_BYTES = 64 * 2**20  # More than the caches of one core hold.
_STATUS = Path("/proc/self/status")
_MOST_RUNS = 500


class Worker:
    """What it is asked for: `try_out`, `keep`, `examine`, `time_many`, or a file's.

    That is `open` and `run`, or `load`, `weigh` and `time`.
    """

    def __init__(self) -> None:
        self._before: int | None = None
        self._cache: np.ndarray | None = None
        self._interpreter: Any = None
        self._shapes: list[tuple[int, ...]] | None = None
        self._anew: Callable[[], Any] | None = None

    def start(self) -> None:
        """Import LiteRT, so that what fails then is not taken for a file's fault."""
        import ai_edge_litert.interpreter  # noqa: F401

    def open(self, file: str | bytes, threads: int) -> dict[str, Any]:
        """Load the file, by its path or its bytes, that `run` is about; describe it."""
        self._interpreter = self._shapes = self._anew = None  # free the one before
        content = file if isinstance(file, bytes) else Path(file).read_bytes()
        load = functools.partial(_loaded, content, threads)
        self._interpreter = load()
        self._interpreter.allocate_tensors()
        names = {one["op_name"] for one in self._interpreter._get_ops_details()}
        # A reset leaves what is in resources: their files are loaded for each run.
        self._anew = load if "VAR_HANDLE" in names else None
        return _description(self._interpreter)

    def run(
        self, inputs: list[np.ndarray], most: int | None = None
    ) -> dict[str, list[np.ndarray]]:
        """Run it once; outputs beyond `most` bytes are refused."""
        shapes = [array.shape for array in inputs]
        known, self._shapes = self._shapes, None
        if self._anew is not None:
            known = self._interpreter = None  # free it before another is there
            self._interpreter = self._anew()
        if shapes != known:
            _resize(self._interpreter, inputs)
        details = self._interpreter.get_input_details()
        for detail, array in zip(details, inputs, strict=True):
            self._interpreter.set_tensor(detail["index"], array)
        # What one batch left in a recurrent layer's state is not the next one's.
        self._interpreter.reset_all_variables()
        self._interpreter.invoke()
        outputs: list[np.ndarray] = []
        for detail in self._interpreter.get_output_details():
            outputs.append(_plain(self._interpreter.get_tensor(detail["index"])))
            if most is not None and sum(one.nbytes for one in outputs) > most:
                raise MemoryError(f"Its outputs have more than {most:,} bytes.")
        self._shapes = shapes
        return {"outputs": outputs}

    def invoke(self) -> None:
        """Run it once more on the same inputs."""
        self._interpreter.invoke()

    def try_out(
        self, file: str, kernels: Sequence[str], rounds: list[list[np.ndarray]]
    ) -> dict[str, Any]:
        """Run a file on inputs with each kind of kernels; see `trials.Outcome`."""
        outcomes = [_outcome(file, kind, rounds) for kind in kernels]
        return {
            "description": outcomes[0][0],
            "outputs": [outputs for _, outputs in outcomes],
        }

    def keep(
        self,
        file: str,
        kernels: str,
        rounds: list[list[np.ndarray]],
        tensors: list[int],
        kept: int,
    ) -> dict[str, Any]:
        """Run a file on inputs; none of its tensors takes the place of another.

        Gives for each round the outputs, and for the first `kept` ones the values of
        `tensors`, numbers of the main graph; None for those without values.
        """
        interpreter = _keeping(file, kernels)
        details = interpreter.get_output_details()
        outputs: list[list[np.ndarray]] = []
        values: list[list[np.ndarray | None]] = []
        for arrays in rounds:
            _feed(interpreter, arrays)
            interpreter.invoke()
            outputs.append(
                [_plain(interpreter.get_tensor(one["index"])) for one in details]
            )
            if len(values) < kept:
                values.append([_value(interpreter, number) for number in tensors])
        return {"outputs": outputs, "tensors": values}

    def examine(
        self,
        file: str,
        kernels: str,
        rounds: list[list[np.ndarray]],
        tensors: list[int],
        wanted: list[list[int]],
        most: int,
        together: int | None = None,
    ) -> dict[str, Any]:
        """Run a file on inputs, and tell what its tensors then are.

        `tensors` counts those of each graph. Gives for each round the outputs, the
        shapes of all tensors, and the values of those wanted, by graph and number, that
        have `most` bytes or fewer; None where there are none. More than `together`
        bytes of all of them are refused.
        """
        interpreter = _keeping(file, kernels)
        found, size = [], 0
        for arrays in rounds:
            _feed(interpreter, arrays)
            interpreter.invoke()
            details = interpreter.get_output_details()
            shapes = [
                [_shape_of(interpreter, number, graph) for number in range(count)]
                for graph, count in enumerate(tensors)
            ]
            values = []
            for g, number in wanted:
                value = _small_value(interpreter, number, g, most)
                values.append(value)
                size += 0 if value is None else value.nbytes
                if together is not None and size > together:
                    raise MemoryError(f"Its tensors have more than {together:,} bytes.")
            outputs = [_plain(interpreter.get_tensor(d["index"])) for d in details]
            found.append({"outputs": outputs, "shapes": shapes, "values": values})
        return {"rounds": found}

    def load(self, file: str, threads: int) -> dict[str, Any]:
        """Load the file that `weigh` and `time` are about, and describe its inputs."""
        _forget_peak()
        self._before = _memory("VmRSS")
        self._interpreter = _loaded(file, threads)
        details = self._interpreter.get_input_details()
        return {"inputs": [_described(detail) for detail in details]}

    def weigh(self, inputs: list[np.ndarray]) -> dict[str, Any]:
        """Give the file its inputs, run it once, and tell what memory that took."""
        _feed(self._interpreter, inputs)
        self._interpreter.invoke()
        after = _memory("VmHWM")
        if self._before is None or after is None:
            return {"memory": None}
        given = sum(array.nbytes for array in inputs)  # beside the file's own copy
        return {"memory": max(0, after - self._before - given)}

    def time(self, runs: int, cold: bool) -> dict[str, Any]:
        """Run a block, with or without touching other memory before each run."""
        invoke = self._interpreter.invoke
        if not cold:
            return {"nanoseconds": _block(invoke, runs)}
        if self._cache is None:
            self._cache = np.zeros(_CACHE_BYTES // 8)
        times = []
        for _ in range(runs):
            self._cache += 1.0
            times.append(_taken(invoke))
        return {"nanoseconds": times}

    def time_many(
        self, files: list[str], threads: int, rounds: int, nanoseconds: int
    ) -> dict[str, Any]:
        """Time small files in turns, all in this process; None for those that fail."""
        started = {file: _started(file, threads) for file in files}
        calls = {file: call for file, call in started.items() if call is not None}
        runs = {}
        for file, call in calls.items():
            taken = max(min(_block(call, 2)), 1)
            runs[file] = int(np.clip(nanoseconds // taken, 1, _MOST_RUNS))
        times: dict[str, list[float]] = {file: [] for file in calls}
        for _ in range(rounds):
            for file, call in calls.items():
                times[file].append(float(np.median(_block(call, runs[file]))))
        # Low, not in the middle: what disturbs a round makes it longer, never shorter.
        low = {file: float(np.quantile(taken, 0.25)) for file, taken in times.items()}
        return {"nanoseconds": [low.get(file) for file in files]}


def _loaded(file: str | bytes, threads: int = 1, kernels: str = "", **how: Any) -> Any:
    """LiteRT's interpreter of a file, by its path or its bytes."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    source = "model_content" if isinstance(file, bytes) else "model_path"
    if kernels:
        how["experimental_op_resolver_type"] = OpResolverType[kernels]
    return Interpreter(**{source: file}, num_threads=threads, **how)


def _outcome(
    file: str, kernels: str, rounds: list[list[np.ndarray]]
) -> tuple[dict[str, Any], list[list[np.ndarray] | str]]:
    """Describe a file, and give its outputs for each round, or why it refuses it."""
    interpreter = _loaded(file, kernels=kernels)
    interpreter.allocate_tensors()
    details = interpreter.get_output_details()
    operators = interpreter._get_ops_details()
    description = {
        **_description(interpreter),
        "delegated": [
            [len(detail["inputs"]), len(detail["outputs"])]
            for detail in operators
            if detail["op_name"] == "DELEGATE"
        ],
        "left_over": _left_over(operators),
    }
    results: list[list[np.ndarray] | str] = []
    for arrays in rounds:
        _feed(interpreter, arrays)
        try:
            interpreter.invoke()
        except RuntimeError as error:  # an input that the file refuses, such as an id
            results.append(str(error)[:300])
            continue
        outputs = [interpreter.get_tensor(detail["index"]) for detail in details]
        if any(value.dtype.kind == "O" for value in outputs):
            raise ValueError("It gives texts, which cannot be compared.")
        results.append(outputs)
    return description, results


def _description(interpreter: Any) -> dict[str, Any]:
    return {
        "inputs": [_described(d) for d in interpreter.get_input_details()],
        "outputs": [_described(d) for d in interpreter.get_output_details()],
        "signatures": _signatures(interpreter),
    }


def _signatures(interpreter: Any) -> dict[str, Any]:
    """Those of the first graph, which is the one that runs."""
    number_of = interpreter._interpreter.GetSubgraphIndexFromSignature
    found = interpreter._get_full_signature_list().items()
    return {key: names for key, names in found if number_of(key) == 0}


def _keeping(file: str, kernels: str) -> Any:
    """A file in which no tensor takes the place of another."""
    return _loaded(file, kernels=kernels, experimental_preserve_all_tensors=True)


def _shape_of(interpreter: Any, number: int, graph: int) -> list[int] | None:
    try:
        shape = interpreter._get_tensor_details(number, graph)["shape"]
    except (ValueError, RuntimeError):  # an optional or a resource tensor
        return None
    return [int(size) for size in shape]


def _described(detail: Any) -> dict[str, Any]:
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


def _value(interpreter: Any, tensor: int, graph: int = 0) -> np.ndarray | None:
    """The values of a tensor; none of a state that its operator keeps to itself."""
    try:
        return np.asarray(interpreter.get_tensor(tensor, graph))
    except (ValueError, RuntimeError):
        return None


def _small_value(
    interpreter: Any, tensor: int, graph: int, most: int
) -> np.ndarray | None:
    """The same of at most so many bytes, and not of texts."""
    value = _value(interpreter, tensor, graph)
    if value is None or value.dtype.kind == "O" or value.nbytes > most:
        return None
    return value


def _plain(array: np.ndarray) -> np.ndarray:
    """A value as an array, of texts as one that needs no pickle."""
    array = np.asarray(array)
    return array.astype("S") if array.dtype.kind == "O" else array


def _resize(interpreter: Any, arrays: Sequence[np.ndarray]) -> None:
    """Make room for inputs, whose shapes need not be the stored ones."""
    details = interpreter.get_input_details()
    for detail, array in zip(details, arrays, strict=True):
        if list(detail["shape"]) != list(array.shape):
            interpreter.resize_tensor_input(detail["index"], array.shape)
    interpreter.allocate_tensors()


def _feed(interpreter: Any, arrays: Sequence[np.ndarray]) -> None:
    """Give a file its inputs, whose shapes need not be the stored ones."""
    _resize(interpreter, arrays)
    details = interpreter.get_input_details()
    for detail, array in zip(details, arrays, strict=True):
        interpreter.set_tensor(detail["index"], array)


def _started(file: str, threads: int) -> Callable[[], None] | None:
    """What runs a file on random inputs; None where it does not run."""
    try:
        interpreter = _loaded(file, threads)
        _feed(interpreter, [_random(d) for d in interpreter.get_input_details()])
        interpreter.invoke()
    except (ValueError, RuntimeError, OverflowError, MemoryError):
        return None
    call: Callable[[], None] = interpreter.invoke
    return call


def _random(detail: Any) -> Any:
    """Random values: some kernels are faster on zeros. Integers may be positions."""
    generator = np.random.default_rng(0)
    shape, dtype = detail["shape"], np.dtype(detail["dtype"])
    if dtype.kind == "f":
        return generator.normal(size=shape).astype(dtype)
    if dtype.itemsize == 1 and dtype.kind in "iu":
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype, endpoint=True)
    return np.zeros(shape, dtype)


def _block(invoke: Callable[[], None], runs: int) -> list[int]:
    """Nanoseconds of each run; one before is not counted, for others ran meanwhile."""
    invoke()
    return [_taken(invoke) for _ in range(runs)]


def _taken(invoke: Callable[[], None]) -> int:
    start = time.perf_counter_ns()
    invoke()
    return time.perf_counter_ns() - start


def _memory(name: str) -> int | None:
    """Bytes in memory now or at most since `_forget_peak`; None where nobody tells."""
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) * 1024
    return None


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:  # Other systems and some containers.
        return
