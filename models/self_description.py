"""The description that our checkpoints contain: one JSON text in the metadata of the .safetensors file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.classifier import SpectrogramClassifier
from models.foreign import ForeignModel
from models.names import is_foreign
from models.registry import PRESETS
from models.weight_files import DAMAGE, CheckpointError, first_line, listed, read_metadata

FORMAT_VERSION = 1
METADATA_KEY = "self_description"


@dataclass(frozen=True, kw_only=True)
class Description:
    """What a checkpoint contains besides its weights.

    Args:
        path: of the file.
        model_name: the name that built the model, see `create_model`.
        config: fields of the model's config.
        front_end: parameters of the spectrogram, normalisation included.
        labels: class names of every head, in the order of the logits.
        multilabel: sigmoid per class (True) or softmax over classes.
        extra: what else was saved.
    """

    path: Path
    model_name: str
    config: dict[str, Any]
    front_end: dict[str, Any]
    labels: dict[str, list[str]]
    multilabel: bool
    extra: dict[str, Any]

    @property
    def family(self) -> type[SpectrogramClassifier]:
        """The model's class."""
        return ForeignModel if is_foreign(self.model_name) else PRESETS[self.model_name].family

    def parse_config(self, **changes: Any) -> Any:
        """The config of the family, with some fields changed.

        Raises:
            CheckpointError: the fields do not make a config.
        """
        fields = dict(self.config)
        fields.pop("attention", None)  # changes no output: this machine and this version choose
        for name, known in self.family.retired_fields.items():
            if fields.pop(name, known) != known:
                raise CheckpointError(f"{self.path}: {name} is no longer supported: load it with an older version")
        try:
            return self.family.config_class(**{**fields, **changes})
        except DAMAGE as error:
            raise CheckpointError(
                f"{self.path}: cannot build {self.model_name!r} ({first_line(error)}): check input_size and version"
            ) from error


def read_description(path: Path) -> Description | None:
    """Read what `save_checkpoint` wrote beside the weights; None if the file is not one of ours.

    Raises:
        CheckpointError: the file is damaged or of another version.
    """
    text = read_metadata(path).get(METADATA_KEY)
    if text is None:
        return None
    try:
        fields = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, first_line(error)) from error
    if not isinstance(fields, dict) or "format_version" not in fields:
        raise _damaged(path, "no format_version")
    if fields.pop("format_version") != FORMAT_VERSION:
        raise CheckpointError(f"{path}: not of format {FORMAT_VERSION}, which this version reads: update the package")
    types = {"model_name": str, "config": dict, "front_end": dict, "labels": dict, "multilabel": bool, "extra": dict}
    wrong = [name for name, type_ in types.items() if not isinstance(fields.get(name), type_)]
    if "labels" not in wrong:
        wrong += [f"labels of {head}" for head, names in fields["labels"].items() if not _are_names(names)]
    if wrong:
        raise _damaged(path, f"missing or wrong {listed(wrong)}")
    if not is_foreign(fields["model_name"]) and fields["model_name"] not in PRESETS:
        raise CheckpointError(f"{path}: unknown model {fields['model_name']!r}: update the package, or register it")
    if is_foreign(fields["model_name"]) and fields["config"].get("name") != fields["model_name"]:
        raise _damaged(path, "two names of its model")
    return Description(path=path, **{name: fields[name] for name in types})


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _are_names(names: Any) -> bool:
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _damaged(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(f"{path}: damaged description ({reason}): save or copy it again")
