"""Convert stored records to typed runs. Only this module depends on the stored names. No torch here.

It also reads older records:

- Records before November 2026 have no `multilabel`: such a run is multi-label if it has no top-1 score.
- Older shapes, cost items and problems are lists of values in a fixed order, newer ones are objects with names.
- A recipe omits newer fields at their defaults; a removed field (`roll`) is ignored.
- Older records name processors of different models alike, and tell the model in a text of its own.
- Records whose key is of version 1 have no hashes of the sound: `content` is empty.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

from reproduce.audio.spec import AudioSpec
from reproduce.datasets.index import Problem
from reproduce.errors import InputError
from reproduce.experiments.conditions import Condition
from reproduce.experiments.experiment import KEY_VERSION
from reproduce.experiments.recipe import Recipe
from reproduce.machine import processor_name
from reproduce.records.condition_runs import CONDITION_KINDS, ConditionsRun
from reproduce.records.measured_runs import BlockShape, CostItem, CostRun, InspectionRun, ScalingRun, SpeedRun
from reproduce.records.record import RunRecord, whole_number
from reproduce.records.runs import BaselineRun, ClusteringRun, Environment, Run, SearchRun, TrainedRun

Named = TypeVar("Named")
CONTENT = ("train_content_sha256", "test_content_sha256")  # in a record's `dataset`
KEPT_ITEMS = 4096  # items of costs; a model has some 300
NOT_IDENTITY = ("clusters",)  # depends on the features, so it is unknown before they are read


def read_run(record: RunRecord) -> Run:
    """Convert a stored record to a typed run.

    Raises:
        InputError: the record lacks a field of its kind; the message names the record's key and kind.
    """
    try:
        return READERS[record.kind](record)
    except KeyError as error:
        what = "a kind that this version does not read" if record.kind not in READERS else f"no field {error}"
        raise InputError(f"record {record.key} ({record.kind}) has {what}: delete its line, or restore it") from None
    except (TypeError, ValueError, AttributeError, IndexError, ArithmeticError) as error:
        raise InputError(
            f"record {record.key} ({record.kind}) is damaged ({error}): delete its line, or restore it"
        ) from None


def read_runs(records: Iterable[RunRecord]) -> list[Run]:
    """Convert stored records to typed runs, in their order; raises as `read_run`."""
    return [read_run(record) for record in records]


class _Metrics(dict[str, float]):
    """The metrics of a record. InputError names the record where one is asked for that it lacks."""

    def __init__(self, key: str, values: Mapping[str, float]) -> None:
        super().__init__(values)
        self.key = key

    def __missing__(self, name: str) -> float:
        raise InputError(f"record {self.key}: {name} is missing: measure it again, or delete its line")


def _run(record: RunRecord) -> dict[str, Any]:
    return {
        "key": _text(record.key),
        "scale": _text(record.scale),
        "metrics": _Metrics(
            record.key, {name: math.nan if value is None else float(value) for name, value in record.metrics.items()}
        ),
        "environment": _environment(record.environment),
        "seed": _whole(record.seed or 0),
        "created": _utc(record.created),
        "wall_time_s": float(record.wall_time_s),
        "weights_sha256": record.weights_sha256,
        "predictions": record.predictions,
        "record": record,
    }


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r:.40} where a text should be")
    return value


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{value!r:.40} where a whole number should be")
    return value


def _utc(created: Any) -> str:
    """The time of writing in UTC, so that times compare as texts; one without a zone is taken as UTC."""
    time = datetime.fromisoformat(_text(created)) if created else datetime.fromtimestamp(0, UTC)
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).astimezone(UTC).isoformat()


def _device(stored: Mapping[str, Any]) -> str:
    """The name of the GPU or the processor."""
    device = str(stored.get("device") or "")
    return processor_name(str(stored.get("processor") or device)) if stored.get("device_type") == "cpu" else device


def _environment(stored: Mapping[str, Any]) -> Environment:
    return Environment(
        device=_device(stored),
        device_type=str(stored.get("device_type", "")),
        precision=str(stored.get("precision") or ""),
        torch_threads=whole_number(stored.get("torch_threads") or 0),
        attention=str(stored.get("attention") or ""),
        processes=whole_number(stored.get("processes") or 1),
        compiled=bool(stored.get("compile", False)),
        onednn_float32=bool(stored.get("onednn_float32", False)),
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
        **{name: whole_number(data.get(name, 0)) for name in ("listed", "kept", "missing")},
        **{name: whole_number(data.get(name, 0)) for name in ("train_kept", "test_kept", "test_listed")},
        **{name: str(data.get(name, "")) for name in ("train_sha256", "test_sha256")},
        "content": tuple(str(data[name]) for name in CONTENT) if data.get("key_version", 1) >= KEY_VERSION else (),
        "corpus": str(data.get("corpus", "")),
    }


def _scored(record: RunRecord) -> dict[str, Any]:
    experiment, data = record.experiment, record.dataset
    return {
        "train_splits": _texts(experiment["train_splits"]),
        "test_splits": _texts(experiment["test_splits"]),
        "front_end": AudioSpec.from_dict(experiment["front_end"]),
        "multilabel": _is_multilabel(record),
        "unit": str(data.get("unit", "clip")),
        "problems": tuple(_named(Problem, problem, _PROBLEM) for problem in data.get("problems", ())),
    }


def _baseline(record: RunRecord) -> BaselineRun:
    majority = record.details.get("majority", {})
    return BaselineRun(
        **_run(record),
        **_model(record),
        **_data(record),
        **_scored(record),
        majority={_text(head): _text(name) for head, name in majority.items()},
    )


def _trained(record: RunRecord, kind: type[TrainedRun]) -> TrainedRun:
    experiment = record.experiment
    _check_counts(record.metrics)
    return kind(
        **_run(record),
        **_model(record),
        **_data(record),
        **_scored(record),
        recipe=_recipe(experiment["recipe"]),
        weights=str(experiment.get("weights", "scratch")),
        history=tuple(record.history),
        last=record.details.get("last"),
        averaged=record.details.get("averaged"),
        best=record.details.get("best"),
        normalise=_text(experiment.get("normalise", "")),
        val_splits=_texts(experiment.get("val_splits", ())),
    )


def _check_counts(metrics: Mapping[str, float | int | None]) -> None:
    """Raise ValueError unless each stored number of correct clips is one of the clips."""
    clips = metrics.get("clips")
    for correct in (value for name, value in metrics.items() if name.endswith("correct")):
        if not isinstance(correct, int) or not isinstance(clips, int) or not 0 <= correct <= clips:
            raise ValueError(f"{correct!r:.20} of {clips!r:.20} clips correct")


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
    experiment, coordinates, clips = record.experiment, record.details.get("coordinates"), record.details.get("clips")
    return ClusteringRun(
        **_run(record),
        **_model(record),
        **_data(record),
        of=str(experiment["of"]),
        of_predictions=experiment["predictions"],
        protocol=str(experiment["protocol"]),
        coordinates=None if coordinates is None else Path(coordinates),
        clips_file=None if clips is None else Path(clips),
        identity=clustering_identity(experiment),
    )


def clustering_identity(experiment: Mapping[str, Any]) -> str:
    """Return what defines a clustering before its features are read, as sorted JSON."""
    return json.dumps({k: v for k, v in experiment.items() if k not in NOT_IDENTITY}, sort_keys=True)


def _cost(record: RunRecord) -> CostRun:
    experiment, details = record.experiment, record.details
    return CostRun(
        **_run(record),
        **_model(record),
        input_size=_size(experiment["input_size"]),
        num_classes=experiment["num_classes"],
        shapes=tuple(_named(BlockShape, shape, _SHAPE) for shape in details.get("shapes", ())),
        items=tuple(map(_item, details.get("items", ()))),
        libraries={_text(name): _number(macs) for name, macs in details.get("libraries", {}).items()},
        code=str(details.get("code", "")),
    )


def read_scaling(record: RunRecord) -> ScalingRun:
    """Convert a stored scaling record to a typed run.

    Raises:
        KeyError: the record lacks a field.
    """
    experiment, details = record.experiment, record.details
    return ScalingRun(
        **_run(record),
        **_model(record),
        seconds=float(experiment["seconds"]),
        input_size=_size(experiment["input_size"]),
        batch=whole_number(experiment.get("batch", 1)),
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


def _conditions(record: RunRecord, kind: type[ConditionsRun]) -> ConditionsRun:
    experiment = record.experiment
    return kind(
        **_run(record),
        **_model(record),
        **_data(record),
        of=_text(experiment["of"]),
        test_splits=_texts(experiment["test_splits"]),
        conditions=tuple(Condition(_text(c["kind"]), float(c["level"])) for c in experiment["conditions"]),
        outcomes=_text(record.details["outcomes"]),
    )


def _named(kind: Callable[..., Named], stored: Any, fields: _Fields) -> Named:
    """Build `kind` from an object with `fields`, or from an older list of values in their order."""
    values = stored if isinstance(stored, Mapping) else dict(zip(fields, stored, strict=True))
    return kind(**{name: read(values[name]) for name, read in fields.items() if name in values})


def _item(stored: Any) -> CostItem:
    """An item of a cost: an object, or in older records a list of its values."""
    values = [stored[name] for name in ("block", "kind", "macs")] if isinstance(stored, Mapping) else stored
    return _cost_item(*values)


@lru_cache(maxsize=KEPT_ITEMS, typed=True)
def _cost_item(block: Any, kind: Any, macs: Any) -> CostItem:
    """One object for equal items: records of the same models by other code repeat nearly all of them."""
    return CostItem(block=_text(block), kind=_text(kind), macs=_number(macs))


def _number(stored: Any) -> float:
    """A stored number. Raises TypeError for anything else."""
    if type(stored) not in (int, float):
        raise TypeError(f"{stored!r:.40} where a number should be")
    return stored  # type: ignore[no-any-return]


def _size(stored: Any) -> tuple[int, int]:
    mels, frames = stored
    return int(mels), int(frames)


_Fields = Mapping[str, Callable[[Any], Any]]
_SHAPE: _Fields = {
    "block": _text, "tokens": _number, "freq": _number, "time": _number, "width": _number, "prefix_tokens": _number,
}  # fmt: skip
_PROBLEM: _Fields = {"clip_id": _text, "reason": _text, "fatal": bool, "message": _text}
READERS: Mapping[str, Callable[[RunRecord], Run]] = {
    "train": lambda record: _trained(record, TrainedRun),
    "search": lambda record: _trained(record, SearchRun),
    "baseline": _baseline,
    "cost": _cost,
    "scaling": read_scaling,
    "speed": _speed,
    "clustering": _clustering,
    "inspection": _inspection,
    **{name: partial(_conditions, kind=kind) for name, kind in CONDITION_KINDS.items()},
}
