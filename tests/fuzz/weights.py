"""Weight files and checkpoints: our .safetensors, a run's .pt beside its checksum, published .pth."""

from __future__ import annotations

import copy
import hashlib
import json
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from fuzz.kind import Kind, command
from fuzz.mutators import VALUES, damage, damage_json, pick
from make_audio import tone
from make_runs import SPEC
from numpy.random import Generator

from models import create_model
from models.checkpoints import save_checkpoint
from models.pretrained import load_pretrained
from models.weight_files import CheckpointError, read_state_dict
from reproduce.errors import InputError
from reproduce.training.checkpoint_files import load_training_state, save_training_state
from reproduce.training.state import TrainingState, check_content

SIZE = (SPEC.mels, SPEC.frames)
OPTIMIZER = torch.optim.AdamW


def debug_model() -> Any:
    torch.manual_seed(0)
    return create_model("ast_debug", num_classes=2, input_size=SIZE)


def save_debug_model(path: Path) -> None:
    """A model of two classes that `predict` takes."""
    labels = {"label": ["low", "high"]}
    model = debug_model()
    save_checkpoint(path, model, "ast_debug", front_end=SPEC.to_dict(), labels=labels, multilabel=False)


# --- .safetensors -----------------------------------------------------------------------------------------------------


def _prepare_ours(seeds: Path) -> None:
    import soundfile

    save_debug_model(seeds / "model.safetensors")
    soundfile.write(seeds / "sound.wav", tone(300.0), 16_000)


def _mutate_ours(seeds: Path, case: Path, random: Generator) -> None:
    data = (seeds / "model.safetensors").read_bytes()
    if random.random() < 0.25:
        (case / "model.safetensors").write_bytes(_change_weights(data, random))
        return
    if random.random() < 0.6:
        (size,) = struct.unpack("<Q", data[:8])
        header = json.loads(data[8 : 8 + size])
        if random.random() < 0.7:
            (name,) = header["__metadata__"]
            description = damage_json(json.loads(header["__metadata__"][name]), random)
            header["__metadata__"][name] = json.dumps(description)
        else:
            header = damage_json(header, random)
        text = json.dumps(header).encode()
        data = struct.pack("<Q", len(text)) + text + data[8 + size :]
    else:
        data = damage(data, random)
    (case / "model.safetensors").write_bytes(data)


