"""What does the training loop cost beside the bare forward and backward of its network?

    python benchmarks/training.py [--steps 40] [--device cpu] [--crop 96] [--batch 8]

Every row makes the same steps of the same network (2 channels, 32/64/96/128 features) in the same
precision. ``bare``: forward, loss and backward of one batch that lies ready, nothing else.
``tilt``: all of `tiltkit.training`: drawing and augmenting crops in a worker, the optimiser,
clipping, the average of the weights, looks at the losses. Others, where they are installed: a loop
of ours on lightning's Fabric or accelerate, and deepinv's Trainer, which draws noise in the main
process and averages no weights. ``bare`` is timed before and after each row, because machines
drift; on CPUs the median step counts, because other work comes in between. The figure to reach:
ratio at least 0.8 for ``tilt``.
"""

from __future__ import annotations

import argparse
import logging
import os
import time
import warnings
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from tiltkit.training.loss import loss_of
from torch import nn

from tiltkit.training.batches import Batch, batches
from tiltkit.training.group import Group
from tiltkit.training.job import Job, prepare
from tiltkit.training.learner import Learner, new_network
from tiltkit.training.loop import fit
from tiltkit.training.recipe import resolve

WARM = 5


def main() -> None:
    """Time and print."""
    args = arguments()
    torch.set_num_threads(args.threads)
    device = torch.device(args.device)
    rows: dict[str, Callable[[Job, torch.device], float]] = {"tilt": tilt}
    if find_spec("accelerate"):
        rows["accelerate"] = with_accelerate
    if find_spec("lightning_fabric"):
        rows["lightning Fabric"] = with_fabric
    if find_spec("deepinv"):
        rows["deepinv.Trainer"] = with_deepinv
    with TemporaryDirectory() as folder:
        job = make_job(Path(folder), args)
        print(f"{args.batch} crops of {args.crop} pixels, {device}, {args.threads} threads")
        print(f"{'':18}ms per step   bare   ratio")
        for name, row in rows.items():
            before = bare(job, device)
            seconds = row(job, device)
            alone = (before + bare(job, device)) / 2
            ratio = alone / seconds
            print(f"{name:18}{1e3 * seconds:11.1f}{1e3 * alone:7.1f}{ratio:8.2f}", flush=True)


def make_job(folder: Path, args: argparse.Namespace) -> Job:
    """A training on made-up volumes: what the images show does not matter for time."""
    rng = np.random.default_rng(0)
    for name in "abc":
        np.save(folder / f"{name}.npy", rng.random((8, 256, 256), dtype=np.float32))
    values = {
        "output": str(folder / "prior.safetensors"),
        "data": {"paths": [str(folder)], "kind": "complex", "augment": "mri"},
        "training": {
            "steps": args.steps + WARM, "checks": 1, "crop": args.crop, "batch": args.batch,
            "precision": args.precision,
        },
    }  # fmt: skip
    return prepare(resolve(values))


def learner_of(job: Job, device: torch.device) -> Learner:
    """The network with its optimiser."""
    net = new_network(job.recipe, job.sigma_data, job.sigma_range)
    return Learner(net, device, job.recipe.training)


def feed(job: Job) -> Iterator[Batch]:
    """Batches from one worker."""
    return batches(job.batches(0, 1), 0, 1, pin=False)


def timed(step: Callable[[], Any], steps: int, device: torch.device) -> float:
    """Seconds per step, the first few left out."""
    tick = clock(marks := [], device, steps)
    for _ in range(WARM + steps):
        tick()
        step()
    tick()
    return per_step(marks, device)


def clock(marks: list[float], device: torch.device, steps: int) -> Callable[[], bool]:
    """Notes the time when called, which is before every step, and after the last one."""

    def tick() -> bool:
        waits = device.type == "cuda" and len(marks) in (WARM, WARM + steps)
        marks.append(now(device) if waits else time.perf_counter())
        return False

    return tick


def per_step(marks: list[float], device: torch.device) -> float:
    """Mean on GPUs, which work ahead of the clock between waits; else the median."""
    times = np.diff(marks[WARM:])
    return float(times.mean() if device.type == "cuda" else np.median(times))


