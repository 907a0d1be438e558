"""Write tests/golden/ anew from the records stored there: `python tests/regenerate_golden.py`, then read the diff.

The records are inputs and stay as they are; `--records` writes those of `trained_records` anew, with their predictions.
Costs are the models' own; accuracies, speeds and devices are invented.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from make_records import make_paper_record, make_run, multilabel, ranked

from reproduce.experiments.comparisons import POOLING_ABLATIONS
from reproduce.paper import load_paper
from reproduce.records.record import RunRecord
from reproduce.records.store import load_records, to_line
from reproduce.tables import TableInputs, build
from reproduce.tables.render import render

ROOT = Path(__file__).resolve().parents[1]
GOLDEN = Path("tests/golden")  # relative, because reasons of cells that were not run name the folder
RECORDS = GOLDEN / "records"
TRAINED = "trained.jsonl"
TABLES = ("table1", "table2", "table3", "table4", "table5", "ablations", "esc50")
TERMINAL = "table2"  # the one table that is also kept as a terminal shows it

TEN = " ".join(f"k{i}" for i in range(10))
EIGHT = " ".join(f"e{i}" for i in range(8))


def trained_records(folder: Path) -> list[RunRecord]:
    """Runs of Tables 2, 4, 5 and the ablations, small enough to be counted by hand; Table 3 has none."""
    return [*_kinetics_sounds(folder), *_epic_kitchens(folder), *_audioset(folder)]


def _kinetics_sounds(folder: Path) -> list[RunRecord]:
    """Two seeds of each model, a run by a changed recipe, both models on a stand-in, and MAST alone on real data."""

    def run(model: str, ranks: str, seed: int = 0, **changes: object) -> RunRecord:
        """`ranks`: of the true class of each clip, see `ranked`."""
        scores = ranked(" ".join(TEN.split()[: len(ranks)]), label=ranks)
        return make_run(folder, model, "kinetics_sounds", scores, seed=seed, variant="ks32", **changes)  # type: ignore[arg-type]

    def other_weights(top1: float) -> dict[str, dict[str, object]]:
        return {
            "averaged": {"from_epoch": 6, "to_epoch": 25, "metrics": {"top1": top1, "top5": 90.0}},
            "best": {"epoch": 17, "metrics": {"top1": top1 + 5, "top5": 95.0}},
        }

    return [
        run("mast_base", "0000000015", listed=12, details=other_weights(80.0)),
        run("mast_base", "0000000155", seed=1, listed=12, details=other_weights(70.0)),
        run("ast_base", "0000051111", listed=12),
        run("ast_base", "0000011115", seed=1, listed=12),
        run("ast_base", "0000000000", listed=12, recipe_name="mast, batch_size=12"),
        run("ast_tiny", "000111", recipe_name="demo", standin=True),
        run("mast_tiny", "000015", recipe_name="demo", standin=True),
        run("mast_tiny", "0011", recipe_name="demo"),
    ]


def _epic_kitchens(folder: Path) -> list[RunRecord]:
    """AST lacks the last clip, so that the two models share seven."""
    mast = ranked(EIGHT, verb="00000111", noun="00111100")
    ast = ranked(EIGHT.removesuffix(" e7"), verb="0001111", noun="0011111")
    small = ranked(EIGHT, verb="00011111", noun="00111111")
    return [
        make_run(folder, "mast_base", "epic_kitchens", mast),
        make_run(folder, "ast_base", "epic_kitchens", ast, listed=8),
        make_run(folder, "ast_tiny", "epic_kitchens", small, "demo", standin=True),
        make_run(folder, "mast_tiny", "epic_kitchens", mast, "demo", standin=True),
    ]


def _audioset(folder: Path) -> list[RunRecord]:
    """Both models, three pooling variants, and two scores that no table of the paper shows."""
    good = multilabel("abcd", "bacd", positives=("ac", "b"))  # AP (1 + 2/3) / 2 and 1
    poor = multilabel("bacd", "abcd", positives=("ac", "b"))  # AP (1/2 + 2/3) / 2 and 1/2
    two_d, first_only = ({"pool_strides": POOLING_ABLATIONS[name]} for name in ("2d_at_21", "first_only"))
    never = make_paper_record("mast_base", "full", 99.9, "2026-03-01T00:00:00+00:00", weights="invented weights")

    def without_predictions(model: str, variant: str, mean_ap: float, month: int = 2, **on: object) -> RunRecord:
        created = f"2026-{month:02}-01T00:00:00+00:00"
        return make_paper_record(model, variant, mean_ap, created, weights="invented weights", **on)

    def balanced(model: str, scores: object, recipe_name: str = "mast", macs: float = 3e9, **on: object) -> RunRecord:
        record = make_run(folder, model, "audioset", scores, recipe_name, variant="balanced", **on)  # type: ignore[arg-type]
        return replace(record, metrics={**record.metrics, "macs_module_only": macs})

    newest = balanced("mast_base", good, created="2026-02-01T00:00:00+00:00")
    return [
        replace(without_predictions("mast_base", "balanced", 11.11, month=1), key=newest.key),
        newest,
        balanced("ast_base", poor),
        replace(never, scale="demo", key="demo scale: must never show"),
        without_predictions("ast_base", "full", 37.5),
        without_predictions("mast_base", "balanced", 28.54, model_config=two_d),
        balanced("ast_tiny", poor, "demo", standin=True),
        balanced("mast_tiny", good, "demo", macs=1e9, standin=True),
        balanced("mast_tiny", poor, "demo", macs=0.9e9, standin=True, model_config=two_d),
        balanced("mast_tiny", good, "demo", macs=6e9, standin=True, model_config=first_only),
    ]


def golden_texts() -> Iterator[tuple[Path, str]]:
    """Path relative to the repository, and what it should hold; the working directory must be the repository."""
    inputs = TableInputs(load_paper(), load_records(RECORDS), RECORDS)
    for name in TABLES:
        yield GOLDEN / f"{name}.json", one_line_per_cell(json.loads(render(build(name, inputs), "json"))) + "\n"
    yield GOLDEN / f"{TERMINAL}.txt", render(build(TERMINAL, inputs), "terminal", width=120)


def one_line_per_cell(table: dict[str, Any], indent: str = "") -> str:
    """The table as JSON whose lines are cells and notes, so that a difference shows which."""

    def listed(lines: list[str]) -> str:
        return "[\n" + ",\n".join(f"{indent}  {line}" for line in lines) + f"\n{indent} ]" if lines else "[]"

    def compact(value: object) -> str:
        return json.dumps(value, ensure_ascii=False)

    parts = [
        f'"table": {compact(table["table"])}',
        f'"title": {compact(table["title"])}',
        f'"rows": {listed([compact(row) for row in table["rows"]])}',
        f'"notes": {listed([compact(note) for note in table["notes"]])}',
        f'"blocks": {listed([one_line_per_cell(block, indent + "  ") for block in table["blocks"]])}',
    ]
    return "{" + f",\n{indent} ".join(parts) + "}"


if __name__ == "__main__":
    os.chdir(ROOT)
    if "--records" in sys.argv[1:]:
        lines = [to_line(record) + "\n" for record in trained_records(RECORDS)]
        (RECORDS / TRAINED).write_text("".join(lines), encoding="utf-8")
    for path, text in golden_texts():
        path.write_text(text, encoding="utf-8")
        print(path)
