"""Adapters that give any network of spectrograms what the harness needs: timm's, transformers', a user's own.

The network's last Linear, where its output is the network's output, becomes the `head`: its input is the embedding, and
it is replaced where the data have several heads. Of a network without such a layer the logits are the embedding.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from models.ast_model import resize_position_embedding
from models.classifier import ModelError, SpectrogramClassifier
from models.cost_items import CostItem, SavedActivations
from models.counted_costs import FLOP_COUNTER, counted_activations, counted_items, dry_pass
from models.foreign_sources import LogitsOf, Network, Request, SizeError, Wrapped, build_network
from models.layers import ClassifierHead, at_least_float32, check_heads, check_input, init_linear_weights
from models.names import HF, TIMM, is_function, split_name
from models.weight_files import DAMAGE, CheckpointError
from models.weight_formats import Action, WeightSource

NET = "net."
PRETRAINED = "pretrained"  # the network's own published weights
PADDED_TO = (16, 32)  # patches and windows of most networks divide these
POSITIONS = ("pos_embed", "position_embeddings", "cls_token", "distillation_token")


@dataclass(frozen=True)
class ForeignConfig:
    """What an adapted network is built from.

    Args:
        name: see `models/foreign_sources.py`.
        num_classes: of the one head, or {head name: classes}.
        input_size: (mels, frames).
        in_chans: channels of the spectrogram.
        drop_path_rate: stochastic depth, where the network has any.
        settings: a transformers config as JSON values; {} reads the config's file.
    """

    name: str
    num_classes: int | Mapping[str, int] = 527
    input_size: tuple[int, int] = (128, 1024)
    in_chans: int = 1
    drop_path_rate: float = 0.0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_heads(self.num_classes)
        object.__setattr__(self, "input_size", tuple(self.input_size))  # JSON gives lists back

    def request(self, pretrained: bool = False) -> Request:
        """What to build; several heads share one classifier until it is replaced."""
        classes = self.num_classes if isinstance(self.num_classes, int) else sum(self.num_classes.values())
        return Request(
            name=self.name,
            classes=classes,
            size=self.input_size,
            channels=self.in_chans,
            drop_path_rate=self.drop_path_rate,
            settings=self.settings,
            pretrained=pretrained,
        )


class ForeignModel(SpectrogramClassifier):
    """A network of another library, or a user's, with our interface.

    Raises:
        ModelError: the network cannot be had, or does not map such log-mels to one logit per class.
    """

    config_class = ForeignConfig
    attention_paths: ClassVar[tuple[str, ...]] = ("reference", "sdpa")
    cost_counter = FLOP_COUNTER

    def __init__(self, config: ForeignConfig) -> None:
        super().__init__()
        request, network, (self.classifier, self._embedding_dim) = _build_fitting(config)
        self.config = replace(config, settings=network.settings)
        self.remarks, self.padded_size = network.remarks, request.size
        if request.size != config.input_size:
            self.remarks += (f"{config.name} takes {request.size_text}: the input is padded with zeros",)
        self.net = network.module
        self.head = self._take_head()
        self._checkpointing = False
        self._macs: tuple[CostItem, ...] | None = None

    def _take_head(self) -> ClassifierHead:
        """Move the network's classifier to `head`, or make one Linear per head in its place."""
        head = ClassifierHead(0, 0)
        if not self.classifier:
            if not isinstance(self.config.num_classes, int):
                heads = " and ".join(self.config.num_classes)
                raise ModelError(f"{self.config.name}: no Linear gives its logits: it cannot have heads {heads}")
            return head
        if isinstance(self.config.num_classes, int):
            head.fc = self.net.get_submodule(self.classifier)
        else:
            head = ClassifierHead(self._embedding_dim, self.config.num_classes)
            head.apply(init_linear_weights)
        self.net.set_submodule(self.classifier, nn.Identity())
        return head

    # --- Forward pass

    @property
    def embedding_dim(self) -> int:
        """Width of the classifier's input, or the classes of a network whose classifier is unknown."""
        return self._embedding_dim

    def forward_features(self, x: Tensor) -> Tensor:
        """(B, in_chans, mels, frames) to the input of the classifier (B, C).

        Raises:
            ModelError: batch normalisation cannot be trained on this one clip.
            ValueError: `x` does not have the size that the model was built for.
        """
        check_input(x, self.config.in_chans, self.config.input_size)
        if self.padded_size != self.config.input_size:
            mels, frames = (padded - own for padded, own in zip(self.padded_size, x.shape[2:], strict=True))
            x = nn.functional.pad(x, (0, frames, 0, mels))
        try:
            features: Tensor = self.net(x)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            remedy = "choose a batch (or --micro-batch) that leaves no clip alone"
            raise ModelError(
                f"{self.config.name}: its batch normalisation cannot train on one clip: {remedy}"
            ) from error
        return features

    def pool(self, features: Tensor) -> Tensor:
        """The embedding (B, C), at least in float32."""
        return at_least_float32(features)

    # --- How it is computed

    @property
    def attention(self) -> str:
        """How the network's own library computes attention, "none" where nothing is known of it."""
        fused = [module.fused_attn for module in self.net.modules() if hasattr(module, "fused_attn")]
        if fused:
            return "sdpa" if any(fused) else "reference"
        return str(getattr(self._transformers_config, "_attn_implementation", None) or "none")

    @property
    def _transformers_config(self) -> Any:
        return self.net.inner.config if isinstance(self.net, LogitsOf) else None

    @contextmanager
    def attention_by(self, path: str) -> Iterator[None]:
        """Compute attention by `path` inside the block: "sdpa" as the network does, "reference" by plain products."""
        if path != "reference":
            yield
            return
        modules: list[Any] = [module for module in self.net.modules() if hasattr(module, "fused_attn")]
        fused = [module.fused_attn for module in modules]
        config = self._transformers_config
        own = getattr(config, "_attn_implementation", None)
        try:
            for module in modules:
                module.fused_attn = False
            if own:
                config._attn_implementation = "eager"
            yield
        finally:
            for module, value in zip(modules, fused, strict=True):
                module.fused_attn = value
            if own:
                config._attn_implementation = own

    def set_grad_checkpointing(self, enable: bool = True) -> Self:
        """Recompute activations in the backward pass, where the network can; else a remark says so. Returns self."""
        net: Any = self.net.inner if isinstance(self.net, Wrapped) else self.net
        if enable == self._checkpointing:
            return self
        try:
            if hasattr(net, "gradient_checkpointing_enable"):  # transformers'
                (net.gradient_checkpointing_enable if enable else net.gradient_checkpointing_disable)()
            else:  # timm's
                net.set_grad_checkpointing(enable)
        except (AssertionError, AttributeError, ValueError):
            self.remarks += (f"{self.config.name} cannot recompute activations: --grad-checkpointing is ignored",)
            return self
        self._checkpointing = enable
        return self

    def no_weight_decay(self) -> set[str]:
        """What the network exempts itself, else its position embeddings and class tokens."""
        wrapped = isinstance(self.net, Wrapped)
        exempt = getattr(self.net.inner if wrapped else self.net, "no_weight_decay", None)
        names = {name for name, _ in self.named_parameters()}
        if callable(exempt):  # timm's also names tokens that this network lacks
            return names & {f"{NET}inner.{name}" if wrapped else NET + name for name in exempt()}
        return {name for name in names if name.endswith(POSITIONS)}

    # --- Cost of one clip

    def cost_items(self) -> Iterator[CostItem]:
        """MACs of one clip, by child module and kind, counted by torch's FlopCounterMode."""
        if self._macs is None:
            self._macs = counted_items(self, self._clips(1))
        return iter(self._macs)

    def saved_activations(
        self, batch: int, device: torch.device, dtype: torch.dtype = torch.float32
    ) -> Iterator[SavedActivations]:
        """Activations that autograd saves of one clip, an entry per tensor; the same on every device."""
        return iter(counted_activations(self, self._clips(2)))

    def _clips(self, batch: int) -> Tensor:
        return torch.zeros(batch, self.config.in_chans, *self.config.input_size, device="meta")

    # --- Weights

    def rename_key(self, key: str) -> str:
        """A key of the network's own state dict as ours; ours as it is."""
        if key.startswith((NET, "head.")) and key in self.state_dict():
            return key
        if isinstance(self.net, Wrapped) and not key.startswith("inner."):
            key = f"inner.{key}"
        if self.classifier and key.startswith(f"{self.classifier}."):
            return "head.fc." + key.removeprefix(f"{self.classifier}.")
        return NET + key

    def adapt(self, key: str, tensor: Tensor, target: Tensor, source: WeightSource) -> tuple[Tensor, Action]:
        """Sum the kernels of RGB images to one channel, and resize transformers' AST positions; see the base class."""
        if tensor.ndim == 4 and tensor.shape[1] == 3 and target.shape[1] == 1 and tensor.shape[2:] == target.shape[2:]:
            return tensor.to(target.dtype).sum(dim=1, keepdim=True), "summed channels"
        config = self._transformers_config
        if key.endswith("position_embeddings") and source.grid is not None and tensor.shape != target.shape:
            return resize_position_embedding(tensor.to(target.dtype), source.grid, ast_grid(config)), "resized"
        return tensor, "matched"

    def published_state(self, name: str) -> tuple[dict[str, Tensor], WeightSource]:
        """The network's own published weights, downloaded by its library, without a classifier of other classes.

        Raises:
            CheckpointError: the network has none, or they cannot be downloaded.
        """
        source = split_name(self.config.name)[0]
        if source not in (TIMM, HF) or name not in (PRETRAINED, *_origins(self.config.name)):
            known = " or ".join((PRETRAINED, *_origins(self.config.name))) if source in (TIMM, HF) else "a path"
            raise CheckpointError(f"{name}: no such published weights for {self.config.name}: use {known}")
        try:
            request = replace(self.config, settings={}).request(pretrained=True)
            donor: Network = build_network(replace(request, size=self.padded_size))
        except ModelError as error:
            raise CheckpointError(str(error)) from error
        state = dict(donor.module.state_dict())
        config = donor.module.inner.config if isinstance(donor.module, LogitsOf) else None
        grid = ast_grid(config) if hasattr(config, "time_stride") else None
        timm_cfg = getattr(donor.module, "pretrained_cfg", {})
        classes = timm_cfg.get("num_classes") if config is None else config.num_labels
        if classes != self.config.num_classes:  # timm's classifier is random then
            state = {key: value for key, value in state.items() if not key.startswith(f"{self.classifier}.")}
        return state, WeightSource(name=f"{self.config.name}, {name}", format=PRETRAINED, grid=grid)