def now(device: torch.device) -> float:
    """The time when the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def steps_of(job: Job) -> int:
    """Steps that are timed."""
    assert job.recipe.training.steps is not None
    return job.recipe.training.steps - WARM


def bare(job: Job, device: torch.device) -> float:
    """Forward, loss and backward of one batch that lies ready."""
    learner = learner_of(job, device)
    noisy, target, sigma, noise = (t.to(device) for t in job.batches(0, 1)[0])

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=learner.low):
            denoised = learner.net(noisy, sigma)
        loss_of(denoised, target, sigma, noise, job.sigma_data).backward()
        for parameter in learner.net.parameters():
            parameter.grad = None

    return timed(step, max(10, steps_of(job) // 2), device)


def tilt(job: Job, device: torch.device) -> float:
    """All of tiltkit's loop; its one check comes after the last step that counts."""
    tick = clock(marks := [], device, steps_of(job))  # asked before every step whether to stop
    for _ in fit(job, Group(device), resume=False, stop=tick):
        pass
    return per_step(marks, device)


def with_accelerate(job: Job, device: torch.device) -> float:
    """The same step, its parts prepared by accelerate."""
    from accelerate import Accelerator

    learner = learner_of(job, device)
    helper = Accelerator(cpu=device.type == "cpu", mixed_precision="bf16" if learner.low else "no")
    net, adam = helper.prepare(learner.net, learner.adam)
    source = feed(job)

    def step() -> None:
        noisy, target, sigma, noise = (t.to(helper.device) for t in next(source))
        with helper.autocast():
            denoised = net(noisy, sigma)
        loss = loss_of(denoised, target, sigma, noise, job.sigma_data)
        adam.zero_grad()
        helper.backward(loss)
        helper.clip_grad_norm_(net.parameters(), 1.0)
        adam.step()
        learner.average.update_parameters(learner.net)

    return timed(step, steps_of(job), device)


def with_fabric(job: Job, device: torch.device) -> float:
    """The same step, its parts set up by lightning's Fabric."""
    from lightning_fabric import Fabric

    learner = learner_of(job, device)
    precision: Any = "bf16-mixed" if learner.low else "32-true"
    fabric = Fabric(accelerator=device.type, devices=1, precision=precision)
    net, adam = fabric.setup(learner.net, learner.adam)
    source = feed(job)

    def step() -> None:
        noisy, target, sigma, noise = fabric.to_device(next(source))
        denoised = net(noisy, sigma)
        loss = loss_of(denoised, target, sigma, noise, job.sigma_data)
        adam.zero_grad()
        fabric.backward(loss)
        fabric.clip_gradients(net, adam, max_norm=1.0, error_if_nonfinite=False)
        adam.step()
        learner.average.update_parameters(learner.net)

    return timed(step, steps_of(job), device)


def with_deepinv(job: Job, device: torch.device) -> float:
    """The Trainer of deepinv with its own denoising physics and noise generator."""
    import deepinv
    from deepinv.physics.generator import SigmaGenerator
    from torch.utils.data import DataLoader, Dataset

    learner = learner_of(job, device)
    tick = clock(marks := [], device, steps_of(job))

    class Clean(Dataset[torch.Tensor]):
        def __len__(self) -> int:
            return (steps_of(job) + WARM + 1) * job.recipe.training.batch

        def __getitem__(self, index: int) -> torch.Tensor:
            return job.batches(0, job.recipe.training.batch)[index][1][0]

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = learner.net

        def forward(self, y: torch.Tensor, physics: Any, **_: Any) -> torch.Tensor:
            tick()
            clean: torch.Tensor = self.net(y, physics.noise_model.sigma)
            return clean

    class Weighted(deepinv.loss.Loss):
        def forward(self, x_net: Any, x: Any, physics: Any, **_: Any) -> torch.Tensor:
            sigma = physics.noise_model.sigma
            weights = (sigma**2 + job.sigma_data**2) / (sigma * job.sigma_data) ** 2
            return (x_net - x).square().mean((1, 2, 3)) * weights

    trainer = deepinv.Trainer(
        model=Model().to(device),
        physics=deepinv.physics.Denoising(deepinv.physics.GaussianNoise(0.1)).to(device),
        physics_generator=SigmaGenerator(0.01, 5.0, device=device),
        train_dataloader=DataLoader(Clean(), job.recipe.training.batch, num_workers=1),
        losses=[Weighted()], metrics=[], optimizer=learner.adam, epochs=1, online_measurements=True,
        device=device, save_path=None, grad_clip=1.0, show_progress_bar=False, verbose=False,
        mixed_precision="bfloat16" if learner.low else False,
        compute_train_metrics=False, check_grad=True, plot_images=False,
    )  # fmt: skip
    trainer.train()
    return per_step(marks[: WARM + steps_of(job) + 1], device)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--crop", type=int, default=96)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--precision", default="auto")
    return parser.parse_args()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.getLogger("lightning_fabric").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="(accelerate|lightning_fabric|deepinv)")
    main()
