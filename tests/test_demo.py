"""The page of `seesr demo`, in a real browser, from a dropped picture to the file that is downloaded."""

import base64
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import skimage
from PIL import Image

import browser
from seesr_cli.cli import main

NAME = "Ein Foto (1).jpg"


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """The page of the command itself, with the miniature; its uploads and results are gone with it."""
    pytest.importorskip("gradio", reason="the extra demo is not installed")
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "seesr_cli", "demo", "--model", "miniature", "--device", "cpu", "--port", "0"]
    environment = os.environ | {"TMPDIR": str(temporary)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        try:
            yield process.stdout.readline().strip()
            assert process.poll() is None
            assert list(temporary.glob("seesr-*/**/*.png")) != []
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
            assert [path for path in temporary.rglob("*") if path.is_file()] == []
        finally:
            process.kill()


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    with Image.open(Path(skimage.__path__[0]) / "data" / "astronaut.png") as picture:
        exif = Image.Exif()
        exif[0x010E] = "A portrait"
        picture.crop((150, 0, 330, 180)).resize((64, 64)).save(NAME, exif=exif, quality=50)
    return tmp_path / NAME


def drop(page: browser.Page, name: str, content: bytes) -> None:
    """Drop a file on the place for it, as a person does."""
    page.wait("document.querySelector('#picture input[type=file]') !== null")
    page.run(f"""(() => {{
        const bytes = Uint8Array.from(atob({json.dumps(base64.b64encode(content).decode())}), c => c.charCodeAt(0));
        const dropped = new DataTransfer();
        dropped.items.add(new File([bytes], {json.dumps(name)}, {{type: "image/jpeg"}}));
        const place = document.querySelector("#picture input[type=file]").closest("button");
        place.dispatchEvent(new DragEvent("drop", {{dataTransfer: dropped, bubbles: true, cancelable: true}}));
    }})()""")


def text(selector: str, words: str) -> str:
    return f"(document.querySelector({json.dumps(selector)})?.innerText ?? '').includes({json.dumps(words)})"


def fill(page: browser.Page, selector: str, value: str) -> None:
    """Type into a field, and leave it."""
    page.wait(f"document.querySelector({json.dumps(selector)}) !== null")
    page.run(f"(() => {{ const it = document.querySelector({json.dumps(selector)}); it.focus(); it.select?.(); }})()")
    page.send("Input.insertText", text=value)
    page.press("Enter")
    page.run(f"document.querySelector({json.dumps(selector)}).blur()")


def click(page: browser.Page, selector: str) -> None:
    page.run(f"document.querySelector({json.dumps(selector)}).click()")


def test_a_picture_is_dropped_its_tags_edited_a_region_tried_restored_cancelled_and_refused(
    address: str, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    command = "document.querySelector('#command textarea').value"
    with browser.page(tmp_path / "profile") as page:
        page.look(1280, 900)
        page.send("Page.navigate", url=address)

        # Tags with their scores, and a forecast, before anything is pressed.
        drop(page, NAME, photo.read_bytes())
        page.wait(text("#forecast", "256 × 256 pixels in 1 tile"))
        assert page.run("document.querySelectorAll('#tags .token').length") > 2
        first = page.run("document.querySelector('#tags .token').innerText")
        assert 0 < float(first.split()[-1]) < 1
        assert page.run(command) == f"seesr upscale '{NAME}' --model=miniature"

        # One tag taken away and one typed: the command says so.
        click(page, "#tags .token-remove")
        page.wait(f"{command}.includes('--drop-tag=')")
        fill(page, "#tags input", "castle")
        page.wait(f"{command}.includes('--add-tag=castle')")

        # A region, and the whole with two seeds.
        fill(page, "#scale input", "2")
        page.wait(text("#forecast", "128 × 128"))
        click(page, "#try")
        page.wait("document.querySelector('#tried img') !== null")
        fill(page, "#variants input", "2")
        page.wait(f"{command}.includes('--variants=2')")
        click(page, "#restore")
        page.wait("document.querySelectorAll('#results a').length === 2")
        page.wait("document.querySelectorAll('#slider img').length >= 2")
        page.wait("document.querySelectorAll('#gallery img').length >= 2")

        # What is downloaded is what the command makes, byte for byte.
        typed = page.run(command)
        links = page.run("[...document.querySelectorAll('#results a')].map(link => [link.download, link.href])")
        monkeypatch.setattr(sys, "argv", [*shlex.split(typed), "--device", "cpu"])
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code == 0, capfd.readouterr().err
        for name, link in links:
            assert urllib.request.urlopen(link).read() == Path(name).read_bytes()

        # A long run is cancelled, and its page is as good as before.
        click(page, "#more button")
        fill(page, "#steps input", "500")
        page.wait(f"{command}.includes('--steps=500')")
        click(page, "#restore")
        page.wait("document.body.innerText.includes('step 2 of 500')")
        click(page, "#cancel")
        page.wait("document.body.innerText.includes('Cancelled: nothing was kept.')")

        # Reloaded, the page is new; what is no picture is told as on the command line.
        page.send("Page.reload")
        page.wait("!document.body?.innerText.includes('castle') && document.querySelector('#picture input') !== null")
        drop(page, "letter.jpg", b"Dear diary")
        page.wait("document.body.innerText.includes('letter.jpg is not a picture that can be read: give a JPEG')")
        click(page, "#restore")
        page.wait("document.body.innerText.includes('There is no picture yet: drop one first.')")

        asked = page.requests()
    assert len(asked) > 20
    assert [request for request in asked if not request.startswith(address)] == []


def test_without_the_extra_there_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "seesr_cli.demo", raising=False)
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.setattr(sys, "argv", ["seesr", "demo", "--model", "miniature", "--port", "0"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert capfd.readouterr().err == "Error: The page needs the extra demo: pip install 'seesr-cli[demo]'.\n"


def test_a_port_that_is_taken_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(sys, "argv", ["seesr", "demo", "--model", "miniature", "--port", str(port)])
        with pytest.raises(SystemExit) as ended:
            main()
    assert ended.value.code == 2
    sentence = f"Error: 127.0.0.1:{port} cannot be had (Address already in use): give another --port.\n"
    assert capfd.readouterr().err == sentence
