"""Run checkpoints: complete or absent, the previous one kept, damage reported, and one process per run."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from make_files import largest_file
from make_runs import RECIPE, make_model

from reproduce.datasets import Problem
from reproduce.errors import InputError
from reproduce.training.checkpoint_files import (
    delete_training_state,
    load_training_state,
    lock_run,
    save_training_state,
)
from reproduce.training.epoch_meter import EpochMeter
from reproduce.training.optimizers import make_optimizer
from reproduce.training.state import TrainingState, WeightAverage, check_content, weights

MIB = 2**20


def state_of(number: float) -> dict[str, Any]:
    return {"model": {"weight": torch.full((50,), number)}, "epoch": int(number), "history": [{"loss": number}]}


def refuse(line: str) -> None:
    pytest.fail(f"warned: {line}")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_saved_state_loads_again(tmp_path: Path) -> None:
    path = save_training_state(tmp_path / "run", 3, 120, state_of(3))
    assert path.name == "epoch-0003-step-000120.pt"
    state = load_training_state(tmp_path / "run", refuse)
    assert state is not None
    assert torch.equal(state["model"]["weight"], torch.full((50,), 3.0))
    assert (state["epoch"], state["history"]) == (3, [{"loss": 3.0}])


def test_a_folder_without_checkpoints_has_no_state(tmp_path: Path) -> None:
    assert load_training_state(tmp_path, refuse) is None
    assert load_training_state(tmp_path / "nowhere", refuse) is None


def test_the_newest_is_loaded_and_the_previous_one_kept(tmp_path: Path) -> None:
    for epoch, step in [(0, 9), (0, 100), (1, 0), (12, 3), (2, 5)]:
        save_training_state(tmp_path, epoch, step, state_of(epoch))
    kept = ["epoch-0002-step-000005.pt", "epoch-0012-step-000003.pt"]
    assert names(tmp_path) == sorted([*kept, *(f"{name}.sha256" for name in kept)])
    state = load_training_state(tmp_path, refuse)
    assert state is not None and state["epoch"] == 12


# --- damage ---------------------------------------------------------------------------------------------------------


def sum_of(path: Path) -> Path:
    return path.with_suffix(".pt.sha256")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def flip_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def lose_the_sum(path: Path) -> None:
    sum_of(path).unlink()


def spoil_the_sum(path: Path) -> None:
    sum_of(path).write_bytes(b"\xff\xfe\x00")


def make_a_folder_of_the_sum(path: Path) -> None:
    sum_of(path).unlink()
    sum_of(path).mkdir()


def write_with_its_sum(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    sum_of(path).write_text(hashlib.sha256(data).hexdigest())


def hold_another_schema(path: Path) -> None:
    torch.save({"schema": 2, **state_of(2)}, path)
    write_with_its_sum(path, path.read_bytes())


def hold_no_dictionary(path: Path) -> None:
    torch.save([1, 2], path)
    write_with_its_sum(path, path.read_bytes())


def hold_no_checkpoint(path: Path) -> None:
    write_with_its_sum(path, b"\x80\x02not a pickle")


def hold_half_a_zip(path: Path) -> None:
    write_with_its_sum(path, path.read_bytes()[:400])


DAMAGES = [
    truncate,
    empty,
    flip_a_byte,
    lose_the_sum,
    spoil_the_sum,
    make_a_folder_of_the_sum,
    hold_another_schema,
    hold_no_dictionary,
    hold_no_checkpoint,
    hold_half_a_zip,
]


@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_a_damaged_checkpoint_is_named_and_the_previous_one_loaded(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    earlier, last = (save_training_state(tmp_path, epoch, 0, state_of(epoch)) for epoch in (1, 2))
    damage(last)
    warned: list[str] = []
    state = load_training_state(tmp_path, warned.append)
    assert state is not None and state["epoch"] == 1
    assert warned == [f"{last}: this checkpoint is damaged; going back to {earlier.name}"]


def test_without_an_undamaged_checkpoint_there_is_no_state(tmp_path: Path) -> None:
    earlier, last = (save_training_state(tmp_path, epoch, 0, state_of(epoch)) for epoch in (1, 2))
    truncate(last)
    flip_a_byte(earlier)
    warned: list[str] = []
    assert load_training_state(tmp_path, warned.append) is None
    assert warned == [
        f"{last}: this checkpoint is damaged; going back to {earlier.name}",
        f"{earlier}: this checkpoint is damaged; starting from the beginning",
    ]


def content_of_a_run() -> tuple[dict[str, Any], torch.nn.Module, torch.optim.Optimizer]:
    """A checkpoint of one step, and the model and optimiser that it is of."""
    model = make_model()
    optimizer = make_optimizer(model, RECIPE)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    average = WeightAverage()
    average.add(model)
    state = TrainingState(
        epoch=1,
        meter=EpochMeter(loss=1.5, clips=8, steps=1),
        history=[{"epoch": 1, "loss": 0.5}],
        average=average,
        best={"epoch": 1, "metrics": {"top1": 50.0}},
        seconds=3.0,
        problems={"a": Problem("a", "truncated", "a.wav: truncated")},
    )
    content = {**state.to_dict(), "model": model.state_dict(), "optimizer": optimizer.state_dict(), "scaler": {}}
    return content, model, optimizer


def test_a_state_comes_back_from_its_dictionary_through_a_checkpoint(tmp_path: Path) -> None:
    content, model, optimizer = content_of_a_run()
    save_training_state(tmp_path, 1, 1, content)
    loaded = load_training_state(tmp_path, refuse, lambda content: check_content(content, model, optimizer))
    assert loaded is not None
    state = TrainingState.from_dict(loaded)
    assert (state.epoch, state.meter, state.history) == (1, EpochMeter(1.5, 8, 1), [{"epoch": 1, "loss": 0.5}])
    assert (state.best["metrics"], state.seconds, state.problems["a"].reason) == ({"top1": 50.0}, 3.0, "truncated")
    assert state.average.epochs == 1
    assert all(torch.equal(state.average.mean[name], value) for name, value in content["average"].items())


def test_a_meter_of_an_earlier_version_is_read() -> None:
    content = content_of_a_run()[0]
    content["sums"] = {"loss": 1.5, "clips": 8, "steps": 1, "seconds": 2.0, "lr": 0.1}
    assert TrainingState.from_dict(content).meter == EpochMeter(1.5, 8, 1, 2.0, 0.1)


def drop(*names: str) -> Callable[[dict[str, Any]], None]:
    return lambda content: [content.pop(name) for name in names] and None


def put(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda content: content.update({name: value})


def reshape_a_moment(content: dict[str, Any]) -> None:
    content["optimizer"]["state"][0]["exp_avg"] = torch.zeros(3)


def drop_the_steps(content: dict[str, Any]) -> None:
    del content["optimizer"]["state"][0]["step"]


def drop_a_weight(content: dict[str, Any]) -> None:
    content["model"] = dict(list(content["model"].items())[1:])


def make_a_weight_sparse(content: dict[str, Any]) -> None:
    name, value = next(iter(content["model"].items()))
    content["model"] = {**content["model"], name: value.to_sparse()}


def drop_a_group(content: dict[str, Any]) -> None:
    content["optimizer"]["param_groups"].pop()


@pytest.mark.parametrize(
    "alter",
    [
        drop("epoch"),
        drop("model"),
        drop("optimizer"),
        put("history", "[1, 2"),
        put("history", "[]"),
        put("seconds", float("nan")),
        put("sums", {"clips": 1, "unknown": 2}),
        put("average", {"weight": torch.zeros(2)}),
        put("problems", '[{"clip_id": "a"}]'),
        put("optimizer", "text"),
        put("model", make_model("mast_debug").state_dict()),
        reshape_a_moment,
        drop_the_steps,
        drop_a_weight,
        make_a_weight_sparse,
        drop_a_group,
    ],
)
def test_content_of_something_else_is_a_damaged_checkpoint(
    tmp_path: Path, alter: Callable[[dict[str, Any]], None]
) -> None:
    content, model, optimizer = content_of_a_run()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    alter(content)
    save_training_state(tmp_path, 1, 1, content)
    warned: list[str] = []
    check = lambda content: check_content(content, model, optimizer)  # noqa: E731
    assert load_training_state(tmp_path, warned.append, check) is None
    assert len(warned) == 1 and "this checkpoint is damaged; starting from the beginning" in warned[0]
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


# --- disks that fill ------------------------------------------------------------------------------------------------


def test_a_refused_write_leaves_the_earlier_checkpoint_and_no_other_file(tmp_path: Path) -> None:
    save_training_state(tmp_path, 1, 0, state_of(1))
    before = names(tmp_path)
    large = {**state_of(2), "model": {"weight": torch.zeros(MIB)}}
    with largest_file(MIB), pytest.raises(InputError, match="no checkpoint written") as error:
        save_training_state(tmp_path, 2, 0, large)
    assert "\n" not in str(error.value)
    assert names(tmp_path) == before
    state = load_training_state(tmp_path, refuse)
    assert state is not None and state["epoch"] == 1
    save_training_state(tmp_path, 2, 0, large)
    state = load_training_state(tmp_path, refuse)
    assert state is not None and state["epoch"] == 2


def test_files_of_a_killed_writer_are_deleted(tmp_path: Path) -> None:
    (tmp_path / ".epoch-0001-step-000003.pt.abc.tmp").write_bytes(b"half")
    (tmp_path / "epoch-0001-step-000003.tmp").write_bytes(b"half")  # an earlier version's name
    (tmp_path / "epochs.jsonl").write_text("{}\n")
    save_training_state(tmp_path, 1, 5, state_of(1))
    kept = ["epoch-0001-step-000005.pt", "epoch-0001-step-000005.pt.sha256", "epochs.jsonl"]
    assert names(tmp_path) == kept


def test_a_finished_run_keeps_its_logs_and_no_checkpoints(tmp_path: Path) -> None:
    for epoch in (1, 2):
        save_training_state(tmp_path, epoch, 0, state_of(epoch))
    (tmp_path / "epochs.jsonl").write_text("{}\n")
    (tmp_path / ".epoch-0002-step-000001.pt.abc.tmp").write_bytes(b"half")
    delete_training_state(tmp_path)
    assert names(tmp_path) == ["epochs.jsonl"]


# --- weights --------------------------------------------------------------------------------------------------------


def test_borrowed_weights_are_given_back_also_after_an_error() -> None:
    model, other = make_model(seed=0), make_model(seed=1).state_dict()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(KeyError), weights(model, other):
        assert all(torch.equal(value, other[name]) for name, value in model.state_dict().items())
        raise KeyError
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_average_is_the_mean_of_the_weights_that_were_added() -> None:
    average, models = WeightAverage(), [make_model(seed=seed) for seed in range(3)]
    for model in models:
        average.add(model)
    for name, mean in average.mean.items():
        assert torch.allclose(mean, torch.stack([m.state_dict()[name] for m in models]).mean(dim=0), atol=1e-6)


# --- one process per run --------------------------------------------------------------------------------------------


def test_a_second_process_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    code = (
        "import sys\nfrom pathlib import Path\nfrom reproduce.errors import InputError\n"
        "from reproduce.training.checkpoint_files import lock_run\n"
        "try:\n    with lock_run(Path(sys.argv[1])): print('locked')\nexcept InputError as error: print(error)"
    )

    def other_process() -> str:
        return subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True).stdout

    with lock_run(folder):
        assert other_process() == f"{folder}: another process is training this run; wait for it, or stop it\n"
    assert other_process() == "locked\n"
