"""Makes the files of this folder with the code that is to stay readable.

They were made at commit 41b0cbe on the TensorFlow backend, with Keras 3.12.0, the
oldest that is supported: what it writes all later versions read.

    cd CHECKOUT_OF_41b0cbe
    KERAS_BACKEND=tensorflow PYTHONPATH=src:PATH_OF_THIS_CHECKOUT \\
        python -m tests.data.saved_by_0_1.make

They are never made again: `tests/integration/test_saved_files.py` proves that later
code reads them. The `.toml` files were written by hand, but for the packaged ones.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from tests.data.saved_by_0_1 import cases

import penjing
from penjing import pipeline, tfmot


def save_small(model: keras.Model, path: Path) -> None:
    """Save as `.keras` and compress the members."""
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def make_models(folder: Path) -> None:
    """The models, what they compute, and how they go on."""
    arrays: dict[str, np.ndarray] = {}
    facts: dict[str, Any] = {}
    for name, make in cases.MODELS.items():
        keras.utils.clear_session()
        keras.utils.set_random_seed(1)
        model = cases.compile_and_fit(make())
        x = cases.inputs_for(getattr(model, "model", model))[0][:6]
        stripped = penjing.strip(model)
        arrays[f"{name}/outputs"] = keras.ops.convert_to_numpy(model(x, training=False))
        for number, value in enumerate(cases.values(stripped)):
            arrays[f"{name}/stripped/{number}"] = value
        if name not in cases.GOING_ON:
            model.compiled = False
        save_small(model, folder / f"{name}.keras")
        loaded = keras.saving.load_model(folder / f"{name}.keras")
        facts[name] = {
            "class": type(loaded).__name__,
            "weights": cases.describe(loaded),
        }
        if name == "polynomial":
            model.save_weights(folder / f"{name}.weights.h5")
        if name == "two_of_four":
            save_small(stripped, folder / f"{name}.stripped.keras")
        if name in cases.AS_H5:
            model.save(folder / f"{name}.h5", include_optimizer=False)
        if name in cases.GOING_ON:
            cases.go_on(model, 2)
            for number, value in enumerate(cases.values(penjing.strip(model))):
                arrays[f"{name}/later/{number}"] = value
    np.savez_compressed(folder / "expected.npz", allow_pickle=False, **arrays)
    write_json(folder / "expected.json", facts)


def make_objects(folder: Path) -> None:
    """Values as Keras and `Schedule.to_json` write them."""
    made = cases.make_values()
    write_json(
        folder / "serialized.json",
        {name: keras.saving.serialize_keras_object(v) for name, v in made.items()},
    )
    schedules = {k: v for k, v in made.items() if isinstance(v, penjing.Schedule)}
    write_json(
        folder / "schedules.json", {k: v.to_json() for k, v in schedules.items()}
    )


def registered_names() -> list[str]:
    """Names under which Keras knows penjing's classes."""
    known = keras.saving.get_custom_objects()
    return sorted(name for name in known if name.startswith("penjing"))


def public_names() -> list[str]:
    """What `penjing`, `penjing.pipeline` and the packages of `penjing.tfmot` export."""
    modules = [penjing, penjing.pipeline, tfmot]
    for module in modules:  # grows
        inner = (getattr(module, n, None) for n in getattr(module, "__all__", ()))
        modules += [
            value
            for value in inner
            if inspect.ismodule(value) and value.__name__.startswith(tfmot.__name__)
        ]
    names = {f"{m.__name__}.{name}" for m in modules for name in m.__all__}
    apart = {"compress", "pipeline", "tfmot"}  # loaded when used
    return sorted(names | {f"penjing.{name}" for name in apart})


def make_names(folder: Path) -> None:
    """Names that programs and files use."""
    write_json(folder / "public.json", public_names())
    write_json(folder / "registered.json", registered_names())


def make_recipes(folder: Path) -> None:
    """Recipes with every key, and what they were read as; the packaged ones too."""
    for name in pipeline.packaged_recipes():
        text = pipeline.recipe_to_toml(pipeline.load_recipe(name))
        (folder / f"packaged-{name}.toml").write_text(text, "utf-8")
    read = {
        path.stem: pipeline.load_recipe(path).to_dict()
        for path in sorted(folder.glob("*.toml"))
    }
    write_json(folder / "read.json", read)


class StoppedError(Exception):
    """Raised in place of a kill."""