def _change_weights(data: bytes, random: Generator) -> bytes:
    """The file with single weights of other values."""
    (size,) = struct.unpack("<Q", data[:8])
    content = bytearray(data)
    for _ in range(int(random.integers(1, 20))):
        at = 8 + size + 4 * int(random.integers((len(data) - 8 - size) // 4))
        content[at : at + 4] = struct.pack("<f", pick((0.0, -1.0, 100.0, 1e30, float("nan")), random))
    return bytes(content)


def _run_ours(case: Path, seeds: Path) -> Any:
    model = case / "model.safetensors"
    return command("predict", "--model", model, seeds / "sound.wav", "--format", "json", "--device", "cpu")


def _warm_up_ours(seeds: Path) -> None:
    command("predict", "--model", seeds / "model.safetensors", seeds / "sound.wav", "--device", "cpu")


SAFETENSORS = Kind(name="safetensors", prepare=_prepare_ours, mutate=_mutate_ours, run=_run_ours, warm_up=_warm_up_ours)


# --- .pt --------------------------------------------------------------------------------------------------------------


@lru_cache
def _model_and_optimizer() -> tuple[Any, Any]:
    model = debug_model()
    optimizer = OPTIMIZER(model.parameters())
    model(torch.zeros(1, 1, *SIZE)).sum().backward()
    optimizer.step()
    return model, optimizer


def _prepare_state(seeds: Path) -> None:
    model, optimizer = _model_and_optimizer()
    state = TrainingState(epoch=1, history=[{"epoch": 1, "loss": 0.5}], best={"epoch": 1, "top1": 50.0})
    state.average.add(model)
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "scaler": {}, **state.to_dict()}
    save_training_state(seeds, 1, 0, content)


def _mutate_state(seeds: Path, case: Path, random: Generator) -> None:
    (source,) = seeds.glob("*.pt")
    path = case / source.name
    if random.random() < 0.6:
        content = torch.load(source, weights_only=True)
        torch.save(_damage_tensors(content, random), path)
    else:
        path.write_bytes(damage(source.read_bytes(), random))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    (case / f"{source.name}.sha256").write_text(digest if random.random() < 0.9 else "")


def _run_state(case: Path, seeds: Path) -> Any:
    model, optimizer = copy.deepcopy(_model_and_optimizer())
    warned: list[str] = []
    content = load_training_state(case, warned.append, lambda content: check_content(content, model, optimizer))
    if content is None:
        raise InputError(warned[0])
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    state = TrainingState.from_dict(content)
    return [state.epoch, state.seconds]


PT = Kind(
    name="pt",
    prepare=_prepare_state,
    mutate=_mutate_state,
    run=_run_state,
    warm_up=lambda seeds: _model_and_optimizer(),
)


def _damage_tensors(content: Any, random: Generator) -> Any:
    """A nested content with entries replaced, and tensors of other shapes, types and values."""
    holder = content
    while True:
        keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
        if not keys:
            return content
        key = pick(keys, random)
        below = holder[key]
        if not isinstance(below, (dict, list)) or not below or random.random() < 0.2:
            break
        holder = below
    value = holder[key]
    if isinstance(value, torch.Tensor) and random.random() < 0.7:
        choice = int(random.integers(6))
        if choice == 0:
            value = value.clone().float()
            value.view(-1)[: 1 + value.numel() // 3] = pick((float("nan"), float("inf"), 1e38), random)
        elif choice == 1:
            value = value.reshape(-1)[: value.numel() // 2]
        elif choice == 2:
            value = value.to(pick((torch.int8, torch.bool, torch.complex64, torch.float64, torch.float16), random))
        elif choice == 3:
            value = torch.zeros(1).expand(10 ** int(random.integers(1, 13)))
        elif choice == 4:
            value = value.to_sparse() if value.ndim else value
        else:
            value = value.unsqueeze(0)
        holder[key] = value
    elif isinstance(value, str) and value[:1] in "[{":
        try:
            holder[key] = json.dumps(damage_json(json.loads(value), random))
        except (IndexError, TypeError):
            holder[key] = pick(VALUES, random)
    elif isinstance(holder, dict) and random.random() < 0.3:
        holder[pick(("", "x", "model", 3), random)] = holder.pop(key)
    else:
        holder[key] = pick(VALUES, random)
    return content


# --- .pth -------------------------------------------------------------------------------------------------------------


def _published_model() -> Any:
    torch.manual_seed(0)
    return create_model("mast_debug", num_classes=2, input_size=SIZE)


def _prepare_published(seeds: Path) -> None:
    torch.save({"model": _published_model().state_dict()}, seeds / "published.pth")
    torch.save(_published_model().state_dict(), seeds / "old.pth", _use_new_zipfile_serialization=False)


def _mutate_published(seeds: Path, case: Path, random: Generator) -> None:
    source = pick(sorted(seeds.glob("*.pth")), random)
    if random.random() < 0.4:
        torch.save(_change_gently(torch.load(source, weights_only=True), random), case / "weights.pth")
    elif random.random() < 0.5:
        torch.save(_damage_tensors(dict(torch.load(source, weights_only=True)), random), case / "weights.pth")
    else:
        (case / "weights.pth").write_bytes(damage(source.read_bytes(), random))


def _change_gently(content: Any, random: Generator) -> Any:
    """Weights with single values changed, of another precision, or wrapped and named as other tools do."""
    state = dict(content.get("model", content))
    for key in [pick(sorted(state), random) for _ in range(int(random.integers(1, 4)))]:
        value = state[key].clone()
        match int(random.integers(5)):
            case 0:
                state[key] = value.to(pick((torch.float16, torch.bfloat16, torch.float64), random))
            case 1:
                state[key] = value.t() if value.ndim == 2 else value[None]
            case 2 if random.random() < 0.3:
                del state[key]
                break
            case _:
                value.view(-1)[int(random.integers(value.numel()))] = pick((0.0, -1.0, 1e4, 1e30, float("nan")), random)
                state[key] = value
    if random.random() < 0.3:
        state = {f"module.{key}": value for key, value in state.items()}
    wrapper = pick(("", "model", "model_state", "state_dict"), random)
    extra = pick(({}, {"epoch": 3}, {"cfg": {"a": [1]}}, {"optimizer": {"state": {}}}), random)
    return {wrapper: state, **extra} if wrapper else state


def _run_published(case: Path, seeds: Path) -> Any:
    model = _published_model()
    try:
        load_pretrained(model, case / "weights.pth")
    except CheckpointError as error:  # the command line prints its line
        raise InputError(str(error)) from None
    stored, _ = read_state_dict(case / "weights.pth")
    loaded = model.state_dict()
    # A head that does not fit is left as it was made; all else is what the file holds.
    for key, value in stored.items():
        if key in loaded and not key.startswith("head") and value.shape == loaded[key].shape:
            assert torch.equal(loaded[key], value.to(loaded[key].dtype)), f"{key} is not what the file holds"
    return [values.detach().numpy() for values in loaded.values()]


PTH = Kind(
    name="pth",
    prepare=_prepare_published,
    mutate=_mutate_published,
    run=_run_published,
    warm_up=lambda seeds: load_pretrained(_published_model(), seeds / "published.pth"),
)
KINDS = (SAFETENSORS, PT, PTH)
