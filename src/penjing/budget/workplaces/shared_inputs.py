"""Model and data of a search, in a form that other processes can be given."""

from __future__ import annotations

import dataclasses
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np

from penjing.budget.workplaces.distribution import is_spread, spread_over_devices
from penjing.data.data_sources import UserData, load_data
from penjing.errors import CompressionError, DataError
from penjing.files import temporary_folder
from penjing.models.copying import name_weights, weight_paths
from penjing.models.model_files import load_keras_model
from penjing.models.own_classes import import_modules, modules_of
from penjing.pipeline.runs.model_writing import write_keras

_FUNCTION = "function "
_OR_HERE = "or let all trials run in this process: `workers=1` (--workers 1)."


@dataclasses.dataclass(frozen=True, kw_only=True, eq=False)
class SharedInputs:
    """What `share_inputs` made of a model and data, and `load` makes them of again.

    Attributes:
        index: All but the arrays and the model, in types that JSON has.
        model: A `.keras` file.
        arrays: The arrays of the data; `index` says where they belong.
    """

    index: Mapping[str, Any]
    model: bytes
    arrays: Sequence[np.ndarray[Any, Any]]

    def load(self) -> tuple[keras.Model, UserData]:
        """Load the model and the data in another process, set up as the first.

        The user's modules are imported on the way. A CompressionError says that a
        module cannot be imported, the model lost its loss, or loaders are others.
        """
        _set_up_keras(self.index["keras"])
        import_modules(
            self.index["modules"], self.index["places"], "in another process"
        )
        with temporary_folder("penjing-model") as folder:
            path = folder / "model.keras"
            path.write_bytes(self.model)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # seen where it was loaded first
                model = load_keras_model(path)
        name_weights(model, self.index["paths"])
        if self.index["compiled"] and not model.compiled:
            raise CompressionError(
                f"The loss or a metric of the model {model.name!r} cannot be restored "
                "in another process. Decorate it with "
                f"`keras.saving.register_keras_serializable`, {_OR_HERE}"
            )
        return model, self._data()

    def _data(self) -> UserData:
        table = dict(self.index["data"])
        parts = {name: self._part(table.pop(name), name) for name in _PARTS}
        names = table.pop("class_names")
        return UserData(
            **parts,
            **{**table, "notes": tuple(table["notes"])},
            class_names=None if names is None else tuple(names),
            test=None,
        )

    def _part(self, stored: Any, name: str) -> Any:
        if not isinstance(stored, Mapping) or "spec" not in stored:
            return self._tree(stored)
        part = getattr(load_data(stored["spec"], split=False), name)
        if _looks_of(part) != stored["looks"]:
            raise DataError(
                f"The {name} part that {stored['spec']!r} gives in another process is "
                f"{_looks_of(part)}, here it is {stored['looks']}: it was made into "
                f"another one, which cannot be handed on. Give arrays, {_OR_HERE}"
            )
        return part

    def _tree(self, stored: Any) -> Any:
        if isinstance(stored, int):
            return self.arrays[stored]
        if isinstance(stored, Mapping):
            return {name: self._tree(item) for name, item in stored.items()}
        if isinstance(stored, (tuple, list)):
            return tuple(map(self._tree, stored))
        return None


_PARTS = ("train", "validation")


def share_inputs(
    model: keras.Model, data: UserData, imports: Sequence[str]
) -> SharedInputs:
    """Prepare a model and data for other processes; the test part is left out.

    Args:
        model: A built model.
        data: Its parts are arrays, or loaders that a function of the user gives.
        imports: Modules that register the user's classes; those that hold the classes
            of the model are found without.

    Raises:
        CompressionError: If the model cannot be saved, or its classes are in the script
            itself.
        DataError: If other processes cannot get the loaders.
    """
    content, modules = _saved(model)
    arrays: list[np.ndarray[Any, Any]] = []
    index = {
        "modules": sorted({*imports, *modules}),
        "places": list(map(os.path.abspath, sys.path)),
        "keras": _setup_of_keras(),
        "compiled": bool(model.compiled),
        "paths": weight_paths(model),
        "data": {
            "source": data.source,
            "class_names": data.class_names,
            "notes": data.notes,
            "pixel_maximum": data.pixel_maximum,
            **{name: _shared_part(data, name, arrays) for name in _PARTS},
        },
    }
    return SharedInputs(index=index, model=content, arrays=arrays)


def _saved(model: keras.Model) -> tuple[bytes, set[str]]:
    """The model as a file, and the modules that hold its classes."""
    with temporary_folder("penjing-model") as folder:
        path = folder / "model.keras"
        try:
            write_keras(model, path)
        except CompressionError:  # no room
            raise
        except Exception as error:
            raise CompressionError(
                f"The model {model.name!r} cannot be saved as .keras, which other "
                f"processes need: {error}. Give its own classes a `get_config`, "
                f"{_OR_HERE}"
            ) from error
        modules, in_main = modules_of(model, path)
        if in_main:
            raise CompressionError(
                "These classes are defined in the script that runs (`__main__`), where "
                f"other processes cannot find them: {', '.join(in_main)}. Move them to "
                f"a module of their own and import it, {_OR_HERE}"
            )
        return path.read_bytes(), modules


def _shared_part(data: UserData, name: str, arrays: list[Any]) -> Any:
    part = getattr(data, name)
    if part is None or isinstance(part, (tuple, list)):
        return _shared_tree(part, arrays)
    spec = data.source.removeprefix(_FUNCTION)
    if spec == data.source:
        raise DataError(
            f"The {name} part is a loader ({type(part).__name__}), which cannot be "
            "handed to other processes. Give the data as arrays or as "
            f'"module:function", {_OR_HERE}'
        )
    return {"spec": spec, "looks": _looks_of(part)}


def _shared_tree(value: Any, arrays: list[Any]) -> Any:
    """Nested tuples and mappings with the place of each array in `arrays`."""
    if isinstance(value, Mapping):
        return {name: _shared_tree(item, arrays) for name, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [_shared_tree(item, arrays) for item in value]
    if value is None:
        return None
    tensor = keras.ops.is_tensor(value)
    arrays.append(keras.ops.convert_to_numpy(value) if tensor else np.asarray(value))
    return len(arrays) - 1


def _looks_of(part: Any) -> str:
    """What tells one loader from another: its type and its length."""
    try:
        length = f" of {len(part)} batches"
    except (TypeError, NotImplementedError):
        length = ""
    return f"a {type(part).__name__}{length}"


def _setup_of_keras() -> dict[str, Any]:
    """The settings of Keras that change what is computed, or made."""
    policy = keras.dtype_policies.serialize(keras.config.dtype_policy())
    return {
        "floatx": keras.config.floatx(),
        "epsilon": keras.config.epsilon(),
        "image_data_format": keras.config.image_data_format(),
        "dtype_policy": policy,
        "data_parallel": is_spread(),
    }


def _set_up_keras(settings: Mapping[str, Any]) -> None:
    policy = keras.dtype_policies.deserialize(settings["dtype_policy"])
    keras.config.set_floatx(settings["floatx"])
    keras.config.set_epsilon(settings["epsilon"])
    keras.config.set_image_data_format(settings["image_data_format"])
    keras.config.set_dtype_policy(policy)
    if settings["data_parallel"]:
        spread_over_devices()
