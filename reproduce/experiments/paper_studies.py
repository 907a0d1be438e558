"""The paper's studies, one row each: data set, variant, tables, metrics, clip counts and what its recipes differ in.

Recipes, targets, tables, verdicts, plans, audits and the report derive their lists from this one. A new study is one
row here, or one call of `register_study` from outside. No torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from reproduce.errors import InputError

BCE, CROSS_ENTROPY = "binary cross-entropy", "soft-target cross-entropy"
TWO_HEADS = "mean of verb's and noun's soft-target cross-entropy"
THREE_SEEDS, ONE_SEED = (0, 1, 2), (0,)
TOP1_TOP5 = {"top1": "top1", "top5": "top5"}


@dataclass(frozen=True, kw_only=True)
class ClipCount:
    """How many clips one part of a data set has.

    Args:
        part: what tables call it: "training", "test".
        splits: alternatives of split names that make up the part, in the order in which they are looked for.
        used: key of the paper's fact "so many clips could be used"; "" where the paper gives none.
        listed: key of the paper's fact "so many clips are listed"; "" where the paper gives none.
        published: clips in the data set's published lists, where the paper gives no number; 0 for none.
    """

    part: str
    splits: tuple[tuple[str, ...], ...]
    used: str = ""
    listed: str = ""
    published: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)  # one object per study: compared by identity
class PaperStudy:
    """One data set and variant on which the paper trains and tests both models.

    Args:
        dataset: registered name.
        variant: of the data set, "" where it has one only.
        targets: tables and figures that its runs fill, its own table first.
        metrics: column of its table in paper.json -> metric of the records.
        epochs_fact: key of the paper's number of epochs.
        loss: the training loss that the labels lead to.
        seeds: of the runs that a cell averages.
        clips: its training and test clips, in this order.
        sampler: see `Recipe.sampler`.
        crop: see `Recipe.crop`.
        test_crops: see `Recipe.test_crops`.
        demo_recipe: fields of a demo's recipe that this study sets, beside sampler, crop and averaging.
    """

    dataset: str
    variant: str = ""
    targets: tuple[str, ...]
    metrics: Mapping[str, str]
    epochs_fact: str
    loss: str
    seeds: tuple[int, ...]
    clips: tuple[ClipCount, ClipCount]
    sampler: str = "shuffle"
    crop: str = "first"
    test_crops: int = 1
    demo_recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """ "audioset balanced", or "vggsound" where there is one variant only."""
        return study_name(self.dataset, self.variant)

    @property
    def table(self) -> str:
        """The table that quotes its numbers."""
        return self.targets[0]


_STUDIES: dict[tuple[str, str], PaperStudy] = {}


def register_study(study: PaperStudy) -> PaperStudy:
    """Add a study; ValueError for a data set and variant that are registered."""
    key = (study.dataset, study.variant)
    if key in _STUDIES:
        raise ValueError(f"study {study.name!r} is registered twice")
    _STUDIES[key] = study
    return study


def paper_studies() -> tuple[PaperStudy, ...]:
    """Every study, in the order of registration."""
    return tuple(_STUDIES.values())


def paper_study(dataset: str, variant: str = "") -> PaperStudy:
    """The study of a data set and variant; InputError lists the known ones."""
    try:
        return _STUDIES[dataset, variant]
    except KeyError:
        known = ", ".join(study.name for study in paper_studies())
        raise InputError(f"the paper has no study of {study_name(dataset, variant)}: choose one of {known}") from None


def studies_of(target: str) -> tuple[PaperStudy, ...]:
    """The studies whose runs fill a table or figure; none for a target that needs no training."""
    return tuple(study for study in paper_studies() if target in study.targets)


def trained_targets() -> tuple[str, ...]:
    """Tables and figures that training runs fill, in the paper's order."""
    named = dict.fromkeys(target for study in paper_studies() for target in study.targets)
    return tuple(sorted(named, key=lambda target: (not target.startswith("table"), target)))


def study_name(dataset: str, variant: str) -> str:
    """ "audioset balanced", or "vggsound" where there is one variant only."""
    return f"{dataset} {variant}".rstrip()


_AUDIOSET_TEST = ClipCount(
    part="test", splits=(("eval",),), used="clips_audioset_test", listed="clips_listed_audioset_test"
)

register_study(
    PaperStudy(
        dataset="kinetics_sounds",
        variant="ks32",
        targets=("table2",),
        metrics=TOP1_TOP5,
        epochs_fact="epochs_kinetics_sounds",
        loss=CROSS_ENTROPY,
        seeds=THREE_SEEDS,
        clips=(
            ClipCount(part="training", splits=(("train",),), used="clips_kinetics_sounds_train"),
            ClipCount(part="test", splits=(("val",),), used="clips_kinetics_sounds_test"),
        ),
    )
)
register_study(
    PaperStudy(
        dataset="epic_kitchens",
        targets=("table4",),
        metrics={"verb": "verb_top1", "noun": "noun_top1", "action": "action_top1"},
        epochs_fact="epochs_epic_kitchens_100",
        loss=TWO_HEADS,
        seeds=THREE_SEEDS,
        # The paper gives 90,000 segments over all splits; these are the published lists.
        clips=(
            ClipCount(part="training", splits=(("train",),), published=67_217),
            ClipCount(part="test", splits=(("validation",),), published=9_668),
        ),
        crop="random",
        test_crops=4,
        demo_recipe={"test_crops": 2},
    )
)
register_study(
    PaperStudy(
        dataset="vggsound",
        targets=("table3", "table6", "figure2"),
        metrics=TOP1_TOP5,
        epochs_fact="epochs_vggsound",
        loss=CROSS_ENTROPY,
        seeds=ONE_SEED,
        clips=(
            ClipCount(part="training", splits=(("train",),), used="clips_vggsound_train"),
            ClipCount(part="test", splits=(("test",),), used="clips_vggsound_test"),
        ),
    )
)
register_study(
    PaperStudy(
        dataset="audioset",
        variant="balanced",
        targets=("table5", "ablations"),
        metrics={"balanced": "map"},
        epochs_fact="epochs_audioset_balanced",
        loss=BCE,
        seeds=THREE_SEEDS,
        clips=(
            ClipCount(
                part="balanced training",
                splits=(("balanced_train",),),
                used="clips_audioset_balanced",
                listed="clips_listed_audioset_balanced",
            ),
            _AUDIOSET_TEST,
        ),
    )
)
register_study(
    PaperStudy(
        dataset="audioset",
        variant="full",
        targets=("table5",),
        metrics={"full": "map"},
        epochs_fact="epochs_audioset_full",
        loss=BCE,
        seeds=ONE_SEED,
        # Table 5's "full" is taken to be balanced and unbalanced together; AST's authors made one list of both.
        clips=(
            ClipCount(
                part="full training",
                splits=(("balanced_train", "unbalanced_train"), ("whole_train",)),
                used="clips_audioset_full",
                listed="clips_listed_audioset_unbalanced",
            ),
            _AUDIOSET_TEST,
        ),
        sampler="balanced",
    )
)
