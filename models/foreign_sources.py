"""Networks of timm, of transformers and of a user's own function, built to take log-mels. Nothing is downloaded here.

Names are "timm:resnet18", "hf:OWNER/NAME" or "hf:FOLDER" (a config.json), and "package.module:function". timm and
transformers take seconds to import: that happens when a network is built.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.classifier import ModelError
from models.names import HF, TIMM, split_name
from models.weight_files import DAMAGE, first_line

Size = tuple[int, int]
# Published configs that equal the defaults of their type in transformers: no config.json is needed.
DEFAULT_CONFIGS = {"MIT/ast-finetuned-audioset-10-10-0.4593": "audio-spectrogram-transformer"}


class SizeError(ModelError):
    """A network that does not take log-mels of this size."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What a network is built for.

    Args:
        name: as above; "@" and digits at its end say which version it was, and are ignored here.
        classes: size of its classifier.
        size: (mels, frames).
        channels: of the spectrogram.
        drop_path_rate: stochastic depth, where the network has any.
        settings: a transformers config as JSON values, so that no config.json is read; {} for the others.
        pretrained: with published weights, which are downloaded.
    """

    name: str
    classes: int
    size: Size
    channels: int = 1
    drop_path_rate: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)
    pretrained: bool = False

    @property
    def source(self) -> str:
        """ "timm", "hf" or the module of a function."""
        return split_name(self.name)[0]

    @property
    def reference(self) -> str:
        """What the source calls the network."""
        return split_name(self.name)[1]

    @property
    def size_text(self) -> str:
        """ "64 x 128 log-mels"."""
        return f"{self.size[0]} x {self.size[1]} log-mels"

    def does_not_fit(self, what: str, error: BaseException) -> SizeError:
        """The error of a network that is not made for this size."""
        return SizeError(str(self.cannot(f"{what} {self.size_text}", error, "choose another model or input")))

    def cannot(self, what: str, error: BaseException, remedy: str) -> ModelError:
        """The error of this network: what went wrong, and what to do."""
        return ModelError(f"{self.name}: {what} ({first_line(error) or type(error).__name__}): {remedy}")


@dataclass(frozen=True, kw_only=True)
class Network:
    """A network that maps (B, channels, mels, frames) to logits (B, classes).

    Args:
        module: the network.
        remarks: what was asked for and cannot be done.
        settings: what `Request.settings` takes to build it again.
    """

    module: nn.Module
    remarks: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)


def build_network(request: Request) -> Network:
    """Build a network on the CPU.

    Raises:
        ModelError: an unknown name, a missing package, or a network that does not take such log-mels.
    """
    build = {TIMM: _build_timm, HF: _build_hf}.get(request.source, _build_function)
    with torch.device("cpu"):  # whatever device a caller builds its own models on
        return build(request)


def _import(package: str, request: Request) -> Any:
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise request.cannot(f"needs the package {package}", error, f"pip install {package}") from error


def _optional(make: Callable[..., Any], wanted: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """Call `make` with as many of `wanted` as it takes; returns its result and the names that it refused."""
    wanted, refused = dict(wanted), list[str]()
    while True:
        try:
            return make(**wanted), refused
        except TypeError as error:
            name = next((name for name in wanted if f"argument '{name}'" in str(error)), None)
            if name is None:
                raise
            del wanted[name]
            refused.append(name)


def _drop_path_remarks(request: Request, refused: bool) -> tuple[str, ...]:
    if not refused or not request.drop_path_rate:
        return ()
    return (f"{request.name} has no drop path: drop_path_rate {request.drop_path_rate:g} is ignored",)


# --- timm


def _build_timm(request: Request) -> Network:
    timm = _import("timm", request)
    if not timm.is_model(request.reference):
        close = difflib.get_close_matches(request.reference, timm.list_models(), n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else "timm.list_models() lists them"
        raise ModelError(f"{request.name}: timm {timm.__version__} has no such model: {hint}")
    wanted: dict[str, Any] = {"in_chans": request.channels}
    cfg = timm.get_pretrained_cfg(request.reference)
    if cfg is None or cfg.fixed_input_size:
        wanted["img_size"] = request.size
    if request.drop_path_rate:
        wanted["drop_path_rate"] = request.drop_path_rate

    def make(**arguments: Any) -> nn.Module:
        model: nn.Module = timm.create_model(
            request.reference, pretrained=request.pretrained, num_classes=request.classes, **arguments
        )
        return model

    try:
        module, refused = _optional(make, wanted)
    except OSError as error:
        raise request.cannot(
            "its weights cannot be downloaded", error, "fetch them where there is a network"
        ) from error
    except DAMAGE as error:
        raise request.does_not_fit("cannot be built for", error) from error
    if "in_chans" in refused:
        module = RepeatChannels(module)
    return Network(module=module, remarks=_drop_path_remarks(request, "drop_path_rate" in refused))


class Wrapped(nn.Module):
    """A network `inner` whose inputs or outputs are changed."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner


