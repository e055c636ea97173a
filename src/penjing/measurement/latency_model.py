"""What a model would take with fewer channels: times of its layers, measured here."""

from __future__ import annotations

import dataclasses
import itertools
import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from penjing.arguments import check_choice, check_counts
from penjing.engine.compression_model import CompressionModel
from penjing.export.litert import export_litert
from penjing.export.samples import random_samples
from penjing.json_values import JsonValue
from penjing.measurement.kernel_products import UsedKernel, used_kernels
from penjing.measurement.latency import measure_latency
from penjing.measurement.latency_cache import TimeCache
from penjing.measurement.mac_formulas import is_whole
from penjing.measurement.machine import litert_name, processor_name
from penjing.models.layer_calls import check_is_model, known_signature, trace_calls
from penjing.models.signature import InputSignature
from penjing.progress import Listener, Progress, listening
from penjing.runtime.product_files import PRODUCT_MODES, KernelProduct
from penjing.runtime.timing import time_products
from penjing.tflite.modes import find_mode

_FRACTIONS = (0.125, 0.25, 0.5, 0.75, 1.0)
_MULTIPLE = 8  # Sizes that are timed: kernels work in blocks of channels.
_EMPTY = KernelProduct(kind="dense", inputs=8, outputs=8)
_CALIBRATION_SAMPLES = 8
_LARGEST_REST = 0.5  # As pooling and activations take beside the kernels.


@dataclasses.dataclass(frozen=True, kw_only=True)
class KernelTimes(JsonValue):
    """Times of one kernel at several sizes.

    Attributes:
        path: Path of the weight.
        layer: Path of the layer that uses it.
        kind: "dense", "conv" or "depthwise".
        input_sizes: Numbers of inputs at which it was timed, rising; the last one is
            the whole.
        output_sizes: The same for the outputs.
        milliseconds: For each number of inputs, for each number of outputs, the time of
            the kernel by itself, without what starting the runtime takes.
        values: Numbers that it gives out when it is whole.
    """

    path: str
    layer: str
    kind: str
    input_sizes: tuple[int, ...]
    output_sizes: tuple[int, ...]
    milliseconds: tuple[tuple[float, ...], ...]
    values: int = 1

    def at(self, inputs: float, outputs: float) -> float:
        """Time with fractions of the inputs and outputs, between the measured ones.

        Args:
            inputs: Fraction of inputs that is kept, 0 to 1.
            outputs: Fraction of outputs that is kept.

        Returns:
            Milliseconds, interpolated linearly in both; 0.0 where nothing is kept.
        """
        for name, value in (("inputs", inputs), ("outputs", outputs)):
            if not 0.0 <= value <= 1.0:
                raise ValueError(
                    f"The fraction of {name} kept in {self.path!r} must be from 0 to "
                    f"1, got {value!r}."
                )
        if inputs == 0 or outputs == 0:
            return 0.0
        if self.kind == "depthwise":  # a channel goes as a whole
            inputs, outputs = 1.0, min(inputs, outputs)
        table = np.array(self.milliseconds)
        row = [
            _interpolate(outputs * self.output_sizes[-1], self.output_sizes, values)
            for values in table
        ]
        taken = _interpolate(inputs * self.input_sizes[-1], self.input_sizes, row)
        return max(taken, 0.0)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LatencyModel(JsonValue):
    """What a model takes, and what it would take with parts of its channels.

    Attributes:
        kernels: Times of its kernels.
        measured: Milliseconds of the whole file, the lower quartile of its runs.
        overhead: Milliseconds that starting the runtime takes.
        quantization: Kind of the file: None, "dynamic" or "int8".
        threads: Threads of the runtime.
        runtime: Name and version of the runtime.
        processor: Name of the processor.
    """

    kernels: tuple[KernelTimes, ...]
    measured: float
    overhead: float = 0.0
    quantization: str | None = None
    threads: int = 1
    runtime: str = ""
    processor: str = ""

    def milliseconds(
        self, fractions: Mapping[str, tuple[float, float]] | None = None
    ) -> float:
        """Estimate the time of the file when kernels are cut.

        Args:
            fractions: Path of a weight -> fractions of its inputs and of its outputs
                that are kept. Weights that are not named are whole; those that multiply
                nothing are passed over.

        Returns:
            Milliseconds. Without fractions what was measured. What the file takes
            beside its kernels shrinks with the numbers that the kernels give out; where
            that is more than half of what they take, or less than nothing, all is
            scaled in proportion: kernels do not run there as they do alone.
        """
        kept = fractions or {}
        whole = (1.0, 1.0)
        now = sum(kernel.at(*whole) for kernel in self.kernels)
        then = sum(k.at(*kept.get(k.path, whole)) for k in self.kernels)
        rest = self.measured - now
        if not 0 <= rest <= _LARGEST_REST * now:
            return then * self.measured / now if now else self.measured
        values = sum(kernel.values for kernel in self.kernels)
        left = sum(k.values * kept.get(k.path, whole)[1] for k in self.kernels)
        fixed = min(self.overhead, rest)
        return then + fixed + (rest - fixed) * (left / values if values else 1.0)

    def __str__(self) -> str:
        mode = self.quantization or "float32"
        lines = [f"{mode}, threads={self.threads}: {self.measured:.4g} ms measured"]
        for kernel in self.kernels:
            whole = kernel.at(1.0, 1.0)
            lines.append(
                f"  {kernel.path} {kernel.kind}: {whole:.4g} ms "
                f"({whole / self.measured:.0%}), half the outputs "
                f"{kernel.at(1.0, 0.5):.4g} ms"
            )
        return "\n".join(lines)


