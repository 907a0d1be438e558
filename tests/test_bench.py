"""The benches themselves: each is collected, runs, and leaves its record; untimed they leave none. Debug models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from reproduce.paper import load_paper
from reproduce.records.record import RunRecord
from reproduce.records.store import load_records
from reproduce.tables import TableInputs, table_specs
from reproduce.tables.render import render
from reproduce.tables.speed import BENCHES

ROOT = Path(__file__).resolve().parents[1]
NEEDS_A_GPU = {"batch sweep"}

pytest.importorskip("pytest_benchmark")
pytest.importorskip("transformers")
pytest.importorskip("timm")
pytest.importorskip("torchaudio")


def run_benches(records: Path, *options: str) -> str:
    command = [sys.executable, "-m", "pytest", "bench", "--presets", "debug", "--records", str(records), *options]
    # A worker of pytest-xdist tells its children so, and pytest-benchmark then times nothing.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    done = subprocess.run(
        [*command, "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=1800,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def timed(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What a timed run of all benches prints, and where it recorded."""
    records = tmp_path_factory.mktemp("records")
    return run_benches(records, "--benchmark-only", "-rs"), records


@pytest.fixture
def recorded(timed: tuple[str, Path]) -> list[RunRecord]:
    return load_records(timed[1])


def test_every_bench_writes_its_records(recorded: list[RunRecord]) -> None:
    assert {record.kind for record in recorded} == {"speed"}
    assert {record.experiment["bench"] for record in recorded} >= set(BENCHES) - NEEDS_A_GPU
    assert len({record.key for record in recorded}) == len(recorded)


def test_a_record_names_the_machine_and_what_was_measured(recorded: list[RunRecord]) -> None:
    for record in recorded:
        assert record.environment["torch_threads"] >= 1 and record.environment["device"]
        assert record.environment["precision"] == record.experiment["precision"]
        assert record.experiment["contender"] in record.experiment["contenders"]
        assert len(record.details["samples_s"]) == record.metrics["rounds"] >= 3
        assert record.metrics["latency_s"] > 0 and record.metrics["time_ratio"] > 0
    ours = [record for record in recorded if record.experiment["bench"] == "models"]
    assert {record.experiment["contender"] for record in ours} == {"ast_debug", "mast_debug"}
    assert {record.experiment["mode"] for record in ours} == {"inference", "training"}
    cases = {(record.experiment["mode"], record.experiment["batch"]) for record in ours}
    assert cases == {("inference", 1), ("inference", 4), ("training", 4)}
    assert all(record.environment["attention"] and record.metrics["macs_full"] for record in ours)


def test_every_attention_path_of_both_models_is_measured(recorded: list[RunRecord]) -> None:
    from models import create_model

    for name in ("ast_debug", "mast_debug"):
        measured = {
            record.experiment["contender"]
            for record in recorded
            if record.experiment["bench"] == "attention" and record.experiment["model"] == name
        }
        assert measured == set(create_model(name).attention_paths)


def test_what_cannot_run_here_is_skipped_with_its_reason(timed: tuple[str, Path]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("has a GPU: nothing is skipped for the lack of one")
    assert "needs a CUDA device" in timed[0] and "fills a GPU's memory" in timed[0]


def test_the_summary_lists_every_contender_and_where_it_is_recorded(timed: tuple[str, Path]) -> None:
    out, records = timed
    for name in ("transformers AST", "timm MViTv2", "its products alone", "torchaudio fbank, loop", "nothing"):
        assert name in out
    assert f"recorded in {records}/speed.jsonl" in out


def test_the_table_shows_what_was_recorded(timed: tuple[str, Path]) -> None:
    _, records = timed
    table = table_specs()["speed"].build(TableInputs(load_paper(), load_records(records), records))
    text = render(table, "terminal")
    assert "ast_debug : mast_debug" in text and "timm MViTv2 : mast_debug" in text
    assert "not run: pytest bench/ --benchmark-only" in text  # the base models


def test_the_summary_has_a_line_for_what_ran_out_of_memory_and_for_its_rival() -> None:
    from bench.conftest import summary_line
    from reproduce.efficiency.contest import Contender, Measurement
    from reproduce.efficiency.memory import OUT_OF_MEMORY

    lost = Measurement(Contender("large", lambda: None), failure=OUT_OF_MEMORY)
    rival = Measurement(Contender("small", lambda: None), samples_s=[0.5, 0.5], added_bytes=2**20)
    lines = [summary_line(one, {**one.metrics(), **one.times(lost)}) for one in (lost, rival)]
    assert lines[0].split() == ["large", "not", "run:", "out", "of", "memory"]
    assert lines[1].split() == ["small", "500.000", "ms/clip", "[500.000,", "500.000]", "2.00", "clips/s", "1", "MiB"]


def test_untimed_every_bench_runs_once_and_records_nothing(tmp_path: Path) -> None:
    out = run_benches(tmp_path, "--benchmark-disable", "-k", "empty_call or attention or log_mel")
    assert "passed" in out and "recorded in" not in out
    assert not list(tmp_path.iterdir())
