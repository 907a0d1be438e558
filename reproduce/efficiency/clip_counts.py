"""How many clips a plan assumes: those of data at hand, or the paper's. No torch here."""

from __future__ import annotations

from reproduce.datasets import ClipIndex, dataset_spec
from reproduce.efficiency.plan import ClipCounts
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.paper_studies import paper_study
from reproduce.paper import load_paper


def located_counts(index: ClipIndex, experiment: Experiment) -> ClipCounts:
    """Count the clips of the experiment's splits that are on disk; none is decoded."""
    train, test = (len(index.positions_of(*splits)) for splits in (experiment.train_splits, experiment.test_splits))
    return ClipCounts(train, test, "the data as found")


def paper_counts(dataset: str, variant: str) -> ClipCounts:
    """Return the clips that the paper kept, for data that are not located; or those of the published lists.

    Raises:
        InputError: the paper does not use this data set.
    """
    study = paper_study(dataset, variant)
    train, test = (int(load_paper().fact(count.used).value) if count.used else count.published for count in study.clips)
    if all(count.used for count in study.clips):
        return ClipCounts(train, test, "the paper's kept clips (data not located)")
    title = dataset_spec(dataset).title
    return ClipCounts(train, test, f"{title}'s published lists (data not located; the paper gives no train count)")