def build_latency_model(
    model: keras.Model,
    *,
    quantization: str | None = None,
    threads: int = 1,
    cache_dir: str | os.PathLike[str] | None = None,
    progress: Listener | bool = True,
) -> LatencyModel:
    """Time the kernels of a model at several sizes on this machine.

    Each kernel is timed by itself, as LiteRT runs it, at up to 25 sizes; the whole file
    is exported and timed too, so that the estimate is right where nothing is cut. Times
    of kernels are kept in a file, so that the next model of these sizes is fast.

    Args:
        model: A built model on any backend, whose input sizes are known but for the
            batch.
        quantization: Kind of the file: None for float32, "dynamic" or "int8".
        threads: Threads that the runtime may use.
        cache_dir: Folder of kept times. Default: `$PENJING_CACHE`, else `penjing` in
            the user's cache folder.
        progress: True for a bar in terminals and notebooks, False for silence, or a
            function that is told each `penjing.Progress`.

    Returns:
        The latency model.

    Raises:
        UnsupportedModelError: If the model is not built or leaves sizes free.
        ExportError: If it cannot be exported.
        MissingDependencyError: If TensorFlow's converter or the runtime is missing.
        ValueError: If an argument is out of range.

    Example:
        >>> times = build_latency_model(model, quantization="int8")  # doctest: +SKIP
        >>> times.milliseconds({"conv2d/kernel": (1.0, 0.5)})  # doctest: +SKIP
        0.011
    """
    allowed = [mode.quantization for mode in PRODUCT_MODES]
    check_choice("quantization", quantization, allowed)
    check_counts(threads=threads)
    check_is_model(model)
    if isinstance(model, CompressionModel):
        model = model.model
    signature = known_signature(model)
    used = [
        kernel
        for call in trace_calls(model, signature, is_whole)
        for kernel in used_kernels(call)
    ]
    timer = _Timer(quantization, threads, TimeCache(cache_dir))
    overhead = timer.times([_EMPTY])[0]
    kernels = []
    with listening(progress) as listen:
        for number, kernel in enumerate(used):
            listen(Progress(stage="Timing layers", done=number, total=len(used)))
            kernels.append(_times(kernel, timer, overhead))
        listen(Progress(stage="Timing the whole file"))
        measured = _whole_time(model, signature, quantization, threads)
    return LatencyModel(
        kernels=tuple(_merged(kernels)),
        measured=measured,
        overhead=overhead,
        quantization=quantization,
        threads=threads,
        runtime=timer.runtime,
        processor=timer.processor,
    )


