"""Where trained models come from: files, folders, the Hugging Face hub, published weights, the demo."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from models.pretrained import DownloadError, download
from models.transformers_ast import CONFIG_FILE, WEIGHTS_FILE, from_transformers, is_transformers_ast
from models.weight_files import TORCH_SUFFIXES, CheckpointError
from models.weight_formats import PublishedWeights
from reproduce.audio.spec import AudioSpec
from reproduce.errors import InputError, first_of
from reproduce.evaluation.demo import NAMES
from reproduce.evaluation.inference import PUBLISHED, TrainedModel, hub_remedy, load_trained_model
from reproduce.records.naming import OWN_RECORDS_DIR, matching_runs, scored_runs
from reproduce.records.store import load_records

AST_AUDIOSET = "ast:audioset"
PREPROCESSOR_FILE = "preprocessor_config.json"  # of transformers
RUNS_NAMED = 3
_REPOSITORY = re.compile(r"[\w][\w.-]*/[\w][\w.-]*")


def open_model(source: str, device: str, function: str | None = None) -> TrainedModel:
    """Load a trained model by its file, folder or name.

    Args:
        source: what `load_trained_model` takes; "ast:audioset"; a folder with model.safetensors, of ours or
            transformers' AST; or a repository on the Hugging Face hub with such files.
        device: of the model.
        function: see `load_trained_model`.

    Raises:
        InputError: the weights cannot be had or read.
    """
    if source == AST_AUDIOSET:
        return load_trained_model(PUBLISHED, device)
    try:
        return _open(source, device, function)
    except InputError as error:
        run = "" if source in NAMES or Path(source).is_file() else _run_of(source)
        raise InputError(run or str(error)) from None


def _open(source: str, device: str, function: str | None) -> TrainedModel:
    path = Path(source)
    try:
        if _is_repository(source):
            path = _download(source)
        if not path.is_dir():
            return load_trained_model(source, device, function)
        if is_transformers_ast(path):
            return _from_transformers(path, device)
    except DownloadError as error:
        raise InputError(f"{error.what}: {hub_remedy(error)}") from None
    except CheckpointError as error:
        raise InputError(str(error)) from None
    return load_trained_model(str(path / WEIGHTS_FILE), device, function)


def _run_of(source: str) -> str:
    """What to pass where a source that cannot be loaded is the key or the name of a run; "" for no run."""
    folder = OWN_RECORDS_DIR.parent
    path = Path(source)
    text = path.name if path.parent.resolve() == folder.resolve() else source
    try:
        runs = matching_runs(scored_runs(load_records(OWN_RECORDS_DIR)), text) if text else []
    except InputError:  # the user asked for no record
        return ""
    if not runs:
        return ""
    found = [path for run in runs for path in sorted(folder.glob(f"{run.key}*.safetensors"))]
    if not found:
        return f"--model {source}: a run whose weights are no longer in {folder}: train it again (--run all)"
    return f"--model {source}: a run, not its weights: pass {first_of(found, RUNS_NAMED)}"


def _is_repository(source: str) -> bool:
    """Whether a source is "user/model" rather than a path, be it mistyped: its first part is no folder here."""
    path = Path(source)
    is_path = path.exists() or path.parent.is_dir() or path.suffix in (".safetensors", *TORCH_SUFFIXES)
    return not is_path and _REPOSITORY.fullmatch(source) is not None


def _download(repository: str) -> Path:
    """The folder of a repository's files in the hub's cache; other files than the weights may be absent.

    Raises:
        DownloadError: no network, no such repository, or no model.safetensors in it.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError

    url = f"https://huggingface.co/{repository}/resolve/main/{WEIGHTS_FILE}"
    weights = download(PublishedWeights(repo_id=repository, url=url, preset="", fields=()))
    for name in (CONFIG_FILE, PREPROCESSOR_FILE):
        try:
            hf_hub_download(repository, name)
        except (EntryNotFoundError, OSError):
            continue
    return weights.parent


def _from_transformers(folder: Path, device: str) -> TrainedModel:
    loaded = from_transformers(folder)
    mels, frames = loaded.model.config.input_size
    stated = _read_preprocessor(folder)
    try:
        front_end = AudioSpec(
            mels=mels,
            frames=frames,
            sample_rate=stated.get("sampling_rate", AudioSpec.sample_rate),
            mean=stated.get("mean", AudioSpec.mean),
            std=stated.get("std", AudioSpec.std),
        )
    except (TypeError, ValueError) as error:
        raise InputError(f"{folder / PREPROCESSOR_FILE}: {error}: copy or download it again") from None
    return TrainedModel(
        model=loaded.model.to(device),
        name="ast_base",
        front_end=front_end,
        labels={"label": loaded.labels},
        multilabel=loaded.multilabel,
    )


def _read_preprocessor(folder: Path) -> dict[str, Any]:
    """What transformers' feature extractor was given; empty without one: then AudioSet's normalisation holds."""
    try:
        stated = json.loads((folder / PREPROCESSOR_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stated if isinstance(stated, dict) else {}
