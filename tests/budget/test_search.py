"""A search in a world of formulas, in which nothing is trained."""

import dataclasses
import json

import numpy as np
import pytest

from penjing.budget.bounds.bound import Bound
from penjing.budget.bounds.goal import Goal
from penjing.budget.bounds.quantities import Drop
from penjing.budget.planning.byte_shares import share_within_bytes
from penjing.budget.planning.known_trials import Trial
from penjing.budget.planning.plan import Plan
from penjing.budget.planning.space import MOST_KEPT, Candidate, Ground
from penjing.budget.search import Clock, Search
from penjing.budget.study import SAMPLED, Study
from penjing.budget.trial import TrialOutcome, known_outcome
from penjing.errors import CompressionError
from penjing.files import write_text
from penjing.pipeline.recipe_run import training_steps

pytestmark = pytest.mark.once

GROUND = Ground(
    runtime="x86",
    objective="gzip",
    learning_rate=1e-3,
    epochs=12,
    batch_size=32,
    validation_split=0.1,
)
GOAL = Goal(
    bound=Bound(
        metric="accuracy", direction="higher", reference=0.9, drop=Drop(0.5, False)
    ),
    bounds={},
    bytes_kind="gzip",
    objective="gzip",
)


class World:
    """Scores and bytes by formulas; remembers which trials were run."""

    free = 1

    def __init__(self, study, *, edge=0.05, harm=10.0, fails=()):
        self.study, self.edge, self.harm, self.fails = study, edge, harm, fails
        self.ran, self.waiting = [], []

    def submit(self, order):
        self.ran.append(order.name)
        self.waiting.append(order)
        self.free = 0

    def next_outcome(self):
        order = self.waiting.pop()
        self.free = 1
        candidate = self.study.trials[int(order.name)].candidate
        known = self.score(candidate)
        outcome = TrialOutcome(
            name=order.name,
            status="failed" if known is None else "finished",
            reason="cannot be cut" if known is None else "",
            file=None if known is None else "model.tflite",
            metrics={} if known is None else {"accuracy": known},
            costs={} if known is None else self.costs(candidate, order.costs),
            steps=10,
            seconds=1.0,
            sparsity=0.0,
        )
        if known is not None:
            path = self.study.folder / order.name / "model.tflite"
            path.write_bytes(bytes(outcome.costs["raw"]))
        write_text(
            self.study.folder / order.name / "outcome.json",
            json.dumps(outcome.to_dict()),
        )
        return outcome

    def score(self, c):
        if c.family in self.fails:
            return None
        if c.family == "files":
            return 0.9
        if c.mode in self.fails:
            return None
        if c.family == "one-shot":  # bears a third of what training bears
            return 0.9 - 0.005 * 3 * self.edge / c.keep
        harmed = 0.02 if c.rate >= self.harm else 0.0
        if c.family == "control":
            return 0.902 - harmed
        lost = 0.005 * (self.edge / c.keep) * (1.0 if c.effort == 1 else 2.0)
        return 0.902 - lost - harmed - (0.001 if c.levels == 7 else 0)

    def costs(self, c, names):
        kept = 100_000 * c.keep * (c.levels / 15) ** 0.5
        known = {"gzip": kept, "arena": 3 * kept, "latency": 1e-8 * kept}
        return {"raw": round(2 * kept), **{name: known[name] for name in names}}


def searched(folder, goal=GOAL, trainings=20, **world):
    study = Study(folder, GROUND, seed=0)
    workers = World(study, **world)
    search = Search(
        study=study,
        ground=GROUND,
        goal=goal,
        workers=workers,
        clock=Clock(folder, None),
        trainings=trainings,
        pace=0.01,
        steps_per_epoch=10,
        seed=0,
        imports=(),
        progress=lambda _: None,
    )
    return search, workers


def test_the_edge_is_found_against_the_control(tmp_path):
    search, _ = searched(tmp_path)
    search.run()
    assert search.goal.bound.reference == pytest.approx(0.902)
    best = search.best()
    assert search.goal.bound.used(best.outcome.metrics["accuracy"]) <= 1.0
    # 5 % must stay of 100,000 bytes, with 15 levels; fewer bytes lose too much.
    assert best.outcome.costs["gzip"] < 6_500
    front = search.front()
    costs = [t.outcome.costs["gzip"] for t in front]
    assert best in front
    assert costs == sorted(costs)