class _Timer:
    """Times products, those that were not timed before."""

    def __init__(self, quantization: str | None, threads: int, cache: TimeCache):
        self.runtime = litert_name()
        self.processor = processor_name()
        self._mode, self._threads, self._cache = quantization, threads, cache

    def times(self, products: Sequence[KernelProduct]) -> list[float]:
        """Milliseconds of each product."""
        known = [self._cache.get(self._describe(product)) for product in products]
        missing = [p for p, ms in zip(products, known, strict=True) if ms is None]
        fresh: list[float] = []
        if missing:
            fresh = time_products(missing, self._mode, self._threads)
            self._cache.add(list(zip(map(self._describe, missing), fresh, strict=True)))
        remaining = iter(fresh)
        return [next(remaining) if ms is None else ms for ms in known]

    def _describe(self, product: KernelProduct) -> dict[str, Any]:
        return {
            "product": dataclasses.asdict(product),
            "quantization": self._mode,
            "threads": self._threads,
            "runtime": self.runtime,
            "processor": self.processor,
        }


def _times(kernel: UsedKernel, timer: _Timer, overhead: float) -> KernelTimes:
    product = kernel.product
    inputs = _sizes(product.inputs) if product.kind != "depthwise" else (1,)
    steps = product.groups if product.kind == "conv" else product.multiplier
    outputs = _sizes(product.outputs, steps)
    grid = [
        dataclasses.replace(product, inputs=i, outputs=o)
        for i, o in itertools.product(inputs, outputs)
    ]
    # Even the smallest product takes something beside what starting takes.
    times = [kernel.repeats * max(ms - overhead, 0.05 * ms) for ms in timer.times(grid)]
    rows = np.array(times).reshape(len(inputs), len(outputs)).tolist()
    return KernelTimes(
        path=kernel.path,
        layer=kernel.layer,
        kind=product.kind,
        input_sizes=inputs,
        output_sizes=outputs,
        milliseconds=tuple(map(tuple, rows)),
        values=kernel.repeats * int(np.prod(product.shapes()[2])),
    )


def _sizes(whole: int, multiple: int = 1) -> tuple[int, ...]:
    """Sizes to time: fractions of the whole, in blocks that kernels and groups like."""
    step = multiple * (_MULTIPLE if whole > 2 * _MULTIPLE * multiple else 1)
    blocks = (max(1, round(fraction * whole / step)) for fraction in _FRACTIONS)
    return tuple(sorted({whole, *(min(whole, n * step) for n in blocks)}))


def _merged(kernels: Sequence[KernelTimes]) -> list[KernelTimes]:
    """Kernels by path: one of a shared layer takes its time at each call."""
    merged: dict[str, KernelTimes] = {}
    for kernel in kernels:
        before = merged.get(kernel.path)
        if before is not None and before.kind == kernel.kind:
            table = np.array(before.milliseconds) + np.array(kernel.milliseconds)
            kernel = dataclasses.replace(
                before,
                milliseconds=tuple(map(tuple, table.tolist())),
                values=before.values + kernel.values,
            )
        merged[kernel.path] = kernel
    return list(merged.values())


def _interpolate(at: float, sizes: Sequence[int], values: Sequence[float]) -> float:
    """Linear between the sizes; below the least one half of its time is kept."""
    if at < sizes[0]:
        return float(values[0] * (0.5 + 0.5 * at / sizes[0]))
    return float(np.interp(at, sizes, values))


def export_to_time(model: keras.Model, file: Path, quantization: str | None) -> None:
    """Write a file whose time counts, and not its numbers.

    All input sizes of the model are known but for the batch. The quantization is as in
    `export_litert`; ranges are those of random inputs.
    """
    samples = None
    if find_mode(quantization).needs_calibration:
        signature = known_signature(model)
        samples = random_samples(signature, model, _CALIBRATION_SAMPLES)
    export_litert(model, file, quantization, representative_data=samples, verify=False)


def _whole_time(
    model: keras.Model,
    signature: InputSignature,
    quantization: str | None,
    threads: int,
) -> float:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.tflite"
        export_to_time(model, file, quantization)
        batch = signature.inputs[0].shape[0] or 1
        report = measure_latency(
            file, threads=threads, batch=batch, rounds=15, progress=False
        )
    return report.files[0].lower_quartile
