"""A collection of runs, and its conversion to a DataFrame. No torch here; pandas is imported late."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from reproduce.records.measured_runs import CostRun, ScalingRun, SpeedRun
from reproduce.records.reading import read_runs
from reproduce.records.record import RunRecord
from reproduce.records.runs import ClusteringRun, DataRun, ModelRun, Run, TrainedRun

if TYPE_CHECKING:
    import pandas

AnyRun = TypeVar("AnyRun", bound=Run)

# Columns of `to_frame` before the metrics, with their pandas types. README documents them.
COLUMNS: Mapping[str, str] = {
    "kind": "string",
    "key": "string",
    "scale": "string",
    "model": "string",
    "family": "string",
    "size": "string",
    "model_config": "string",  # JSON
    "dataset": "string",
    "variant": "string",
    "standin": "boolean",
    "multilabel": "boolean",
    "recipe_name": "string",
    "weights": "string",
    "fold": "string",
    "seed": "Int64",
    "epochs": "Int64",
    "batch_size": "Int64",
    "lr": "Float64",
    "input_mels": "Int64",
    "input_frames": "Int64",
    "train_kept": "Int64",
    "test_kept": "Int64",
    "test_listed": "Int64",
    "protocol": "string",
    "seconds": "Float64",
    "bench": "string",
    "candidate": "string",
    "mode": "string",
    "batch": "Int64",
    "failure": "string",
    "device": "string",
    "threads": "Int64",
    "precision": "string",
    "attention": "string",
    "commit": "string",
    "wall_time_s": "Float64",
    "created": "datetime64[us, UTC]",
}


@dataclass(frozen=True, eq=False)
class Records:
    """Measurements that were loaded together. A collection equals only itself, so that results for it can be cached.

    Args:
        runs: typed runs, in the order of the files.
    """

    runs: tuple[Run, ...] = ()

    @classmethod
    def of(cls, records: Iterable[RunRecord]) -> Records:
        """Convert stored records.

        Raises:
            InputError: a record lacks a field of its kind.
        """
        return cls(tuple(read_runs(records)))

    def __iter__(self) -> Iterator[Run]:
        return iter(self.runs)

    def __len__(self) -> int:
        return len(self.runs)

    def of_kind(self, kind: type[AnyRun]) -> tuple[AnyRun, ...]:
        """Return the runs of exactly this class: `TrainedRun` excludes `SearchRun`."""
        return tuple(run for run in self.runs if type(run) is kind)

    def newest(self, kind: type[AnyRun]) -> tuple[AnyRun, ...]:
        """Return the newest run of each key, of exactly this class, in the order in which the keys first appear.

        A repeated measurement replaces the earlier one in tables; the files keep both. Likewise a run whose key covers
        the sound replaces an earlier run on the same clips whose key is of version 1.
        """
        newest: dict[str, AnyRun] = {}
        for run in self.of_kind(kind):
            if run.key not in newest or run.created >= newest[run.key].created:
                newest[run.key] = run
        trained = (run for run in newest.values() if isinstance(run, TrainedRun))
        repeated = {run.names_key: run.created for run in trained if run.content}
        return tuple(run for key, run in newest.items() if key not in repeated or run.created > repeated[key])

    @cached_property
    def frame(self) -> pandas.DataFrame:
        """The runs as a DataFrame; see `to_frame`."""
        return to_frame(self.runs)


def latest(runs: Iterable[AnyRun]) -> AnyRun | None:
    """Return the newest run, None for no runs; of two with the same time, the later in the file."""
    newest = None
    for run in runs:
        if newest is None or run.created >= newest.created:
            newest = run
    return newest


def to_frame(runs: Iterable[Run]) -> pandas.DataFrame:
    """Convert runs to a DataFrame: the columns of `COLUMNS`, then one float column per metric, one row per run.

    Values that a kind of run does not have are missing.
    """
    import pandas

    runs = list(runs)
    frame = pandas.DataFrame([_row(run) for run in runs], columns=list(COLUMNS)).astype(
        {name: dtype for name, dtype in COLUMNS.items() if name != "created"}
    )
    frame["created"] = pandas.to_datetime(frame["created"], utc=True, errors="coerce", format="ISO8601").dt.as_unit(
        "us"
    )
    named = ({_encodable(name): value for name, value in run.metrics.items()} for run in runs)
    metrics = pandas.DataFrame(named, index=frame.index)
    metrics.columns = [f"{name}_metric" if name in COLUMNS else name for name in metrics.columns]
    return frame.join(metrics.astype("float64"))


def _row(run: Run) -> dict[str, Any]:
    environment = run.environment
    row: dict[str, Any] = {
        "kind": run.kind,
        "key": run.key,
        "scale": run.scale,
        "seed": run.record.seed,
        "device": environment.device or None,
        "threads": environment.torch_threads or None,
        "precision": environment.precision or None,
        "attention": environment.attention or None,
        "commit": environment.commit or None,
        "wall_time_s": run.wall_time_s,
        "created": run.created,
    }
    if isinstance(run, ModelRun):
        row |= {"model": run.model, "family": run.family, "size": run.size, "model_config": run.config_key}
    if isinstance(run, DataRun):
        row |= {name: getattr(run, name) for name in ("dataset", "variant", "recipe_name")}
        row |= {name: getattr(run, name) for name in ("train_kept", "test_kept", "test_listed")}
        row["standin"] = run.standin is not None
    if isinstance(run, TrainedRun):
        row |= {name: getattr(run, name) for name in ("multilabel", "weights", "fold", "epochs", "lr")}
        row |= {"input_mels": run.front_end.mels, "input_frames": run.front_end.frames}
        row["batch_size"] = run.recipe.batch_size
    if isinstance(run, (CostRun, ScalingRun)):
        row |= dict(zip(("input_mels", "input_frames"), run.input_size, strict=True))
    if isinstance(run, ScalingRun):
        row |= {"seconds": run.seconds, "batch": run.batch, "mode": "inference", "failure": run.failure}
    if isinstance(run, SpeedRun):
        row |= {name: getattr(run, name) or None for name in ("bench", "candidate", "mode", "batch", "failure")}
        row["precision"] = run.precision
        row["seconds"] = run.conditions.get("seconds")
    if isinstance(run, ClusteringRun):
        row["protocol"] = run.protocol
    return {name: _encodable(value) for name, value in row.items()}


def _encodable(value: Any) -> Any:
    """A text with escapes for what UTF-8 cannot hold, as Arrow holds UTF-8 alone; any other value as it is."""
    return value.encode(errors="backslashreplace").decode() if isinstance(value, str) else value
