"""Conversion in a process of its own, for models on JAX and PyTorch."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from penjing import errors
from penjing.errors import CompressionError, ExportError
from penjing.export.conversion import convert_model
from penjing.export.conversion_config import CONVERTED, ConversionConfig
from penjing.models.own_classes import import_modules, modules_of
from penjing.models.signature import InputSignature
from penjing.runtime.worker_process import OrderError, WorkerEndError, WorkerProcess
from penjing.tflite.edited_file import EditedFile
from penjing.tflite.layer_names import LayerScopes

_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "CUDA_VISIBLE_DEVICES": "-1",
}


def convert_in_subprocess(
    model: keras.Model,
    signature: InputSignature,
    config: ConversionConfig,
    samples: Sequence[np.ndarray] | None = None,
    imports: Sequence[str] = (),
) -> EditedFile:
    """Do what `convert_model` does, on any backend, by way of a `.keras` file.

    `imports` are modules that register the user's classes. Those of the model's own
    layers, and of registered functions, are found without. A model that cannot be
    saved, loaded or converted is an ExportError.
    """
    with WorkerProcess(__name__, environment=_ENVIRONMENT) as worker:
        path = worker.folder / "model.keras"
        _save(model, path)
        try:
            answer = worker.ask(
                "convert",
                path=str(path),
                signature=signature.to_dict(),
                config=dataclasses.asdict(config),
                samples=None if samples is None else list(samples),
                imports=sorted({*imports, *_own_modules(model, path)}),
                places=list(map(os.path.abspath, sys.path)),
            )
        except OrderError as error:
            raise _failure(error) from error
        except WorkerEndError as error:
            raise ExportError(
                "The process that converts the model ended without a result (exit code "
                f"{error.exit_code}). Its last words:\n{error.last_words}"
            ) from error
    file = EditedFile(bytes(answer["content"]), CONVERTED)
    file.notes += answer["notes"]
    file.scopes = LayerScopes(scopes=answer["scopes"], outputs=tuple(answer["outputs"]))
    file.float_layers = tuple(answer["float_layers"])
    file.layer_errors = dict(answer["layer_errors"])
    return file


class Worker:
    """The converting process, which has TensorFlow; see `worker_process`."""

    def convert(
        self,
        path: str,
        signature: dict[str, Any],
        config: dict[str, Any],
        samples: Sequence[np.ndarray] | None,
        imports: Sequence[str],
        places: Sequence[str],
    ) -> dict[str, Any]:
        """Convert a saved model; see `convert_model`."""
        if imports:
            import_modules(imports, places, "to convert the model", ExportError)
        model = keras.models.load_model(path, compile=False, safe_mode=True)
        file = convert_model(
            model,
            InputSignature.from_dict(signature),
            ConversionConfig(**config),
            samples,
        )
        content = np.frombuffer(file.content, "u1")
        return {
            "content": content,
            "notes": file.notes,
            "scopes": dict(file.scopes.scopes),
            "outputs": list(file.scopes.outputs),
            "float_layers": list(file.float_layers),
            "layer_errors": file.layer_errors,
        }


def _save(model: keras.Model, path: Path) -> None:
    try:
        model.save(path)
    except Exception as error:
        raise ExportError(
            f"The model `{model.name}` cannot be saved as .keras, which exporting from "
            f"the {keras.backend.backend()} backend needs: {error}. Give its own "
            "classes a `get_config`, or export on the TensorFlow backend."
        ) from error


def _own_modules(model: keras.Model, path: Path) -> set[str]:
    """Modules outside Keras that hold classes or functions of the model."""
    modules, in_main = modules_of(model, path)
    if in_main:
        raise ExportError(
            "These classes are defined in the script that runs (`__main__`), where the "
            f"converting process cannot find them: {', '.join(in_main)}. Move them to "
            "a module of their own and import it, or export on the TensorFlow backend."
        )
    return modules


def _failure(error: OrderError) -> CompressionError:
    """What penjing itself said there, or that the model cannot be loaded."""
    known = getattr(errors, error.kind, None)
    if isinstance(known, type) and issubclass(known, CompressionError):
        return known(str(error))
    text = str(error)[:1500]
    advice = (
        "A class of the model must be importable, so name its module in `imports`, "
        "and Keras must be able to load it: a constructor without `get_config` must "
        "take `**kwargs`. Or export on the TensorFlow backend."
    )
    if "lambda" in text.lower():
        advice = (
            "Lambda layers hold code, which safe mode refuses to load: make it a layer "
            "class, registered with keras.saving.register_keras_serializable, or "
            "export on the TensorFlow backend."
        )
    return ExportError(
        f"The converting process cannot load the model: {text}\n{advice}"
    )
