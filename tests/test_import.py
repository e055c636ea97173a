"""`import penjing` loads nothing, and Keras knows our classes whatever comes first."""

from __future__ import annotations

import ast
import json
import os
import pkgutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest

import penjing
from penjing import public_names, registered_classes

pytestmark = pytest.mark.once

PACKAGE = Path(penjing.__file__).parent
ROOMS = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}


def run(program, *arguments, backend="jax"):
    """What a program prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-W", "error::RuntimeWarning", "-c", program, *arguments],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_penjing_loads_neither_keras_nor_numpy():
    program = (
        "import sys, penjing; print(penjing.__version__);"
        "print(sorted({'keras', 'numpy', 'rich'} & set(sys.modules)))"
    )
    assert run(program).splitlines() == [penjing.__version__, "[]"]


def test_names_are_there_when_they_are_used():
    program = (
        "import penjing\n"
        "assert penjing.OneShot(0.5).final_sparsity == 0.5\n"
        "assert callable(penjing.sensitivity) and callable(penjing.compress)\n"
        "assert penjing.tfmot.sparsity and penjing.export.litert\n"
        "assert {'prune', 'compress', 'tfmot', '__version__'} <= set(dir(penjing))\n"
        "for name in ('nothing', '_nothing', '__wrapped__'):\n"
        "    assert not hasattr(penjing, name)\n"
        "from penjing import *\n"
        "assert prune is penjing.prune and __version__ == penjing.__version__\n"
    )
    run(program)


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="'penjing' has no attribute 'prun'"):
        penjing.prun  # noqa: B018


def test_no_room_hides_a_public_name():
    assert not ROOMS & set(public_names.__all__)
    assert {"engine", "layer_sensitivity", "tfmot"} < ROOMS


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "pruned.keras"
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    penjing.prune(model, penjing.OneShot(0.5)).save(path)
    return path


@pytest.fixture(scope="module")
def wrapped(tmp_path_factory):
    """A model in the wrappers of the older toolkit's names."""
    path = tmp_path_factory.mktemp("saved") / "wrapped.keras"
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    penjing.tfmot.sparsity.keras.prune_low_magnitude(model).save(path)
    return path


@pytest.mark.parametrize(
    "imports",
    [
        "import penjing, keras",
        "import keras, penjing",
        "from penjing import prune; import keras",
        "import penjing.numerics.masks, keras",
        "import penjing.sparse.sparse_layers, keras",
        "import penjing; from penjing.engine.schedules import OneShot; import keras",
    ],
)
def test_saved_models_load_in_every_order_of_imports(saved, wrapped, imports):
    program = (
        f"import sys; {imports};"
        "print(*[type(keras.models.load_model(path)) for path in sys.argv[1:]],"
        "type(keras.models.load_model(sys.argv[2]).layers[0]))"
    )
    printed = run(program, str(saved), str(wrapped))
    assert "CompressionModel" in printed
    assert "PruneLowMagnitude" in printed


@pytest.mark.slow
def test_saved_models_load_where_tensorflow_brings_keras(saved):
    program = (
        "import sys, penjing, tensorflow as tf;"
        "print(type(tf.keras.models.load_model(sys.argv[1])))"
    )
    assert "CompressionModel" in run(program, str(saved), backend="tensorflow")


def test_values_of_penjing_go_to_another_process_and_back():
    program = (
        "import multiprocessing, penjing\n"
        "def back(value): return value\n"
        "if __name__ == '__main__':\n"
        "    given = penjing.PruningConfig(schedule=penjing.OneShot(0.5))\n"
        "    with multiprocessing.get_context('spawn').Pool(1) as pool:\n"
        "        import operator\n"
        "        print(pool.apply(operator.attrgetter('schedule'), (given,)))\n"
    )
    assert "OneShot" in run(program)


def decorated_classes(path):
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ClassDef) and any(
            "register_keras_serializable" in ast.unparse(item)
            for item in node.decorator_list
        ):
            yield node.name


def test_the_list_of_registered_classes_is_whole():
    found = {
        name
        for path in PACKAGE.rglob("*.py")
        if "tfmot" not in path.parts
        for name in decorated_classes(path)
    }
    assert found == set(registered_classes.__all__)


def test_any_package_can_be_the_first_that_is_imported():
    """Keras is loaded in the middle of it then, and our classes with it.

    Import circles, which single modules could run into, are refused by contract.
    """
    packages = [
        module.name
        for module in pkgutil.walk_packages([str(PACKAGE)], "penjing.")
        if module.ispkg
    ]
    classes = (getattr(registered_classes, name) for name in registered_classes.__all__)
    names = sorted({*packages, *(item.__module__ for item in classes)})
    program = (
        "import importlib, json, sys, keras\n"
        "failed = {}\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    for loaded in list(sys.modules):  # what is inside Keras stays\n"
        "        if loaded == 'keras' or loaded.partition('.')[0] == 'penjing':\n"
        "            del sys.modules[loaded]\n"
        "    try:\n"
        "        importlib.import_module(name)\n"
        "    except ImportError as error:\n"
        "        failed[name] = str(error)\n"
        "print(json.dumps(failed))\n"
    )
    assert len(names) > 30
    assert json.loads(run(program, json.dumps(names))) == {}