def ast_grid(config: Any) -> tuple[int, int]:
    """Patches (frequency, time) of transformers' AST by its config."""
    return (
        (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1,
        (config.max_length - config.patch_size) // config.time_stride + 1,
    )


def _origins(name: str) -> tuple[str, ...]:
    """What our models call the data of a network's published weights: "imagenet" of timm's, "audioset" by the name."""
    if name.startswith(f"{TIMM}:"):
        return ("imagenet",)
    return ("audioset",) if "audioset" in name.lower() else ()


def _build_fitting(config: ForeignConfig) -> tuple[Request, Network, tuple[str, int]]:
    """What was built, the network, and its classifier: at the input's size, or at the next size that the network takes.

    Raises:
        ModelError: the network cannot be had, or takes none of these sizes; then the error is of the input's own.
    """
    request, first = config.request(), None
    for multiple in (1,) if is_function(config.name) else (1, *PADDED_TO):
        mels, frames = (-(-length // multiple) * multiple for length in config.input_size)
        padded = replace(request, size=(mels, frames))
        if multiple > 1 and padded == request:
            continue
        try:
            network = build_network(padded)
            return padded, network, _find_classifier(network.module, padded)
        except SizeError as error:
            first = first or error
    assert first is not None
    raise first


def _find_classifier(net: nn.Module, request: Request) -> tuple[str, int]:
    """(name, input width) of the Linear whose output is the network's; ("", classes) without such a layer.

    Raises:
        ModelError: the network fails on such log-mels, or does not give one logit per class.
    """
    seen = list[tuple[str, Tensor, Tensor]]()

    def note(name: str) -> Any:
        return lambda module, inputs, output: seen.append((name, inputs[0], output))

    hooks = [
        module.register_forward_hook(note(name))
        for name, module in net.named_modules()
        if name and isinstance(module, nn.Linear) and module.bias is not None
    ]
    training = net.training
    try:
        with torch.no_grad():
            output = dry_pass(net.eval(), torch.zeros(1, request.channels, *request.size, device="meta"))
    except (*DAMAGE, NotImplementedError) as error:
        raise request.does_not_fit("cannot take", error) from error
    finally:
        net.train(training)
        for hook in hooks:
            hook.remove()
    if not isinstance(output, Tensor) or tuple(output.shape) != (1, request.classes):
        given = tuple(output.shape) if isinstance(output, Tensor) else f"a {type(output).__name__}"
        raise ModelError(f"{request.name}: gives {given} for one clip: let it give logits (1, {request.classes})")
    for name, features, logits in seen:
        if logits is output and features.ndim == 2:
            return name, features.shape[1]
    return "", request.classes
