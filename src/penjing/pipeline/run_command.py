"""What is typed to get a run's result again, without the folders of this machine."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras

from penjing.recipes.toml_text import toml_value


def compress_command(
    model: Any,
    data: Any,
    recipe: Any = None,
    *,
    budget: Mapping[str, Any] | None = None,
    overrides: Mapping[str, Any] | None = None,
    imports: Sequence[str] = (),
    seed: int = 0,
    pixels: str = "0-255",
    training: bool = True,
    labels: bool = True,
    accept_baseline: bool = False,
) -> str:
    """Write the call of `compress`: for files as a command, for values in Python.

    Args:
        model: A model, or the path of its file.
        data: Data, or where it is.
        recipe: A recipe, its name, or the path of its file; None for a search.
        budget: What a search was allowed, by the names of `penjing.Budget`.
        overrides: Single settings of the recipe.
        imports: Modules of the model's own classes.
        seed: Seed of everything random.
        pixels: What pixels go from and to.
        training: Whether anything was trained.
        labels: Whether labels were looked at.
        accept_baseline: Whether a baseline at chance level was accepted.

    Example:
        >>> compress_command("a/net.keras", "b/data.npz", "default")[:59]
        'penjing compress net.keras --data data.npz --recipe default'
    """
    allowed = {key: value for key, value in (budget or {}).items() if value is not None}
    given = [value for value in (model, data, recipe) if value is not None]
    flags = [f for f, on in (("training", training), ("labels", labels)) if not on]
    if not all(isinstance(value, (str, os.PathLike)) for value in given):
        others = {
            **({"imports": list(imports)} if imports else {}),
            **({"pixels": pixels} if pixels != "0-255" else {}),
            **dict.fromkeys(flags, False),
            **({"accept_baseline": True} if accept_baseline else {}),
        }
        return _in_python(recipe, allowed, overrides, seed, others)
    words = ["penjing", "compress", Path(model).name]
    words += ["--data", Path(data).name or str(data)]  # a folder may be "."
    if recipe is not None:
        words += ["--recipe", Path(recipe).name]
    for name, value in allowed.items():
        words += _option(name, value)
    for key, value in (overrides or {}).items():
        words += ["--set", f"{key}={'' if value is None else toml_value(value)}"]
    for module in imports:
        words += ["--import", module]
    words += [f"--no-{flag}" for flag in flags]
    words += ["--accept-baseline"] if accept_baseline else []
    if pixels != "0-255":
        words += ["--pixels", pixels]
    if keras.backend.backend() != "tensorflow":
        words += ["--backend", keras.backend.backend()]
    return shlex.join([*words, "--seed", f"{seed}", "--out", "out"])


def _option(name: str, value: Any) -> list[str]:
    option = f"--{name.replace('_', '-')}"
    if name == "compressed":
        return [option if value else "--uncompressed"]
    return [option, f"{value}"]


def _in_python(
    recipe: Any,
    budget: Mapping[str, Any],
    overrides: Mapping[str, Any] | None,
    seed: int,
    others: Mapping[str, Any],
) -> str:
    named = isinstance(recipe, (str, os.PathLike))
    parts = ["model", "data"]
    if recipe is not None:
        parts.append(repr(Path(recipe).name) if named else "recipe")
    if budget:
        bounds = ", ".join(f"{name}={value!r}" for name, value in budget.items())
        parts.append(f"budget=penjing.Budget({bounds})")
    if overrides:
        parts.append(f"overrides={dict(overrides)!r}")
    parts += [f"{name}={value!r}" for name, value in others.items()]
    return f"penjing.compress({', '.join(parts)}, seed={seed}, out='out')"