class RepeatChannels(Wrapped):
    """Gives a network of RGB images the spectrogram as all three of its channels."""

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.expand(-1, 3, -1, -1))


# --- transformers


class LogitsOf(Wrapped):
    """transformers' classifiers as networks of spectrograms: (B, channels, mels, frames) to logits (B, classes)."""

    def __init__(self, inner: Any, takes_frames_first: bool) -> None:
        super().__init__(inner)
        self.takes_frames_first = takes_frames_first

    def forward(self, x: Tensor) -> Tensor:
        # AST takes (B, frames, mels), classifiers of images (B, channels, height, width).
        logits: Tensor = self.inner(x[:, 0].transpose(1, 2) if self.takes_frames_first else x).logits
        return logits


def _build_hf(request: Request) -> Network:
    transformers = _import("transformers", request)
    config = _hf_config(transformers, request)
    audio = type(config) in transformers.MODEL_FOR_AUDIO_CLASSIFICATION_MAPPING
    images = type(config) in transformers.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING
    if not images and not (audio and hasattr(config, "num_mel_bins") and hasattr(config, "max_length")):
        raise ModelError(
            f"{request.name}: a {config.model_type} takes no spectrograms: choose AST or a model of images"
        )
    sizes: dict[str, Any] = {"num_mel_bins": request.size[0], "max_length": request.size[1]}
    door = transformers.AutoModelForAudioClassification
    if images:
        door, sizes = transformers.AutoModelForImageClassification, {"num_channels": request.channels}
        sizes |= {"image_size": request.size} if hasattr(config, "image_size") else {}
    refused = _set_drop_path(config, request.drop_path_rate)
    try:
        if request.pretrained:  # at its own sizes
            inner = door.from_pretrained(request.reference, config=config)
        else:
            config.update({**sizes, "num_labels": request.classes})
            inner = door.from_config(config)
    except OSError as error:
        raise request.cannot("its weights cannot be had", error, "fetch them where there is a network") from error
    except DAMAGE as error:
        raise request.does_not_fit("cannot be built for", error) from error
    settings = json.loads(json.dumps(config.to_dict(), default=str))
    return Network(module=LogitsOf(inner, not images), remarks=_drop_path_remarks(request, refused), settings=settings)


def _set_drop_path(config: Any, rate: float) -> bool:
    """Set the config's stochastic depth; returns whether it has none."""
    if hasattr(config, "drop_path_rate"):
        config.drop_path_rate = rate
        return False
    return True


def _hf_config(transformers: Any, request: Request) -> Any:
    """The config by its own values, by the default of its type, by a folder, or by the hub's (or its cache's) file."""
    if request.settings:
        fields = {name: value for name, value in request.settings.items() if name != "model_type"}
        return transformers.AutoConfig.for_model(request.settings["model_type"], **fields)
    known = DEFAULT_CONFIGS.get(request.reference)
    if known is not None and not request.pretrained:
        return transformers.AutoConfig.for_model(known)
    try:
        try:
            return transformers.AutoConfig.from_pretrained(request.reference, local_files_only=True)
        except OSError:
            if Path(request.reference).exists():
                raise
            return transformers.AutoConfig.from_pretrained(request.reference)
    except DAMAGE as error:
        remedy = "check the name, or give a folder that has its config.json (hf:FOLDER)"
        raise request.cannot("its config.json cannot be had", error, remedy) from error


# --- a user's own function


def _build_function(request: Request) -> Network:
    function = find_function(request.source, request.reference, request)
    wanted: dict[str, Any] = {"num_classes": request.classes, "input_size": request.size}
    takes_rate = "drop_path_rate" in inspect.signature(function).parameters
    if takes_rate:
        wanted["drop_path_rate"] = request.drop_path_rate
    try:
        module = function(**wanted)
    except Exception as error:  # the user's own code may raise anything
        raise request.cannot(
            f"failed for num_classes={request.classes}, input_size={request.size}", error, "mend the function"
        ) from error
    if not isinstance(module, nn.Module):
        raise ModelError(f"{request.name}: returns a {type(module).__name__}: let it return a torch.nn.Module")
    return Network(module=module, remarks=_drop_path_remarks(request, not takes_rate))


def find_function(module: str, name: str, request: Request) -> Callable[..., Any]:
    """Import `module`, from the working folder too, and return its function `name`.

    Raises:
        ModelError: no such module or function.
    """
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())  # as `python -m` does; a console script does not
    try:
        found: Any = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
    except AttributeError as error:
        raise request.cannot(f"{module} has no {name}", error, "check the name of the function") from error
    except Exception as error:  # importing runs the user's own code
        remedy = "write timm:NAME, hf:NAME, or package.module:function, importable from here"
        raise request.cannot(f"cannot import {module}", error, remedy) from error
    if not callable(found):
        raise ModelError(f"{request.name}: {name} is a {type(found).__name__}: name a function that returns a model")
    return found  # type: ignore[no-any-return]
