"""The benches on the debug models: each runs and leaves its records; untimed they leave none."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from make_records import load_stored

from reproduce.efficiency.interleaved import Candidate, Measurement
from reproduce.efficiency.memory import OUT_OF_MEMORY
from reproduce.machine import has_bfloat16
from reproduce.paper import load_paper
from reproduce.records.record import RunRecord
from reproduce.records.records import Records
from reproduce.tables import Table, TableInputs, table_specs
from reproduce.tables.render import render
from reproduce.tables.speed import BENCHES

ROOT = Path(__file__).resolve().parents[1]
NEEDS_A_GPU = {"batch sweep"}
EARLIER = {"peer: transformers", "peer: timm"}  # benches of older records, now contestants of "side by side"

pytest.importorskip("pytest_benchmark")
pytest.importorskip("transformers")
pytest.importorskip("timm")
pytest.importorskip("torchaudio")


def run_benches(records: Path, *options: str) -> str:
    command = [sys.executable, "-m", "pytest", "bench", "--presets", "debug", "--records", str(records), *options]
    # Under the variables of a pytest-xdist worker pytest-benchmark times nothing.
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
    """Output of a timed run of all benches, and its folder of records."""
    records = tmp_path_factory.mktemp("records")
    return run_benches(records, "--benchmark-only", "-rs"), records


@pytest.fixture
def recorded(timed: tuple[str, Path]) -> list[RunRecord]:
    return load_stored(timed[1])


def test_every_bench_writes_its_records(recorded: list[RunRecord]) -> None:
    assert {record.kind for record in recorded} == {"speed"}
    assert {record.experiment["bench"] for record in recorded} >= set(BENCHES) - NEEDS_A_GPU - EARLIER
    assert len({record.key for record in recorded}) == len(recorded)


def test_a_record_names_machine_load_and_what_was_measured(recorded: list[RunRecord]) -> None:
    for record in recorded:
        environment = record.environment
        assert environment["torch_threads"] >= 1 and environment["device"] and environment["processor"]
        assert environment["busy"] is (environment["other_cores"] > 0.2)
        assert record.experiment["precision"] in (record.environment["precision"], "mixed")
        assert record.experiment["contender"] in record.experiment["contenders"]
        assert len(record.details["samples_s"]) == record.metrics["rounds"] >= 2
        assert record.metrics["latency_s"] > 0 and record.metrics["time_ratio"] > 0
    ours = [record for record in recorded if record.experiment["bench"] == "models"]
    assert {record.experiment["contender"] for record in ours} == {"ast_debug", "mast_debug"}
    assert {record.experiment["mode"] for record in ours} == {"inference", "training"}
    cases = {(record.experiment["mode"], record.experiment["batch"]) for record in ours}
    assert cases == {("inference", 2), ("training", 2)}
    assert all(record.environment["attention"] and record.metrics["macs_full"] for record in ours)


def test_every_attention_path_of_both_models_is_measured(recorded: list[RunRecord]) -> None:
    from models import create_model

    for name in ("ast_debug", "mast_debug"):
        measured = {
            record.experiment["contender"]
            for record in recorded
            if record.experiment["bench"] == "attention" and record.experiment["model"] == name
        }
        assert measured | {"flex"} == {*create_model(name).attention_paths, "flex"}


def test_benches_that_need_a_gpu_are_skipped_with_the_reason(timed: tuple[str, Path]) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert "needs a CUDA device" in timed[0] and "fills a GPU's memory" in timed[0]


def test_the_summary_lists_every_candidate_and_the_record_file(timed: tuple[str, Path]) -> None:
    out, records = timed
    for name in ("transformers AST", "timm MViTv2", "its products alone", "torchaudio fbank, loop", "nothing"):
        assert name in out
    assert f"recorded in {records}/speed.jsonl" in out


def table_of(records: list[RunRecord], folder: Path) -> Table:
    """The table of these records as of an idle machine: other tests may keep this one busy."""
    idle = [replace(record, environment={**record.environment, "busy": False}) for record in records]
    return table_specs()["speed"].build(TableInputs(load_paper(), Records.of(idle), folder))


def test_the_table_shows_what_was_recorded(recorded: list[RunRecord], tmp_path: Path) -> None:
    table = table_of(recorded, tmp_path)
    labels = [row.label.strip() for block in table.blocks for row in block.rows]
    assert "ast_debug : mast_debug" in labels and "timm MViTv2 fp32 : mast_debug square fp32" in labels
    assert "not run: pytest bench/ --benchmark-only" in render(table, "terminal")  # the base models


def test_both_precisions_are_measured_where_the_processor_has_bfloat16(recorded: list[RunRecord]) -> None:
    wanted = {"float32", "bfloat16"} if has_bfloat16() else {"float32"}
    for bench in ("models", "matrix products"):
        assert {r.experiment["precision"] for r in recorded if r.experiment["bench"] == bench} == wanted
    for mode, batch in (("inference", 1), ("inference", 4), ("training", 1), ("training", 4)):
        mixed = [
            r
            for r in recorded
            if (r.experiment["bench"], r.experiment.get("mode"), r.experiment.get("batch"))
            == ("side by side", mode, batch)
        ]
        assert len(mixed) == (9 if has_bfloat16() else 5)
        assert {r.environment["precision"] for r in mixed} == wanted
        assert all(r.experiment["contender"].endswith(r.environment["precision"]) for r in mixed)


def test_a_candidate_out_of_memory_has_a_line_beside_the_others() -> None:
    from bench.conftest import summary_line

    failed = Measurement(Candidate("large", lambda: None), failure=OUT_OF_MEMORY)
    other = Measurement(Candidate("small", lambda: None), samples_s=[0.5, 0.5], added_bytes=2**20)
    lines = [summary_line(one, {**one.metrics(), **one.time_ratios(failed)}) for one in (failed, other)]
    assert lines[0].split() == ["large", "not", "run:", "out", "of", "memory"]
    assert lines[1].split() == ["small", "500.000", "ms/clip", "[500.000,", "500.000]", "2.00", "clips/s", "1", "MiB"]


def test_a_busy_machine_is_named_in_the_summary() -> None:
    from bench.conftest import busy_warning

    assert "0.75 cores;" in busy_warning({"other_cores": 0.75})
    assert "0.10 cores and 35% of the GPU;" in busy_warning({"other_cores": 0.1, "other_gpu_utilisation": 0.35})


def test_untimed_every_bench_runs_once_and_records_nothing(tmp_path: Path) -> None:
    out = run_benches(tmp_path, "--benchmark-disable", "-k", "empty_call or log_mel")
    assert "passed" in out and "recorded in" not in out
    assert not list(tmp_path.iterdir())


def test_chosen_models_are_timed_in_turns_with_their_macs(tmp_path: Path) -> None:
    chosen = "--models", "timm:test_resnet,mast_debug,ast_debug"
    run_benches(tmp_path, "--benchmark-only", "-k", "chosen and cpu and float32 and training", *chosen)
    records = load_stored(tmp_path)
    assert [record.experiment["contender"] for record in records] == ["mast_debug", "timm:test_resnet", "ast_debug"]
    assert all(record.metrics["macs_full"] > 0 and record.metrics["latency_s"] > 0 for record in records)
    table = table_of(records, tmp_path)
    (block,) = (block for block in table.blocks if "chosen models" in block.name)
    assert any(row.label.endswith("timm:test_resnet : mast_debug") for row in block.rows)
    (row,) = (row for row in block.rows if row.label.endswith(": timm:test_resnet"))
    assert row.cells["macs"].conditions.startswith("torch FlopCounterMode")
    assert any("timm:test_resnet: counted by torch FlopCounterMode" in note for note in block.notes)