def test_where_training_harms_the_rate_is_lowered(tmp_path):
    search, _ = searched(tmp_path, harm=1.0)
    search.run()
    controls = [t.candidate.rate for t in search.study.trials if t.phase == "control"]
    assert controls == [3.0, 1.0, 0.3]
    planned = [t for t in search.study.trials if t.phase == "full"]
    assert {t.candidate.rate for t in planned} == {0.3}


def test_the_edge_without_training_comes_first_and_says_where_trainings_begin(tmp_path):
    search, _ = searched(tmp_path, edge=0.05)
    search.run()
    phases = [trial.phase for trial in search.study.trials]
    assert phases[3:7] == ["one-shot"] * 3 + ["control"]
    assert "one-shot" not in phases[7:]
    untrained = search.study.trials[3:6]
    # 15 % must stay where nothing is trained, by the score of the model as it is.
    within = [t for t in untrained if t.metrics["accuracy"] >= 0.895]
    least = min(within, key=lambda t: t.candidate.keep)
    assert 0.15 <= least.candidate.keep < 0.2
    first = next(t for t in search.study.trials if t.phase == "short")
    assert first.candidate.keep == pytest.approx(least.candidate.keep / 4, rel=0.01)
    assert {t.candidate.mode for t in untrained} == {"dynamic"}


@pytest.mark.parametrize(
    ("seconds", "pace", "untrained"),
    [(14.0, 0.01, 0), (18.0, 0.01, 1), (14.0, 1.0, 3)],  # in the end no training fits
)
def test_a_quarter_of_the_time_is_for_what_is_not_trained(
    tmp_path, seconds, pace, untrained
):
    search, workers = searched(tmp_path, trainings=None)
    search.clock, search.pace = Clock(tmp_path, seconds), pace
    outcome = workers.next_outcome

    def a_second_later():
        search.clock._start -= 1.0
        return outcome()

    workers.next_outcome = a_second_later
    search.run()
    phases = [trial.phase for trial in search.study.trials]
    assert phases[3 : 4 + untrained] == ["one-shot"] * untrained + ["control"] * (
        pace < 1
    )
    best = search.best()
    assert search.goal.is_met(search._score(best), best.costs)
    assert pace < 1 or best.candidate.family == "one-shot"


def untrained(folder, **world):
    search, _ = searched(folder, **world)
    ground = dataclasses.replace(GROUND, trains=False)
    search.ground = search.study._ground = ground
    search.run()
    return search


def test_without_training_the_edge_is_found_and_varied(tmp_path):
    search = untrained(tmp_path, edge=0.05)
    candidates = [trial.candidate for trial in search.study.trials]
    assert not any(candidate.is_trained for candidate in candidates)
    phases = [trial.phase for trial in search.study.trials]
    line = [c for c, phase in zip(candidates, phases, strict=True) if phase[0] == "o"]
    assert 4 <= len(line) <= 5
    assert {(c.levels, c.bits) for c in line} == {(15, None)}
    assert phases[-3:] == ["vary"] * 3
    assert [(c.levels, c.bits) for c in candidates[-3:]] == [
        (7, None),
        (15, 3.0),
        (31, None),
    ]
    best = search.best()
    assert best.candidate.keep < 0.2  # 15 % must stay
    assert search.goal.is_met(search._score(best), best.costs)


def test_where_no_weight_can_fall_all_are_rounded(tmp_path):
    search = untrained(tmp_path, edge=1.0)
    kept = [t.candidate.keep for t in search.study.trials if t.phase == "vary"]
    assert kept == [1.0, 1.0]


@pytest.mark.parametrize("fails", ["one-shot", "dynamic"])
def test_what_cannot_fall_at_once_is_not_tried_again(tmp_path, fails):
    search, _ = searched(tmp_path, fails=(fails,), trainings=3)
    search.run()
    untrained = [t for t in search.study.trials if t.phase == "one-shot"]
    assert len(untrained) == 1
    assert any(t.candidate.is_compressed for t in search.study.trials)


def test_only_zeros_that_pay_are_made_without_training():
    timed = dataclasses.replace(GROUND, objective="latency")
    assert (GROUND.spares, timed.spares) == (True, False)


def test_families_that_a_model_cannot_take_are_left_out(tmp_path):
    search, _ = searched(tmp_path, fails=("cut+prune",))
    search.run()
    failed = [t for t in search.study.trials if t.outcome.status == "failed"]
    assert len(failed) == 1
    assert search.best().candidate.family == "prune"


