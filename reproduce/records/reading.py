"""From stored records to typed runs: the only place that knows the stored names, today's and older ones. No torch here.

Older forms that are still read:

- `multilabel` was not stored before November 2026: a run is multi-label if it has no top-1 score.
- Shapes, cost items and problems were lists of values in a fixed order before they were objects with names.
- Fields of a recipe that were added later are absent at their defaults; a removed field (`roll`) is ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

from reproduce.audio.spec import AudioSpec
from reproduce.datasets.index import Problem
from reproduce.errors import InputError
from reproduce.experiments.recipe import Recipe
from reproduce.records.record import RunRecord
from reproduce.records.runs import (
    BlockShape,
    ClusteringRun,
    CostItem,
    CostRun,
    Environment,
    InspectionRun,
    Run,
    ScalingRun,
    SearchRun,
    SpeedRun,
    TrainedRun,
)

Named = TypeVar("Named")
NOT_IDENTITY = ("clusters",)  # follows from the features, so it is unknown before they are read


def read_run(record: RunRecord) -> Run:
    """The typed view of a stored record.

    Raises:
        InputError: the record lacks what its kind needs; the message names the record's key and kind.
    """
    try:
        return READERS[record.kind](record)
    except KeyError as error:
        what = "a kind that this version does not read" if record.kind not in READERS else f"no field {error}"
        raise InputError(f"record {record.key} ({record.kind}) has {what}: delete its line, or restore it") from None
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        raise InputError(
            f"record {record.key} ({record.kind}) is damaged ({error}): delete its line, or restore it"
        ) from None


def read_runs(records: Iterable[RunRecord]) -> list[Run]:
    """The typed views of stored records, in their order; see `read_run`."""
    return [read_run(record) for record in records]


def _run(record: RunRecord) -> dict[str, Any]:
    return {
        "key": record.key,
        "scale": record.scale,
        "metrics": {name: math.nan if value is None else float(value) for name, value in record.metrics.items()},
        "environment": _environment(record.environment),
        "seed": record.seed or 0,
        "created": record.created,
        "wall_time_s": record.wall_time_s,
        "weights_sha256": record.weights_sha256,
        "predictions": record.predictions,
        "record": record,
    }


def _environment(stored: Mapping[str, Any]) -> Environment:
    return Environment(
        device=str(stored.get("device", "")),
        device_type=str(stored.get("device_type", "")),
        precision=str(stored.get("precision") or ""),
        torch_threads=int(stored.get("torch_threads") or 0),
        attention=str(stored.get("attention") or ""),
        processes=int(stored.get("processes") or 1),
        commit=str(stored.get("commit") or ""),
        libraries=dict(stored.get("libraries", {})),
        busy=bool(stored.get("busy", False)),
        facts=dict(stored),
    )


def _model(record: RunRecord) -> dict[str, Any]:
    experiment = record.experiment
    return {"model": str(experiment["model"]), "model_config": dict(experiment.get("model_config", {}))}


def _data(record: RunRecord) -> dict[str, Any]:
    data = record.dataset
    return {
        "dataset": str(data["name"]),
        "variant": str(data.get("protocol", "")),
        "standin": data.get("standin"),
        "recipe_name": str(record.experiment.get("recipe_name", "")),
        "classes": {head: _texts(names) for head, names in data["classes"].items()},
        **{name: int(data.get(name, 0)) for name in ("listed", "kept", "missing")},
        **{name: int(data.get(name, 0)) for name in ("train_kept", "test_kept", "test_listed")},
        **{name: str(data.get(name, "")) for name in ("train_sha256", "test_sha256")},
    }


def _trained(record: RunRecord, kind: type[TrainedRun]) -> TrainedRun:
    experiment, data = record.experiment, record.dataset
    return kind(
        **_run(record),
        **_model(record),
        **_data(record),
        train_splits=_texts(experiment["train_splits"]),
        test_splits=_texts(experiment["test_splits"]),
        front_end=AudioSpec.from_dict(experiment["front_end"]),
        recipe=_recipe(experiment["recipe"]),
        weights=str(experiment.get("weights", "scratch")),
        multilabel=_is_multilabel(record),
        unit=str(data.get("unit", "clip")),
        problems=tuple(_named(Problem, p, ("clip_id", "reason", "fatal", "message")) for p in data.get("problems", ())),
        history=tuple(record.history),
        last=record.details.get("last"),
        averaged=record.details.get("averaged"),
        best=record.details.get("best"),
    )


def _texts(stored: Any) -> tuple[str, ...]:
    """A stored list of texts; TypeError for anything else."""
    if not isinstance(stored, (list, tuple)) or not all(isinstance(text, str) for text in stored):
        raise TypeError(f"not a list of texts: {str(stored)[:60]}")
    return tuple(stored)


def _recipe(stored: Mapping[str, Any]) -> Recipe:
    """The recipe; TypeError for a value that is of another type than its field."""
    recipe = Recipe.from_dict(stored)
    for field in fields(Recipe):
        value = getattr(recipe, field.name)
        if field.type in ("int", "float") and not (isinstance(value, (int, float)) and math.isfinite(value)):
            raise TypeError(f"recipe.{field.name} is {type(value).__name__}, not a number")
    hash(recipe)
    return recipe


def _is_multilabel(record: RunRecord) -> bool:
    stored = record.dataset.get("multilabel")
    return bool(stored) if stored is not None else not any(name.endswith("top1") for name in record.metrics)


def _clustering(record: RunRecord) -> ClusteringRun:
    experiment, coordinates = record.experiment, record.details.get("coordinates")
    return ClusteringRun(
        **_run(record),
        **_model(record),
        **_data(record),
        of=str(experiment["of"]),
        of_predictions=experiment["predictions"],
        protocol=str(experiment["protocol"]),
        coordinates=None if coordinates is None else Path(coordinates),
        identity=clustering_identity(experiment),
    )


def clustering_identity(experiment: Mapping[str, Any]) -> str:
    """What defines a clustering before its features are read, as sorted JSON."""
    return json.dumps({k: v for k, v in experiment.items() if k not in NOT_IDENTITY}, sort_keys=True)


def _cost(record: RunRecord) -> CostRun:
    experiment, details = record.experiment, record.details
    shape_fields = ("block", "tokens", "freq", "time", "width", "prefix_tokens")
    return CostRun(
        **_run(record),
        **_model(record),
        input_size=_size(experiment["input_size"]),
        num_classes=experiment["num_classes"],
        shapes=tuple(_named(BlockShape, shape, shape_fields) for shape in details.get("shapes", ())),
        items=tuple(_named(CostItem, item, ("block", "kind", "macs")) for item in details.get("items", ())),
        libraries=dict(details.get("libraries", {})),
    )


def read_scaling(record: RunRecord) -> ScalingRun:
    """The typed view of a stored scaling record."""
    experiment, details = record.experiment, record.details
    return ScalingRun(
        **_run(record),
        **_model(record),
        seconds=float(experiment["seconds"]),
        input_size=_size(experiment["input_size"]),
        batch=int(experiment.get("batch", 1)),
        reference=str(details.get("reference", "")),
        failure=details.get("failure"),
    )


def _speed(record: RunRecord) -> SpeedRun:
    experiment = record.experiment
    names = ("bench", "contender", "contenders")
    if experiment["contender"] not in experiment["contenders"]:
        raise ValueError("its contender is not among its contenders")
    return SpeedRun(
        **_run(record),
        bench=str(experiment["bench"]),
        candidate=str(experiment["contender"]),
        candidates=tuple(experiment["contenders"]),
        conditions={name: value for name, value in experiment.items() if name not in names},
        failure=record.details.get("failure"),
    )


def _inspection(record: RunRecord) -> InspectionRun:
    experiment = record.experiment
    return InspectionRun(
        **_run(record),
        **_model(record),
        sound=str(experiment["sound"]),
        front_end=AudioSpec.from_dict(experiment["front_end"]),
        trained_on=tuple(experiment["trained_on"]),
    )


def _named(kind: Callable[..., Named], stored: Any, names: tuple[str, ...]) -> Named:
    """`stored` as a value with names: an object by name, or an older list of values in the order of `names`."""
    values = stored if isinstance(stored, Mapping) else dict(zip(names, stored, strict=True))
    return kind(**values)


def _size(stored: Any) -> tuple[int, int]:
    mels, frames = stored
    return int(mels), int(frames)


READERS: Mapping[str, Callable[[RunRecord], Run]] = {
    "train": lambda record: _trained(record, TrainedRun),
    "search": lambda record: _trained(record, SearchRun),
    "cost": _cost,
    "scaling": read_scaling,
    "speed": _speed,
    "clustering": _clustering,
    "inspection": _inspection,
}
