"""Bytes from one reader to several consumers at once, each in a thread of its own, in bounded memory.

Hashing is the slowest thing that a conversion does, and hashlib lets go of the interpreter while it works: so the
reader hands each chunk to the hashing lanes and goes on with the next. Chunks lie in a fixed pool of buffers; one is
used again when the last lane has let go of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from threading import Event, Lock, Thread

CHUNK = 1 << 19
BUFFERS = 8

Consume = Callable[[memoryview], object]
Watch = Callable[[int], None]  # told each number of bytes that is done
Watching = Callable[[int], Watch]  # told how many there will be


def unwatched(total: int) -> Watch:
    """Nobody looks."""
    return lambda size: None


class Buffer:
    """A reusable piece of memory, and how many lanes still read it."""

    __slots__ = ("users", "view")

    def __init__(self) -> None:
        self.view = memoryview(bytearray(CHUNK))
        self.users = 0


class Lane:
    """A thread that consumes views in the order in which they were put."""

    def __init__(self, pump: Pump) -> None:
        self._pump = pump
        self._queue: SimpleQueue[tuple[Consume, memoryview, Buffer | None] | None] = SimpleQueue()
        self._error: BaseException | None = None
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, consume: Consume, view: memoryview, buffer: Buffer | None = None) -> None:
        """Have `consume(view)` called; `buffer` is where the view lies, if it is one of the pump's."""
        self._queue.put((consume, view, buffer))

    def wait(self) -> None:
        """Wait until everything that was put is consumed. Raises what a consumer raised."""
        reached = Event()
        self._queue.put((lambda view: reached.set(), memoryview(b""), None))
        reached.wait()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        """Let the thread end when it has consumed what was put."""
        self._queue.put(None)

    def _run(self) -> None:
        while (item := self._queue.get()) is not None:
            consume, view, buffer = item
            try:
                consume(view)
            except BaseException as error:  # noqa: BLE001 - kept for `wait`; the buffers must keep flowing
                self._error = error
            if buffer is not None:
                self._pump.release(buffer)


class Pump:
    """A pool of buffers, and the lanes that read them."""

    def __init__(self) -> None:
        self.lanes: list[Lane] = []
        self._free: SimpleQueue[Buffer] = SimpleQueue()
        self._lock = Lock()
        for _ in range(BUFFERS):
            self._free.put(Buffer())

    def lane(self) -> Lane:
        lane = Lane(self)
        self.lanes.append(lane)
        return lane

    def take(self, users: int) -> Buffer:
        """A free buffer, to be released `users` times; waits until there is one."""
        buffer = self._free.get()
        buffer.users = users
        return buffer

    def release(self, buffer: Buffer) -> None:
        with self._lock:
            buffer.users -= 1
            if buffer.users == 0:
                self._free.put(buffer)


@contextmanager
def pumping() -> Iterator[Pump]:
    """A pump whose lanes end with the block, also where the block fails."""
    pump = Pump()
    try:
        yield pump
    finally:
        for lane in pump.lanes:
            lane.end()