def test_what_cannot_be_trained_is_written_as_it_is(tmp_path):
    search, workers = searched(tmp_path, fails=("control",))
    search.run()
    families = {t.candidate.family for t in search.study.trials}
    assert families == {"files", "one-shot", "control"}
    assert search.best().candidate.family == "one-shot"


@pytest.mark.parametrize("stop", [1, 4, 9, 14])
def test_a_killed_search_goes_on_as_it_would_have(tmp_path, stop):
    whole, _ = searched(tmp_path / "whole", trainings=14)
    whole.run()

    class KilledError(Exception):
        pass

    search, workers = searched(tmp_path / "killed", trainings=14)
    submit = workers.submit

    def until_it_is_killed(order):
        if len(workers.ran) == stop:
            raise KilledError
        submit(order)

    workers.submit = until_it_is_killed
    with pytest.raises(KilledError):
        search.run()
    again, others = searched(tmp_path / "killed", trainings=14)
    again.run()
    assert [t.candidate for t in again.study.trials] == [
        t.candidate for t in whole.study.trials
    ]
    assert not {*workers.ran} & {*others.ran}
    assert [t.name for t in again.front()] == [t.name for t in whole.front()]


@pytest.mark.parametrize("most", [None, 50_000.0])
def test_where_training_on_alone_is_within_the_bound_it_is_the_result(tmp_path, most):
    bounds = {"max_bytes": most} if most else {}
    search, workers = searched(tmp_path, dataclasses.replace(GOAL, bounds=bounds))
    world, better = workers.score, {"control": 0.95, "dense": 0.949}
    workers.score = lambda c: better.get(c.family) or world(c)
    search.run()
    phases = [t.phase for t in search.study.trials]
    best = search.best()
    if most:  # all weights are too many bytes
        assert "dense" not in phases
    else:
        assert phases[phases.index("full") + 1] == "dense"
        assert best.candidate == Candidate(family="dense", rate=3.0)
        assert search.goal.is_met(search._score(best), best.costs)
    search.study.write_database(search.goal)


def test_trials_and_time_end_a_search(tmp_path):
    search, _ = searched(tmp_path / "a", trainings=3)
    search.run()
    assert sum(t.candidate.is_compressed for t in search.study.trials) == 3
    search, _ = searched(tmp_path / "b")
    search.clock = Clock(tmp_path / "b", 0.5)
    search.run()
    assert not any(t.candidate.is_trained for t in search.study.trials)


@pytest.mark.parametrize("trainings", [1, 2, 3, 4, 6])
@pytest.mark.parametrize("edge", [0.02, 0.2])
def test_few_trials_give_a_trained_file_within_the_bound(tmp_path, trainings, edge):
    search, _ = searched(tmp_path, trainings=trainings, edge=edge)
    search.run()
    full = [t for t in search.study.trials if t.phase == "full"]
    assert len(full) >= min(trainings, 3)
    best = search.best()
    assert best.candidate.is_compressed and best.candidate.effort == 1
    assert search.goal.is_met(search._score(best), best.costs)
    if trainings >= 3:  # not far from the edge
        assert best.candidate.keep < 4 * edge


def test_little_time_is_spent_on_full_trainings(tmp_path):
    search, _ = searched(tmp_path, trainings=None)
    # Of three trainings, as the control tells, which takes a second for 16 epochs.
    search.clock = Clock(tmp_path, 2.5)
    search.run()
    assert 3 <= search._affordable() < 4
    phases = [t.phase for t in search.study.trials if t.candidate.is_compressed]
    assert phases[0] == "full"


def test_only_costs_bounded_the_best_file_within_them_is_found(tmp_path):
    bound = dataclasses.replace(GOAL.bound, drop=None)
    goal = dataclasses.replace(
        GOAL, bound=bound, bounds={"max_bytes": 8000.0}, bytes_kind="gzip"
    )
    search, _ = searched(tmp_path, goal)
    search.run()
    assert search.best().outcome.costs["gzip"] <= 8_000
    trained = [t.costs["gzip"] for t in search.study.trials if t.phase == "full"]
    assert max(cost for cost in trained if cost <= 8_000) > 6_500
    assert "short" not in {trial.phase for trial in search.study.trials}


