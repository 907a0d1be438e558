"""A batch on a CPU: each core computes its own clips, instead of a share of every operation.

torch's threads wait for each other after each of a thousand operations per forward pass, longer where decoding threads
use the same cores. Parts of a batch wait once. From the files of ESC-10 to the logits of mast_tiny at 128 x 512 on two
cores (Intel Xeon) took 1.20 times the time of the model alone without parts (96 clips), and takes 1.08 times with them
(400 clips); at 128 x 1024 it takes 0.91 times (64 clips), as parts make the model itself faster.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import torch
from torch import Tensor

from reproduce.pool import ordered_map

MAX_PARTS = 4  # with more threads than this Python's lock holds small models up
MIN_ELEMENTS = 2**17  # of the log-mels of a part, one clip of ten seconds: with fewer it does too

Batch = TypeVar("Batch")


@dataclass(frozen=True, kw_only=True)
class Outputs:
    """What a model gives for a batch.

    Args:
        embedding: (rows, dim), the input of the heads.
        heads: head -> logits (rows, classes).
        second_last: (rows, dim), the pooled tokens of the second-last block; None if not asked for.
    """

    embedding: Tensor
    heads: dict[str, Tensor]
    second_last: Tensor | None = None


Forward = Callable[[Tensor], Outputs]


@contextmanager
def by_parts(forward: Forward, device: torch.device) -> Iterator[Forward]:
    """`forward`, computed in one part per thread of torch where a CPU's batch has a row for each.

    Args:
        forward: of a batch (rows, ...), row by row; it is called on several threads at once.
        device: of the batches.
    """
    threads = torch.get_num_threads()
    if device.type != "cpu" or not 1 < threads <= MAX_PARTS:
        yield forward
        return

    def forward_parts(inputs: Tensor) -> Outputs:
        if len(inputs) < threads or inputs.numel() < threads * MIN_ELEMENTS:
            return forward(inputs)
        return _joined(list(pool.map(forward, inputs.tensor_split(threads))))

    try:
        with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield forward_parts
    finally:
        torch.set_num_threads(threads)  # a new thread takes the number that was set last


def _joined(parts: list[Outputs]) -> Outputs:
    blocks = [part.second_last for part in parts if part.second_last is not None]
    return Outputs(
        embedding=torch.cat([part.embedding for part in parts]),
        heads={head: torch.cat([part.heads[head] for part in parts]) for head in parts[0].heads},
        second_last=torch.cat(blocks) if blocks else None,
    )


def one_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """`batches`, on a CPU the next one prepared on a thread of its own while the caller computes."""
    if device.type != "cpu" or torch.get_num_threads() == 1:
        yield from batches
        return
    iterator = iter(batches)
    for batch in ordered_map(lambda _: next(iterator, None), count(), workers=1, lookahead=2):
        if batch is None:
            return
        yield batch
