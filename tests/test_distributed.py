"""Two processes that share a run: the losses of one process, each clip scored once, stopped and resumed together."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from make_records import load_stored
from make_runs import (
    ALWAYS_S,
    LONG,
    NEVER_S,
    PATIENCE_S,
    SPEC,
    command_line,
    finish,
    make_experiment,
    make_uneven_folder,
    outcome,
    run,
    start,
    train_tones,
    train_tones_until,
    wait_for,
)

from reproduce.data.waveform_store import WaveformStore, load_waveforms
from reproduce.datasets import read_dataset
from reproduce.records.record import RunRecord
from reproduce.training.run_keys import RunKeys

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no torch.distributed"),
]

ROOT = Path(__file__).resolve().parents[1]
TRAIN, TEST, BATCH = 33, 23, 8  # an epoch's last step has one clip, so that one of two processes has none
# Without stochastic depth, which each process draws for itself: with it, runs agree in distribution only.
PLAIN = replace(LONG, epochs=3, batch_size=BATCH, drop_path_rate=0.0, average_from=2)
NEVER: dict[str, Any] = {"checkpoint_seconds": NEVER_S}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_uneven_folder(tmp_path_factory.mktemp("tones") / "data", TRAIN, TEST)


@pytest.fixture(scope="module")
def store(data: Path) -> WaveformStore:
    return load_waveforms(read_dataset("esc50", data), SPEC)


@pytest.fixture(scope="module")
def alone(store: WaveformStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord]:
    folder = tmp_path_factory.mktemp("alone")
    return folder, run(store, folder, recipe=PLAIN, **NEVER)


@pytest.fixture(scope="module")
def together(data: Path, store: WaveformStore, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RunRecord]:
    folder = tmp_path_factory.mktemp("together")
    assert finish(start(train_tones, data, folder, PLAIN, NEVER, ranks=2)) == [0, 0]
    (record,) = load_stored(folder / "records")  # written by one of them
    return folder, record


def losses(record: RunRecord) -> list[float]:
    return [float(epoch["loss"]) for epoch in record.history]


def clip_ids(folder: Path, record: RunRecord) -> list[str]:
    with np.load(folder / "records" / str(record.predictions)) as stored:
        return [str(clip_id) for clip_id in stored["clip_ids"]]


def test_two_processes_have_the_loss_curve_of_one(
    alone: tuple[Path, RunRecord], together: tuple[Path, RunRecord]
) -> None:
    one, two = alone[1], together[1]
    assert one.key == two.key
    assert (one.environment["processes"], two.environment["processes"]) == (1, 2)
    assert losses(two) == pytest.approx(losses(one), abs=1e-4)
    for record in (one, two):
        assert [(epoch["steps"], epoch["clips"]) for epoch in record.history] == [(5, TRAIN)] * PLAIN.epochs
    assert [epoch["lr"] for epoch in one.history] == [epoch["lr"] for epoch in two.history]


def test_two_processes_score_every_clip_once(
    store: WaveformStore, alone: tuple[Path, RunRecord], together: tuple[Path, RunRecord]
) -> None:
    listed = [str(clip_id) for clip_id in store.index.where_split("2").clip_ids]
    assert len(set(listed)) == TEST
    assert clip_ids(*together) == clip_ids(*alone) == listed
    for record in (alone[1], together[1]):
        assert record.metrics["clips"] == record.dataset["test_kept"] == TEST
        assert record.details["averaged"]["metrics"]["clips"] == record.details["best"]["metrics"]["clips"] == TEST
    logits = []
    for folder, record in (alone, together):
        with np.load(folder / "records" / str(record.predictions)) as stored:
            logits.append(stored["logits_label"])
    assert np.allclose(logits[0], logits[1], atol=1e-2)


def test_a_signal_to_one_process_stops_both_and_both_resume(
    data: Path, store: WaveformStore, tmp_path: Path, together: tuple[Path, RunRecord]
) -> None:
    """The signal goes to the process that does not write the checkpoint."""
    stopped = start(train_tones_until, data, tmp_path, PLAIN, NEVER, 7, signal.SIGTERM, 1, ranks=2)
    assert finish(stopped) == [143, 143]
    folder = tmp_path / "runs" / RunKeys(store).key(make_experiment(recipe=PLAIN))
    assert [path.name for path in folder.glob("*.pt")] == ["epoch-0001-step-000003.pt"]
    assert finish(start(train_tones, data, tmp_path, PLAIN, NEVER, ranks=2)) == [0, 0]
    (record,) = load_stored(tmp_path / "records")
    assert outcome(record) == outcome(together[1])


def test_two_processes_with_micro_batches_resume_a_run_of_one(
    data: Path, tmp_path: Path, alone: tuple[Path, RunRecord]
) -> None:
    """Neither the second process nor the micro-batches change the losses of the whole run."""
    always = {"checkpoint_seconds": ALWAYS_S}
    assert finish(start(train_tones_until, data, tmp_path, PLAIN, always, 2, signal.SIGKILL)) == [-signal.SIGKILL]
    options = {**NEVER, "micro_batch": 3, "grad_checkpointing": True}
    assert finish(start(train_tones, data, tmp_path, PLAIN, options, ranks=2)) == [0, 0]
    (record,) = load_stored(tmp_path / "records")
    assert losses(record) == pytest.approx(losses(alone[1]), abs=1e-4)


LAUNCHED = """
import sys
sys.path.insert(0, {tests!r})
import torch
from make_runs import lengthen_debug
from reproduce.__main__ import main
torch.set_num_threads(1)
lengthen_debug({epochs})
sys.exit(main(sys.argv[1:]))
"""


def without_gloo(out: str) -> str:
    """What we print: torch 2.9's Gloo prints its connections to the standard output."""
    return "".join(line for line in out.splitlines(keepends=True) if not line.startswith("[Gloo]"))


