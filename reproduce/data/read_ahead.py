"""Worker processes that read batches ahead of training."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from reproduce.errors import InputError

T = TypeVar("T")


def read_ahead(read: Callable[[int], T], items: int, device: str | torch.device, workers: int) -> Iterator[T]:
    """read(0), read(1), ... by `workers` processes ahead, or here with none; page-locked on their way to a GPU."""
    loader = DataLoader(
        _Items(read, items),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,  # the default one makes tensors of arrays
        prefetch_factor=2 if workers else None,
        pin_memory=torch.device(device).type == "cuda",
        worker_init_fn=_serve_quietly,
        generator=torch.Generator(),  # without one it draws a seed from the global generator, which is the models'
    )
    for item in loader:
        if isinstance(item, InputError):
            raise item
        yield item


def _as_it_is(item: T) -> T:
    return item


def _serve_quietly(worker: int) -> None:
    torch.set_num_threads(1)  # there are as many workers as cores
    # Schedulers and terminals signal whole process groups. Whether to stop is the training process' to decide: it must
    # have its clips until its checkpoint is written, and workers end with it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


class _Items(Dataset[T | InputError]):
    """An InputError is handed over as an item: raised in a worker, its line would arrive as a traceback of many."""

    def __init__(self, read: Callable[[int], T], items: int) -> None:
        self.read, self.items = read, items

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, number: int) -> T | InputError:
        try:
            return self.read(number)
        except InputError as error:
            return error
