"""What makes two runs the same run: the clips, their labels and stretches, never their order or their folder."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from make_audio import make_esc50_folder
from make_records import make_cost_record

from reproduce.__main__ import main
from reproduce.datasets import ClipIndex, read_dataset
from reproduce.datasets.index import Labels
from reproduce.efficiency.cost_identity import cost_code, cost_experiment
from reproduce.records.store import append_record


@pytest.fixture
def index(tmp_path: Path) -> ClipIndex:
    return read_dataset("esc50", make_esc50_folder(tmp_path / "data"))


def test_order_and_folder_do_not_matter(index: ClipIndex, tmp_path: Path) -> None:
    backwards = index.take(np.arange(len(index))[::-1])
    assert backwards.identity_sha256() == index.identity_sha256()
    assert replace(index, root=tmp_path / "elsewhere").identity_sha256() == index.identity_sha256()


def test_labels_class_names_and_stretches_do(index: ClipIndex) -> None:
    rotated = Labels(index.labels["label"].offsets, np.roll(index.labels["label"].values, 1))
    renamed = {"label": tuple(name + "!" for name in index.classes["label"])}
    variants = [
        replace(index, labels={"label": rotated}),
        replace(index, classes=renamed),
        replace(index, start=np.zeros(len(index))),
        index.take(np.arange(len(index) - 1)),
    ]
    assert len({variant.identity_sha256() for variant in [index, *variants]}) == 5


def test_a_stored_cost_never_stands_for_the_one_measured_live(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    append_record(tmp_path, replace(make_cost_record("ast_base", macs=99e9), created="2999-01-01T00:00:00+00:00"))
    assert main(["table5", "--format", "json", "--records", str(tmp_path)]) == 0
    cells = {(c["row"], c["column"]): c["measured"] for c in json.loads(capsys.readouterr().out)["rows"]}
    assert round(cells["ast_our_as", "macs"], 1) == 103.4


def test_a_changed_model_source_or_config_is_another_code(tmp_path: Path) -> None:
    def code(source: str, **config: int) -> str:
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        (folder / "model.py").write_text(source)
        return cost_code(cost_experiment("ast_base", config), folder)

    assert code("a = 1") == code("a = 1")
    assert len({code("a = 1"), code("a = 2"), code("a = 1", depth=2)}) == 3
