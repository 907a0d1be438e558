"""Fit the baselines of a comparison that have no record yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reproduce.cli.options import TrainingOptions
from reproduce.cli.progress import is_main, log, progress_bar
from reproduce.experiments.experiment import Experiment
from reproduce.metrics.headline import HEADLINES, headline
from reproduce.records.runs import BaselineRun
from reproduce.records.store import load_records

if TYPE_CHECKING:
    from reproduce.data.waveform_store import WaveformStore


def fit_missing_baselines(experiments: Sequence[Experiment], store: WaveformStore, options: TrainingOptions) -> None:
    """Fit and record a baseline per pair of training and test clips, in the first process alone.

    Args:
        experiments: the runs that the baselines stand beside.
        store: every clip.
        options: selection of the runs, and the folder of the records.

    Raises:
        InputError: a split without usable clips, or a folder that cannot be written.
    """
    if options.run == "none" or not is_main():
        return
    from reproduce.cli.planned_runs import with_digests  # late: it imports torch
    from reproduce.training.baseline import BaselineFitter, plan_baselines

    store = with_digests(store)
    known = (
        {run.key for run in load_records(options.records).of_kind(BaselineRun)} if options.run == "missing" else set()
    )
    missing = [plan for plan in plan_baselines(experiments) if plan.key(store) not in known]
    if not missing:
        return
    with progress_bar("baseline", total=len(store) * len({plan.seconds for plan in missing})) as bar:
        fitter = BaselineFitter(store=store, records=options.records, name=options.name, on_clip=bar.update)
        records = [fitter.run(plan) for plan in missing]
    for plan, record in zip(missing, records, strict=True):
        name = headline(record.metrics)
        scored = f"{HEADLINES[name]} {record.metrics[name]:.1f} % on {record.metrics['clips']} test clips"
        log(f"baseline tested on {','.join(plan.test_splits)}: {scored}, {record.wall_time_s:.0f} s")
