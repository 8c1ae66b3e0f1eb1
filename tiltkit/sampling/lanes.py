"""Several iterators at once, each in a thread of its own: one per GPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import TypeVar

__all__ = ["side_by_side"]

T = TypeVar("T")


def side_by_side(lanes: Sequence[Iterator[T]]) -> Iterator[T]:
    """Yield what any lane yields, as it comes; a single lane runs in the caller's own thread.

    Kernels of several GPUs run at the same time as long as each has a thread that starts them. A
    lane that raises, or a caller who stops early, closes all lanes after their current item.
    """
    if len(lanes) == 1:
        yield from lanes[0]
        return
    found: SimpleQueue[tuple[T | None, BaseException | None, bool]] = SimpleQueue()
    stop = threading.Event()

    def work(lane: Iterator[T]) -> None:
        error = None
        try:
            for item in lane:
                found.put((item, None, False))
                if stop.is_set():
                    break
            close = getattr(lane, "close", None)
            if close is not None:
                close()
        except BaseException as caught:
            error = caught
        found.put((None, error, True))

    threads = [threading.Thread(target=work, args=(lane,)) for lane in lanes]
    for thread in threads:
        thread.start()
    running = len(threads)
    try:
        while running:
            item, error, ended = found.get()
            running -= ended
            if error is not None:
                raise error
            if item is not None:
                yield item
    finally:
        stop.set()
        for thread in threads:
            thread.join()
