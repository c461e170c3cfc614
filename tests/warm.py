"""`seesr` in processes of its own that need not import its libraries: they are forked from one that did.

Each is the program from its first line to its end, with arguments, environment, folder, streams, signals and exit code
of its own. What it does not show is its imports, and what Python or a library reads from the environment when it
begins: tests of those start Python anew.
"""

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import IO, Self

LARGEST = 2**18
"""Bytes of an order: arguments and environment."""


class Process:
    """One that was forked, as far as the tests look at it. What it prints goes to files."""

    def __init__(self, pid: int, ended: int, out: IO[bytes], err: IO[bytes]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._ended, self._out, self._err = ended, out, err

    def poll(self) -> int | None:
        """Return its exit code, or minus the signal that ended it; None while it runs."""
        return self._code(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return its exit code when it has ended. Raises TimeoutExpired."""
        code = self._code(timeout)
        if code is None:
            raise subprocess.TimeoutExpired("seesr", timeout or 0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Return what it has printed when it has ended; once."""
        self.wait(timeout)
        with self._out, self._err:
            return _whole(self._out), _whole(self._err)

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def _code(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._ended], [], [], timeout)[0]:
            self.returncode = int(os.read(self._ended, 16))
            os.close(self._ended)
        return self.returncode


NETWORKS = (
    "seesr_cli.cli.upscale",
    "seesr_cli.report.screen",
    "seesr_cli.run.batch",
    "seesr_cli.restore.upscaler",
    "transformers.models.clip.modeling_clip",
    "transformers.models.clip.tokenization_clip",
)
"""What `seesr upscale` imports."""

WEIGHTS = ("seesr_cli.cli.weights", "seesr_cli.report.screen", "seesr_cli.report.inventory", "httpx2")
"""What `seesr weights` imports, without huggingface_hub, which reads the environment when it is imported."""


class Kiln:
    """A process that has imported `libraries`, from which others are forked."""

    def __init__(self, libraries: Sequence[str]) -> None:
        self._libraries = libraries

    def __enter__(self) -> Self:
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, __file__, str(theirs.fileno()), *self._libraries]
            self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        return self

    def __exit__(self, *_: object) -> None:
        self._orders.close()
        self._process.wait()

    def start(self, *arguments: str | Path, environment: Mapping[str, str] = os.environ) -> Process:
        """Start `seesr` with these arguments, in this folder and `environment`."""
        out, err = (tempfile.TemporaryFile() for _ in range(2))  # noqa: SIM115  # what it prints is read at its end
        ended, ending = os.pipe()
        order = [[*map(str, arguments)], {**environment}, str(Path.cwd())]
        streams = [out.fileno(), err.fileno(), ending]
        socket.send_fds(self._orders, [json.dumps(order).encode()], streams)
        os.close(ending)
        return Process(int(self._orders.recv(16)), ended, out, err)


def _whole(stream: IO[bytes]) -> bytes:
    stream.seek(0)
    return stream.read()


def serve(orders: socket.socket) -> None:
    """Fork a process for each order, and tell of its end; return in each of them, ready to run."""
    endings: dict[int, int] = {}
    woken, waking = os.pipe()
    for end in (woken, waking):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(waking, warn_on_full_buffer=False)
    while True:
        ready = select.select([orders.fileno(), woken], [], [])[0]
        if woken in ready:
            os.read(woken, 2**10)
            for pid in list(endings):
                if (ended := os.waitpid(pid, os.WNOHANG))[0]:
                    ending = endings.pop(pid)
                    os.write(ending, str(os.waitstatus_to_exitcode(ended[1])).encode())
                    os.close(ending)
        if orders.fileno() in ready:
            message, fds, _, _ = socket.recv_fds(orders, LARGEST, 3)
            if not message:
                sys.exit()
            if not (pid := os.fork()):
                signal.set_wakeup_fd(-1)
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                for end in (woken, waking, fds[2], *endings.values()):
                    os.close(end)
                orders.close()
                return begin(fds, *json.loads(message))
            orders.send(str(pid).encode())
            endings[pid] = fds[2]
            for end in fds[:2]:
                os.close(end)


def begin(fds: list[int], arguments: list[str], environment: dict[str, str], folder: str) -> None:
    """Let this process have the streams in `fds`, and be as it was ordered."""
    for number, end in enumerate(fds[:2], start=1):
        os.dup2(end, number)
        os.close(end)
    os.setsid()  # signals to its process group reach it and its own children alone
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    sys.argv = ["seesr", *arguments]


if __name__ == "__main__":
    from seesr_cli.__main__ import run

    for name in sys.argv[2:]:
        import_module(name)
    with socket.socket(fileno=int(sys.argv[1])) as orders:
        serve(orders)
    run()
