"""The command as a process of its own: `seesr`, or `python -m seesr_cli`."""

import atexit
import os
import signal
import sys

from .errors import INTERRUPTED

WAITING = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME")
"""Environment variables by which a person says how threads wait for each other. Torch's library reads them once, when
torch is imported. By default threads compute while they wait, which takes the cores from other programs, and where
those have them, from the threads that are waited for (docs/decisions/0019)."""


def run() -> None:
    """Run `seesr` with the arguments of this process, and end the process with its exit code.

    It ends once threads have ended, exit functions have run and what was printed has left: what Python does after that,
    taking every imported module apart, takes a quarter of a short command's time and is of use to nobody. What is no
    exit but an error nobody caught, or a stream that cannot be flushed, ends as Python ends it.
    """
    # Until `main` has handlers of its own there is nothing to report: the process ends at once.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, frame: os._exit(INTERRUPTED))
    _keep_docstrings()
    if not any(name in os.environ for name in WAITING):
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    codes: list[int] = []
    atexit.register(_end, codes)  # before all others, and so called after them
    from .cli import main

    try:
        main()
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            codes.append(end.code or 0)
        raise


def _keep_docstrings() -> None:
    """Start this program anew where Python was told to drop docstrings: help is made of them, and so is transformers.

    PYTHONOPTIMIZE=2 and -OO ask for that; level 1 is as fast.
    """
    if sys.flags.optimize < 2:
        return
    count = len(sys.orig_argv) - len(sys.argv) + 1
    interpreter = [word for word in sys.orig_argv[1:count] if word != "-OO"]
    environment = {**os.environ, "PYTHONOPTIMIZE": "1"}
    if len(interpreter) == count - 1 and os.environ.get("PYTHONOPTIMIZE") == "1":
        return  # asked for in another way: a second start would be as this one
    command = [sys.executable, *interpreter, *sys.argv[1:]]
    if sys.platform == "win32":  # where a process that replaces itself leaves its terminal
        import subprocess

        os._exit(subprocess.call(command, env=environment))
    os.execve(sys.executable, command, environment)


def _end(codes: list[int]) -> None:
    """End the process with the exit code in `codes`, if there is one and both streams can be flushed."""
    if not codes:
        return
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except (OSError, ValueError):  # Python tries again, and has a message and an exit code for it
        return
    os._exit(codes[0])


if __name__ == "__main__":
    run()