def test_bytes_and_score_bounded_trainings_begin_where_bytes_fit(tmp_path):
    most = {"max_bytes": 3_000.0}  # a score within the bound takes 5,000
    search, _ = searched(tmp_path, goal=dataclasses.replace(GOAL, bounds=most))
    search.run()
    planned = [t for t in search.study.trials if t.phase in ("short", "full")]
    assert planned[0].candidate.keep < 0.03
    best = search.best()
    assert best.outcome.costs["gzip"] <= 3_600  # as near to the one as to the other
    shares = [t.candidate.keep for t in search.study.trials if t.phase == "one-shot"]
    assert min(shares) >= 0.1  # the score alone says how many weights fall at once


def plain_trial(costs, mode="int8"):
    """The file of the model as it is."""
    outcome = TrialOutcome(
        name="0001",
        status="finished",
        file="model.tflite",
        metrics={"accuracy": 0.9},
        costs=costs,
        steps=0,
        seconds=1.0,
        sparsity=0.0,
    )
    candidate = Candidate(family="files", mode=mode)
    return Trial(number=1, candidate=candidate, phase="files", outcome=outcome)


@pytest.mark.parametrize(
    ("family", "runtime", "most", "share"),
    [
        # A share s of the channels and of their weights stays, s * (1 + 4 s) / 8 bytes.
        ("cut+prune", "micro", 46_800, 0.19**2),
        ("cut", "micro", 105_000, 0.1),
        ("prune", "x86", 120_000, 0.1),
    ],
)
def test_a_line_begins_where_bytes_are_about_right(family, runtime, most, share):
    packs = {"objective": "raw", "bounds_bytes": True}
    given = packs if runtime == "micro" else {}
    ground = dataclasses.replace(GROUND, runtime=runtime, **given)
    kind = "raw" if runtime == "micro" else "gzip"
    goal = Goal(
        bound=GOAL.bound,
        bounds={"max_bytes": float(most)},
        bytes_kind=kind,
        objective=kind,
    )
    trials = [plain_trial({"raw": 1_005_000, "gzip": 905_000})]
    found = share_within_bytes(trials, family, ground, goal)
    assert share / 1.5 < found < 1.5 * share
    unbounded = dataclasses.replace(goal, bounds={})
    assert share_within_bytes(trials, family, ground, unbounded) == MOST_KEPT


def test_what_is_no_weight_falls_with_the_channels():
    ground = dataclasses.replace(
        GROUND, runtime="micro", objective="raw", bounds_bytes=True, weights=250_000
    )
    bounds = {"max_bytes": 48_000.0}
    goal = Goal(bound=GOAL.bound, bounds=bounds, bytes_kind="raw", objective="raw")
    plain = [plain_trial({"raw": 310_000})]  # 60,000 that are no weights
    assert share_within_bytes(plain, "cut+prune", ground, goal) > 0.05


def test_where_ram_cuts_deeper_more_of_the_weights_stay():
    ground = dataclasses.replace(
        GROUND, runtime="micro", objective="raw", max_arena=24_576, arena_share=0.1
    )
    cut, prune, _ = ground.recipe(
        Candidate(family="cut+prune", mode="int8", keep=0.04), "x"
    ).methods
    assert (cut.flash, prune.schedule.final_sparsity) == (0.1, pytest.approx(0.6))
    most = ground.most_kept("cut+prune")
    _, prune, _ = ground.recipe(
        Candidate(family="cut+prune", mode="int8", keep=most), "x"
    ).methods
    assert prune.schedule.final_sparsity == pytest.approx(0.2)
    assert ground.most_kept("cut") == MOST_KEPT


def test_the_end_of_a_line_is_tried_once():
    ground = dataclasses.replace(
        GROUND, runtime="micro", objective="raw", arena_share=0.0490321
    )
    family = "cut+prune"
    keep = float(f"{ground.most_kept(family):.3g}")  # as a candidate has it
    plain = plain_trial({"raw": 1_000, "gzip": 1_000.0})
    lost = dataclasses.replace(plain.outcome, metrics={"accuracy": 0.5})
    candidate = Candidate(family=family, keep=keep, mode="int8")
    tried = Trial(number=2, candidate=candidate, phase="full", outcome=lost)
    plan = Plan(ground=ground, goal=GOAL)
    assert plan._along([plain, tried], family, 3.0, "full") is None


