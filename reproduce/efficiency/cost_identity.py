"""What a cost depends on, and the recorded cost of the very same model and code. No torch here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from reproduce.experiments.model_names import is_other
from reproduce.keys import hash_key
from reproduce.machine import library_versions
from reproduce.records.measured_runs import CostRun
from reproduce.records.records import Records, latest
from reproduce.records.selection import PAPER_CLASSES, PAPER_INPUT

MODELS = Path(__file__).resolve().parents[2] / "models"
COUNTING_LIBRARIES = ("torch", "fvcore", "ptflops")
MODEL_LIBRARIES = ("torch", "timm", "transformers")  # of models that are not ours


def cost_experiment(
    model: str,
    model_config: Mapping[str, Any] | None = None,
    input_size: tuple[int, int] = PAPER_INPUT,
    num_classes: int | Mapping[str, int] = PAPER_CLASSES,
) -> dict[str, Any]:
    """Return what defines a cost, JSON-ready; the key of its record is the hash of this.

    Args:
        model: registered name.
        model_config: overrides of the model's config.
        input_size: (mels, frames).
        num_classes: of one head, or of each head by name.
    """
    return {
        "model": model,
        "model_config": json.loads(json.dumps(dict(model_config or {}))),
        "input_size": list(input_size),
        "num_classes": num_classes,
    }


def cost_code(experiment: Mapping[str, Any], models: Path = MODELS) -> str:
    """Hash a cost's config and the sources in `models`: equal hashes mean equal costs."""
    return hash_key({"experiment": experiment, "sources": _sources_sha256(models)})


@cache
def _sources_sha256(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def recorded_cost(records: Records, experiment: Mapping[str, Any], with_libraries: bool = False) -> CostRun | None:
    """Return the newest cost that was recorded of exactly this config by exactly today's models; None without one.

    Args:
        records: the stored measurements.
        experiment: see `cost_experiment`.
        with_libraries: it must hold the counts of the installed versions of the counting libraries too.
    """
    code = cost_code(experiment)
    found = [run for run in records.of_kind(CostRun) if run.code == code]
    if with_libraries:
        found = [run for run in found if run.libraries and _same_versions(run, COUNTING_LIBRARIES)]
    if is_other(str(experiment["model"])):
        found = [run for run in found if _same_versions(run, MODEL_LIBRARIES)]
    return latest(found)


def _same_versions(run: CostRun, libraries: Iterable[str]) -> bool:
    installed = library_versions(libraries)
    return installed == {name: run.environment.libraries.get(name) for name in installed}