def test_torchrun_stops_on_sigterm_resumes_and_prints_one_table(data: Path, tmp_path: Path) -> None:
    """The command that a user types, with enough epochs to be stopped in between."""
    epochs = 6
    script = tmp_path / "launched.py"
    script.write_text(LAUNCHED.format(tests=str(ROOT / "tests"), epochs=epochs))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    options = ["esc50", "--preset", "debug", "--folds", "1", "--device", "cpu", "--data", f"esc50={data}"]
    options += ["--format", "json", "--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs")]

    def launch() -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*command, *options],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def trained_an_epoch() -> bool:
        return any(path.stat().st_size for path in (tmp_path / "runs").glob("*/epochs.jsonl"))

    first = launch()
    wait_for(lambda: first.poll() is not None or trained_an_epoch())
    first.terminate()
    out, err = first.communicate(timeout=PATIENCE_S)
    assert first.returncode != 0 and without_gloo(out) == ""
    assert err.count("stopped: the same command") >= 1, err
    assert err.count("Traceback") <= 1 and "SignalException" in err  # torchrun's, of its agent
    assert list((tmp_path / "runs").glob("*/*.pt"))

    second = launch()
    out, err = second.communicate(timeout=PATIENCE_S)
    assert second.returncode == 0, err
    assert "after epoch" in err
    table = json.loads(without_gloo(out))  # one table and nothing else
    assert {cell["row"] for cell in table["rows"]} >= {"ast_debug", "mast_debug"}
    records = [record for record in load_stored(tmp_path / "records") if record.kind == "train"]
    assert [record.experiment["model"] for record in records] == ["ast_debug", "mast_debug"]
    assert {record.environment["processes"] for record in records} == {2}


def test_a_demo_under_torchrun_shares_stand_in_and_checkpoint(tmp_path: Path) -> None:
    """One process writes them, both read them."""
    arguments = ["table4", "--preset", "debug", "--dry-run", "--device", "cpu"]
    arguments += ["--records", str(tmp_path / "records"), "--runs", str(tmp_path / "runs")]
    out = tmp_path / "out.txt"
    assert finish(start(command_line, arguments, 1, out, ranks=2)) == [0, 0], out.with_suffix(".err").read_text()
    lines = out.read_text().splitlines()
    assert [line.partition(",")[0] for line in lines] == ["ast_debug", "mast_debug"]
    assert all("written and resumed; 8 test clips predicted" in line for line in lines)
