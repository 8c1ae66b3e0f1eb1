"""The devices that train together, through torch's DistributedDataParallel."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

__all__ = ["Group", "together"]


@dataclass(frozen=True, slots=True)
class Group:
    """One device among those that share every batch.

    Attributes:
        device: The device of this process.
        rank: Number of this device; 0 decides, measures and saves.
        size: Number of devices.
    """

    device: torch.device
    rank: int = 0
    size: int = 1

    def wrap(self, module: nn.Module) -> nn.Module:
        """The module, its gradients averaged over all devices."""
        if self.size == 1:
            return module
        return DistributedDataParallel(module, [self.device] if _is_cuda(self.device) else None)

    def agreed(self, *values: float) -> list[float]:
        """The values of rank 0, on every rank."""
        if self.size == 1:
            return list(values)
        shared = torch.tensor(values, dtype=torch.float64, device=self.device)
        distributed.broadcast(shared, 0)
        numbers: list[float] = shared.tolist()
        return numbers

    def mean(self, values: Tensor) -> Tensor:
        """The mean over all devices."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values / self.size


@contextmanager
def together(devices: Sequence[torch.device], follow: Callable[[Group], None]) -> Iterator[Group]:
    """Start a process for each device but the first; this process is rank 0.

    Args:
        devices: Devices to compute on.
        follow: Function of the other processes; importable and picklable, as they start afresh.
    """
    if len(devices) == 1:
        yield Group(devices[0])
        return
    backend = "nccl" if all(map(_is_cuda, devices)) else "gloo"
    with tempfile.TemporaryDirectory() as folder:
        rendezvous = f"file://{Path(folder, 'rendezvous').as_posix()}"
        groups = [Group(device, rank, len(devices)) for rank, device in enumerate(devices)]
        context = multiprocessing.get_context("spawn")
        # As many threads for each process as it would have if it were alone would be too many.
        threads = max(1, torch.get_num_threads() // len(devices))
        others = [
            context.Process(target=_other, args=(group, backend, rendezvous, follow, threads))
            for group in groups[1:]
        ]
        for process in others:
            process.start()
        try:
            with _joined(groups[0], backend, rendezvous):
                yield groups[0]
        finally:
            for process in others:
                process.join(timeout=10)
                process.terminate()


def _other(
    group: Group, backend: str, rendezvous: str, follow: Callable[[Group], None], threads: int
) -> None:
    # Ctrl-C reaches every process; rank 0 decides for all when to stop.
    for name in ("SIGINT", "SIGHUP", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    torch.set_num_threads(threads)
    with _joined(group, backend, rendezvous):
        follow(group)


@contextmanager
def _joined(group: Group, backend: str, rendezvous: str) -> Iterator[None]:
    if _is_cuda(group.device):
        torch.cuda.set_device(group.device)
    distributed.init_process_group(
        backend, init_method=rendezvous, rank=group.rank, world_size=group.size
    )
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _is_cuda(device: torch.device) -> bool:
    return device.type == "cuda"
