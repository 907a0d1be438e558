"""Share a trained model: a folder or a repository on the Hugging Face hub, with a model card.

from reproduce import Classifier, load_classifier
clf = load_classifier("runs/KEY.safetensors")
clf.save_pretrained("my-model", model_card_kwargs={"licence": "cc-by-4.0"})   # or clf.push_to_hub("user/my-model")
clf = Classifier.from_pretrained("my-model")                                   # or "user/my-model"
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

from huggingface_hub import ModelCard, ModelHubMixin

from models.ast_model import AST
from models.checkpoints import save_checkpoint, weights_sha256, write_safetensors
from models.transformers_ast import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    transformers_config,
    transformers_state,
)
from models.weight_files import CheckpointError
from reproduce.audio.spec import AudioSpec
from reproduce.environment import choose_device
from reproduce.errors import InputError
from reproduce.evaluation.inference import TrainedModel
from reproduce.evaluation.sources import PREPROCESSOR_FILE, open_model
from reproduce.files import write_text
from reproduce.records.naming import OWN_RECORDS_DIR
from reproduce.records.record import RunRecord
from reproduce.records.store import default_records, load_records

LIBRARY = "mast-vs-ast"
PAPERS = {"mast": "2303.10757", "ast": "2104.01778"}  # arXiv
SCORES = ("top1", "top5", "map", "mauc", "d_prime")
UNKNOWN_LICENCE, UNSTATED = "other", "not stated by who shared the model"
_FAILURE, _REMEDY = "cannot be written", "free space, or choose another folder"


class SharedModel(ModelHubMixin):
    """What huggingface_hub asks of a model: `from_pretrained`, `save_pretrained` and `push_to_hub`.

    The weights are one self-describing model.safetensors, as training writes it. A subclass has `trained` and takes it
    as its first argument, the device as its second.
    """

    trained: TrainedModel
    _hub_mixin_config: Any = {}  # noqa: RUF012 (set: the mixin then leaves the arguments of __init__ alone)

    def _save_pretrained(self, save_directory: Path) -> None:
        save_shared(self.trained, save_directory)

    @classmethod
    def _from_pretrained(cls, *, model_id: str, device: str = "auto", **options: Any) -> Self:
        source = model_id
        if not Path(model_id).is_dir():
            from huggingface_hub import hf_hub_download

            names = ("revision", "cache_dir", "force_download", "local_files_only", "token")
            arguments: dict[str, Any] = {name: options[name] for name in names}
            source = hf_hub_download(model_id, WEIGHTS_FILE, **arguments)
        chosen = choose_device(device)
        return cls(open_model(source, chosen), chosen)  # type: ignore[call-arg]

    def generate_model_card(self, *args: Any, **kwargs: Any) -> ModelCard:
        """The card by `model_card`, which names the keyword arguments (`model_card_kwargs` of the other methods)."""
        return ModelCard(model_card(self.trained, **kwargs))


def save_shared(trained: TrainedModel, folder: Path, records: Path | None = None) -> None:
    """Write model.safetensors and config.json; the description keeps the run's scores.

    Args:
        trained: the model.
        folder: created if need be; files of these names are replaced.
        records: folder of stored measurements, where the run's scores are looked up; None for those of the user's own
            runs and the default.

    Raises:
        InputError: a file cannot be written, or the model cannot be described.
    """
    record = _record_of(trained, records)
    run = _run_of(record) if record is not None else trained.metadata.get("run", {})
    labels = {head: list(trained.class_names(head, count)) for head, count in _heads(trained).items()}
    try:
        save_checkpoint(
            folder / WEIGHTS_FILE,
            trained.model,
            trained.name,
            front_end=trained.front_end.to_dict(),
            labels=labels,
            multilabel=trained.multilabel,
            extra={**trained.metadata, **({"run": run} if run else {})},
        )
    except CheckpointError as error:
        raise InputError(str(error)) from None
    config = {"library": LIBRARY, "model": trained.name, "front_end": trained.front_end.to_dict(), "labels": labels}
    write_text(folder / CONFIG_FILE, json.dumps(config, indent=1) + "\n", _FAILURE, _REMEDY)


def save_for_transformers(trained: TrainedModel, folder: Path) -> None:
    """Write a folder that transformers' ASTForAudioClassification and ASTFeatureExtractor read.

    Raises:
        InputError: not an AST, or not one that transformers can express, or with another spectrogram than transformers
            computes; or a file cannot be written.
    """
    if not isinstance(trained.model, AST):
        raise InputError(f"{trained.name}: transformers has no such model, only AST: use another --format")
    spec = trained.front_end
    for name in ("frame_length_ms", "frame_shift_ms", "low_hz", "high_hz", "preemphasis"):
        if (ours := getattr(spec, name)) != (theirs := getattr(AudioSpec, name)):
            raise InputError(
                f"{trained.name}: its spectrogram has {name} {ours:g}, that of transformers' ASTFeatureExtractor "
                f"always {theirs:g}: the model would predict something else there: use --format hub"
            )
    ((head, count),) = _heads(trained).items() if len(_heads(trained)) == 1 else [("", 0)]
    try:
        config = transformers_config(trained.model, trained.class_names(head, count), trained.multilabel)
        write_safetensors(folder / WEIGHTS_FILE, transformers_state(trained.model), {"format": "pt"})
    except CheckpointError as error:
        raise InputError(f"{folder}: {error}") from None
    extractor = {
        "feature_extractor_type": "ASTFeatureExtractor",
        "do_normalize": True,
        "feature_size": 1,
        "max_length": spec.frames,
        "mean": spec.mean,
        "num_mel_bins": spec.mels,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": False,
        "sampling_rate": spec.sample_rate,
        "std": spec.std,
    }
    for name, content in ((CONFIG_FILE, config), (PREPROCESSOR_FILE, extractor)):
        write_text(folder / name, json.dumps(content, indent=1) + "\n", _FAILURE, _REMEDY)


def _heads(trained: TrainedModel) -> dict[str, int]:
    """Name of a head -> its classes."""
    counts = trained.model.config.num_classes
    if isinstance(counts, Mapping):
        return dict(counts)
    return {next(iter(trained.labels), "label"): int(counts)}


# --- the model card ---------------------------------------------------------------------------------------------------


def model_card(
    trained: TrainedModel, *, licence: str = UNKNOWN_LICENCE, data_licence: str = "", records: Path | None = None
) -> str:
    """The README.md of a shared model: what it is, how it is used, its data, licences, scores and records.

    Args:
        trained: the model.
        licence: of the weights, as the hub writes it: "apache-2.0", "cc-by-4.0"; "other" where it was not given.
        data_licence: of the training data, in words.
        records: folder of stored measurements; None for those of the user's own runs and the default.
    """
    record = _record_of(trained, records)
    run: Mapping[str, Any] = _run_of(record) if record is not None else trained.metadata.get("run", {})
    experiment: Mapping[str, Any] = trained.metadata.get("experiment", {})
    family = trained.name.partition("_")[0]
    tags = ["audio-classification", "audio-spectrogram-transformer", family, "model_hub_mixin"]
    tags += [f"arxiv:{PAPERS[family]}"] if family in PAPERS else []
    head = ["---", f"license: {licence}", f"library_name: {LIBRARY}", "pipeline_tag: audio-classification", "tags:"]
    head += [*(f"- {tag}" for tag in tags), "---"]
    parts = [
        "\n".join(head),
        f"# {trained.name}\n\n{_what(trained)}",
        "## Use\n\n```python\nfrom reproduce import Classifier\n\n"
        'clf = Classifier.from_pretrained("THIS/REPOSITORY")\nprint(clf.predict("sound.wav").top(3))\n```\n\n'
        "`reproduce` is the package mast-vs-ast. Sounds of any rate and number of channels are mixed to mono and "
        f"resampled to {trained.front_end.sample_rate:,} Hz.",
        f"## Data\n\n{_data(experiment, run)}",
        f"## Scores\n\n{_scores(run)}",
        f"## Licence\n\nWeights: {_licence(licence)}. Training data: {data_licence or UNSTATED}.",
        f"## Classes\n\n{_classes(trained)}",
    ]
    return "\n\n".join(parts) + "\n"


def _what(trained: TrainedModel) -> str:
    spec, config = trained.front_end, trained.model.config
    parameters = sum(parameter.numel() for parameter in trained.model.parameters())
    kind = "several labels per sound (sigmoids)" if trained.multilabel else "one label per sound (softmax)"
    return (
        f"{type(trained.model).__name__} of {parameters / 1e6:.2f} M parameters on log-mel spectrograms of {spec.mels} "
        f"mels and {spec.frames} frames ({spec.seconds:.2f} s), {config.in_chans} channel; {kind}; "
        f"trained at {trained.scale} scale."
    )


def _data(experiment: Mapping[str, Any], run: Mapping[str, Any]) -> str:
    if not experiment:
        return "The weights do not say what they were trained on."
    splits = {name: ", ".join(map(str, experiment.get(f"{name}_splits", ()))) for name in ("train", "test")}
    lines = [f"- Data set: {experiment.get('dataset')} {experiment.get('protocol') or ''}".rstrip()]
    lines += [f"- {name.title()} splits: {names}" for name, names in splits.items() if names]
    data = run.get("dataset", {})
    lines += [f"- Training clips: {data['train_kept']:,}"] if isinstance(data.get("train_kept"), int) else []
    lines += [f"- Test clips: {data['test_kept']:,}"] if isinstance(data.get("test_kept"), int) else []
    lines += ["- **The data were synthetic stand-ins.**"] if data.get("standin") else []
    return "\n".join(lines)


def _scores(run: Mapping[str, Any]) -> str:
    metrics = {name: run.get("metrics", {}).get(name) for name in SCORES}
    rows = [f"| {name} | {value:.2f} |" for name, value in metrics.items() if isinstance(value, (int, float))]
    if not rows:
        return "No record of this run was at hand."
    source = f"Record `{run.get('key')}` of {run.get('created')}, commit `{run.get('commit') or 'unknown'}`."
    return "\n".join(["| Metric | Test |", "|---|---|", *rows, "", f"{source} Accuracies and mAP in per cent."])


def _licence(licence: str) -> str:
    return UNSTATED if licence == UNKNOWN_LICENCE else licence


def _classes(trained: TrainedModel) -> str:
    return (
        "\n".join(f"- {head}: {', '.join(names)}" for head, names in trained.labels.items()) or "The weights name none."
    )


def _record_of(trained: TrainedModel, records: Path | None) -> RunRecord | None:
    """The newest training record of the run by the weights' file name or their hash; None where there is none."""
    folders = (OWN_RECORDS_DIR, default_records()) if records is None else (records,)
    runs = [run for folder in folders for run in load_records(folder) if run.kind == "train"]
    digest = weights_sha256(trained.model) if runs else None
    return _newest(run.record for run in runs if trained.key == run.key or digest == run.weights_sha256)


def _newest(found: Iterable[RunRecord]) -> RunRecord | None:
    return max(found, key=lambda record: record.created, default=None)


def _run_of(record: RunRecord) -> dict[str, Any]:
    """What a card says of a record, as plain JSON values."""
    kept = ("train_kept", "test_kept", "standin")
    return {
        "key": record.key,
        "created": record.created,
        "commit": record.environment.get("commit"),
        "metrics": {name: record.metrics[name] for name in SCORES if name in record.metrics},
        "dataset": {name: record.dataset[name] for name in kept if name in record.dataset},
    }
