"""A `.tflite` file that runs on arrays."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penjing.arguments import check_counts
from penjing.errors import DataError, FileFormatError, require_extra
from penjing.files import as_path, raise_limits
from penjing.runtime.file_bounds import (
    lacked_memory,
    out_of_memory,
    refuse_packed,
    said,
    unrunnable,
)
from penjing.runtime.loaded_file import FileElsewhere, FileHere, LoadedFile
from penjing.runtime.worker_process import OrderError
from penjing.tflite.loading import read_litert
from penjing.tflite.tensors import are_numbered, output_number

MAX_BATCH_BYTES = 2**31 - 1  # Of one input tensor.


@dataclasses.dataclass(frozen=True, kw_only=True)
class TensorSpec:
    """An input or output of a `.tflite` file.

    Attributes:
        name: Name in the file's signature, else the name of the tensor, else
            `input_<position>` or `output_<position>`.
        shape: Shape with the batch axis first; -1 where the size is free.
        dtype: NumPy name of the stored type.
        scale: Step of a quantized tensor, 0.0 where it is not quantized.
        zero_point: Integer that stands for 0.0.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: float = 0.0
    zero_point: int = 0

    @property
    def is_quantized(self) -> bool:
        """Whether the integers stand for real values."""
        return self.scale != 0.0

    def fits(self, shape: Sequence[int]) -> bool:
        """Whether an array of this shape holds samples for it; any number of them."""
        return len(shape) == len(self.shape) and all(
            size in (-1, actual)
            for size, actual in zip(self.shape[1:], shape[1:], strict=True)
        )

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Turn real values into what the file stores.

        Args:
            values: Array of any shape.

        Returns:
            Array of the same shape in the stored type. Quantized values are
            rounded half to even and clipped to the range of the type.

        Raises:
            DataError: If the values cannot be represented.
        """
        if values.dtype.kind not in "fiub":
            raise DataError(
                f"Input `{self.name}` takes numbers, got an array of type "
                f"{values.dtype}. Convert it to float32 first."
            )
        target = np.dtype(self.dtype)
        if self.is_quantized:
            limits = np.iinfo(target)
            steps = np.rint(values.astype("float64") / self.scale) + self.zero_point
            if np.isnan(steps).any():
                raise DataError(
                    f"Input `{self.name}` holds NaN, which {self.dtype} cannot store."
                )
            clipped = np.clip(steps, limits.min, limits.max)
            return np.asarray(clipped, target)
        if target.kind in "iu":
            return self._as_integers(values, target)
        return values.astype(target)

    def _as_integers(self, values: np.ndarray, target: np.dtype[Any]) -> np.ndarray:
        limits = np.iinfo(target)
        whole = values.dtype.kind != "f" or bool(
            np.all(np.isfinite(values)) and np.all(values == np.rint(values))
        )
        if not whole:
            raise DataError(
                f"Input `{self.name}` takes whole numbers ({self.dtype}), got "
                "fractions. Round the values, or pass the column that holds the ids."
            )
        if values.size and (values.min() < limits.min or values.max() > limits.max):
            raise DataError(
                f"Input `{self.name}` takes {self.dtype} values from {limits.min} to "
                f"{limits.max}, got {values.min()} to {values.max()}."
            )
        return values.astype(target)

    def decode(self, stored: np.ndarray) -> np.ndarray:
        """Turn what the file stores into real values, float32 where quantized."""
        if not self.is_quantized:
            return stored
        steps = stored.astype("float32") - np.float32(self.zero_point)
        return np.asarray(steps * np.float32(self.scale), "float32")


class LiteRTModel:
    """A `.tflite` file loaded into the LiteRT runtime.

    The file runs in a process of its own, within bounds of memory and time: one of a
    stranger can crash the runtime, or ask for any memory. Threads may share a model.

    Args:
        path: The file.
        num_threads: Threads the runtime may use.
        isolated: False runs it in this process, without bounds: for files that you
            made yourself.

    Attributes:
        path: The file.
        inputs: One `TensorSpec` for each input. In a file that `export_litert`
            wrote they have the order of the Keras model's inputs.
        outputs: The same for the outputs.

    Raises:
        FileFormatError: If the file is missing, corrupt, too large, needs an operation
            that the runtime does not have, or takes more than it may.
        MissingDependencyError: If the runtime is not installed.

    Example:
        >>> model = LiteRTModel("model.tflite")  # doctest: +SKIP
        >>> model.predict(images).shape  # doctest: +SKIP
        (10000, 10)
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __init__(
        self,
        path: str | os.PathLike[str],
        num_threads: int = 1,
        *,
        isolated: bool = True,
    ) -> None:
        check_counts(num_threads=num_threads)
        self.path = as_path(path)
        content = read_litert(self.path)
        refuse_packed(content, str(self.path))
        require_extra("ai_edge_litert.interpreter", "litert")
        try:
            self._file = self._loaded(content, num_threads, isolated)
        except (ValueError, RuntimeError, OverflowError, MemoryError) as error:
            if isinstance(error, FileFormatError):
                raise
            raise unrunnable(str(self.path), error) from error
        self.inputs, self.outputs, self._output_places = described_tensors(
            self._file.description
        )

    def _loaded(self, content: bytes, threads: int, isolated: bool) -> LoadedFile:
        if isolated:
            return FileElsewhere(self.path, threads)
        return FileHere(content, threads)

    def predict(self, x: Any, batch_size: int = 128) -> Any:
        """Run the file on data.

        Args:
            x: Array of shape `(samples, ...)`; for several inputs a list or tuple
                in the order of `inputs`, or a dict by input name. Real values:
                quantized inputs are quantized here.
            batch_size: Samples run at once, or fewer where they take more memory than
                the file may. A file with a fixed batch ignores it.

        Returns:
            NumPy array of shape `(samples, ...)`, or a list of them in the order of
            `outputs` where there are several. Quantized outputs come as float32.

        Raises:
            DataError: If the data does not fit the inputs.
        """
        check_counts(batch_size=batch_size)
        arrays = self.match(x)
        samples = len(arrays[0])
        parts = self._run_batches(arrays, batch_size)
        results = [self._join(column, samples) for column in zip(*parts, strict=True)]
        return results[0] if len(results) == 1 else results

    def _run_batches(
        self, arrays: list[np.ndarray], batch_size: int
    ) -> list[list[np.ndarray]]:
        """The outputs of each batch; batches get smaller where memory is short."""
        samples = len(arrays[0])
        try:
            return [
                self._run_batch([array[start:stop] for array in arrays], size)
                for start, stop, size in self._batches(samples, batch_size)
            ]
        except (FileFormatError, DataError) as error:
            smaller = min(batch_size, samples) // 2
            if not smaller or not lacked_memory(error):
                raise
        return self._run_batches(arrays, smaller)

    def match(self, x: Any) -> list[np.ndarray]:
        """Give data as one array for each input; `x` is as in `predict`.

        Raises:
            DataError: If the data does not fit the inputs.
        """
        arrays = [_to_array(value) for value in self._ordered(x)]
        for spec, array in zip(self.inputs, arrays, strict=True):
            _check_shape(spec, array, self.path)
        lengths = [len(array) for array in arrays]
        if len(set(lengths)) > 1 or lengths[0] == 0:
            names = [spec.name for spec in self.inputs]
            raise DataError(
                f"The inputs {names} need the same number of samples, at least 1, got "
                f"{lengths}."
            )
        return arrays

    def _ordered(self, x: Any) -> list[Any]:
        names = [spec.name for spec in self.inputs]
        if isinstance(x, Mapping):
            if set(x) != set(names):
                raise DataError(
                    f"{self.path} has the inputs {names}, got a dict with the keys "
                    f"{list(x)}. Use the names of the inputs as keys."
                )
            return [x[name] for name in names]
        if isinstance(x, list | tuple) and (len(names) > 1 or _holds_one_array(x)):
            if len(x) != len(names):
                raise DataError(
                    f"{self.path} has {len(names)} inputs {names}, got {len(x)} arrays."
                )
            return list(x)
        if len(names) != 1:
            raise DataError(
                f"{self.path} has {len(names)} inputs {names}, got one "
                f"{type(x).__name__}. Pass a list in this order or a dict by name."
            )
        return [x]

    def _batches(self, samples: int, batch_size: int) -> Iterator[tuple[int, int, int]]:
        """Give start, stop and the size to run for each batch."""
        fixed = fixed_batch(self.inputs)
        step = fixed if fixed > 0 else batch_size
        for start in range(0, samples, step):
            stop = min(start + step, samples)
            yield start, stop, step if fixed > 0 else stop - start

    def _run_batch(self, arrays: list[np.ndarray], size: int) -> list[np.ndarray]:
        count = len(arrays[0])
        encoded = [
            _pad(spec.encode(array), size)
            for spec, array in zip(self.inputs, arrays, strict=True)
        ]
        self._check_sizes(encoded)
        try:
            outputs = self._file.run(encoded)
        except FileFormatError:
            raise
        except (ValueError, RuntimeError, MemoryError, OrderError) as error:
            more = f" {raise_limits()}" if out_of_memory(error) else ""
            raise DataError(
                f"{self.path} does not run on inputs of shape "
                f"{[array.shape for array in encoded]}: {said(error)}{more}"
            ) from error
        stored = [outputs[place] for place in self._output_places]
        decoded = [
            spec.decode(value) for spec, value in zip(self.outputs, stored, strict=True)
        ]
        return [v[:count] if v.ndim and len(v) == size else v for v in decoded]

    def _check_sizes(self, arrays: list[np.ndarray]) -> None:
        for spec, array in zip(self.inputs, arrays, strict=True):
            if array.nbytes > MAX_BATCH_BYTES:
                raise DataError(
                    f"A batch of input `{spec.name}` would take {array.nbytes:,} "
                    "bytes. Use a smaller `batch_size`."
                )

    def _join(self, parts: tuple[np.ndarray, ...], samples: int) -> np.ndarray:
        if len(parts) == 1:
            return parts[0]
        if any(part.ndim == 0 for part in parts) or sum(map(len, parts)) != samples:
            fixed = fixed_batch(self.inputs)
            advice = (
                f"It takes batches of {fixed}: give so many samples at a time."
                if fixed > 0
                else f"Use batch_size={samples}."
            )
            raise DataError(
                f"An output of {self.path} has no batch axis (shape "
                f"{parts[0].shape}), so batches cannot be joined. {advice}"
            )
        return np.concatenate(parts)


