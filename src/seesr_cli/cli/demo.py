"""`seesr demo`: a page in the browser that restores pictures on this machine."""

import socket
import tempfile
import threading
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from ..catalogue import DEFAULT_MODEL, MODELS
from ..errors import UsageError
from ..machine.imports import uncollected
from . import options
from .weights import ensure

LOOPBACK, PORT = "127.0.0.1", 7860
_TO_OTHERS = "Address to answer at. Any but this machine's own lets others use the page, without a password."


def demo(
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Of the page; 0: any that is free.")] = PORT,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
    listen: Annotated[str, typer.Option("--listen", metavar="ADDRESS", help=_TO_OTHERS)] = LOOPBACK,
    model: options.Model = None,
    weights: options.Weights = None,
    yes: options.Yes = False,
    device: options.Device = "auto",
    dtype: options.Precision = "auto",
    debug: options.Debug = False,
) -> None:
    """Show a page in the browser: drop a picture, edit its tags, try a region, restore it.

    Needs the extra "demo". Nothing leaves this machine, and what was uploaded is deleted.
    """
    try:
        server = socket.create_server((listen, port))
    except OSError as error:
        said = str(error.strerror).partition(" (")[0]  # behind it socket tells the address again
        raise UsageError(f"{listen}:{port} cannot be had ({said}): give another --port.") from None
    chosen = MODELS[model or DEFAULT_MODEL]
    ensure(chosen, weights, yes, False)
    with uncollected():
        try:
            from ..demo import Studio, serve
        except ImportError as error:
            if error.name not in ("gradio", "fastapi", "uvicorn"):
                raise
            raise UsageError("The page needs the extra demo: pip install 'seesr-cli[demo]'.") from None
        from ..machine.available import cores
        from ..machine.device import choose
        from ..machine.share import divide
        from ..run.afar import loader
        from ..run.request import Request
        from ..weights import locate
        from ..weights.fingerprint import fingerprint

    request, worker = Request(chosen, chosen.defaults, dtype=dtype), divide([device], 1, 1, cores())[0]
    place, files = choose(device, dtype, chosen.name), locate(chosen, weights)
    with server, tempfile.TemporaryDirectory(prefix="seesr-demo-") as folder:
        upscaler = loader(worker, request, weights)()
        studio = Studio(request, upscaler, files, fingerprint(chosen, files), place, Path(folder))
        running, address = serve(studio), f"http://{listen}:{server.getsockname()[1]}/"
        print(address, flush=True)
        if open_page:
            threading.Timer(1, webbrowser.open, [address]).start()
        running.run(sockets=[server])