def stop_at(stage: str, done: int = 0) -> Callable[[penjing.Progress], None]:
    """A listener that ends a run in a stage, after some of its steps."""

    def listen(event: penjing.Progress) -> None:
        if event.stage.startswith(stage) and (event.done or 0) >= done:
            raise StoppedError

    return listen


def silent(event: penjing.Progress) -> None:
    """A listener that lets everything pass."""


def compress(folder: Path, recipe: str, out: Path, listen: Any) -> Any:
    """Run `penjing.compress` on the model and the data of a folder."""
    return penjing.compress(
        folder / "start.keras",
        folder / "data.npz",
        folder / f"{recipe}.toml",
        out=out,
        progress=listen,
    )


def make_runs(folder: Path) -> None:
    """A run that is finished, the same one stopped in its training, one in its cuts."""
    keras.utils.set_random_seed(1)
    model = cases.dense()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, metrics=["accuracy"])
    save_small(model, folder / "start.keras")
    x = np.random.default_rng(0).normal(size=(96, 8)).astype("float32")
    y = x[:, :3].argmax(-1).astype("int32")
    arrays = {"x_train": x, "y_train": y, "x_test": x[:32], "y_test": y[:32]}
    np.savez_compressed(folder / "data.npz", allow_pickle=False, **arrays)
    compress(folder, "run", folder / "finished", silent)
    # Training is saved every 1,000 batches at most: here after 10 epochs.
    with contextlib.suppress(StoppedError):
        compress(folder, "run", folder / "stopped", stop_at("Training", 1000))
    with contextlib.suppress(StoppedError):
        compress(folder, "cuts", folder / "cuts", stop_at("Recovering 2"))
    with contextlib.suppress(StoppedError):
        compress(folder, "cuts", folder / "expected", stop_at("Exporting"))
    shutil.copy(folder / "expected" / "model.keras", folder / "cuts.keras")
    shutil.rmtree(folder / "expected")


def measure_sensitivity(path: Path, listen: Any) -> Any:
    """What two layers of the runs' first model lose, each at two ratios."""
    model = keras.saving.load_model(cases.FOLDER / "runs" / "start.keras")
    with np.load(cases.FOLDER / "runs" / "data.npz", allow_pickle=False) as arrays:
        data = arrays["x_train"], arrays["y_train"]
    return penjing.sensitivity(
        model,
        data,
        method="weights",
        ratios=(0.25, 0.75),
        path=path,
        progress=listen,
    )


def make_tables(folder: Path) -> None:
    """Tables that programs keep: sensitivities, channels, times of layers."""
    with contextlib.suppress(StoppedError):
        measure_sensitivity(
            folder / "sensitivity-stopped.json", stop_at("Measuring", 2)
        )
    measure_sensitivity(folder / "sensitivity.json", silent)
    keras.utils.clear_session()
    keras.utils.set_random_seed(1)
    model = cases.convolutional()
    smaller = penjing.prune_channels(model, ratio=0.5, round_to=1)
    report = penjing.channel_report(model, smaller).to_dict()
    write_json(folder / "channels.json", report)
    make_times(folder)


def make_times(folder: Path) -> None:
    """What the kept times of layers are called, and a latency model made of them."""
    from penjing.measurement import latency_cache

    described: dict[str, Any] = {}
    key = latency_cache._key

    def note(description: Any) -> str:
        described[key(description)] = dict(description)
        return key(description)

    latency_cache._key = note
    with tempfile.TemporaryDirectory() as cache:
        made = penjing.build_latency_model(
            cases.dense(), cache_dir=cache, progress=False
        )
        (kept,) = Path(cache).iterdir()
        times = json.loads(kept.read_text("utf-8"))
    latency_cache._key = key
    rows = []
    for name, milliseconds in times.items():
        description = described[name]
        del description["runtime"], description["processor"]  # of this machine
        rows.append({"description": description, "milliseconds": milliseconds})
    content = {"file": kept.name, "times": rows, "model": made.to_dict()}
    (folder / "times.json").write_text(json.dumps(content) + "\n", "utf-8")


def write_json(path: Path, content: Any) -> None:
    """One line for each entry of the outermost level, for short diffs."""
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def main() -> None:
    """Make all, or the parts that are named."""
    parts = {
        "models": make_models,
        "objects": make_objects,
        "names": make_names,
        "recipes": make_recipes,
        "runs": make_runs,
        "tables": make_tables,
    }
    for name in sys.argv[1:] or parts:
        folder = cases.FOLDER / name
        folder.mkdir(exist_ok=True)
        for path in folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.suffix != ".toml":
                path.unlink()
        parts[name](folder)


if __name__ == "__main__":
    main()
