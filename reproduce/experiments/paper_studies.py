"""Register the paper's studies: data set, variant, tables, metrics, clip counts and the differences of their recipes.

Recipes, targets, tables, verdicts, plans, audits and the report use this list. To add a study, call `register_study`.
No torch here.
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
    """The number of clips in one part of a data set.

    Args:
        part: name of the part in tables: "training", "test".
        splits: alternatives of split names that make up the part; the first alternative that the data list counts.
        used: key of the paper's fact on usable clips; "" where the paper gives none.
        listed: key of the paper's fact on listed clips; "" where the paper gives none.
        published: clips in the data set's published lists, for parts without a number in the paper; else 0.
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
        variant: variant of the data set; "" for a data set with only one.
        targets: tables and figures that the runs fill; the first is the table that quotes the study's numbers.
        metrics: column of that table in paper.json -> metric of the records.
        epochs_fact: key of the paper's number of epochs.
        loss: training loss, which follows from the labels.
        seeds: seeds of the runs that a cell averages.
        clips: training and test clips, in this order.
        batch_size: clips per step, which the paper leaves open; `provenance` gives the reason.
        sampler: see `Recipe.sampler`.
        crop: see `Recipe.crop`.
        test_crops: see `Recipe.test_crops`.
        demo_recipe: further fields of a demo's recipe, besides sampler, crop and averaging.
    """

    dataset: str
    variant: str = ""
    targets: tuple[str, ...]
    metrics: Mapping[str, str]
    epochs_fact: str
    loss: str
    seeds: tuple[int, ...]
    clips: tuple[ClipCount, ClipCount]
    batch_size: int = 64
    sampler: str = "shuffle"
    crop: str = "first"
    test_crops: int = 1
    demo_recipe: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """See `study_name`."""
        return study_name(self.dataset, self.variant)

    @property
    def table(self) -> str:
        """The table that quotes the study's numbers."""
        return self.targets[0]


_STUDIES: dict[tuple[str, str], PaperStudy] = {}


def register_study(study: PaperStudy) -> PaperStudy:
    """Register a study and return it.

    Raises:
        ValueError: the data set and variant are already registered.
    """
    key = (study.dataset, study.variant)
    if key in _STUDIES:
        raise ValueError(f"study {study.name!r} is registered twice")
    _STUDIES[key] = study
    return study


def paper_studies() -> tuple[PaperStudy, ...]:
    """Return every study, in the order of registration."""
    return tuple(_STUDIES.values())


def paper_study(dataset: str, variant: str = "") -> PaperStudy:
    """Return the study of a data set and variant.

    Raises:
        InputError: an unknown study; the message lists the known ones.
    """
    try:
        return _STUDIES[dataset, variant]
    except KeyError:
        known = ", ".join(study.name for study in paper_studies())
        raise InputError(f"the paper has no study of {study_name(dataset, variant)}: choose one of {known}") from None


def studies_of(target: str) -> tuple[PaperStudy, ...]:
    """Return the studies whose runs fill a table or figure; none for a target that needs no training."""
    return tuple(study for study in paper_studies() if target in study.targets)


def trained_targets() -> tuple[str, ...]:
    """Return the tables and figures that training runs fill, in the paper's order."""
    named = dict.fromkeys(target for study in paper_studies() for target in study.targets)
    return tuple(sorted(named, key=lambda target: (not target.startswith("table"), target)))


def study_name(dataset: str, variant: str) -> str:
    """Return the name in messages: "audioset balanced", or "vggsound" for a data set without variants."""
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
        # The paper gives 90,000 segments over all splits; these numbers are those of the published lists.
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
        batch_size=12,
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
        batch_size=12,
        loss=BCE,
        seeds=ONE_SEED,
        # "full" in Table 5 means balanced and unbalanced clips together; AST's authors made one list of both.
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
