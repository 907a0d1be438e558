"""The speed table: contests as blocks, ratios beside MACs, and what is absent."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from make_records import make_cost_record

from reproduce.__main__ import main
from reproduce.paper import load_paper
from reproduce.records.measured_runs import SpeedRun
from reproduce.records.record import RunRecord
from reproduce.records.records import Records
from reproduce.records.store import append_record, as_stored
from reproduce.tables import Cell, Table, TableInputs, table_specs
from reproduce.tables.render import render
from reproduce.tables.speed import ratios_by_machine, ratios_of

ENVIRONMENT = {
    "device": "invented CPU",
    "device_type": "cpu",
    "torch_threads": 2,
    "precision": "float32",
    "attention": "sdpa",
}


def make_speed_record(
    contender: str, contenders: tuple[str, ...], ms: float = 100.0, ratio: float = 1.0, **conditions: Any
) -> RunRecord:
    """An invented measurement of one contender; 1 GiB, quartiles 5 % around the median."""
    experiment = {
        "bench": "models",
        "contender": contender,
        "contenders": list(contenders),
        "device": "cpu",
        "precision": "float32",
        "mode": "inference",
        "preset": "base",
        "batch": 1,
        "compile": False,
        "input_size": [128, 1024],
        **conditions,
    }
    record = RunRecord(
        kind="speed",
        key=f"{contender} {experiment}",
        experiment=experiment,
        scale="paper",
        metrics={
            "latency_s": experiment["batch"] * ms / 1e3,
            "latency_s_q1": 0.95 * experiment["batch"] * ms / 1e3,
            "latency_s_q3": 1.05 * experiment["batch"] * ms / 1e3,
            "clips_per_s": 1e3 / ms,
            "peak_memory_bytes": 2**30,
            "time_ratio": ratio,
            "time_ratio_q1": ratio,
            "time_ratio_q3": ratio,
            "rounds": 5,
        },
        environment=ENVIRONMENT,
        details={"failure": None, "samples_s": []},
        created="2026-01-01T00:00:00+00:00",
    )
    return as_stored(record)  # the file sorts the conditions by name


def make_contest(ratio: float = 3.0, **conditions: Any) -> list[RunRecord]:
    """AST and MAST, with MACs of 4 : 1."""
    names = ("mast_base", "ast_base")
    mast = make_speed_record("mast_base", names, 100.0, **conditions)
    ast = make_speed_record("ast_base", names, 100.0 * ratio, ratio, **conditions)
    macs = {"macs_module_only": 25e9, "macs_full": 30e9}
    return [
        replace(mast, metrics={**mast.metrics, **macs}),
        replace(ast, metrics={**ast.metrics, **{name: 4 * value for name, value in macs.items()}}),
    ]


def build(*records: RunRecord) -> Table:
    return table_specs()["speed"].build(TableInputs(load_paper(), Records.of(records), Path("no-records")))


def block_of(bench: str, *records: RunRecord) -> Table:
    return next(block for block in build(*records).blocks if f", {bench}," in block.name)


def row(table: Table, label: str) -> dict[str, Cell]:
    return dict(next(r.cells for r in table.rows if r.label.strip() == label))


def test_without_records_every_case_is_not_run_and_the_command_is_named() -> None:
    rows = [row for block in build().blocks for row in block.rows]
    assert [r.label for r in rows][:2] == ["inference, base, batch 1", "inference, base, batch 4"]
    cells = [cell for r in rows for cell in r.cells.values()]
    assert {cell.status for cell in cells} == {"not run"}
    assert all(cell.conditions.startswith("not run: pytest bench/ --benchmark-only") for cell in cells)
    assert "not run: pytest bench/ --benchmark-only" in render(build(), "terminal")


def test_the_measured_ratio_is_beside_that_of_the_macs() -> None:
    block = block_of("models", *make_contest(3.0))
    assert [r.label.strip() for r in block.rows[:3]] == [
        "inference, base, batch 1: ast_base",
        "inference, base, batch 1: mast_base",
        "ast_base : mast_base",
    ]
    ratio = row(block, "ast_base : mast_base")
    assert (ratio["ms"].measured, ratio["macs"].measured, ratio["macs_full"].measured) == (3.0, 4.0, 4.0)
    assert ratio["peak"].measured == 1.0
    assert "clips_per_s" not in ratio


def test_a_row_holds_time_throughput_spread_and_memory_of_a_clip() -> None:
    block = block_of("models", *make_contest(3.0, batch=4))
    cells = row(block, "inference, base, batch 4: ast_base")
    assert cells["ms"].measured == pytest.approx(300.0)
    assert cells["clips_per_s"].measured == pytest.approx(1 / 0.3)
    assert cells["spread"].measured == pytest.approx(5.0)
    assert cells["peak"].measured == 1024.0
    assert "attention sdpa" in cells["ms"].conditions and "invented CPU, 2 threads" in cells["ms"].conditions


def test_what_is_recorded_is_no_longer_not_run() -> None:
    block = block_of("models", *make_contest(mode="training", preset="small", batch=2))
    missing = {r.label for r in block.rows if r.cells["ms"].status == "not run"}
    assert missing == {"inference, small, batch 2", "inference, tiny, batch 2", "training, tiny, batch 2"}


def test_what_is_expected_is_what_a_default_run_measures() -> None:
    from bench.candidates import MODES
    from bench.conftest import PRESETS, SMALLER_BATCH
    from bench.test_side_by_side import BATCHES
    from reproduce.tables.speed import EXPECTED

    *smaller, largest = PRESETS.split(",")
    default = {
        "side by side": [(mode, largest, batch) for mode in MODES for batch in BATCHES],
        "models": [(mode, preset, SMALLER_BATCH) for preset in smaller for mode in MODES],
    }
    for bench, cases in EXPECTED.items():
        assert sorted(tuple(case.values()) for case in cases) == sorted(default[bench])


def make_mixed_contest() -> list[RunRecord]:
    """Both precisions of both models and of the square pair, two rounds each; bfloat16 takes half the time."""
    models = {"mast_base": 1.0, "ast_base": 3.0, "mast_base square": 0.9, "timm MViTv2": 1.8}
    names = [f"{name}, {precision}" for precision in ("bfloat16", "float32") for name in models]
    records = []
    for name in names:
        model, _, precision = name.rpartition(", ")
        factor = models[model] * (1.0 if precision == "bfloat16" else 2.0)
        made = make_speed_record(name, tuple(names), 100 * factor, factor, bench="side by side", precision="mixed")
        rounds = {"failure": None, "samples_s": [0.1 * factor, 0.2 * factor]}
        environment = {**ENVIRONMENT, "precision": precision}
        records.append(replace(made, details=rounds, environment=environment))
    return records


def test_a_contest_of_both_precisions_names_each_and_compares_equals_too() -> None:
    block = block_of("side by side", *make_mixed_contest())
    labels = [r.label.strip() for r in block.rows]
    assert labels.count("inference, base, batch 1: mast_base") == 2
    words = {r.key: r.cells["precision"].text for r in block.rows if "precision" in r.cells}
    assert words["inference, base, batch 1: ast_base, float32"] == "fp32"
    assert words["inference, base, batch 1: mast_base, bfloat16"] == "bf16"
    ratios = {name: row(block, name)["ms"].measured for name in labels if " : " in name}
    assert ratios["ast_base fp32 : mast_base bf16"] == pytest.approx(6.0)
    assert ratios["ast_base fp32 : mast_base fp32"] == pytest.approx(3.0)
    assert ratios["timm MViTv2 bf16 : mast_base square bf16"] == pytest.approx(2.0)
    assert len(ratios) == 6  # of the four on the baseline's input, one pair in float32, timm's in both


def test_the_ratios_of_a_block_stand_alone_under_their_conditions() -> None:
    block = block_of("side by side", *make_mixed_contest())
    ratios = ratios_of(block)
    labels = [r.label for r in ratios.rows]
    assert len(labels) == 6 and "inference, base, batch 1: ast_base fp32 : mast_base bf16" in labels
    assert row(ratios, labels[0])["ms"].measured == block_ratio(block, labels[0])
    assert ratios.name != block.name and ratios.runs == block.runs
    assert {column.key for column in ratios.columns} == {key for r in ratios.rows for key in r.cells}


def test_machines_stand_side_by_side_and_a_ratio_that_one_lacks_stays_empty_there() -> None:
    here = ratios_of(block_of("side by side", *make_mixed_contest()))
    there = ratios_of(block_of("models", *make_contest(5.0, mode="inference", preset="base", batch=1)))
    both = ratios_by_machine([here, replace(there, rows=(*there.rows, here.rows[0]))])
    assert [column.title for column in both.columns] == ["invented CPU, 2 threads"] * 2
    assert len(both.rows) == 7
    shared, alone = both.rows[0].cells, both.rows[-1].cells
    assert shared["ms 0"] == shared["ms 1"] == here.rows[0].cells["ms"]
    assert "ms 0" not in alone and alone["ms 1"].measured == 5.0


def block_ratio(block: Table, label: str) -> float | None:
    """The ratio in the whole block, where its label is indented and lacks the conditions."""
    (found,) = (r for r in block.rows if r.label.strip() == label.split(": ", 1)[1])
    return found.cells["ms"].measured


def cost_text(records: list[RunRecord]) -> str:
    from reports.document import plain_text
    from reports.findings import cost_finding
    from reports.source import Source

    macs = {"macs_module_only": 25e9, "macs_full": 30e9}
    timed = [replace(run, metrics={**run.metrics, **macs}) for run in records]
    costs = [make_cost_record("ast_base"), make_cost_record("mast_base")]
    return plain_text(cost_finding(Source(TableInputs(load_paper(), Records.of([*costs, *timed]), Path("no-records")))))


def on_processor(records: list[RunRecord], model: int | None, ratio: float = 3.0) -> list[RunRecord]:
    """The same contests on an EPYC of this model, where AST takes `ratio` times the time of MAST; keys stay equal."""
    known = {"processor": f"AMD EPYC (AuthenticAMD, cpu family 25, model {model}, stepping 1)"} if model else {}
    metrics = {"time_ratio": ratio, "time_ratio_q1": ratio, "time_ratio_q3": ratio}
    return [
        replace(
            record,
            environment={**record.environment, "device": "AMD EPYC", **known},
            metrics={**record.metrics, **(metrics if record.experiment["contender"].startswith("ast") else {})},
        )
        for record in records
    ]


def left_out(timings: int) -> str:
    return (
        f"Left out: {timings} timings of busy machines, of processors without a model's name, or of contests that were "
        "repeated with more candidates."
    )


def titles(records: list[RunRecord]) -> list[str]:
    return [block.title.partition(":")[0] for block in build(*records).blocks if ": both models at" in block.title]


def test_processors_of_one_name_are_machines_of_their_own() -> None:
    contest = make_contest(mode="inference", preset="base", batch=1)
    old, first, second = on_processor(contest, None, 9.0), on_processor(contest, 1), on_processor(contest, 17, 4.0)
    names = [f"AMD EPYC (family 25, model {model}, stepping 1), 2 threads" for model in (1, 17)]
    assert titles([*old, *first, *second]) == names
    every = "in all paired timings of uncompiled models of the sizes base"
    told = cost_text([*old, *first, *second])
    assert f"in float32: 3.00 to 4.00 in inference and 3.00 to 4.00 {every} (batch 1, 2 CPUs)." in told
    assert f"in float32: 9.00 in inference and 9.00 {every} (batch 1, AMD EPYC, 2 threads)." in cost_text(old)
    note = left_out(2)
    assert note in build(*old, *first).notes and note not in build(*first).notes


@pytest.mark.parametrize(("later", "shown"), [(False, [100.0, 200.0, 300.0]), (True, [200.0, 300.0])])
def test_a_contest_that_has_grown_replaces_the_smaller_one(later: bool, shown: list[float]) -> None:
    """Attention was timed by fewer paths once; so it is with an older record of more paths."""
    small = make_speed_record("chunked", ("chunked",), 100.0, bench="attention")
    paths = ("chunked", "auto")
    grown = [
        make_speed_record(path, paths, ms, bench="attention") for path, ms in zip(paths, (200.0, 300.0), strict=True)
    ]
    created = "2027-01-01T00:00:00+00:00" if later else "2025-01-01T00:00:00+00:00"
    table = build(small, *(replace(record, created=created) for record in grown))
    block = next(block for block in table.blocks if ", attention," in block.name)
    measured = [row.cells["ms"].measured for row in block.rows if " : " not in row.label]
    assert sorted(ms for ms in measured if ms) == shown
    assert (left_out(1) in table.notes) is later


def test_a_repeated_contest_replaces_the_earlier_one_whose_key_names_the_processor_otherwise() -> None:
    contest = on_processor(make_contest(mode="inference", preset="base", batch=1), 17)
    again = [
        replace(record, key=f"{record.key}-new", created="2027-01-01T00:00:00+00:00")
        for record in on_processor(contest, 17, 5.0)
    ]
    block = build(*contest, *again).blocks[1]
    ratios = [r.label.strip() for r in block.rows if " : " in r.label]
    assert ratios == ["ast_base : mast_base"]
    assert row(block, "ast_base : mast_base")["ms"].measured == 5.0


def test_notes_say_which_attention_a_candidate_took_where_there_are_several() -> None:
    def attention(precision: str, path: str, **conditions: Any) -> RunRecord:
        record = make_speed_record("ast_base", ("ast_base",), precision=precision, **conditions)
        return replace(record, environment={**record.environment, "attention": path})

    fp32, bf16 = attention("float32", "chunked"), attention("bfloat16", "sdpa", batch=2)

    def note(*records: RunRecord) -> str:
        return block_of("models", *records).notes[0]

    assert note(fp32) == "Attention: ast_base by chunked."
    assert note(fp32, bf16) == "Attention: ast_base by chunked in fp32, by sdpa in bf16."
    of_mode = attention("float32", "chunked, sdpa", mode="training")
    assert note(fp32, of_mode) == "Attention: ast_base by chunked or chunked + sdpa, depending on the case."


def test_a_busy_machine_fills_no_table() -> None:
    contest = make_contest(3.0)
    busy = [
        replace(record, environment={**record.environment, "busy": True}, created="2027-01-01T00:00:00+00:00")
        for record in make_contest(9.0)
    ]
    assert row(build(*contest, *busy).blocks[1], "ast_base : mast_base")["ms"].measured == 3.0
    assert {r.cells["ms"].status for block in build(*busy).blocks for r in block.rows} == {"not run"}


def test_a_range_over_machines_has_those_that_gave_a_ratio() -> None:
    contest = make_mixed_contest()
    lost = {"failure": "out of memory", "samples_s": []}
    without = [
        replace(record, details=lost) if record.experiment["contender"] == "ast_base, bfloat16" else record
        for record in on_processor(contest, 1)
    ]
    ratio = "divided by that of MAST in bfloat16, in inference: 3.00 for AST in bfloat16 (batch 1, "
    assert f"{ratio}AMD EPYC (family 25, model 17, stepping 1), 2 threads)." in cost_text(
        [*without, *on_processor(contest, 17)]
    )
    assert f"{ratio}2 CPUs)." in cost_text([*on_processor(contest, 1), *on_processor(contest, 17)])


def test_the_report_says_what_bfloat16_gains_and_on_which_machine() -> None:
    text = cost_text(make_mixed_contest())
    every = "in all paired timings of uncompiled models of the sizes base"
    where = "(batch 1, invented CPU, 2 threads)"
    assert f"AST's time divided by MAST's, in float32: 3.00 in inference and 3.00 {every} {where}" in text
    narrow = "divided by that of MAST in bfloat16, in inference: "
    assert text.endswith(f"{narrow}3.00 for AST in bfloat16 (batch 1, invented CPU, 2 threads).")


def test_an_old_record_without_a_precision_reads_as_float32() -> None:
    record = make_speed_record("mast_base", ("mast_base",))
    del record.experiment["precision"]
    (run,) = Records.of([record]).of_kind(SpeedRun)
    assert run.precision == "float32"


def test_larger_models_and_smaller_batches_come_first_and_other_conditions_are_named() -> None:
    contests = [
        *make_contest(batch=4),
        *make_contest(preset="tiny"),
        *make_contest(precision="bfloat16", compile=True),
        *make_contest(),
    ]
    block = block_of("models", *contests)
    assert [r.label for r in block.rows if r.label.endswith(": ast_base")] == [
        "inference, base, batch 1: ast_base",
        "inference, base, batch 1, bfloat16, compiled: ast_base",
        "inference, base, batch 4: ast_base",
        "inference, tiny, batch 1: ast_base",
    ]


def test_a_machine_has_its_own_blocks_and_a_peer_its_own_ratio() -> None:
    gpu = [
        replace(record, key=record.key + "gpu", environment={**ENVIRONMENT, "device": "a GPU", "device_type": "cuda"})
        for record in make_contest(6.0)
    ]
    names = ("ast_base", "transformers AST")
    peers = [
        make_speed_record("ast_base", names, bench="peer: transformers"),
        make_speed_record("transformers AST", names, 130.0, 1.3, bench="peer: transformers"),
    ]
    table = build(*make_contest(), *gpu, *peers)
    titles = [block.title.partition(":")[0] for block in table.blocks]
    assert titles == [*["a GPU"] * 2, *["invented CPU, 2 threads"] * 3]
    assert row(table.blocks[1], "ast_base : mast_base")["ms"].measured == 6.0
    assert row(table.blocks[4], "transformers AST : ast_base")["ms"].measured == 1.3


def test_a_contender_that_ran_out_of_memory_is_named_and_gives_no_ratio() -> None:
    mast, ast = make_contest()
    empty: dict[str, Any] = {name: None for name in ast.metrics if not name.startswith(("macs", "rounds"))}
    lost = replace(ast, metrics={**ast.metrics, **empty}, details={"failure": "out of memory", "samples_s": []})
    block = block_of("models", mast, lost)
    cell = row(block, "inference, base, batch 1: ast_base")["ms"]
    assert cell.status == "not run" and cell.conditions.startswith("not run: out of memory: ast_base")
    assert "ms" not in row(block, "ast_base : mast_base")


def test_recordings_are_shown_in_multiples_of_real_time() -> None:
    record = make_speed_record("loop", ("loop",), 10.0, bench="input pipeline", seconds=5, source="ESC-10")
    block = next(block for block in build(record).blocks if block.title.endswith("ogg files to log-mels"))
    assert block.rows[0].cells["real_time"].measured == pytest.approx(500.0)


# --- two machines or commits ----------------------------------------------------------------------------------------


def test_two_folders_give_the_ratio_of_every_candidate_that_both_have(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    here = [*make_contest(), *make_contest(batch=4)]
    slower = [
        replace(
            record,
            metrics={**record.metrics, "clips_per_s": record.metrics["clips_per_s"] / 2},
            environment={**ENVIRONMENT, "device": "slow CPU", "commit": "0123456789ab"},
        )
        for record in make_contest()
    ]
    for name, records in (("here", here), ("there", slower)):
        for record in records:
            append_record(tmp_path / name, record)
    options = ["speed", "--records", str(tmp_path / "here"), "--against", str(tmp_path / "there"), "--format", "json"]
    assert main(options) == 0
    (block,) = json.loads(capsys.readouterr().out)["blocks"]
    cells = {(cell["row"], cell["column"]): cell for cell in block["rows"]}
    rows = {row for row, _ in cells}
    assert rows == {f"inference, base, batch 1: {name}, float32" for name in ("ast_base", "mast_base")}
    ratio = cells["inference, base, batch 1: mast_base, float32", "ratio"]
    assert ratio["measured"] == pytest.approx(2.0)
    assert "slow CPU" in ratio["conditions"] and "0123456789ab" in ratio["conditions"]
    assert "slow CPU, 2 threads" in block["title"]


def test_folders_that_share_no_candidate_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    append_record(tmp_path / "here", make_contest()[0])
    (tmp_path / "there").mkdir()
    options = ["speed", "--records", str(tmp_path / "here"), "--against", str(tmp_path / "there")]
    assert main(options) == 2
    assert f"error: --against {tmp_path}/there: no speed record" in capsys.readouterr().err