def fixed_batch(inputs: Sequence[TensorSpec]) -> int:
    """The samples that a file takes at once; -1 where it takes any number."""
    return max(spec.shape[0] if spec.shape else 1 for spec in inputs)


def described_tensors(
    found: Mapping[str, Any],
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...], list[int]]:
    """Inputs and outputs of a file, of what LiteRT says of it when it is opened.

    Outputs are in the order of the Keras model's; with them comes for each of them its
    place in the order in which LiteRT gives them.
    """
    names = _signature_names(found["signatures"], "outputs")
    if are_numbered([name for own in names.values() for name in own]):
        for queue in names.values():
            queue.sort(key=output_number)
    pairs = [
        (_spec(detail, names, f"output_{n}"), n)
        for n, detail in enumerate(found["outputs"])
    ]
    if are_numbered([spec.name for spec, _ in pairs]):
        pairs.sort(key=lambda pair: output_number(pair[0].name))
    names = _signature_names(found["signatures"], "inputs")
    inputs = tuple(
        _spec(detail, names, f"input_{n}") for n, detail in enumerate(found["inputs"])
    )
    return inputs, tuple(spec for spec, _ in pairs), [place for _, place in pairs]


def _signature_names(signatures: Mapping[str, Any], side: str) -> dict[int, list[str]]:
    """Names of each tensor of a side: an output that a model gives twice has two."""
    names: dict[int, list[str]] = {}
    if signatures:
        signature = signatures.get("serving_default", next(iter(signatures.values())))
        for name, index in signature[side].items():
            names.setdefault(index, []).append(name)
    return names


