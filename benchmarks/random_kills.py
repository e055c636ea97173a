"""Runs of `compress`, killed at random: do they end with the bytes of one that was not?

Three recipes, each on a small network with dropout and batch normalization, are killed
once to three times with SIGKILL, at a random time or before a random message of their
progress, and then let end. All files of the output folder are compared, of
`report.json` all but times. On JAX and PyTorch a stand-in writes `.tflite` files: there
the converter runs in a process of its own, on a file.
Run: python benchmarks/random_kills.py --kills 100 (with --kills 500, some hours)
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from environment import run_on_backends, write_results

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
RECIPES = ("prune-cluster", "channels", "integers")
_BACKENDS = ["tensorflow", "jax", "torch"]


def make_recipe(name: str) -> Any:
    from penjing import pipeline

    prune = pipeline.PruningConfig(
        schedule=pipeline.FractionalSchedule(final_sparsity=0.6, frequency=3)
    )
    methods = {
        "prune-cluster": (prune, pipeline.ClusteringConfig(num_clusters=4)),
        "channels": (
            pipeline.ChannelPruneRecipe(
                ratio=0.6,
                steps=2,
                epochs_before=1,
                recovery_epochs=2,
                group_lasso=0.05,
                distillation=0.5,
                batch_norm_batches=2,
            ),
            prune,
        ),
        "integers": (prune, pipeline.QuantizeAwareRecipe(activations="int8")),
    }[name]
    kind = "int8" if name == "integers" else "dynamic"
    return pipeline.Recipe(
        name=name,
        training=pipeline.TrainingRecipe(epochs=3, batch_size=16),
        methods=methods,
        export=pipeline.ExportRecipe(quantizations=(kind,)),
    )


def write_model(path: Path) -> None:
    import keras

    from penjing.pipeline.runs.random_state import set_global_seeds

    set_global_seeds(3)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(16, 3, name="conv"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.SpatialDropout2D(0.1, name="spots"),
            layers.Flatten(name="flatten"),
            layers.Dense(32, activation="relu", name="hidden"),
            layers.Dropout(0.3, name="drop"),
            layers.Dense(4, name="logits"),
        ],
        name="net",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    model.save(path)


def make_data() -> Any:
    import numpy as np

    x = np.random.default_rng(0).normal(size=(150, 8, 8, 1)).astype("float32")
    y = (x[:, 0, 0, 0] > 0) + 2 * (x[:, 4, 4, 0] > 0)
    return (x, y), (x[:50], y[:50])


def compress(name: str, folder: Path, out: Path, listen: Callable[[Any], None]) -> None:
    """What one process does: a state is kept after each epoch."""
    import keras

    from penjing import pipeline
    from penjing.pipeline import file_stages, training

    training.SECONDS_BETWEEN_SAVES = 0.0
    training.STEPS_BETWEEN_SAVES = 4
    if keras.backend.backend() != "tensorflow":
        file_stages.export_litert = _stand_in  # type: ignore[assignment]
        file_stages.evaluate = lambda *_, **__: {"accuracy": 0.5}  # type: ignore[assignment]
    pipeline.compress(
        folder / "net.keras",
        make_data(),
        make_recipe(name),
        out=out,
        accept_baseline=True,
        progress=listen,
    )


def _stand_in(model: Any, path: Path, **_: Any) -> None:
    import keras

    weights = [keras.ops.convert_to_numpy(w.value).tobytes() for w in model.weights]
    path.write_bytes(b"".join(weights))


def in_child(work: Callable[[], None], seconds: float | None = None) -> int:
    """Run something in a fork, killed after some seconds; gives the exit status."""
    child = os.fork()
    if not child:
        log = os.open(os.environ["KILLS_LOG"], os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        try:
            work()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    end = None if seconds is None else time.monotonic() + seconds
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        if end is not None and time.monotonic() >= end:
            os.kill(child, signal.SIGKILL)
            return os.waitpid(child, 0)[1]
        time.sleep(0.002)


def digests(out: Path) -> dict[str, str]:
    """Digest of each file; of the report without its times."""
    found = {}
    for path in sorted(out.iterdir()):
        if path.name == "report.html" or path.is_dir():
            continue  # the page shows times; folders are the state
        content = path.read_bytes()
        if path.name == "report.json":
            table = json.loads(content)
            del table["seconds"]
            content = json.dumps(table).encode()
        found[path.name] = hashlib.blake2b(content, digest_size=8).hexdigest()
    return found


def counting(path: Path) -> Callable[[Any], None]:
    messages = []

    def listen(event: Any) -> None:
        messages.append(event.stage)
        path.write_text(str(len(messages)))

    return listen


def killing(number: int) -> Callable[[Any], None]:
    left = [number]

    def listen(event: Any) -> None:
        left[0] -= 1
        if left[0] < 0:
            os.kill(os.getpid(), signal.SIGKILL)

    return listen


def silent(event: Any) -> None:
    """Listen to nothing."""


def whole_run(name: str, folder: Path) -> tuple[float, int, dict[str, str]]:
    begin, out = time.monotonic(), folder / f"whole-{name}"
    listen = counting(folder / "count")
    if in_child(lambda: compress(name, folder, out, listen)):
        sys.exit(Path(os.environ["KILLS_LOG"]).read_text()[-3000:])
    taken = time.monotonic() - begin
    return taken, int((folder / "count").read_text()), digests(out)


def killed_run(
    name: str, folder: Path, taken: float, messages: int, chance: Any
) -> Any:
    """Kill a run one to three times, let it end, and describe what came of it."""
    out = folder / "killed"
    shutil.rmtree(out, ignore_errors=True)
    kills = []
    for _ in range(chance.randint(1, 3)):
        if chance.random() < 0.5:
            seconds = chance.uniform(0, taken)
            in_child(lambda: compress(name, folder, out, silent), seconds)
            kills.append(f"after {seconds:.3f} s")
        else:
            number = chance.randrange(messages)
            listen = killing(number)
            in_child(functools.partial(compress, name, folder, out, listen))
            kills.append(f"before message {number}")
    status = in_child(lambda: compress(name, folder, out, silent))
    left = [p.name for p in out.rglob(".*-????????.*")]
    return kills, status, digests(out) if out.is_dir() else {}, left


def measure(kills: int, seed: int) -> dict[str, Any]:
    """Kill runs of all recipes on the backend of this process."""
    import keras

    import penjing.pipeline  # noqa: F401, once for all forks

    chance = random.Random(f"{seed} {keras.backend.backend()}")
    results: dict[str, Any] = {"runs": 0, "kills": 0, "different": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.environ["KILLS_LOG"] = str(folder / "log")
        in_child(lambda: write_model(folder / "net.keras"))
        whole = {recipe: whole_run(recipe, folder) for recipe in RECIPES}
        while results["kills"] < kills:
            recipe = RECIPES[results["runs"] % len(RECIPES)]
            *bounds, wanted = whole[recipe]
            done, status, found, left = killed_run(recipe, folder, *bounds, chance)
            results["runs"] += 1
            results["kills"] += len(done)
            if status or left or found != wanted:
                names = {n for n in {*found, *wanted} if found.get(n) != wanted.get(n)}
                results["different"].append(
                    {"recipe": recipe, "kills": done, "status": status}
                    | {"files": sorted(names), "left": left}
                )
            print(results, file=sys.stderr, flush=True)
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--backends", default=",".join(_BACKENDS))
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(measure(options.kills, options.seed)))
        return
    backends = options.backends.split(",")
    each = -(-options.kills // len(backends))
    arguments = ["--worker", "--kills", str(each), "--seed", str(options.seed)]
    outcomes = run_on_backends(__file__, backends, arguments)
    print(write_results("random_kills", {"seed": options.seed, "backends": outcomes}))


if __name__ == "__main__":
    main()
