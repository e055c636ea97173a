"""What a function that logs is told of a search, and of the run of a recipe."""

from __future__ import annotations

from penjing.budget.trial import TrialOutcome
from penjing.engine.log_metrics import Log
from penjing.report.documents import Report


def tell_trial(outcome: TrialOutcome, log: Log | None) -> None:
    """Tell the numbers of a trial; its own number is the step."""
    if log is None:
        return
    values = {
        **outcome.costs,
        **outcome.metrics,
        "sparsity": outcome.sparsity,
        "seconds": outcome.seconds,
    }
    for name, value in values.items():
        log(f"trial/{name}", float(value), int(outcome.name))


def tell_run(report: Report, log: Log | None) -> Report:
    """Tell what came of a run; the epochs of its training, where one was shown."""
    if log is None:
        return report
    for epoch, row in enumerate(report.history, 1):
        for name, value in row.items():
            log(name, float(value), epoch)
    last = len(report.history)
    result = {"ratio": report.ratio, "before": report.before, "after": report.after}
    for name, number in result.items():
        if number is not None:
            log(name, float(number), last)
    return report
