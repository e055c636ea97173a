"""Workers for a search: here, in processes beside, or on a Ray cluster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import keras

from penjing.arguments import check_integer
from penjing.budget.workplaces.workplace import INPUTS, SerialWorkers, Workers
from penjing.data.data_sources import UserData
from penjing.progress import Listener, ignore_progress

RUN = "penjing.budget.trial:run_trial"


def open_workers(
    model: keras.Model,
    data: UserData,
    folder: str | os.PathLike[str],
    *,
    workers: int = 1,
    ray: str | None = None,
    imports: Sequence[str] = (),
    progress: Listener = ignore_progress,
    run: str = RUN,
) -> Workers:
    """Open what trials run in; a context manager.

    Args:
        model: A built model; it is left alone.
        data: Its `train` part lacks the `validation` part. No trial gets to see its
            `test` part.
        folder: The trials' folders are made here, with the names of their orders.
        workers: Processes beside this one, each with its share of the cores; 1: this
            process.
        ray: `"auto"` or the address of a Ray cluster, which then runs all trials, as
            many as it has cores. penjing has to be installed on its nodes.
        imports: Modules that register the user's classes.
        progress: Told what the trials tell, with their names, in the thread that asks
            for outcomes.
        run: `"module:function"` of what runs a trial, called as `run_trial`.

    Returns:
        The workers.

    Raises:
        CompressionError: If the model or the data cannot be handed to other processes,
            the cluster does not answer, or the folder cannot be written; the message
            says why.
        MissingDependencyError: If `ray` is given and not installed.
        ValueError: If `workers` is no number from 1, or given together with `ray`.

    Example:
        >>> with open_workers(model, data, "out") as workers:  # doctest: +SKIP
        ...     workers.submit(TrialOrder(name="0001", recipe=recipe.to_dict()))
        ...     outcome = workers.next_outcome()
    """
    check_integer("workers", workers, least=1)
    if workers != 1 and ray is not None:
        raise ValueError(
            "`workers` are processes of this machine, and `ray` is a cluster: give one "
            f"of them, got workers={workers} and ray={ray!r}."
        )
    folder = Path(folder).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / INPUTS, ignore_errors=True)  # of a killed program
    if workers == 1 and ray is None:
        return SerialWorkers(model, data, folder, run, progress)
    from penjing.budget.workplaces.process_workers import ProcessWorkers
    from penjing.budget.workplaces.shared_inputs import share_inputs

    inputs = share_inputs(model, data, imports)
    if ray is not None:
        from penjing.budget.workplaces.ray_workers import RayWorkers

        return RayWorkers(inputs, folder, run, address=ray, progress=progress)
    return ProcessWorkers(inputs, folder, run, processes=workers, progress=progress)
