"""Worker processes that read training batches ahead of the model."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from reproduce.errors import InputError

T = TypeVar("T")


def read_ahead(read: Callable[[int], T], items: int, device: str | torch.device, workers: int) -> Iterator[T]:
    """Yield read(0), read(1), ..., read(items - 1), in order.

    Args:
        read: reads one item; it is pickled or forked into the workers.
        items: number of items.
        device: where the items go; for a GPU their memory is pinned.
        workers: processes that read ahead, two items each; 0 reads in this process.

    Raises:
        InputError: what `read` raised, in this process too.
    """
    loader = DataLoader(
        _ItemDataset(read, items),
        batch_size=None,
        num_workers=workers,
        collate_fn=_unchanged,  # the default one turns arrays into tensors
        prefetch_factor=2 if workers else None,
        pin_memory=torch.device(device).type == "cuda",
        worker_init_fn=_start_worker,
        generator=torch.Generator(),  # otherwise DataLoader draws from the global generator, which drop path uses
    )
    for item in loader:
        if isinstance(item, InputError):
            raise item
        yield item


def _unchanged(item: T) -> T:
    return item


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)  # there are as many workers as cores
    # Schedulers and terminals signal whole process groups. The training process decides when to stop: it needs its
    # clips until its checkpoint is written, and its workers end with it.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the training process is gone.

    torch's own watch starts after this function's caller: a worker whose parent was killed before that stays forever.
    """
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _ItemDataset(Dataset[T | InputError]):
    """Item i is read(i), or the InputError it raised: DataLoader would wrap a raised one into a traceback."""

    def __init__(self, read: Callable[[int], T], items: int) -> None:
        self.read, self.items = read, items

    def __len__(self) -> int:
        return self.items

    def __getitem__(self, number: int) -> T | InputError:
        try:
            return self.read(number)
        except InputError as error:
            return error
