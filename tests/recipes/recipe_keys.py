"""What is known of every key of a recipe, taken from the classes that have it.

`recipes/keys.json` holds it, so that it is known before Keras is loaded; a test
compares the two. Meanings are those of the docstrings; what numbers may be is found out
by asking the classes, so neither can be out of date.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import types
import typing
from collections.abc import Callable
from typing import Any, Literal

from penjing.engine.fractional_schedule import FractionalSchedule
from penjing.numerics.patterns import PATTERNS, Pattern
from penjing.pipeline.method_table import RECIPES
from penjing.pipeline.recipe import ExportRecipe, Recipe, TrainingRecipe
from penjing.pipeline.recipe_files import as_written, field_hints

# A name, and its text up to the next name that is indented as little.
_ARGUMENT = re.compile(r"^    (\w+): (.*(?:\n {5,}.*)*)", re.MULTILINE)

_KINDS = {int: "integer", float: "number", str: "text", bool: "flag"}
_BEYOND = 10**12  # more than any setting may be: no bound is looked for there
# What is needed to make a table or a method at all.
_LEAST: dict[str, dict[str, Any]] = {
    "schedule": {"final_sparsity": 0.5, "begin": 0.0, "end": 1.0},
    "block": {"rows": 4, "columns": 1},
    "nm": {"n": 1, "m": 2 * _BEYOND},
    "prune_channels": {"macs": 0.5},
    "prune": {"schedule": FractionalSchedule(final_sparsity=0.5)},
    "cluster": {"num_clusters": 16},
}
# Values that show how a key is written which has no default, by table and key.
_EXAMPLES: dict[str, dict[str, Any]] = {
    "recipe": {"name": "mine"},
    "training": {
        "loss": "sparse_categorical_crossentropy",
        "metrics": ["accuracy"],
        "keep_best_by": "accuracy",
    },
    "export": {
        "finish": "smallest",
        "runtime": "micro",
        "encoding": "packed",
        "max_arena": 65536,
        "float_layers": ["auto"],
    },
    "schedule": {"final_sparsity": 0.8, "frequency": 100},
    "block": {"rows": 4, "columns": 1},
    "nm": {"n": 2, "m": 4},
    "prune_channels": {
        "ratio": 0.5,
        "macs": 0.5,
        "parameters": 0.5,
        "flash": 0.5,
        "latency": 0.5,
        "max_arena": 24_576,
        "include": ["conv*"],
        "exclude": ["conv_1"],
        "learning_rate": 1e-3,
    },
    "one_shot": {
        "levels": 15,
        "mean_bits": 4.0,
        "include": ["conv*", "*/kernel"],
        "exclude": ["dense_1"],
    },
    "prune": {
        "include": ["conv*", "*/kernel"],
        "exclude": ["dense_1"],
        "sparsity_by_layer": {"conv*": 0.5},
        "keep_at_least": 1000,
    },
    "cluster": {
        "num_clusters": 16,
        "include": ["conv*", "*/kernel"],
        "exclude": ["dense_1"],
    },
    "quantize_aware": {
        "include": ["conv*", "*/kernel"],
        "exclude": ["dense_1"],
        "levels": 15,
        "granularity": "per_tensor",
        "activations": "int8",
        "levels_by_layer": {"conv*": 15},
    },
}
# Keys that are taken beside these values alone, or, of numbers, beside larger ones.
_NEEDS: dict[str, dict[str, dict[str, Any]]] = {
    "export": {
        "encoding": {"runtime": "micro"},
        "max_arena": {"runtime": "micro", "encoding": "packed"},
        "float_layers": {"quantizations": ["int8"]},
    },
    "prune": {"sparsity_by_layer": {"scope": "layer"}},
    "prune_channels": {
        "group_lasso": {"epochs_before": 1},
        "distillation": {"recovery_epochs": 1},
    },
}
# Keys of which one excludes the others.
_ONE_OF: dict[str, tuple[str, ...]] = {
    "prune_channels": ("ratio", "macs", "parameters", "flash", "latency"),
    "one_shot": ("levels", "mean_bits"),
}


def known_keys() -> dict[str, Any]:
    """What `recipes/keys.json` has: the keys of each table of a recipe and each method.

    A key has its meaning, the kinds of values that it takes, and where they have them
    choices, bounds, a default, an example, keys that it needs and that it excludes.
    """
    methods = {cls.method: cls for cls in RECIPES}
    tables: dict[str, Any] = {
        "recipe": Recipe,
        "training": TrainingRecipe,
        "export": ExportRecipe,
        "schedule": FractionalSchedule,
    }
    found = {name: _keys_of(name, cls) for name, cls in tables.items()}
    found["pattern"] = _pattern_keys()
    return {
        "tables": found,
        "methods": {name: _keys_of(name, cls) for name, cls in methods.items()},
        "meanings": {
            name: _summary(cls) for name, cls in {**tables, **methods}.items()
        },
    }


def _pattern_keys() -> dict[str, Any]:
    """The keys of all patterns: each says for which kind it is."""
    keys: dict[str, Any] = {
        "kind": {
            "meaning": "Which weights fall together: each alone, those of a block, or "
            "all but `n` of every `m` along the input axis.",
            "takes": ["text"],
            "choices": list(PATTERNS),
            "default": "unstructured",
            "example": "unstructured",
        }
    }
    for kind, cls in PATTERNS.items():
        for key, entry in _keys_of(kind, cls).items():
            keys[key] = {**entry, "needs": {"kind": kind}}
    return keys


def _keys_of(name: str, cls: Any) -> dict[str, Any]:
    meanings = _meanings(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    return {
        key: {
            "meaning": meanings[key],
            **_taken(key, hint),
            **_bounds(name, cls, key, hint),
            **_default(fields[key]),
            **_shown(name, key, fields[key]),
        }
        for key, hint in field_hints(cls).items()
    }


def _default(field: dataclasses.Field[Any]) -> dict[str, Any]:
    if field.default is dataclasses.MISSING:
        return {"required": True}
    if isinstance(field.default, tuple):
        return {"default": list(field.default)}
    is_plain = isinstance(field.default, (bool, int, float, str))
    return {"default": field.default} if is_plain else {}


def _shown(name: str, key: str, field: dataclasses.Field[Any]) -> dict[str, Any]:
    """An example, what the key needs, and which keys it excludes."""
    found: dict[str, Any] = {}
    example = _EXAMPLES.get(name, {}).get(key, _default(field).get("default"))
    if example is not None:
        found["example"] = example
    if key in _NEEDS.get(name, {}):
        found["needs"] = _NEEDS[name][key]
    if key in _ONE_OF.get(name, ()):
        found["excludes"] = [other for other in _ONE_OF[name] if other != key]
    return found


def _taken(key: str, hint: Any) -> dict[str, Any]:
    """The kinds of values that a key takes, their choices, and whether it is a list."""
    hint = as_written(hint)
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        parts = [_taken(key, arg) for arg in args if arg is not types.NoneType]
        takes = [kind for part in parts for kind in part["takes"]]
        choices = {k: v for part in parts for k, v in part.items() if k == "choices"}
        return {**parts[0], **choices, "takes": list(dict.fromkeys(takes))}
    if origin is Literal:
        return {"takes": ["text"], "choices": list(args)}
    if origin is tuple:
        return {**_taken(key, args[0]), "list": True}
    if hint is Pattern or dataclasses.is_dataclass(hint):
        return {"takes": ["table"], "table": key}
    return {"takes": [_KINDS.get(hint, "table")]}


def _bounds(name: str, cls: Any, key: str, hint: Any) -> dict[str, Any]:
    """The least and the largest number that a class takes, found by asking it."""
    taken = _taken(key, hint)
    names = ["text"] if "choices" in taken else []
    numbers = [kind for kind in taken["takes"] if kind not in names]
    if "list" in taken or numbers not in (["integer"], ["number"]):
        return {}
    excluded = _ONE_OF.get(name, ()) if key in _ONE_OF.get(name, ()) else ()
    beside = {k: v for k, v in _LEAST.get(name, {}).items() if k not in excluded}
    beside |= _NEEDS.get(name, {}).get(key, {})

    def takes_it(value: float) -> bool:
        try:
            cls(**{**beside, key: value})
        except ValueError:
            return False
        return True

    if numbers == ["integer"]:
        return _whole_bounds(takes_it)
    return _real_bounds(takes_it)


def _whole_bounds(takes: Callable[[int], bool]) -> dict[str, Any]:
    inside = next(value for value in (1, 2, 3, 10) if takes(value))
    found: dict[str, Any] = {}
    if not takes(-_BEYOND):
        found["least"] = _edge(takes, inside, -_BEYOND)
    if not takes(_BEYOND):
        found["most"] = _edge(takes, inside, _BEYOND)
    return found


def _edge(takes: Callable[[int], bool], inside: int, outside: int) -> int:
    """The last whole number that is taken on the way from one that is to one beyond."""
    while abs(outside - inside) > 1:
        middle = (inside + outside) // 2
        if takes(middle):
            inside = middle
        else:
            outside = middle
    return inside


def _real_bounds(takes: Callable[[float], bool]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if not takes(-1.0):
        lowest = next(value for value in (0, 1, 2) if takes(value + 1e-9))
        found["least" if takes(lowest) else "above"] = lowest
    if not takes(_BEYOND):
        highest = next(value for value in (1, 8, 100) if takes(value - 1e-9))
        while takes(highest + 1):
            highest += 1
        found["most" if takes(highest) else "below"] = highest
    return found


def _meanings(cls: Any) -> dict[str, str]:
    """What docstrings say of the fields of a class, and of those that it takes over."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        doc = inspect.cleandoc(base.__doc__ or "")
        _, _, arguments = doc.partition("Args:\n")
        for match in _ARGUMENT.finditer(arguments.split("\n\n")[0]):
            found[match[1]] = " ".join(match[2].split())
    return found


def _summary(cls: Any) -> str:
    return inspect.cleandoc(cls.__doc__).partition("\n")[0]
