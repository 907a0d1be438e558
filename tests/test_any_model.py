"""`--models`: any model goes through the commands that compare models, from training to prediction by its weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from make_audio import make_esc50_folder

from reproduce.__main__ import main
from reproduce.errors import InputError
from reproduce.experiments.families import family, in_order, reference_of, size
from reproduce.experiments.model_names import ModelName, Source, parse_models
from reproduce.records.runs import SearchRun, TrainedRun
from reproduce.records.store import load_records

pytest.importorskip("timm", reason="the models need timm")
RESNET = "timm:test_resnet"
USERS_CODE = """
from torch import nn

def small(num_classes, input_size):
    features = nn.Conv2d(1, 4, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*features, nn.Linear(4, num_classes))
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return make_esc50_folder(tmp_path / "data")


def esc50(data: Path, work: Path, *options: str, command: str = "esc50") -> int:
    folders = ["--records", str(work / "records"), "--runs", str(work / "runs")]
    return main([command, "--data", f"esc50={data}", "--preset", "debug", *folders, *options])


# --- names


@pytest.mark.parametrize(
    ("text", "source", "reference"),
    [
        ("mast_tiny", Source.OURS, "mast_tiny"),
        ("timm:resnet18.a1_in1k", Source.TIMM, "resnet18.a1_in1k"),
        ("hf:MIT/ast-finetuned-audioset-10-10-0.4593", Source.HF, "MIT/ast-finetuned-audioset-10-10-0.4593"),
        ("hf:./folder", Source.HF, "./folder"),
        ("my.models:nets.small", Source.FUNCTION, "my.models:nets.small"),
        ("my_models:small@0123abcd", Source.FUNCTION, "my_models:small"),
    ],
)
def test_a_name_is_read_and_written_back(text: str, source: Source, reference: str) -> None:
    name = ModelName.parse(text)
    assert (name.source, name.reference) == (source, reference)
    assert str(name) == text


@pytest.mark.parametrize(
    "text", ["", "timm:", "hf:", "a:b:c", "a b", "mast-tiny", ":f", "m:", "a/b:c", "x,,y", "m:f,m:f"]
)
def test_what_is_no_list_of_names_is_one_line(text: str) -> None:
    with pytest.raises(InputError, match=r"write mast_tiny, timm:NAME|named twice"):
        parse_models(text)


def test_other_models_are_of_no_family_whatever_they_are_called() -> None:
    names = ["timm:resnet18", "mast_models:ast", "ast_models:tiny", "hf:MIT/ast"]
    assert [family(name) for name in names] == names
    assert [size(name) for name in names] == [""] * 4
    assert in_order(["timm:a", "mast_tiny", "ast_models:f", "ast_tiny"])[:2] == ["ast_tiny", "mast_tiny"]
    assert reference_of(["ast_tiny", "timm:a", "mast_tiny"]) == "mast_tiny"
    assert reference_of(["timm:b", "timm:a"]) == "timm:b"


# --- training


