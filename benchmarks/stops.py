"""Stop runs at random moments, resume them, and compare all bits with those of an undisturbed run.

Each run is a process of its own, forked from this one, which has torch imported already. A part of
the stops is aimed at the moments while the result file is created. Signals: SIGKILL, SIGTERM,
SIGINT, SIGHUP and SIGUSR1; four in ten of those that a process can catch are followed by a second
one within 50 ms. Printed: the stops by signal, and how many

    differ       bits after --resume are not those of the undisturbed run
    stuck        --resume failed
    litter       other files than the result were left
    swallowed    the signal came before the result was complete, and the run went on to its end
    other code   the run ended with another exit code than 130
    noisy        it printed a traceback, or not exactly one "Stopped."

    OMP_NUM_THREADS=1 python benchmarks/stops.py --stops 140 --creation 60 --signals 100
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch

from tiltkit.cli import main
from tiltkit.cli.signals import catch_stops

CAUGHT = [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1]
OPTIONS = [
    "--prior", "gaussian", "--samples", "3", "-s", "sampler.levels=12", "-s", "sampler.collect=2",
]  # fmt: skip
DATASETS = ("samples/samples", "data/data", "data/data_errors", "quantiles/quantiles",
            "baseline/baseline")  # fmt: skip
DOUBLED = 0.4
LIMIT = 300.0


@dataclass
class Stopped:
    """A run that got a signal.

    Attributes:
        code: Exit code of the process; negative where a signal ended it.
        alive: The signal came before the result was complete.
        creating: The signal came while the result file was created.
        text: All that the run printed.
    """

    code: int
    alive: bool
    creating: bool
    text: str


def write_scan(path: Path) -> None:
    """Two slices of a bright disc by three coils, every third column and a full centre."""
    rng = np.random.default_rng(5)
    rows, columns = 40, 36
    y, x = np.meshgrid(np.linspace(-1, 1, rows), np.linspace(-1, 1, columns), indexing="ij")
    disc = (x**2 + y**2 < 0.35) * (1 + 0.5 * np.sin(6 * x))
    centres = ((-1, 0), (1, 0.5), (0, -1))
    coils = np.stack([np.exp(-((x - a) ** 2) - (y - b) ** 2) for a, b in centres])
    full = np.fft.ifftshift(coils * disc, axes=(1, 2))
    kspace = np.fft.fftshift(np.fft.fft2(full, norm="ortho"), axes=(1, 2))
    noise = rng.normal(size=(2, *kspace.shape, 2)) @ [0.01, 0.01j]
    mask = np.arange(columns) % 3 == 0
    mask[10:26] = True
    with h5py.File(path, "w") as file:
        file["kspace"] = ((kspace + noise) * mask * 1e-5).astype(np.complex64)
        file["mask"] = mask


def bits(result: Path) -> str:
    """Digest of all images of a result; empty where it cannot be read."""
    total = hashlib.sha256()
    try:
        with h5py.File(result) as file:
            for name in DATASETS:
                total.update(np.ascontiguousarray(file[f"entry/{name}"][()]).tobytes())
    except (OSError, KeyError):
        return ""
    return total.hexdigest()


def fork(arguments: list[str], log: Path) -> int:
    """Start a command in a process of its own; signals reach it once it has its handlers."""
    signal.pthread_sigmask(signal.SIG_BLOCK, CAUGHT)
    process = os.fork()
    if process:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)
        return process
    code = 99
    try:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.dup2(output, 1)
        os.dup2(output, 2)

        def catch() -> None:
            catch_stops()
            signal.pthread_sigmask(signal.SIG_UNBLOCK, CAUGHT)

        # The package's `main` is the function.
        vars(sys.modules["tiltkit.cli.main"])["catch_stops"] = catch
        sys.argv = ["tiltkit", *arguments]
        main(arguments)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(process: int) -> int:
    """The exit code of a process; one that hangs is killed."""
    limit = time.monotonic() + LIMIT
    while time.monotonic() < limit:
        ended, status = os.waitpid(process, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(process, signal.SIGKILL)
    os.waitpid(process, 0)
    raise TimeoutError(f"a run took more than {LIMIT:.0f} s")


def runs(process: int) -> bool:
    """Return whether a child is still there and no zombie."""
    state = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0]
    return state not in "ZX"


def stop(
    arguments: list[str],
    result: Path,
    number: signal.Signals,
    moment: Callable[[int], None],
    rng: random.Random,
) -> Stopped:
    """Run a command and send it a signal, perhaps two, at a moment."""
    log = result.with_suffix(".log")
    process = fork([*arguments, "-o", str(result)], log)
    moment(process)
    new, part = (result.with_name(result.name + end) for end in (".part.new", ".part"))
    creating = new.exists() and not part.exists()
    alive = runs(process) and not result.exists()
    os.kill(process, number)
    if number in CAUGHT and rng.random() < DOUBLED:
        time.sleep(rng.uniform(0, 0.05))
        os.kill(process, rng.choice(CAUGHT))  # a zombie takes it as well
    code = wait(process)
    text = log.read_text()
    log.unlink()
    return Stopped(code, alive, creating, text)


def at_random(seconds: float, rng: random.Random) -> Callable[[int], None]:
    """Any moment of a run, which takes so many seconds."""
    delay = rng.uniform(0, seconds)
    return lambda _process: time.sleep(delay)


def while_creating(result: Path, seconds: float, rng: random.Random) -> Callable[[int], None]:
    """A moment while the result file is created, which takes so many seconds."""
    new = result.with_name(result.name + ".part.new")
    delay = rng.uniform(0, seconds)

    def moment(process: int) -> None:
        while not new.exists() and runs(process):
            time.sleep(0.0002)
        time.sleep(delay)

    return moment


def faults(stopped: Stopped, number: signal.Signals) -> Iterator[str]:
    """What is wrong with the end of a run that was stopped."""
    if number == signal.SIGKILL or not stopped.alive:
        return
    if stopped.code == 0:
        yield "swallowed"
    elif stopped.code != 130:
        yield "other code"
    if "Traceback" in stopped.text or (stopped.code and stopped.text.count("Stopped.") != 1):
        yield "noisy"


def resumed(arguments: list[str], result: Path, reference: str) -> Iterator[str]:
    """What is wrong after --resume."""
    log = result.with_suffix(".log")
    if wait(fork([*arguments, "-o", str(result), "--resume"], log)):
        print(log.read_text())
        yield "stuck"
    elif bits(result) != reference:
        yield "differ"
    log.unlink()
    if [path.name for path in result.parent.glob(f"{result.name}*")] != [result.name]:
        yield "litter"
    for path in result.parent.glob(f"{result.name}*"):
        path.unlink()


def undisturbed(arguments: list[str], result: Path) -> tuple[str, float, float]:
    """Bits of a run, its seconds, and those that the creation of its file took."""
    start, log = time.monotonic(), result.with_suffix(".log")
    process = fork([*arguments, "-o", str(result)], log)
    new, part = (result.with_name(result.name + end) for end in (".part.new", ".part"))
    while not new.exists() and runs(process):
        time.sleep(0.0002)
    made = time.monotonic()
    while not part.exists() and runs(process):
        time.sleep(0.0002)
    creation = time.monotonic() - made
    if wait(process):
        raise SystemExit(log.read_text())
    return bits(result), time.monotonic() - start, creation


def main_job() -> int:
    """Stop, resume, compare, print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--stops", type=int, default=140, help="at any moment, then resumed")
    parser.add_argument("--creation", type=int, default=60, help="during creation, then resumed")
    parser.add_argument("--signals", type=int, default=100, help="at any moment, not resumed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    for number in CAUGHT:  # a shell ignores some of them for a job in the background
        signal.signal(number, signal.SIG_DFL)
    rng = random.Random(options.seed)  # noqa: S311  (moments, not secrets)
    found, sent = Counter[str](), Counter[str]()
    kinds = ["creation"] * options.creation + ["any"] * options.stops
    kinds += ["signal"] * options.signals
    creating = alive = 0
    with tempfile.TemporaryDirectory() as folder:
        scan, result = Path(folder) / "scan.h5", Path(folder) / "out.h5"
        write_scan(scan)
        arguments = ["run", "mri-recon", str(scan), *OPTIONS]
        trials = [undisturbed(arguments, Path(folder) / f"whole{k}.h5") for k in range(3)]
        reference, seconds, creation = trials[0][0], *(min(t[k] for t in trials) for k in (1, 2))
        print(f"a run takes {seconds:.2f} s, the creation of its file {creation:.3f} s", flush=True)
        for kind in kinds:
            choice = CAUGHT if kind == "signal" else [signal.SIGKILL, *CAUGHT]
            number = rng.choice(choice)
            if kind == "creation":
                moment = while_creating(result, creation, rng)
            else:
                moment = at_random(0.95 * seconds, rng)
            stopped = stop(arguments, result, number, moment, rng)
            wrong = list(faults(stopped, number))
            if kind == "signal":
                for path in Path(folder).glob("out.h5*"):
                    path.unlink()
            else:
                wrong += resumed(arguments, result, reference)
            sent[number.name] += 1
            creating += stopped.creating
            alive += stopped.alive
            found.update(wrong)
            if wrong:
                print(f"{kind} {number.name}: code {stopped.code}, {wrong}\n{stopped.text}")
    print(", ".join(f"{name} {count}" for name, count in sorted(sent.items())))
    print(f"{len(kinds)} signals, {alive} before the end, {creating} while the file was created")
    names = ("differ", "stuck", "litter", "swallowed", "other code", "noisy")
    print(", ".join(f"{name} {found[name]}" for name in names))
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main_job())