def _spec(
    detail: Mapping[str, Any], names: Mapping[int, list[str]], position: str
) -> TensorSpec:
    own = names.get(detail["index"], [])
    name = own.pop(0) if len(own) > 1 else "".join(own)
    scales, zero_points = detail["scales"], detail["zero_points"]
    plain = detail["name"].removeprefix("serving_default_").removesuffix(":0")
    return TensorSpec(
        name=name or plain or position,
        shape=tuple(detail["signature"]),
        dtype=detail["dtype"],
        scale=scales[0] if scales else 0.0,
        zero_point=zero_points[0] if zero_points else 0,
    )


def _to_array(value: Any) -> np.ndarray:
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    try:
        return np.asarray(value)
    except ValueError as error:
        raise DataError(f"An input is not an array: {error}.") from error


def _holds_one_array(x: list[Any] | tuple[Any, ...]) -> bool:
    return len(x) == 1 and hasattr(x[0], "shape")


def _check_shape(spec: TensorSpec, array: np.ndarray, path: Path) -> None:
    if array.ndim == 0 or not spec.fits(array.shape):
        sizes = ("any" if size == -1 else str(size) for size in spec.shape[1:])
        raise DataError(
            f"Input `{spec.name}` of {path} has the shape "
            f"({', '.join(['samples', *sizes])}), got an array of shape {array.shape}."
        )


def _pad(array: np.ndarray, size: int) -> np.ndarray:
    if len(array) == size:
        return array
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])