def test_three_models_are_trained_compared_and_used(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--folds", "1", "--models", f"ast_debug,{RESNET},mast_debug", "--format", "json")
    assert esc50(data, tmp_path, *options) == 0
    table = json.loads(capsys.readouterr().out)
    cells = {(cell["row"], cell["column"]): cell for cell in table["rows"]}
    for model in ("ast_debug", "mast_debug", RESNET):
        assert all(cells[model, column]["status"] == "measured" for column in ("top1", "macs", "params"))
    ratio = cells[f"ratio {RESNET}", "macs_full"]["measured"]
    assert ratio == pytest.approx(cells[RESNET, "macs_full"]["measured"] / cells["mast_debug", "macs_full"]["measured"])
    assert "torch FlopCounterMode" in cells[RESNET, "macs"]["conditions"]
    assert any("counted by torch FlopCounterMode" in note and RESNET in note for note in table["notes"])
    assert sum(note.startswith("Paired on the same") for note in table["notes"]) == 2

    (run,) = (run for run in load_records(tmp_path / "records").of_kind(TrainedRun) if run.model == RESNET)
    assert (run.label, run.macs_by, run.lr) == (RESNET, "torch FlopCounterMode", 1e-3)
    weights = str(tmp_path / f"runs/{run.key}.safetensors")
    assert main(["predict", str(data / "audio"), "--model", weights, "--format", "json"]) == 0
    assert {best["label"] for row in json.loads(capsys.readouterr().out) for best in row["label"]} == {"low", "high"}

    assert esc50(data, tmp_path, *options, "--run", "none") == 0
    again = json.loads(capsys.readouterr().out)
    assert again["rows"] == table["rows"]


def test_one_model_alone(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for model in ("mast_debug", RESNET):
        assert esc50(data, tmp_path, "--folds", "1", "--models", model, "--format", "json") == 0
        table = json.loads(capsys.readouterr().out)
        assert {cell["row"] for cell in table["rows"]} == {model, "baseline", "majority class"}


def test_a_search_finds_the_rate_of_another_model(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert esc50(data, tmp_path, "--models", RESNET, "--format", "json", command="tune") == 0
    cells = json.loads(capsys.readouterr().out)["rows"]
    assert {cell["column"] for cell in cells} == {RESNET}
    assert [run.lr for run in load_records(tmp_path / "records").of_kind(SearchRun)] == [1e-3, 3e-3]


def test_changed_code_of_a_users_function_is_another_model(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The code is imported from the working folder, and a file of weights runs it only if the user names it."""
    module = f"users_{abs(hash(tmp_path))}"
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")  # as `python -m` does
    source = tmp_path / f"{module}.py"
    keys = []
    for code in (USERS_CODE, USERS_CODE + "\n# changed\n", USERS_CODE):
        source.write_text(code)
        assert esc50(data, tmp_path, "--folds", "1", "--models", f"{module}:small", "--format", "json") == 0
        rows = json.loads(capsys.readouterr().out)["rows"]
        keys.append({cell["row"] for cell in rows if cell["row"].startswith(module)}.pop())
    assert keys[0] == keys[2] != keys[1]
    assert keys[0].startswith(f"{module}:small@")
    runs = load_records(tmp_path / "records").of_kind(TrainedRun)
    assert len(runs) == 2
    weights = str(tmp_path / f"runs/{runs[0].key}.safetensors")
    assert main(["predict", str(data / "audio"), "--model", weights]) == 2
    assert f"--function {module}:small" in capsys.readouterr().err
    assert main(["predict", str(data / "audio"), "--model", weights, "--function", f"{module}:small"]) == 0


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("timm:test_resnett", "did you mean test_resnet"),
        ("mast_huge", "unknown model 'mast_huge'"),
        ("no_module_of_this_name:f", "there is no such module"),
        ("json:dumps", "json:dumps"),
        ("timm:inception_v3", "cannot take 32 x 64 log-mels"),
    ],
)
def test_a_model_that_cannot_be_trained_is_one_line_before_any_sound_is_read(
    models: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert esc50(tmp_path / "no such folder", tmp_path, "--models", f"mast_debug,{models}") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: --models ")
    assert message in error


def test_what_a_model_cannot_do_is_told(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"users_{abs(hash(tmp_path))}"
    (tmp_path / f"{module}.py").write_text(USERS_CODE)
    monkeypatch.syspath_prepend(str(tmp_path))
    assert esc50(data, tmp_path, "--folds", "1", "--models", f"{module}:small", "--grad-checkpointing") == 0
    assert "cannot recompute activations: --grad-checkpointing is ignored" in capsys.readouterr().err


def test_batch_normalisation_of_parts_of_a_batch_is_told_and_of_one_clip_refused(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = f"users_{abs(hash(tmp_path))}"
    (tmp_path / f"{module}.py").write_text(USERS_CODE.replace("nn.Flatten()", "nn.BatchNorm2d(4), nn.Flatten()"))
    monkeypatch.syspath_prepend(str(tmp_path))
    options = "--folds", "1", "--models", f"{module}:small", "--micro-batch"
    assert esc50(data, tmp_path, *options, "1") == 2
    assert "batch normalisation cannot train on one clip: choose a batch" in capsys.readouterr().err.splitlines()[-1]
    assert esc50(data, tmp_path, *options, "8") == 0
    assert "batch normalisation sees 8 clips at a time, not 16" in capsys.readouterr().err


# --- costs and scaling


def test_costs_of_a_third_model_stand_beside_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--models", f"mast_debug,ast_debug,{RESNET}", "--records", str(tmp_path), "--format", "json"]
    assert main(["costs", *options]) == 0
    table = json.loads(capsys.readouterr().out)
    cells = {(cell["row"], cell["column"]): cell for cell in table["rows"]}
    macs = {key: cells["full", key]["measured"] for key in ("ast", "mast", RESNET)}
    assert cells["full", "ratio"]["measured"] == pytest.approx(macs["ast"] / macs["mast"])
    assert cells["full", f"ratio {RESNET}"]["measured"] == pytest.approx(macs[RESNET] / macs["mast"])
    assert "closed form" in cells["full", "ast"]["conditions"]
    assert "torch FlopCounterMode" in cells["full", RESNET]["conditions"]
    assert ("module-only, ptflops 0.7", RESNET) not in cells
    libraries = {cell["row"]: cell for cell in table["blocks"][2]["rows"] if cell["column"] == RESNET}
    assert libraries["torch FlopCounterMode, reference"]["measured"] == pytest.approx(macs[RESNET])
    by_block = [cell["measured"] for cell in table["blocks"][1]["rows"] if cell["column"] == RESNET]
    assert sum(by_block) == pytest.approx(macs[RESNET])
    assert main(["costs", *options]) == 0
    assert "3 recorded by these very models" in capsys.readouterr().err


def test_costs_of_a_model_that_cannot_be_had_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["costs", "--models", "timm:test_resnett", "--records", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: timm:test_resnett: timm ")


def test_scaling_times_a_third_model_in_turns_with_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = ["--records", str(tmp_path / "records"), "--figures", str(tmp_path / "figures")]
    scaling = ["scaling", "--preset", "debug", *folders, "--format", "json"]
    models = ["--models", f"ast_debug,{RESNET},mast_debug"]
    assert main([*scaling, *models]) == 0
    table = json.loads(capsys.readouterr().out)
    cells = {(cell["row"], cell["column"]): cell for cell in table["rows"]}
    assert {row for row, _ in cells} == {"1s", "2s"}
    macs = [cells["1s", f"{key}_full"]["measured"] for key in (RESNET, "mast")]
    assert cells["1s", f"ratio {RESNET}_full"]["measured"] == pytest.approx(macs[0] / macs[1])
    (block,) = table["blocks"]
    timed = {cell["column"] for cell in block["rows"]}
    assert timed >= {"ast_ms", "mast_ms", f"{RESNET}_ms", "ratio_ms", f"ratio {RESNET}_ms", f"{RESNET}_mib"}
    assert (tmp_path / "figures/scaling.svg").is_file()

    assert main([*scaling, *models, "--run", "none"]) == 0
    assert json.loads(capsys.readouterr().out) == table
    assert main([*scaling, "--models", RESNET]) == 0  # alone it is another measurement
    (alone,) = json.loads(capsys.readouterr().out)["blocks"]
    assert {cell["column"] for cell in alone["rows"]} == {f"{RESNET}_ms", f"{RESNET}_spread", f"{RESNET}_mib"}
    assert main([*scaling, *models, "--run", "none"]) == 0
    assert json.loads(capsys.readouterr().out)["blocks"] == [block]


def test_scaling_of_a_length_that_a_model_refuses_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--preset", "debug", "--records", str(tmp_path), "--figures", str(tmp_path)]
    assert main(["scaling", "--models", "timm:mvitv2_tiny", *options]) == 2
    assert "timm:mvitv2_tiny: cannot be built for 128 x" in capsys.readouterr().err
