"""Beginning: version 0 of one run from the newest version of another, so that rounds go on where statistics ended."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from fedmq.delta import Arrays, Params, gather
from fedmq.errors import ConfigInvalid
from fedmq.plan import CAVEAT, Job
from fedmq.record import LEDGER, Record
from fedmq_models.head import HEAD, Head
from fedmq_models.methods import method


def from_run(job: Job, run: Path) -> Job:
    """Return the job with every param that the run has too as it is there; the others stay as the method draws them.

    raises     ConfigInvalid if features or shapes are others, nothing of the run fits, or something that it learned has
               no place; LedgerUnusable
    """
    if method(job.method).head is Head.SOLVED:
        raise ConfigInvalid("start_from: a head of statistics is solved, and begins at the text features")
    with Record.open(run / LEDGER) as record:
        meta = record.meta()
        version, params = record.params()
    if (space := meta["feature_space"]) != job.feature_space:
        raise ConfigInvalid(
            f"start_from: {run} has features of space {space[:16]}, this federation {job.feature_space[:16]}"
        )
    found, own = params.named(), job.params.named()
    if method(meta["method"]).head is Head.SOLVED:
        found[HEAD] = found[HEAD] / np.float32(job.task["logit_scale"])  # which a head that is learned leaves outside
    lost = [name for name, value in found.items() if name not in own and value.any()]
    common = [name for name in found if name in own]
    if lost or not common:
        raise ConfigInvalid(
            f"start_from: version {version} of {run} has {params.schema}; {job.method} has {job.params.schema}"
        )
    for name in common:
        if found[name].shape != own[name].shape:
            raise ConfigInvalid(f"start_from: {name} has shape {found[name].shape} in {run}, {own[name].shape} here")
    begun = gather({name: found.get(name, value) for name, value in own.items()})
    # What the other run's figures must be read with holds for what begins with its params.
    caveat = {CAVEAT: meta[CAVEAT]} if CAVEAT in meta else {}
    return replace(job, params=Params(Arrays(job.params.schema, begun.flat)), notes={**job.notes, **caveat})
