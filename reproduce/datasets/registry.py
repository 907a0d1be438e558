"""The data sets that can be read, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from reproduce.audio.spec import AUDIOSET_MEAN, AUDIOSET_STD
from reproduce.datasets.index import ClipIndex
from reproduce.errors import InputError


def clip_itself(clip_id: str) -> str:
    """The unit of resampling of a data set whose clips are independent."""
    return clip_id


@dataclass(frozen=True, kw_only=True)
class DatasetSpec:
    """One data set, or one format of a user's own data.

    Args:
        name: what the user types, e.g. "esc50".
        title: what a table prints.
        read: `read(root, **options) -> ClipIndex`; raises InputError when the layout itself is wrong.
        clip_seconds: usual length of a clip.
        mean: of log-mels, for `(x - mean) / (2 * std)`.
        std: of log-mels.
        stats_source: where mean and std come from.
        train_splits: split names of the fixed split; empty where the data set has folds.
        test_splits: split names of the fixed split; empty where the data set has folds.
        variants: what `read(root, variant=...)` accepts, the default first; empty where there is one only.
        unit: what is drawn when a score is resampled: "video", "recording" or "clip"; see `ClipIndex.unit`.
        group_of: clip id -> id of its unit, for results that were stored without groups.
        names_paths: whether its lists may name files or folders anywhere: `read` takes `follow_outside`.
    """

    name: str
    title: str
    read: Callable[..., ClipIndex]
    clip_seconds: float = 10.0
    mean: float = AUDIOSET_MEAN
    std: float = AUDIOSET_STD
    stats_source: str = "AudioSet, YuanGongND/ast egs/audioset"
    train_splits: tuple[str, ...] = ("train",)
    test_splits: tuple[str, ...] = ("test",)
    variants: tuple[str, ...] = ()
    unit: str = "clip"
    group_of: Callable[[str], str] = clip_itself
    names_paths: bool = False


_SPECS: dict[str, DatasetSpec] = {}


def register_dataset(spec: DatasetSpec) -> DatasetSpec:
    """Make `spec` known by its name; ValueError for a name that is taken."""
    if spec.name in _SPECS:
        raise ValueError(f"dataset {spec.name!r} is registered twice")
    _SPECS[spec.name] = spec
    return spec


def dataset_spec(name: str) -> DatasetSpec:
    """The spec called `name`; InputError lists the known names."""
    try:
        return _SPECS[name]
    except KeyError:
        raise InputError(f"unknown dataset {name!r}: choose one of {', '.join(sorted(_SPECS))}") from None


def list_datasets() -> list[str]:
    """Names of all data sets, sorted."""
    return sorted(_SPECS)
