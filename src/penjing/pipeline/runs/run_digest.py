"""What a run depends on, as one text: where it changes, nothing finished counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

from penjing.layer_sensitivity.measurement_digest import architecture_of
from penjing.pipeline.recipe import Recipe
from penjing.pipeline.runs.run_state import digest_of
from penjing.pipeline.training_data import replicas
from penjing.version import __version__


def digest_of_run(recipe: Recipe, seed: int, source: Any, data: list[Any]) -> str:
    """Digest of what a run depends on.

    `source` is a model or its path, `data` what `data_parts` gives.
    """
    spread = {"replicas": replicas()} if replicas() > 1 else {}
    return digest_of(
        [
            {"penjing": __version__, "keras": keras.__version__},
            {"backend": keras.backend.backend(), "seed": seed, **spread},
            recipe.to_dict(),
            *([source] if isinstance(source, Path) else _model_parts(source)),
            *data,
        ]
    )


def _model_parts(model: keras.Model) -> list[Any]:
    weights = [keras.ops.convert_to_numpy(weight.value) for weight in model.weights]
    paths = [weight.path for weight in model.weights]
    compiled = model.get_compile_config()
    return [model.name, paths, architecture_of(model), compiled, *weights]
