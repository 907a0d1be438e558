"""The commands that are killed, what each is given, and what two of its runs must share."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from reproduce.records.store import load_records

UNCOUNTED = (".tmp", ".lock", ".torn", "lock", ".sqlite")  # leftovers and caches that carry no result
TIMED = ("_per_s", "_share", "_s")  # ends of names of values that differ from run to run
EPOCHS = 3
CLIPS = "12"  # of a stand-in


@dataclass(frozen=True, kw_only=True)
class Places:
    """Folders of one run of a command.

    Args:
        data: sounds in ESC-50's layout.
        trained: a finished training: `records/`, `runs/`.
        out: of the command's results.
    """

    data: Path
    trained: Path
    out: Path


def _no_preparation(places: Places) -> None:
    pass


@dataclass(frozen=True, kw_only=True)
class Killed:
    """A command to be killed.

    Args:
        name: in the table of counts.
        arguments: of the function, given the folders.
        result: of a finished command, by name; hashes of files by their names in `out`.
        function: "MODULE:NAME" that runs the command.
        prepare: fills `out` before the command runs.
        growing: files that a killed command may leave other than a finished one does.
        epochs: of the debug preset; 0 where nothing is trained.
        needs_training: whether it uses a finished training.
    """

    name: str
    arguments: Callable[[Places], list[str]]
    result: Callable[[Path], Mapping[str, str]]
    function: str = "reproduce.__main__:main"
    prepare: Callable[[Places], None] = _no_preparation
    growing: tuple[str, ...] = ()
    epochs: int = 0
    needs_training: bool = False


# --- results ----------------------------------------------------------------------------------------------------------


def files(out: Path) -> dict[str, str]:
    """The hash of every file that is a result."""
    return {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(out.rglob("*"))
        if path.is_file() and not path.name.endswith(UNCOUNTED)
    }


def _trained(out: Path) -> dict[str, str]:
    """Records without times, predictions, weights, and what else is left in the folders of the runs."""
    result: dict[str, str] = {}
    for run in load_records(out / "records"):
        record = run.record
        assert record.predictions is not None
        with np.load(out / "records" / record.predictions) as stored:
            predictions = hashlib.sha256(b"".join(stored[name].tobytes() for name in sorted(stored.files)))
        values = {
            "experiment": record.experiment,
            "metrics": _untimed(record.metrics),
            "history": [_untimed(epoch) for epoch in record.history],
            "weights": record.weights_sha256,
            "data": record.dataset,
            "predictions": predictions.hexdigest(),
        }
        again = sum(name.startswith(f"record {record.key}") for name in result)
        result[f"record {record.key}{' again' * again}"] = json.dumps(values, sort_keys=True)
    for path in sorted((out / "runs").rglob("*")):
        if path.suffix in (".safetensors", ".pt"):
            result[path.relative_to(out).as_posix()] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.name == "epochs.jsonl":
            result[path.parent.name] = f"{len(path.read_text().splitlines())} epochs"
    return result


def _untimed(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if not name.endswith(TIMED)}


def _measured(out: Path) -> dict[str, str]:
    """The keys of the records: times differ."""
    return {run.key: run.kind for run in load_records(out / "records")}


# --- commands ---------------------------------------------------------------------------------------------------------


def _train(*options: str) -> Callable[[Places], list[str]]:
    def arguments(places: Places) -> list[str]:
        folders = ["--records", str(places.out / "records"), "--runs", str(places.out / "runs")]
        preset = ["--preset", "debug", "--folds", "1", "--device", "cpu", "--log-with", "none"]
        often = ["--checkpoint-minutes", "1e-9"]
        return ["esc50", "--data", f"esc50={places.data}", *preset, *often, *folders, *options]

    return arguments


def _copy_records(places: Places) -> None:
    shutil.copytree(places.trained / "records", places.out / "records", dirs_exist_ok=True)


def _table(places: Places) -> list[str]:
    folders = ["--records", str(places.out / "records"), "--runs", str(places.out / "runs")]
    return ["esc50", "--data", f"esc50={places.data}", "--preset", "debug", "--folds", "1", "--run", "none", *folders]


def _embed(places: Places) -> list[str]:
    model = min((places.trained / "runs").glob("*.safetensors"))
    out = places.out / "embeddings.npz"
    return ["embed", str(places.data / "audio"), "--model", str(model), "--device", "cpu", "--out", str(out)]


TRAIN = Killed(
    name="train", arguments=_train("--workers", "0"), result=_trained, growing=("epochs.jsonl",), epochs=EPOCHS
)
COMMANDS = (
    TRAIN,
    # Clips are opened in every batch: kills in training and in scoring.
    Killed(
        name="train stream",
        arguments=_train("--workers", "0", "--stream"),
        result=_trained,
        growing=("epochs.jsonl",),
        epochs=EPOCHS,
    ),
    Killed(
        name="train workers",
        arguments=_train("--workers", "2", "--stream"),
        result=_trained,
        growing=("epochs.jsonl",),
        epochs=EPOCHS,
    ),
    Killed(
        name="shard",
        arguments=lambda places: [
            *("data", "shard", "esc50", str(places.out), "--data", f"esc50={places.data}"),
            *("--clips-per-shard", "9", "--workers", "1"),
        ],
        result=files,
        growing=("progress.jsonl",),
    ),
    Killed(
        name="standin",
        arguments=lambda places: ["data", "standin", "vggsound", "--clips", CLIPS, "--out", str(places.out)],
        result=files,
        growing=("STANDIN.json",),
    ),
    Killed(
        name="audit",
        arguments=lambda places: [
            *("data", "audit", "esc50", "--data", f"esc50={places.data}"),
            *("--out", str(places.out), "--workers", "1"),
        ],
        result=files,
        growing=("clips.jsonl",),
    ),
    Killed(
        name="report",
        function="reports.__main__:main",
        arguments=lambda places: ["--records", str(places.trained / "records"), "--out", str(places.out)],
        result=files,
        needs_training=True,
    ),
    Killed(name="table", arguments=_table, prepare=_copy_records, result=files, needs_training=True),
    Killed(
        name="scaling",
        arguments=lambda places: [
            *("scaling", "--preset", "debug", "--device", "cpu", "--figures", str(places.out / "figures")),
            *("--records", str(places.out / "records")),
        ],
        result=_measured,
    ),
    Killed(name="embed", arguments=_embed, result=files, needs_training=True),
)
