"""Typed runs of trained models that are tested again under other conditions. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from reproduce.experiments.conditions import Condition
from reproduce.records.runs import DataRun


@dataclass(frozen=True, kw_only=True)
class ConditionsRun(DataRun):
    """A trained run whose test clips were scored under several conditions; its metrics are top-1 by condition's name.

    Args:
        of: key of the trained run.
        test_splits: splits or folds of the scored clips.
        conditions: in the order of the stored outcomes.
        outcomes: file of the outcomes, relative to the records' folder.
    """

    of: str
    test_splits: tuple[str, ...]
    conditions: tuple[Condition, ...]
    outcomes: str


@dataclass(frozen=True, kw_only=True)
class RobustnessRun(ConditionsRun):
    """Test clips with noise, through a low-pass, or shifted in time."""

    kind: ClassVar[str] = "robustness"


@dataclass(frozen=True, kw_only=True)
class TransferRun(ConditionsRun):
    """Test clips of other lengths than the training clips'."""

    kind: ClassVar[str] = "transfer"


CONDITION_KINDS: Mapping[str, type[ConditionsRun]] = {kind.kind: kind for kind in (RobustnessRun, TransferRun)}
