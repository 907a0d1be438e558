"""Which part of every batch one of several processes takes."""

from __future__ import annotations

from dataclasses import dataclass

# --- who reads what -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RankShare:
    """What one of several processes does of every batch.

    Args:
        rank, world_size: process `rank` of `world_size`.
        micro_batch: clips that the device takes at once, None for its whole share: with fewer, gradients accumulate
            and the global batch stays what the recipe says.
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
        """Its stretch of `total` items: all processes together cover each once, and differ by one item at most."""
        return range(total * self.rank // self.world_size, total * (self.rank + 1) // self.world_size)

    def micro_batches(self, total: int) -> list[range]:
        """Its stretch of a batch of `total` clips, in pieces. Where it has none, one empty piece."""
        own = self.of(total)
        size = self.micro_batch or max(1, len(own))
        return [own[i : i + size] for i in range(0, len(own), size)] or [range(0)]
