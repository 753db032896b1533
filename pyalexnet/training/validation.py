"""Measures a model on the centre crops of a split."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pyalexnet import data
from pyalexnet.errors import DataError
from pyalexnet.model import Metrics, Model, Totals
from pyalexnet.parallel.communicator import Communicator, SingleProcess


def validate(
    model: Model,
    loader: data.Loader,
    *,
    stop: Callable[[], bool] = lambda: False,
    job: Communicator | None = None,
) -> Metrics | None:
    """Loss and errors of a model on a split; None once `stop` says true.

    Parameters
    ----------
    model : Model
        Its metrics must have been popped before.
    loader : Loader
        Gives batches that the model takes, or this process's part of each.
    stop : callable
        Asked after each batch.
    job : Communicator, optional
        The processes that share the work. All call this, and all get the same result.

    Raises
    ------
    DataError
        An image cannot be read, or none could.
    """
    job = job or SingleProcess()
    for batch in job.in_lockstep(loader.epoch()):
        if len(batch.images):
            model.evaluate(batch.images, batch.labels)
        if job.any(stop()):
            model.pop_metrics()
            return None
    model.set_totals(Totals(*job.allreduce_sum(np.array(model.totals()))))
    metrics = model.pop_metrics()
    if not metrics.images:
        count = len(loader.split)
        raise DataError(f"none of the {count} validation images could be read; expected some")
    return metrics
