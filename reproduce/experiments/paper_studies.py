"""The paper's studies: data set, variant and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

BCE, CROSS_ENTROPY = "binary cross-entropy", "soft-target cross-entropy"
TWO_HEADS = "mean of verb's and noun's soft-target cross-entropy"
THREE_SEEDS, ONE_SEED = (0, 1, 2), (0,)
MODELS = {"ast": "ast_base", "mast": "mast_base"}


@dataclass(frozen=True)
class PaperStudy:
    """What differs between the paper's data sets. `epochs_fact`: key of the paper's number of epochs."""

    dataset: str
    variant: str
    epochs_fact: str
    loss: str
    seeds: tuple[int, ...]
    sampler: str = "shuffle"
    crop: str = "first"
    test_crops: int = 1


STUDIES = (
    PaperStudy("kinetics_sounds", "ks32", "epochs_kinetics_sounds", CROSS_ENTROPY, THREE_SEEDS),
    PaperStudy("epic_kitchens", "", "epochs_epic_kitchens_100", TWO_HEADS, THREE_SEEDS, crop="random", test_crops=4),
    PaperStudy("vggsound", "", "epochs_vggsound", CROSS_ENTROPY, ONE_SEED),
    PaperStudy("audioset", "balanced", "epochs_audioset_balanced", BCE, THREE_SEEDS),
    PaperStudy("audioset", "full", "epochs_audioset_full", BCE, ONE_SEED, sampler="balanced"),
)


# What AST's run.sh sets by the size of the training set.
AST_BY_VARIANT: Mapping[str, Mapping[str, Any]] = {
    "balanced": {"epochs": 25, "lr": 5e-5, "decay_start": 10, "decay_every": 5, "average_from": 6},
    "full": {
        "epochs": 5, "lr": 1e-5, "decay_start": 2, "decay_every": 1, "average_from": 1, "sampler": "balanced",
    },
}  # fmt: skip


def study_name(dataset: str, variant: str) -> str:
    """ "audioset balanced", or "vggsound" where there is one variant only."""
    return f"{dataset} {variant}".rstrip()
