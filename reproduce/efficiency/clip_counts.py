"""How many clips a plan assumes: those of data at hand, or the paper's. No torch here."""

from __future__ import annotations

from reproduce.datasets import ClipIndex
from reproduce.efficiency.plan import ClipCounts
from reproduce.errors import InputError
from reproduce.experiments.experiment import Experiment
from reproduce.experiments.paper_studies import study_name
from reproduce.paper import load_paper

# EPIC-KITCHENS-100's published lists: the paper gives only 90,000 segments over all splits.
EPIC_TRAIN, EPIC_VALIDATION = 67_217, 9_668
PAPER_COUNTS = {
    ("kinetics_sounds", "ks32"): ("clips_kinetics_sounds_train", "clips_kinetics_sounds_test"),
    ("vggsound", ""): ("clips_vggsound_train", "clips_vggsound_test"),
    ("audioset", "balanced"): ("clips_audioset_balanced", "clips_audioset_test"),
    ("audioset", "full"): ("clips_audioset_full", "clips_audioset_test"),
}


def located_counts(index: ClipIndex, experiment: Experiment) -> ClipCounts:
    """Count the clips of the experiment's splits that are on disk; none is decoded."""
    train, test = (len(index.positions_of(*splits)) for splits in (experiment.train_splits, experiment.test_splits))
    return ClipCounts(train, test, "the data as found")


def paper_counts(dataset: str, variant: str) -> ClipCounts:
    """Return the clips that the paper kept, for data that are not at hand.

    Raises:
        InputError: the paper does not use this data set.
    """
    if dataset == "epic_kitchens":
        source = "EPIC-KITCHENS-100's published lists (data not located; the paper gives no train count)"
        return ClipCounts(EPIC_TRAIN, EPIC_VALIDATION, source)
    if (dataset, variant) not in PAPER_COUNTS:
        raise InputError(f"plan: the paper counts no clips of {study_name(dataset, variant)}: add --data {dataset}=DIR")
    train, test = (int(load_paper().fact(key).value) for key in PAPER_COUNTS[dataset, variant])
    return ClipCounts(train, test, "the paper's kept clips (data not located)")