def test_zeros_are_not_tried_where_they_meet_no_bound():
    ground = dataclasses.replace(
        GROUND, runtime="micro", objective="raw", cut_arena=24_576, is_bounded=True
    )
    for arena, phases in [(30_000, "control"), (20_000, "one-shot")]:
        goal = Goal(
            bound=GOAL.bound,
            bounds={"max_arena": 24_576.0},
            bytes_kind="raw",
            objective="raw",
        )
        trials = [
            plain_trial({"raw": 310_000, "arena": 4 * arena}, mode="float32"),
            plain_trial({"raw": 310_000, "arena": arena}),
        ]
        assert Plan(ground=ground, goal=goal).next(trials)[1] == phases


def test_channels_keep_to_the_ram_that_is_bounded():
    ground = dataclasses.replace(
        GROUND, runtime="micro", objective="raw", cut_arena=24_576, is_bounded=True
    )
    for family in ground.families:
        recipe = ground.recipe(Candidate(family=family, mode="int8", keep=0.3), "x")
        assert recipe.methods[0].max_arena == 24_576


def test_zeros_alone_are_not_tried_where_work_is_bounded():
    bounded = dataclasses.replace(GROUND, is_bounded=True)
    assert bounded.families == ("cut+prune", "cut")
    assert GROUND.families == ("prune", "cut+prune")
    timed = dataclasses.replace(GROUND, objective="latency", is_bounded=True)
    assert timed.families == ("cut",)


def test_costs_that_the_control_cannot_have_are_not_asked_of_it(tmp_path):
    goal = dataclasses.replace(GOAL, bounds={"max_arena": 30_000.0})
    search, _ = searched(tmp_path, goal)
    search.run()
    assert search.goal.is_met(search._score(best := search.best()), best.costs)
    search.study.write_database(search.goal)


def test_an_optuna_study_is_left(tmp_path):
    import optuna

    search, _ = searched(tmp_path, trainings=8)
    search.run()
    search.study.write_database(search.goal)
    name = f"sqlite:///{tmp_path / 'study.db'}"
    study = optuna.load_study(study_name="penjing", storage=name)
    assert len(study.trials) == len(search.study.trials) - 1  # without the control
    assert known_outcome(tmp_path / "0000") is not None


def test_stopped_trials_are_pruned_ones_for_optuna(tmp_path):
    import optuna

    search, _ = searched(tmp_path, trainings=8)
    search.run()
    last = next(t for t in reversed(search.study.trials) if t.candidate.is_compressed)
    for metrics in ({"accuracy": 0.7}, {"accuracy": float("nan")}):
        search.study.finish(
            dataclasses.replace(
                last.outcome, status="stopped", file=None, costs={}, metrics=metrics
            )
        )
        search.study.write_database(search.goal)
        name = f"sqlite:///{tmp_path / 'study.db'}"
        found = optuna.load_study(study_name="penjing", storage=name).trials[-1]
        assert found.state == optuna.trial.TrialState.PRUNED
        assert list(found.intermediate_values) == [10]
        assert found.constraints["missed"] > 1
        search.study.sample(search.goal, ["prune", "cut+prune"], ["dynamic"])


def test_no_mode_is_trained_for_whose_file_is_wrong_in_its_runtime(tmp_path):
    search, _ = searched(tmp_path, trainings=20)
    search.proof = lambda t: "wrong" if t.candidate.mode == "dynamic" else ""
    search.run()
    trained = [t.candidate for t in search.study.trials if t.candidate.is_compressed]
    assert len(trained) == 20
    assert {c.mode for c in trained} == {"int8"}
    again, others = searched(tmp_path, trainings=20)
    again.proof = search.proof
    again.run()
    assert not others.ran
    assert again.best().name == search.best().name


def test_a_model_that_is_no_file_ends_a_search_that_goes_on_too(tmp_path):
    for _ in range(2):
        search, workers = searched(tmp_path)
        workers.score = lambda c: None if c.mode == "float32" else 0.9
        with pytest.raises(CompressionError, match="cannot be had as a file"):
            search.run()


def test_samples_that_still_run_exhaust_nothing(tmp_path):
    search, _ = searched(tmp_path, trainings=12)
    search.run()
    for _ in range(10):
        search.study.add(Candidate(family="prune", keep=0.5), SAMPLED)
    assert not search._is_exhausted()


@pytest.mark.parametrize(("epochs", "passes"), [(12, 16), (4, 6), (3, 3), (1, 1)])
def test_the_control_is_trained_as_long_as_what_it_is_compared_with(epochs, passes):
    ground = dataclasses.replace(GROUND, epochs=epochs)
    control = ground.recipe(Candidate(family="control", mode="float32"), "control")
    cut = ground.recipe(Candidate(family="cut+prune", keep=0.1), "cut")
    data = (np.zeros((100, 2)), np.zeros(100))
    assert training_steps(control, data) == training_steps(cut, data)
    assert ground.passes_of(Candidate(family="cut")) == passes
    assert ground.passes_of(Candidate(family="prune")) == epochs


