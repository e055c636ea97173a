"""What a run depends on, as one text: where it changes, nothing finished counts."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import keras

from penjing.layer_sensitivity.measurement_digest import architecture_of
from penjing.pipeline.recipe import Recipe
from penjing.pipeline.runs.run_state import digest_of
from penjing.pipeline.training_data import replicas
from penjing.version import __version__


def digest_of_run(
    recipe: Recipe,
    seed: int,
    source: Any,
    data: list[Any],
    imports: Iterable[str] = (),
) -> str:
    """Digest of what a run depends on.

    `source` is a model or its path, `data` what `data_parts` gives, `imports` are
    modules of the user's own classes, which count as they are written.
    """
    spread = {"replicas": replicas()} if replicas() > 1 else {}
    return digest_of(
        [
            {"penjing": __version__, "keras": keras.__version__},
            {"backend": keras.backend.backend(), "seed": seed, **spread},
            recipe.to_dict(),
            *([source] if isinstance(source, Path) else _model_parts(source)),
            *data,
            *(file for module in imports for file in _sources_of(module)),
        ]
    )


def _sources_of(module: str) -> list[Path]:
    """The file of a module, or those of a package, where they can be found."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        return []
    if spec is None or spec.origin is None or not Path(spec.origin).is_file():
        return []
    folders = spec.submodule_search_locations or ()
    inner = sorted(file for folder in folders for file in Path(folder).rglob("*.py"))
    return [Path(spec.origin), *inner]


def _model_parts(model: keras.Model) -> list[Any]:
    weights = [keras.ops.convert_to_numpy(weight.value) for weight in model.weights]
    paths = [weight.path for weight in model.weights]
    compiled = model.get_compile_config()
    return [model.name, paths, architecture_of(model), compiled, *weights]
