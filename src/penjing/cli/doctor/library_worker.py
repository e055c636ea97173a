"""The process in which libraries are tried; see `worker_process`.

It imports nothing of penjing, so that a script is enough.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import io
import os
from typing import Any


class Worker:
    """Each method loads something, uses it, and says what it found."""

    def backend(self, name: str) -> dict[str, Any]:
        """Let Keras multiply on a backend; gives versions and accelerators."""
        os.environ["KERAS_BACKEND"] = name
        import keras

        ones = keras.ops.ones((2, 2))
        total = float(keras.ops.sum(keras.ops.matmul(ones, ones)))
        if total != 8.0:
            raise ArithmeticError(f"A product of ones sums to {total}, not to 8.")
        return {
            "keras": keras.__version__,
            "version": importlib.import_module(name).__version__,
            "accelerators": _accelerators(name),
            "conversion": _conversion() if name == "tensorflow" else "",
        }

    def ray(self) -> dict[str, Any]:
        """Load Ray; no cluster is started."""
        return {"version": importlib.import_module("ray").__version__}

    def pillow(self) -> dict[str, Any]:
        """Write and read a picture in the two formats that folders have most."""
        image: Any = importlib.import_module("PIL.Image")
        for form in ("PNG", "JPEG"):
            file = io.BytesIO()
            image.new("RGB", (8, 8), "red").save(file, form)
            file.seek(0)
            if image.open(file).convert("RGB").getpixel((4, 4))[0] < 200:
                raise ValueError(f"A red {form} is not read as red.")
        return {"version": importlib.metadata.version("pillow")}


def _conversion() -> str:
    """Let TensorFlow's converter write a file; gives what went wrong."""
    tensorflow: Any = importlib.import_module("tensorflow")
    try:
        module = tensorflow.Module()
        given = [tensorflow.TensorSpec((1, 2), tensorflow.float32)]
        double = tensorflow.function(lambda x: 2.0 * x, input_signature=given)
        functions = [double.get_concrete_function()]
        lite = tensorflow.lite.TFLiteConverter
        lite.from_concrete_functions(functions, module).convert()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return ""


def _accelerators(backend: str) -> list[str]:
    """Names of the devices, besides processors, that a backend computes on."""
    library: Any = importlib.import_module(backend)
    if backend == "tensorflow":
        devices = library.config.list_physical_devices()
        return [d.name for d in devices if d.device_type != "CPU"]
    if backend == "jax":
        return [str(d.device_kind) for d in library.devices() if d.platform != "cpu"]
    if library.cuda.is_available():
        count = library.cuda.device_count()
        return [library.cuda.get_device_name(number) for number in range(count)]
    return ["mps"] if library.backends.mps.is_available() else []
