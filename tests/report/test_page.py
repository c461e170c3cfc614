"""The page of a run holds all it shows, cannot be broken by a name, and does what it offers in a real browser."""

import base64
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms, PngImagePlugin

import browser
from seesr_cli.errors import OutputUnwritable
from seesr_cli.evaluate.consistency import consistency
from seesr_cli.evaluate.pixels import read
from seesr_cli.records import provenance
from seesr_cli.report import page as compare
from seesr_cli.report.page import PageEntry
from seesr_cli.restore.prompt import Prompt
from seesr_cli.restore.tag import Tag
from seesr_cli.settings import Settings

NASTY = "\"'>&<img src=x onerror=alert(1)></script><script>alert(2)</script><!--\n\u202egpj" + os.fsdecode(b"\xff")


class Parsed(HTMLParser):
    """A page as a browser takes it apart: its script elements by id, and the attributes of all elements."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.title = ""
        self._inside = ""
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.elements.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        if self._inside == "script":
            self.scripts[-1] = (self.scripts[-1][0], self.scripts[-1][1] + data)
        elif self._inside == "title":
            self.title += data

    def text(self, name: str) -> str:
        (text,) = [text for attributes, text in self.scripts if attributes.get("id") == name]
        return text

    def entry(self, number: int) -> dict[str, Any]:
        return json.loads(self.text(f"entry-{number}"))

    def preview(self, name: str) -> Image.Image:
        head, _, content = self.text(name).partition(";base64,")
        assert head in ("data:image/jpeg", "data:image/webp")
        return Image.open(BytesIO(base64.b64decode(content)))


def photo(path: Path, height: int, width: int, **options: Any) -> Path:
    """Save a picture of soft colours: red to the right, green downwards."""
    down, right = np.mgrid[0:height, 0:width]
    blue = np.full((height, width), 128)
    values = np.stack([255 * right // max(1, width - 1), 255 * down // max(1, height - 1), blue], -1)
    Image.fromarray(values.astype(np.uint8)).save(path, **options)
    return path


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    return photo(tmp_path / "small.png", 30, 40), photo(tmp_path / "large.png", 120, 160)


def done(pair: tuple[Path, Path], settings: Mapping[str, object] | None = None) -> PageEntry:
    tags = (("frog", 0.91), ("stone", 0.64))
    return PageEntry(
        *pair, "done", "", 12.5, (30, 40), (120, 160), tags, "frog, stone, ,clean", settings or {}, ("A note.",)
    )


def written(folder: Path, entries: Sequence[PageEntry], title: str = "A run") -> Path:
    path = folder / "page.html"
    compare.write(path, entries, title)
    return path


def test_the_page_holds_all_it_shows_and_asks_for_nothing(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    path = written(tmp_path, [done(pair)])
    text = path.read_text("ascii", errors="replace")
    assert "http://" not in text
    assert "https://" not in text
    page = Parsed(path)
    addresses = [value for _, names in page.elements for name, value in names.items() if name in ("src", "href")]
    assert addresses == ["data:,"]
    (policy,) = [names["content"] for _, names in page.elements if "http-equiv" in names]
    assert policy is not None
    assert policy.startswith(
        "default-src 'none'; base-uri 'none'; form-action 'none'; img-src data:; script-src 'sha256-"
    )
    assert "unsafe" not in policy


def test_an_entry_is_told_whole(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    entry = Parsed(written(tmp_path, [done(pair)])).entry(0)
    departs = consistency(read(pair[1])[0], read(pair[0])[0])
    assert entry == {
        "name": "small.png",
        "state": "done",
        "message": "",
        "problems": [],
        "paths": {"before": str(pair[0]), "after": str(pair[1])},
        "links": {"before": "small.png", "after": "large.png"},
        "previews": {
            "before": {"height": 30, "width": 40},
            "after": {"height": 120, "width": 160},
            "thumbnail": {"height": 120, "width": 160},
            "heat": {"height": 30, "width": 40},
        },
        "seconds": 12.5,
        "sizeIn": [30, 40],
        "sizeOut": [120, 160],
        "tags": [["frog", 0.91], ["stone", 0.64]],
        "prompt": "frog, stone, ,clean",
        "settings": {},
        "notes": ["A note."],
        "consistency": departs.as_record(),
    }


def test_what_all_pictures_were_made_with_is_told_once(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    common = {"scale": 4.0, "steps": 50, "prompt": "", "width": None, "add_tags": ("moss", "fern")}
    failed = PageEntry(pair[0], None, "failed", "It failed.")
    page = Parsed(written(tmp_path, [done(pair, common | {"seed": 1}), failed, done(pair, common | {"seed": 2})]))
    assert json.loads(page.text("run"))["settings"] == {"scale": "4", "steps": "50", "add_tags": "moss, fern"}
    assert [page.entry(number)["settings"] for number in range(3)] == [{"seed": "1"}, {}, {"seed": "2"}]


def put_packet(path: Path, xmp: bytes) -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp.decode())
    Image.open(path).save(path, pnginfo=info)


def test_a_skipped_picture_is_told_of_as_its_result_tells(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    recipe = provenance.Recipe(
        model="miniature",
        settings=Settings(seed=7),
        tags=("frog",),
        input_name="small.png",
        input_sha256="ab" * 32,
        weights=None,
        device="cpu",
        dtype="fp32",
        threads=1,
        batch_size=1,
        batch_place=0,
        kind="png",
        quality=None,
        bits=8,
        metadata="keep",
    )
    record = provenance.record(recipe, (Tag("frog", 0.91, 0.5),), Prompt("frog, ,clean", "blur"))
    put_packet(pair[1], provenance.embed(None, record))
    skipped = PageEntry(*pair, "skipped", f"{pair[1]} is already there")
    entry = Parsed(written(tmp_path, [done(pair, {"seed": 3}), skipped])).entry(1)
    assert (entry["sizeIn"], entry["sizeOut"]) == ([30, 40], [120, 160])
    assert (entry["tags"], entry["prompt"]) == ([["frog", 0.91]], "frog, ,clean")
    assert entry["settings"].items() >= {"model": "miniature", "seed": "7", "colour": "adain"}.items()


@pytest.mark.parametrize("score", [b"1e999", b"null", b'"much"'])
def test_a_strange_record_does_not_break_the_page(tmp_path: Path, pair: tuple[Path, Path], score: bytes) -> None:
    record = {"format": 1, "settings": {}, "model": {"name": "seesr", "weights": None}, "prompt": "frog"}
    record |= {"input": {"name": "a", "sha256": ""}, "output": {"kind": "png", "quality": None, "bits": 8}}
    record |= {"device": "cpu", "dtype": "fp32", "batch_size": 1, "tags": [{"name": "frog", "score": "SCORE"}]}
    put_packet(pair[1], provenance.embed(None, record).replace(b'"SCORE"', score))
    entry = Parsed(written(tmp_path, [PageEntry(*pair, "skipped", "It is there.")])).entry(0)
    assert entry["tags"] == ([["frog", 1.0]] if score == b"1e999" else [])


def test_no_name_breaks_the_page(tmp_path: Path) -> None:
    source = Path("folder", NASTY)
    entry = PageEntry(
        source, None, "failed", f"{source} is not there.", tags=((NASTY, 0.5),), prompt=NASTY, notes=(NASTY,)
    )
    page = Parsed(written(tmp_path, [entry], NASTY))
    plain = Parsed(written(tmp_path, [PageEntry(Path("a"), None, "failed")]))
    assert [tag for tag, _ in page.elements] == [tag for tag, _ in plain.elements]
    assert page.entry(0)["paths"] == {"before": str(source)}
    assert page.entry(0)["tags"] == [[NASTY, 0.5]]
    assert page.title.startswith(NASTY[:-1])


def test_a_link_leads_to_the_file_whatever_its_name(tmp_path: Path) -> None:
    name = 'a:b "c" é #1?%.png'
    entry = PageEntry(photo(tmp_path / name, 2, 2), None, "skipped")
    folder = tmp_path / "pages"
    folder.mkdir()
    link = Parsed(written(folder, [entry])).entry(0)["links"]["before"]
    assert link == "../a%3Ab%20%22c%22%20%C3%A9%20%231%3F%25.png"


def test_a_file_that_cannot_be_read_is_a_sentence_in_the_page(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    pair[1].write_bytes(b"no picture")
    entries = [done(pair), PageEntry(tmp_path / "gone.png", tmp_path, "done")]
    page = Parsed(written(tmp_path, entries))
    assert list(page.entry(0)["previews"]) == ["before", "thumbnail"]
    (sentence,) = page.entry(0)["problems"]
    assert str(pair[1]) in sentence
    assert len(page.entry(1)["problems"]) == 2
    assert page.entry(1)["previews"] == {}


def test_a_preview_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90° clockwise
    source = photo(tmp_path / "turned.jpg", 40, 60, exif=exif, quality=95)
    shown = Parsed(written(tmp_path, [PageEntry(source, None, "skipped")])).preview("before-0")
    assert shown.size == (40, 60)
    corner = shown.convert("RGB").getpixel((38, 1))
    assert corner == pytest.approx((0, 0, 128), abs=12)  # the file's top left


def test_a_preview_is_in_srgb(tmp_path: Path) -> None:
    # A profile whose red is sRGB's green: its names for the two are exchanged.
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"????").replace(b"gXYZ", b"rXYZ").replace(b"????", b"gXYZ")
    source = tmp_path / "exchanged.png"
    Image.new("RGBA", (8, 8), (255, 0, 0, 128)).save(source, icc_profile=profile)
    shown = Parsed(written(tmp_path, [PageEntry(source, None, "skipped")])).preview("before-0")
    assert shown.getpixel((4, 4)) == pytest.approx((0, 255, 0, 128), abs=6)


def test_a_preview_keeps_its_transparency(tmp_path: Path) -> None:
    values = np.zeros((6, 6, 4), np.uint8)
    values[:, 3:] = (200, 100, 50, 255)
    source = tmp_path / "clear.png"
    Image.fromarray(values).save(source)
    shown = Parsed(written(tmp_path, [PageEntry(source, None, "skipped")])).preview("before-0")
    assert [shown.getchannel("A").getpixel((x, 3)) for x in (0, 5)] == [0, 255]


def test_sixteen_bits_are_shown_as_what_they_mean(tmp_path: Path) -> None:
    source = tmp_path / "deep.png"
    Image.fromarray(np.full((8, 8), 40000, np.uint16)).save(source)
    shown = Parsed(written(tmp_path, [PageEntry(source, None, "skipped")])).preview("before-0")
    assert shown.convert("L").getpixel((4, 4)) == pytest.approx(40000 / 257, abs=2)


@pytest.mark.parametrize("size", [(1, 1), (1, 20000), (20000, 3)])
def test_any_shape_has_a_preview(tmp_path: Path, size: tuple[int, int]) -> None:
    source = photo(tmp_path / "odd.png", *size)
    entry = Parsed(written(tmp_path, [PageEntry(source, None, "skipped")])).entry(0)
    assert entry["problems"] == []
    assert min(entry["previews"]["thumbnail"].values()) >= 1


def test_previews_are_smaller_where_there_are_many(tmp_path: Path) -> None:
    entry = PageEntry(photo(tmp_path / "a.png", 800, 1000), None, "skipped")
    few = Parsed(written(tmp_path, [entry])).entry(0)["previews"]["before"]
    gone = [PageEntry(tmp_path / "gone.png", None, "failed")] * 999
    many = Parsed(written(tmp_path, [entry, *gone])).entry(0)["previews"]["before"]
    assert few == {"height": 800, "width": 1000}
    assert many["height"] * many["width"] == pytest.approx(compare.PAGE_PIXELS / 1000, rel=0.02)


def test_the_page_is_there_whole_or_not_at_all(tmp_path: Path, pair: tuple[Path, Path]) -> None:
    def fail(done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        compare.write(tmp_path / "page.html", [done(pair)] * 3, "A run", stepped=fail)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["large.png", "small.png"]
    earlier = written(tmp_path, [])
    before = earlier.read_bytes()
    with pytest.raises(OutputUnwritable, match="already there"):
        compare.write(earlier, [done(pair)], "A run", overwrite=False)
    assert earlier.read_bytes() == before


# In a real browser.


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Page]:
    if browser.PROGRAM is None:
        pytest.skip(f"no browser is installed: looked for {', '.join(browser.NAMES)}")
    with browser.page(tmp_path_factory.mktemp("profile")) as page:
        yield page


@pytest.fixture
def page(chromium: browser.Page) -> Iterator[browser.Page]:
    """A window of 1000 x 700 dots, in which nothing may go wrong and nothing be asked for."""
    chromium.events.clear()
    chromium.look(1000, 700)
    yield chromium
    assert not chromium.complaints()
    assert not [address for address in chromium.requests() if not address.startswith("file:///")]
    assert len({address.partition("#")[0] for address in chromium.requests()}) == 1


def value(page: browser.Page) -> int:
    return int(page.run("document.querySelector('[role=slider]').getAttribute('aria-valuenow')"))


def box(page: browser.Page, selector: str) -> dict[str, float]:
    return page.run(f"document.querySelector({json.dumps(selector)}).getBoundingClientRect().toJSON()")


def picture(page: browser.Page) -> dict[str, float]:
    """Return where the picture is, which is the same for both sides."""
    before, after = box(page, "#before img"), box(page, "#after img")
    assert before == after
    return after


def middle(box: dict[str, float]) -> tuple[float, float]:
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def many(folder: Path, count: int, pair: tuple[Path, Path]) -> list[PageEntry]:
    entries = [done(pair)] * count
    entries[1] = PageEntry(
        folder / "broken.jpg", None, "failed", f"{folder / 'broken.jpg'} is damaged: export it again."
    )
    entries[2] = PageEntry(*pair, "skipped", f"{pair[1]} is already there")
    return entries


def test_one_picture_is_shown_at_once(page: browser.Page, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    page.open(written(tmp_path, [done(pair, {"scale": 4.0})]))
    assert page.run("by('overview').hidden && !by('viewer').hidden")
    page.wait("[...document.querySelectorAll('#stage img')].every((image) => image.complete && image.naturalWidth)")
    assert page.run("document.querySelector('#after img').naturalWidth") == 160
    shown = page.run("by('facts').innerText")
    for text in ("40 × 30", "160 × 120", "13 s", "frog", "0.91", "frog, stone, ,clean", "A note.", "scale", "4"):
        assert text in shown


def test_the_slider_moves_by_keyboard(page: browser.Page, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    page.open(written(tmp_path, [done(pair)]))
    assert page.run("document.activeElement.getAttribute('role')") == "slider"
    assert value(page) == 50
    for key, expected in [("ArrowRight", 51), ("PageUp", 61), ("ArrowLeft", 60), ("End", 100), ("Home", 0)]:
        page.press(key)
        assert value(page) == expected
    page.press("ArrowRight", modifiers=8)
    assert value(page) == 10
    assert page.run("slider.getAttribute('aria-valuetext')") == "10 % before, 90 % after"
    shown = picture(page)
    assert middle(box(page, "#slider"))[0] == pytest.approx(shown["x"] + 0.1 * shown["width"], abs=1)


def test_the_slider_follows_the_mouse(page: browser.Page, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    page.open(written(tmp_path, [done(pair)]))
    x, y = middle(box(page, "#slider"))
    shown = picture(page)
    page.mouse("mousePressed", x, y)
    page.mouse("mouseMoved", shown["x"] + 0.25 * shown["width"], y, buttons=1)
    page.mouse("mouseReleased", shown["x"] + 0.25 * shown["width"], y)
    assert value(page) == 25
    clip = page.run("getComputedStyle(by('after')).clipPath")
    left = float(clip.removesuffix("px)").split()[-1])
    stage = box(page, "#stage")
    assert stage["x"] + left == pytest.approx(shown["x"] + 0.25 * shown["width"], abs=1)


def test_the_slider_follows_a_finger(page: browser.Page, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    page.look(390, 800, touch=True)
    page.send("Emulation.setTouchEmulationEnabled", enabled=True)
    page.open(written(tmp_path, [done(pair)]))
    x, y = middle(box(page, "#slider"))
    for kind, points in [("touchStart", [x]), ("touchMove", [x + 40]), ("touchMove", [x + 78]), ("touchEnd", [])]:
        page.send("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": place, "y": y} for place in points])
    page.send("Emulation.setTouchEmulationEnabled", enabled=False)
    assert value(page) == pytest.approx(70, abs=1)


def test_zoom_shows_real_pixels_on_both_sides(page: browser.Page, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    page.look(1000, 700, dots=2)
    page.open(written(tmp_path, [done(pair)]))
    for key, width in [("1", 80), ("2", 160), ("+", 200)]:
        page.press(key)
        assert picture(page)["width"] == pytest.approx(width)
    page.press("0")
    stage = box(page, "#stage")
    assert picture(page)["height"] == pytest.approx(min(stage["height"], 4 * 120))
    page.run("by('real').click()")
    assert picture(page)["width"] == 80
    assert page.run("by('zoom').value") == "100 %"


def test_the_wheel_zooms_where_the_mouse_is(page: browser.Page, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    page.open(written(tmp_path, [done(pair)]))
    page.press("2")
    for _ in range(6):
        page.press("+")
    was = picture(page)
    stage = box(page, "#stage")
    x, y = stage["x"] + 200, stage["y"] + 300
    page.mouse("mouseWheel", x, y, deltaX=0, deltaY=-100)
    page.wait(f"document.querySelector('#after img').getBoundingClientRect().width > {was['width'] + 1}")
    now = picture(page)
    assert (x - now["x"]) / now["width"] == pytest.approx((x - was["x"]) / was["width"], abs=0.005)
    assert (y - now["y"]) / now["height"] == pytest.approx((y - was["y"]) / was["height"], abs=0.005)


def test_a_picture_larger_than_the_window_is_moved(page: browser.Page, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    page.open(written(tmp_path, [done(pair)]))
    for _ in range(12):
        page.press("+")
    was = picture(page)
    x, y = middle(box(page, "#stage"))
    page.mouse("mousePressed", x + 100, y)
    page.mouse("mouseMoved", x + 60, y - 30, buttons=1)
    page.mouse("mouseReleased", x + 60, y - 30)
    now = picture(page)
    assert (now["x"] - was["x"], now["y"] - was["y"]) == pytest.approx((-40, -30))
    assert value(page) == 50


def test_before_is_shown_whole_while_held(page: browser.Page, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    page.open(written(tmp_path, [done(pair)]))
    page.press("b", release=False)
    assert page.run("getComputedStyle(by('before')).clipPath") == "none"
    page.press("b")
    assert page.run("getComputedStyle(by('before')).clipPath") != "none"


def test_thumbnails_are_decoded_when_they_come_near(
    page: browser.Page, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    page.open(written(tmp_path, many(tmp_path, 150, pair)))
    page.wait("document.querySelector('#cards img').naturalWidth > 0")
    assert page.run("document.querySelectorAll('#cards img[src]').length") < 60
    assert page.run("document.querySelectorAll('#stage img[src]').length") == 0
    page.run("[...document.querySelectorAll('#cards li')].at(-1).scrollIntoView()")
    page.wait("[...document.querySelectorAll('#cards img')].at(-1).naturalWidth > 0")


def test_the_overview_finds_pictures(page: browser.Page, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    page.open(written(tmp_path, many(tmp_path, 20, pair)))
    shown = "[...document.querySelectorAll('#cards li')].filter((card) => card.checkVisibility()).length"
    assert page.run(shown) == 20
    assert page.run("by('summary').innerText").startswith("18 done · 1 skipped · 1 failed · 4 min")
    page.run("document.querySelector('[value=failed]').click()")
    assert page.run(shown) == 1
    assert "broken.jpg is damaged: export it again." in page.run("by('cards').innerText")
    page.run("document.querySelector('[name=state]').click()")
    page.press("/")
    for letter in "stone FRO":
        page.press(letter)
    assert page.run(shown) == 18
    assert page.run("by('found').value") == "18 of 20"
    page.press("x")
    assert page.run("by('none').checkVisibility()")


def test_next_and_previous_go_through_what_was_found(
    page: browser.Page, tmp_path: Path, pair: tuple[Path, Path]
) -> None:
    page.open(written(tmp_path, many(tmp_path, 5, pair)))
    page.run("by('search').value = 'frog'; by('search').dispatchEvent(new Event('input'))")
    page.run("document.querySelector('#cards a').click()")
    page.wait("!by('viewer').hidden && by('place').innerText === '1 of 3'")
    for key, number, place in [("n", 4, "2 of 3"), ("n", 5, "3 of 3"), ("n", 5, "3 of 3"), ("p", 4, "2 of 3")]:
        page.press(key)
        assert page.run("[location.hash, by('place').innerText]") == [f"#{number}", place]
    page.press("Escape")
    page.wait("!by('overview').hidden && by('viewer').hidden")
    assert page.run("document.activeElement.getAttribute('href')") == "#4"


def test_a_failed_picture_shows_its_sentence(page: browser.Page, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    page.open(written(tmp_path, many(tmp_path, 3, pair)), "#2")
    page.wait("!by('viewer').hidden")
    assert page.run("by('nothing').checkVisibility() && !slider.checkVisibility()")
    assert "broken.jpg is damaged: export it again." in page.run("by('facts').innerText")
    for key in "120+-bnp":
        page.press(key)


def test_names_are_shown_and_not_obeyed(page: browser.Page, tmp_path: Path) -> None:
    entry = PageEntry(Path(NASTY), None, "failed", NASTY, tags=((NASTY, 0.5),), prompt=NASTY, notes=(NASTY,))
    path = written(tmp_path, [entry, entry], NASTY)
    page.open(path)
    assert page.run("document.querySelectorAll('#overview img, #facts img').length") == 0
    page.open(path, "#1")
    shown = page.run("by('facts').textContent")
    assert "<img src=x onerror=alert(1)></script><script>alert(2)</script>" in shown


def test_the_policy_lets_nothing_out_and_no_other_script_in(chromium: browser.Page, tmp_path: Path) -> None:
    chromium.open(written(tmp_path, []))
    chromium.events.clear()
    chromium.run("fetch('http://127.0.0.1:9/').catch(() => 0)")
    chromium.run("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
    chromium.run("document.body.append(Object.assign(document.createElement('script'), {text: 'window.stranger = 1'}))")
    assert chromium.run("window.stranger === undefined")
    texts = [event["params"]["entry"]["text"] for event in chromium.complaints()]
    for directive in ("connect-src", "img-src", "script-src"):
        assert any("violates" in text and directive in text for text in texts)


@pytest.mark.parametrize("part", ["", "#1", "#2"])
def test_nothing_is_wider_than_a_phone(page: browser.Page, tmp_path: Path, pair: tuple[Path, Path], part: str) -> None:
    page.look(360, 740, touch=True)
    page.open(written(tmp_path, many(tmp_path, 8, pair), "A_title_" * 12), part)
    assert page.run("document.documentElement.scrollWidth") == 360


def test_light_dark_and_calm_are_respected(page: browser.Page, tmp_path: Path, pair: tuple[Path, Path]) -> None:
    path = written(tmp_path, [done(pair)])
    for scheme, least, most in [("light", 128, 255), ("dark", 0, 127)]:
        page.look(1000, 700, color_scheme=scheme, reduced_motion="reduce")
        page.open(path)
        for element in ("document.body", "stage", "by('facts')"):
            colour = page.run(f"getComputedStyle({element}).backgroundColor.match(/\\d+/g).map(Number)")
            assert least <= colour[0] <= most
            assert len(set(colour)) == 1, "not a neutral grey"
        assert page.run("getComputedStyle(document.querySelector('button')).transitionDuration") == "0s"


def test_a_planted_invention_glows_where_it_is_and_a_faithful_result_does_not(
    page: browser.Page, tmp_path: Path
) -> None:
    noise = np.random.default_rng(0).integers(60, 190, (6, 8, 3), dtype=np.uint8)
    source = Image.fromarray(noise).resize((64, 48), Image.Resampling.BICUBIC)
    faithful = source.resize((256, 192), Image.Resampling.BICUBIC)
    planted = faithful.copy()
    planted.paste((255, 0, 255), (128, 64, 160, 96))
    for name, one in (("source", source), ("faithful", faithful), ("planted", planted)):
        one.save(tmp_path / f"{name}.png")
    entries = [PageEntry(tmp_path / "source.png", tmp_path / f"{name}.png", "done") for name in ("planted", "faithful")]
    compare.write(tmp_path / "page.html", entries, "Run")
    parsed = Parsed(tmp_path / "page.html")
    heat = []
    for number in range(2):
        encoded = parsed.text(f"heat-{number}").partition(",")[2]
        with Image.open(BytesIO(base64.b64decode(encoded))) as shown:
            heat.append(np.asarray(shown.getchannel("A"), int))
    assert heat[0].shape == (48, 64)
    assert heat[0][17:23, 33:39].min() > 200
    assert heat[0][:12].max() < 40
    assert heat[1].max() < 40
    assert parsed.entry(0)["consistency"]["worst_block"] | {"departure": 0} == {
        "top": 16,
        "left": 32,
        "bottom": 24,
        "right": 40,
        "departure": 0,
    }
    assert parsed.entry(0)["consistency"]["psnr"] < parsed.entry(1)["consistency"]["psnr"] - 5
    page.open(tmp_path / "page.html")
    page.run("location.hash = '#1'")
    page.wait("!by('viewer').hidden")
    assert page.run("by('heat').hidden")
    page.run("by('hot').click()")
    assert page.run("!by('heat').hidden && by('hot').getAttribute('aria-pressed') === 'true'")
    page.wait("by('heat').querySelector('img').naturalWidth === 64")
    assert box(page, "#heat img") == box(page, "#after img")
    assert "Consistency" in page.run("by('facts').textContent")
