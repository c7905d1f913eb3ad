"""A relay between a SuperNode and the SuperLink that counts, delays, loses and blocks bytes."""

import random
import socket
import threading
import time
from contextlib import suppress
from queue import Queue

CHUNK = 16_384  # bytes forwarded at a time
IN_FLIGHT = 1000  # most chunks that are under way
RETRANSMISSION = 1.0  # seconds by which a lost packet delays itself and all that follow it


class Relay:
    """Listens on a free port and forwards every connection to ``target`` unchanged.

    Parameters
    ----------
    target : int
        The SuperLink's port on this machine.
    delay : float
        Seconds until a chunk arrives.
    loss : float
        Share of chunks that are lost once and sent again ``RETRANSMISSION`` seconds later.
    """

    def __init__(self, target: int, delay: float = 0.0, loss: float = 0.0) -> None:
        self.target, self.delay, self.loss = target, delay, loss
        self.down = self.up = 0  # bytes so far
        self.cut = threading.Event()  # while it is set, nothing passes: the cable is pulled
        self._chance = random.Random(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more connections; open ones end with their programs."""
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                threading.Thread(target=self._connect, args=(near,), daemon=True).start()

    def _connect(self, near: socket.socket) -> None:
        try:
            far = socket.create_connection(("127.0.0.1", self.target))
        except OSError:
            near.close()
            return
        threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
        self._pump(far, near, True)

    def _pump(self, source: socket.socket, sink: socket.socket, down: bool) -> None:
        line: Queue[tuple[float, bytes]] = Queue(IN_FLIGHT)
        threading.Thread(target=self._deliver, args=(line, sink), daemon=True).start()
        with suppress(OSError):
            while chunk := source.recv(CHUNK):
                lost = self._chance.random() < self.loss
                arrives = time.monotonic() + self.delay + lost * RETRANSMISSION
                line.put((arrives, chunk))
                if down:
                    self.down += len(chunk)
                else:
                    self.up += len(chunk)
        line.put((time.monotonic() + self.delay, b""))

    def _deliver(self, line: Queue[tuple[float, bytes]], sink: socket.socket) -> None:
        with suppress(OSError):
            while True:
                arrives, chunk = line.get()
                time.sleep(max(0.0, arrives - time.monotonic()))
                while self.cut.is_set():
                    time.sleep(0.1)
                if not chunk:
                    break
                sink.sendall(chunk)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        sink.close()
