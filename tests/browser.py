"""A headless Chromium, spoken to over a pipe in its own protocol (Chrome DevTools Protocol); nothing to install."""

import json
import os
import select
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROGRAM = next(filter(None, map(shutil.which, NAMES)), None)

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-pipe",
)
_PATIENCE = 60.0


class Page:
    """One page of a browser; what it says, asks for and complains of is in `events`, in order."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to, self._from = to_browser, from_browser
        self._read = b""
        self._number = 0
        self._session: str | None = None
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: object) -> dict[str, Any]:
        """Return the answer to a command of the protocol."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") != self._number:
                self.events.append(answer)
            elif "error" in answer:
                raise RuntimeError(f"{method}: {answer['error']}")
            else:
                return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._read:
            if not select.select([self._from], [], [], _PATIENCE)[0]:
                raise TimeoutError("The browser does not answer.")
            chunk = os.read(self._from, 2**20)
            if not chunk:
                raise ConnectionError("The browser has gone.")
            self._read += chunk
        message, _, self._read = self._read.partition(b"\0")
        return json.loads(message)

    def run(self, script: str) -> Any:
        """Return what `script`, an expression or a promise, comes to in the page."""
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in answer:
            raise RuntimeError(f"{script}: {answer['exceptionDetails']}")
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Return when `condition` is true in the page."""
        end = time.monotonic() + _PATIENCE
        while not self.run(condition):
            if time.monotonic() > end:
                raise TimeoutError(condition)
            time.sleep(0.02)

    def open(self, path: Path, part: str = "") -> None:
        """Open the file `path`, and return when the page is loaded."""
        # By way of an empty page: another part of the same page would be no loading.
        for address in ("about:blank", path.absolute().as_uri() + part):
            self.send("Page.navigate", url=address)
            self.wait(f"document.readyState === 'complete' && location.href === {json.dumps(address)}")

    def look(self, width: int, height: int, *, touch: bool = False, dots: float = 1, **media: str) -> None:
        """Give the window a size, and the person preferences: color_scheme="dark"."""
        self.send(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=dots, mobile=touch
        )
        features = [{"name": f"prefers-{name.replace('_', '-')}", "value": value} for name, value in media.items()]
        self.send("Emulation.setEmulatedMedia", features=features)

    def press(self, key: str, *, release: bool = True, modifiers: int = 0) -> None:
        """Press a key, named as KeyboardEvent.key; modifiers: 8 is shift."""
        text = {"text": key} if len(key) == 1 else {}
        self.send("Input.dispatchKeyEvent", type="keyDown", key=key, modifiers=modifiers, **text)
        if release:
            self.send("Input.dispatchKeyEvent", type="keyUp", key=key, modifiers=modifiers)

    def mouse(self, kind: str, x: float, y: float, **params: object) -> None:
        """Send a mouse event: mousePressed, mouseMoved, mouseReleased, mouseWheel."""
        button = "none" if kind == "mouseWheel" else "left"
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button=button, **{"clickCount": 1, **params})

    def complaints(self) -> list[dict[str, Any]]:
        """Return all errors, and all that was said on the console."""
        kinds = ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded")
        return [event for event in self.events if event.get("method") in kinds]

    def requests(self) -> list[str]:
        """Return the addresses that were asked for, data in the page aside."""
        sent = [event for event in self.events if event.get("method") == "Network.requestWillBeSent"]
        addresses = [event["params"]["request"]["url"] for event in sent]
        return [address for address in addresses if not address.startswith(("data:", "about:"))]


@contextmanager
def page(profile: Path) -> Iterator[Page]:
    """Start a browser with the new, empty folder `profile`; it has ended when the block has."""
    assert PROGRAM is not None
    reads_orders, orders = os.pipe()
    answers, writes_answers = os.pipe()
    # The browser reads from 3 and writes to 4, which only a shell can promise it.
    script = f'exec "$0" "$@" 3<&{reads_orders} 4>&{writes_answers}'
    command = ["bash", "-c", script, PROGRAM, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
    process = subprocess.Popen(
        command, pass_fds=(reads_orders, writes_answers), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    os.close(reads_orders)
    os.close(writes_answers)
    try:
        yield Page(orders, answers)
    finally:
        os.close(orders)  # the end of its orders is the browser's end
        os.close(answers)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
