"""A study or a table that is registered from outside appears everywhere by itself; `test_registry` has a model."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# Registries are global, so a process of its own registers and uses them.
REGISTER = """
import sys
from reproduce.experiments.paper_studies import CROSS_ENTROPY, ClipCount, PaperStudy, register_study
from reproduce.tables import Column, Row, Table, register_table
from reproduce.tables.base import measured

register_study(PaperStudy(
    dataset="esc50", targets=("table7",), metrics={"top1": "top1"}, epochs_fact="epochs_vggsound",
    loss=CROSS_ENTROPY, seeds=(0,),
    clips=(ClipCount(part="training", splits=(("1",),), published=1600),
           ClipCount(part="test", splits=(("2",),), published=400)),
))

@register_table("table7", "a table from outside")
def table7(inputs):
    cells = {"runs": measured(len(inputs.records), "", "counted")}
    return Table("table7", "Outside", (Column("runs", "Runs", "", 0),), (Row("all", "all", cells),))

from reproduce.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


def run(code: str, *arguments: str) -> str:
    command = [sys.executable, "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_registered_table_is_a_command_and_listed(tmp_path: Path) -> None:
    printed = run(REGISTER, "table7", "--run", "none", "--records", str(tmp_path), "--format", "json")
    (cell,) = json.loads(printed)["rows"]
    assert (cell["row"], cell["column"], cell["measured"]) == ("all", "runs", 0)
    assert "a table from outside" in run(REGISTER, "list")
    assert "a table from outside" in run(REGISTER, "--help")


def test_a_registered_study_has_recipes_and_a_plan_of_both_models() -> None:
    recipes = run(REGISTER, "list", "--recipes", "--format", "json")
    assert any(cell["column"] == "esc50" for block in json.loads(recipes)["blocks"] for cell in block["rows"])
    plan = json.loads(run(REGISTER, "plan", "table7", "--format", "json"))
    clips = {cell["row"]: cell["measured"] for cell in plan["rows"] if cell["column"] == "clips"}
    assert list(clips.values()) == [1600, 1600, 1600]  # both models by one protocol, and AST by its authors' recipe
