"""What more workers bring to a search: two here, and a hundred in a simulation.

Real: some small trials, in this process and in two processes beside it, by turns in one
run; the ratio counts from when the first trial of each process has ended.

Simulated: a search submits its trials as soon as those that they depend on have ended
and a worker is free. What it depends on is given as a list, for each trial the numbers
of others: the rounds of the search's own plan, then sampled trials, each of which waits
for the outcomes that were there when it was chosen, with as many under way as there are
workers. Processes start as late as measured here; what choosing and sending take is not
counted. Times are recorded ones: of a search's folder (`--study OUT/.state/search`), or
those of the real run here. There are fewer than a hundred, so they are drawn, seeded.
Run: python benchmarks/search_scale.py
"""

from __future__ import annotations

import argparse
import dataclasses
import heapq
import json
import os
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from environment import write_results

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
_ORDERS = 6
_WORKERS = (1, 2, 10, 100)
# Trials of a search that a hundred workers are worth, and the rounds that come first.
_TRIALS, _ROUNDS = 2000, (6, 6, 6)


def wall_time(
    seconds: Sequence[float],
    after: Sequence[Sequence[int]],
    workers: int,
    start: float = 0.0,
) -> float:
    """Seconds until all trials have ended.

    They are submitted in their order: one whose dependencies have not ended holds back
    those behind it, as the search chooses one after the other.
    """
    ends: list[float] = []
    free = [start] * workers
    now = 0.0
    for taken, others in zip(seconds, after, strict=True):
        ready = max((ends[other] for other in others), default=0.0)
        now = max(now, ready, heapq.heappop(free))
        ends.append(now + taken)
        heapq.heappush(free, ends[-1])
    return max(ends)


def rounds_then_sampled(rounds: Sequence[int], count: int) -> list[list[int]]:
    """Dependencies of a search: each round waits for the one before it."""
    after: list[list[int]] = []
    before: list[int] = []
    for size in rounds:
        numbers = list(range(len(after), len(after) + size))
        after += [before] * size
        before = numbers
    after += [before] * (count - len(after))
    return after


def recorded(study: Path) -> list[float]:
    """Seconds of the finished trials in a search's folder."""
    outcomes = [json.loads(path.read_text()) for path in study.glob("*/outcome.json")]
    return [o["seconds"] for o in outcomes if o["status"] == "finished"]


def simulated(times: Sequence[float], start: float, seed: int) -> dict[str, Any]:
    """Wall times and ratios for numbers of workers, with and without rounds first."""
    chance = random.Random(seed)
    drawn = [chance.choice(times) for _ in range(_TRIALS)]
    structures = {
        "the search: rounds, then samples": rounds_then_sampled(_ROUNDS, _TRIALS),
        "rounds of 100 that wait for all": rounds_then_sampled(
            [100] * (_TRIALS // 100), _TRIALS
        ),
        "a search of 100 trials": rounds_then_sampled(_ROUNDS, 100),
    }
    results = {}
    for name, after in structures.items():
        part = drawn[: len(after)]
        walls = {n: wall_time(part, after, n, start if n > 1 else 0) for n in _WORKERS}
        results[name] = {
            "trials": len(after),
            "seconds": {str(n): round(wall, 1) for n, wall in walls.items()},
            "ratio": {str(n): round(walls[1] / wall, 2) for n, wall in walls.items()},
        }
    return results


def make_case() -> tuple[Any, Any, list[Any]]:
    """A small network on images, and orders of different recipes for it."""
    import keras

    from penjing import pipeline
    from penjing.budget.trial import TrialOrder
    from penjing.data.data_sources import UserData
    from penjing.data.datasets import load_dataset

    keras.utils.set_random_seed(0)
    images = load_dataset("fashion-mnist-small")
    x, y = images.x_train[:1800, ::3, ::3, None], images.y_train[:1800]
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input(x.shape[1:]),
            layers.Conv2D(16, 3, activation="relu", name="conv"),
            layers.Flatten(name="flatten"),
            layers.Dense(64, activation="relu", name="hidden"),
            layers.Dense(10, name="logits"),
        ],
        name="net",
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, metrics=["accuracy"])
    data = UserData(
        train=(x[:1200], y[:1200]),
        validation=(x[1200:1500], y[1200:1500]),
        test=(x[1500:], y[1500:]),
        source="fashion-mnist-small",
    )
    orders = []
    for number in range(_ORDERS):
        schedule = pipeline.FractionalSchedule(final_sparsity=0.5 + 0.05 * number)
        recipe = pipeline.Recipe(
            name=f"trial-{number}",
            training=pipeline.TrainingRecipe(epochs=20, batch_size=16),
            methods=(pipeline.PruningConfig(schedule=schedule),),
        )
        orders.append(TrialOrder(name=f"{number:04}", recipe=recipe.to_dict()))
    return model, data, orders


def run_all(case: Any, folder: Path, workers: int) -> dict[str, Any]:
    """Run all orders; gives the time until all workers are warm, and from then on."""
    from penjing.budget.workers import open_workers

    model, data, orders = case
    warm = [dataclasses.replace(orders[0], name=f"warm{n}") for n in range(workers)]
    opened = time.monotonic()
    with open_workers(model, data, folder, workers=workers) as started:
        outcomes_of(started, warm)
        begin = time.monotonic()
        outcomes = outcomes_of(started, orders)
        end = time.monotonic()
    sizes = {outcome.name: outcome.costs.get("raw") for outcome in outcomes}
    return {
        "start": begin - opened,
        "trials": end - begin,
        "seconds": [outcome.seconds for outcome in outcomes],
        "statuses": sorted({outcome.status for outcome in outcomes}),
        "bytes": dict(sorted(sizes.items())),
    }


def outcomes_of(workers: Any, orders: Sequence[Any]) -> list[Any]:
    """All outcomes, submitted as a search does."""
    waiting, outcomes = list(orders), []
    while len(outcomes) < len(orders):
        while waiting and workers.free:
            workers.submit(waiting.pop(0))
        outcomes.append(workers.next_outcome())
    return outcomes


def measured(turns: int) -> dict[str, Any]:
    """One worker and two by turns; the first trial of each process is not counted."""
    case = make_case()
    found: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as name:
        for turn in range(turns):
            for workers in found:
                folder = Path(name, f"{workers}-{turn}")
                found[workers].append(run_all(case, folder, workers))
    middle = {
        n: statistics.median(run["trials"] for run in runs) for n, runs in found.items()
    }
    start = statistics.median(run["start"] for run in found[2])
    return {
        "trials": _ORDERS,
        "turns": turns,
        "seconds": {str(n): round(value, 2) for n, value in middle.items()},
        "seconds_to_start_two_and_warm_them": round(start, 2),
        "ratio": round(middle[1] / middle[2], 2),
        "same_files": found[1][0]["bytes"] == found[2][0]["bytes"],
        "statuses": found[1][0]["statuses"],
        "load": [round(value, 1) for value in os.getloadavg()],
        "times": sorted(round(s, 2) for run in found[1] for s in run["seconds"]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--study", type=Path, help="Folder of a search's trials.")
    options = parser.parse_args()
    real = measured(options.turns)
    times = recorded(options.study) if options.study else real["times"]
    start = real["seconds_to_start_two_and_warm_them"]
    results = {
        "two_workers": real,
        "simulated": simulated(times, start, options.seed),
        "recorded_seconds": sorted(times),
        "from": "a search" if options.study else "the trials above",
    }
    print(write_results("search_scale", results))
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
