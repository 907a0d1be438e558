"""The part of every batch that one of several processes (ranks) handles."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class RankShare:
    """The part of every batch that one rank handles.

    Args:
        rank: number of this process, from 0.
        world_size: number of processes.
        micro_batch: clips per forward pass; None takes the rank's whole part at once. Smaller micro-batches accumulate
            gradients, so the global batch stays the recipe's.

    Raises:
        ValueError: a rank outside the world, or a micro-batch below 1.
    """

    rank: int = 0
    world_size: int = 1
    micro_batch: int | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"need 0 <= rank < world_size, not {self}")
        if self.micro_batch is not None and self.micro_batch < 1:
            raise ValueError(f"micro_batch must be at least 1, not {self.micro_batch}")

    def of(self, total: int) -> range:
        """Positions of this rank among `total`: the ranks cover each position once, their sizes differ by at most 1."""
        return range(total * self.rank // self.world_size, total * (self.rank + 1) // self.world_size)

    def micro_batches(self, total: int) -> list[range]:
        """This rank's positions in a batch of `total` clips, per micro-batch; one empty range where it has none."""
        positions = self.of(total)
        size = self.micro_batch or max(1, len(positions))
        return [positions[i : i + size] for i in range(0, len(positions), size)] or [range(0)]
