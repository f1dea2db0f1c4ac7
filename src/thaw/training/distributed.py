"""Several processes that train as one: torchrun starts them, each takes its share of every batch.

A batch of the recipe is the batch of all processes together, so their number changes speed, not the training (results
agree to rounding: sums are taken in another order).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

Item = TypeVar("Item")


class World:
    """The processes of this training; alone, every method does nothing and costs nothing."""

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None) -> None:
        self.rank = rank
        self.size = size
        self.device = device or torch.device("cpu")

    @classmethod
    def join(cls, device: torch.device) -> World:
        """The world torchrun describes in the environment: gloo between hosts, NCCL between GPUs. Alone without it."""
        size = int(os.environ.get("WORLD_SIZE", "1"))
        if size == 1:
            return cls(device=device)
        if device.type == "cuda":
            torch.cuda.set_device(device)
        torch.distributed.init_process_group("cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo")
        return cls(torch.distributed.get_rank(), size, device)

    def leave(self) -> None:
        """Close the connections."""
        if self.size > 1:
            torch.distributed.destroy_process_group()

    @property
    def leads(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part of a batch; may be empty where a batch is smaller than the world."""
        return items if self.size == 1 else items[self.rank :: self.size]

    def total(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the processes: from host to host, so that no GPU is waited for."""
        if self.size == 1:
            return list(values)
        tensor = torch.tensor(values, dtype=torch.float64)
        torch.distributed.all_reduce(tensor)
        summed: list[float] = tensor.tolist()
        return summed

    def add_gradients(self, parameters: Iterable[Tensor]) -> None:
        """Sum the gradients over the processes, in one message; a process without a share adds zeros."""
        if self.size == 1:
            return
        owners = list(parameters)
        flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1) for p in owners])
        torch.distributed.all_reduce(flat)
        for owner, part in zip(owners, torch.split(flat, [p.numel() for p in owners]), strict=True):
            owner.grad = part.view_as(owner)

    def gather(self, items: Sequence[Item]) -> list[Item]:
        """The items of all processes, in the order of their ranks."""
        if self.size == 1:
            return list(items)
        parts: list[list[Item]] = [[] for _ in range(self.size)]
        torch.distributed.all_gather_object(parts, list(items))
        return [item for part in parts for item in part]

    def wait(self) -> None:
        """Return once every process got here."""
        self.total([0.0])
