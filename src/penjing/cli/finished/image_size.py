"""The size in which a folder of images is read for a file."""

from __future__ import annotations

from pathlib import Path


def image_size_of(file: Path, data: str, pixels: str) -> tuple[int, ...] | None:
    """Give the size in which a folder of images is to be read for a model."""
    if not Path(data).expanduser().is_dir():
        return None
    from penjing.pipeline.inputs.run_data import image_size, image_size_for

    if file.suffix.lower() == ".tflite":
        from penjing.runtime.interpreter import LiteRTModel

        return image_size((None, *LiteRTModel(file).inputs[0].shape[1:]))
    from penjing.models.model_files import load_keras_model

    return image_size_for(load_keras_model(file), data, pixels)