@pytest.mark.parametrize("runtime", ["x86", "arm", "wasm", "micro"])
def test_files_have_the_sizes_that_their_runtime_takes(runtime):
    ground = dataclasses.replace(GROUND, runtime=runtime)
    for family in ("files", "prune"):
        export = ground.recipe(Candidate(family=family, mode="int8"), "a").export
        wanted = runtime if runtime in ("wasm", "micro") else None
        assert export.runtime == wanted


def test_small_models_are_spared_by_shares_of_what_they_have(tmp_path):
    small = dataclasses.replace(GROUND, weights=2_000)
    assert (small.least_kept, GROUND.least_kept) == (0.05, 0.002)
    search, _ = searched(tmp_path, edge=0.001, trainings=30)
    search.ground = search.study._ground = small
    search.run()
    tried = [t.candidate for t in search.study.trials if t.candidate.is_compressed]
    assert min(c.keep for c in tried) == 0.05

    def spared(ground, candidate):
        return ground.recipe(candidate, "a").methods[-2].keep_at_least

    alone = [Candidate(family="prune", keep=keep) for keep in (0.05, 0.5)]
    assert [spared(small, candidate) for candidate in alone] == [100, 100]
    assert spared(small, Candidate(family="cut+prune", keep=0.25)) == 50
    assert spared(GROUND, alone[0]) == 300


def test_an_outcome_is_not_taken_for_that_of_another_candidate(tmp_path):
    search, _ = searched(tmp_path, trainings=2)
    search.run()
    count = len(search.study.trials)
    (tmp_path / "0001" / "order.json").write_text("{")
    study = Study(tmp_path, GROUND, seed=0)
    study.add(Candidate(family="prune", keep=0.123), "short")
    assert known_outcome(tmp_path / "0001") is None
    assert count > 2


def test_files_are_packed_where_they_are_to_be_small_in_flash_alone():
    candidate = Candidate(family="cut", mode="int8", keep=0.5)
    for objective, encoding in (("raw", "packed"), ("arena", None), ("latency", None)):
        ground = dataclasses.replace(GROUND, runtime="micro", objective=objective)
        assert ground.recipe(candidate, "a").export.encoding == encoding


def test_a_tight_bound_stops_no_training_sooner_and_chance_none():
    bound = dataclasses.replace(GOAL.bound, drop=Drop(0.01, False))
    assert bound.clearly(20.0) == pytest.approx(0.1)
    assert GOAL.bound.clearly(20.0) == pytest.approx(0.1)
    assert dataclasses.replace(bound, noise=0.1).clearly(20.0) == pytest.approx(0.3)
    wide = dataclasses.replace(bound, drop=Drop(2.0, False))
    assert wide.clearly(20.0) == pytest.approx(0.4)


def test_where_no_second_dense_training_fits_others_go_on(tmp_path):
    search, workers = searched(tmp_path, trainings=None)
    world, better = workers.score, {"control": 0.95, "dense": 0.949}
    workers.score = lambda c: better.get(c.family) or world(c)
    asked = []

    def may_train(candidate):
        asked.append(candidate.family)
        return candidate.family != "dense" and len(search.study.trials) < 20

    search._may_train = may_train
    search.run()
    phases = [t.phase for t in search.study.trials]
    assert "dense" in asked and "dense" not in phases
    assert len(phases) == 20


def test_time_in_a_trial_that_was_interrupted_counts(tmp_path):
    search, workers = searched(tmp_path)
    search.clock = Clock(tmp_path, 100.0)

    def interrupted():
        search.clock._start -= 50.0
        raise KeyboardInterrupt

    workers.next_outcome = interrupted
    with pytest.raises(KeyboardInterrupt):
        search.run()
    assert Clock(tmp_path, 100.0).spent >= 50.0


def test_the_database_lies_in_the_folder_whatever_its_name_is(tmp_path):
    folder = tmp_path / "what?mode=memory"
    search, _ = searched(folder, trainings=2)
    search.run()
    search.study.write_database(search.goal)
    assert (folder / "study.db").stat().st_size > 10_000
    assert sorted(path.name for path in tmp_path.iterdir()) == [folder.name]
