"""How a result was made travels in its XMP, beside whatever was there, and whatever was done to it."""

import json
import re
import shutil
import subprocess
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from seesr_cli import __version__
from seesr_cli.catalogue import MODELS, TURBO
from seesr_cli.errors import UsageError
from seesr_cli.records import provenance
from seesr_cli.records.provenance import NAMESPACE, Recipe, embed, extract, settings_of
from seesr_cli.restore.prompt import Prompt
from seesr_cli.restore.tag import Tag
from seesr_cli.settings import Settings

SHA = "5e" * 32
SETTINGS = replace(
    TURBO.defaults,
    guidance_within=(0.5, 3.0),
    prompt='a <b> & "c" ]]> \\ é',
    add_tags=("red kite",),
    megapixels=2.5,
    seed=2**63 - 1,
)


RECIPE = Recipe(
    model="turbo",
    settings=SETTINGS,
    tags=("sea", "red kite"),
    input_name="photo.jpg",
    input_sha256=SHA,
    weights="ab" * 32,
    device="cuda",
    dtype="fp16",
    threads=2,
    batch_size=3,
    batch_place=1,
    kind="png",
    quality=None,
    bits=16,
    metadata="keep",
)


def made(settings: Settings = SETTINGS, name: str = "photo.jpg") -> dict[str, Any]:
    recipe = RECIPE._replace(settings=settings, input_name=name)
    tags = (Tag("sea", 0.91234567, 0.6), Tag("red kite", 0.0, 1.0))
    return provenance.record(recipe, tags, Prompt("sea, red kite, …", "blur"))


RECORD = made()
OTHER = made(Settings(), name="other.png")
AS_JSON = json.loads(json.dumps(RECORD))

CAMERA = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Some Core 5.6">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:photoshop='http://ns.adobe.com/photoshop/1.0/' photoshop:City="Köln &amp; Bonn">
   <dc:subject><rdf:Bag><rdf:li>Hafen</rdf:li></rdf:Bag></dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
                                        
<?xpacket end="w"?>"""


def described(xml: str) -> bytes:
    """Return a packet that says `xml` in the place of its descriptions."""
    return re.sub(r"(?s)<rdf:Description.*</rdf:Description>", lambda _: xml, CAMERA).encode()


# --- into a packet and out of it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("none", [None, b"", b" \n\0\0"])
def test_without_a_packet_a_minimal_one_is_made(none: bytes | None) -> None:
    packet = embed(none, RECORD)
    assert extract(packet) == AS_JSON
    root = ElementTree.fromstring(packet)
    assert [element.tag for element in root.iter()][-1] == f"{{{NAMESPACE}}}record"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_in_a_picture_s_own_packet_every_other_byte_stays(encoding: str) -> None:
    packet = CAMERA.encode(encoding)
    whole = embed(packet, RECORD)
    assert extract(whole) == AS_JSON
    begin = next(place for place, (ours, theirs) in enumerate(zip(whole, packet, strict=False)) if ours != theirs)
    assert whole.endswith(packet[begin:])
    assert whole[:begin] == packet[:begin]


def test_any_xml_reader_finds_the_record_and_what_was_there_before() -> None:
    root = ElementTree.fromstring(embed(CAMERA.encode(), RECORD))
    assert json.loads(next(root.iter(f"{{{NAMESPACE}}}record")).text or "") == AS_JSON
    assert next(root.iter("{http://www.w3.org/1999/02/22-rdf-syntax-ns#}li")).text == "Hafen"


def test_a_result_restored_again_has_its_last_record_only() -> None:
    for packet in (None, CAMERA.encode(), CAMERA.encode("utf-16")):
        assert embed(embed(packet, OTHER), RECORD) == embed(packet, RECORD)


@pytest.mark.parametrize(
    "form",
    [
        "<rdf:Description rdf:about=''\n  {ours}>\n  <seesr:record>OLD</seesr:record>\n </rdf:Description>",
        '<rdf:Description rdf:about="" {ours} xmlns:a="urn:a" a:b="x>y"\n   seesr:record="OLD"/>',
        '<rdf:Description {ours} xmlns:a="urn:a"><a:b>c</a:b>\n<seesr:record>OLD</seesr:record></rdf:Description>',
    ],
)
def test_an_earlier_record_is_found_and_replaced_as_other_tools_write_it(form: str) -> None:
    old = json.dumps(OTHER).replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    packet = described(form.replace("{ours}", "xmlns:seesr='urn:seesr:1'").replace("OLD", old))
    assert extract(packet) == json.loads(json.dumps(OTHER))
    whole = embed(packet, RECORD)
    assert extract(whole) == AS_JSON
    assert whole.count(b"seesr:record") == 2  # the new one's two tags
    assert (b"a:b" in whole) == (b"a:b" in packet)


@pytest.mark.parametrize(
    "damaged",
    [
        b"not XML",
        CAMERA.encode()[:400],
        CAMERA.replace("</dc:subject>", "").encode(),
        CAMERA.encode("utf-16")[:-1],
        CAMERA.encode().replace(b"Hafen", b"H\xe4fen"),
        f"<!-- {CAMERA} -->".encode(),
    ],
)
def test_a_packet_that_is_damaged_stays_as_it_is(damaged: bytes) -> None:
    assert embed(damaged, RECORD) == damaged


# fmt: off
pieces = st.sampled_from([
    "<rdf:Description", "</rdf:RDF>", '<rdf:RDF xmlns:rdf="urn:r">', "<seesr:record>", "</seesr:record>", "{}", " ",
    "</rdf:Description>", ' seesr:record="{}"', ' xmlns:seesr="urn:seesr:1"', ">", "/>", "<!--", "-->", "\0", "é",
])
# fmt: on


@given(packet=st.binary(max_size=80) | st.lists(pieces, max_size=12).map("".join).map(str.encode))
def test_any_bytes_take_the_record_or_stay_as_they_are(packet: bytes) -> None:
    extract(packet)
    whole = embed(packet, RECORD)
    assert whole == packet or extract(whole) == AS_JSON
    assert embed(whole, RECORD) == whole


@given(text=st.text(max_size=40))
def test_any_words_come_back_as_they_were(text: str) -> None:
    assert extract(embed(None, {"prompt": text})) == {"prompt": text}


OPEN, CLOSE = b'<seesr:record xmlns:seesr="urn:seesr:1">', b"</seesr:record>"
BOMB = '<!DOCTYPE x [<!ENTITY a0 "ha">' + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 12)) + "]>"


@pytest.mark.parametrize(
    "hostile",
    [
        BOMB.encode() + OPEN + b'{"a":"&a11;"}' + CLOSE,
        b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>' + OPEN + b'{"a":"&a;"}' + CLOSE,
        b'<?xml version="1.0" encoding="rot13"?><a/>',
        b"<a>" * 100_000,
        b"<rdf:Description " + b" " * 500_000,
        b"<rdf:Description a=''" + b" b='c'" * 100_000,
        b"<rdf:Description" * 50_000,
        b"<seesr:record>" * 50_000,
        b"</rdf:RDF" + b" " * 500_000,
        OPEN + b"[" * 200_000 + CLOSE,
        OPEN + b'{"a": NaN}' + CLOSE,
        OPEN + b"[1]" + CLOSE,
        OPEN + b"9" * 10_000 + CLOSE,
        b"\xff\xfe\x00\xd8\x00\xd8",
        b" " * (provenance.LARGEST + 1) + b"<a/>",
    ],
    ids=range(15),
)
def test_hostile_packets_hold_no_record_and_cost_no_time(hostile: bytes) -> None:
    began = time.process_time()
    assert extract(hostile) is None
    embed(hostile, RECORD)
    assert time.process_time() - began < 2


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("name", ["packet.xmp", "picture.jpg"])
@pytest.mark.parametrize("packet", [None, CAMERA.encode()], ids=["fresh", "camera"])
def test_exiftool_finds_nothing_wrong_and_keeps_the_record_when_it_writes(
    tmp_path: Path, name: str, packet: bytes | None
) -> None:
    path = tmp_path / name
    whole = embed(packet, RECORD)
    if path.suffix == ".xmp":
        path.write_bytes(whole)
    else:
        Image.new("RGB", (16, 16)).save(path, xmp=whole)

    (found,) = json.loads(exiftool("-j", "-validate", "-warning", "-xmp:all", path))
    assert (found["Validate"], json.loads(found["Record"])) == ("OK", AS_JSON)
    assert found.get("City") == (None if packet is None else "Köln & Bonn")
    exiftool("-overwrite_original", "-xmp:Title=other", path)
    rewritten = exiftool("-b", "-xmp", path) if path.suffix == ".jpg" else path.read_bytes()
    assert b"other" in rewritten
    assert extract(rewritten) == AS_JSON
    assert extract(embed(rewritten, OTHER)) == json.loads(json.dumps(OTHER))
    assert embed(rewritten, OTHER).count(b"<seesr:record>") == 1


def exiftool(*arguments: str | Path) -> bytes:
    return subprocess.run(["exiftool", *arguments], capture_output=True, check=True).stdout


def test_the_record_fits_where_formats_have_little_room() -> None:
    crowded = {**RECORD, "tags": [Tag("night sky over water", 0.912345678, 0.68)._asdict()] * 77}
    assert len(embed(None, crowded)) < 65502  # what one JPEG segment holds
    file = BytesIO()
    Image.new("RGB", (1, 1)).save(file, "JPEG", xmp=embed(None, crowded))
    assert extract(Image.open(file).info["xmp"]) is not None


# --- and used again ----------------------------------------------------------------------------------------------


def test_what_was_recorded_is_what_is_repeated() -> None:
    packet = embed(None, RECORD)
    found = extract(packet)
    assert found is not None
    recipe = settings_of(found, "result.png")
    assert recipe.settings == SETTINGS
    assert recipe == RECIPE
    again = made(recipe.settings)
    assert embed(None, again) == packet


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_every_model_s_defaults_are_repeated(model: Any) -> None:
    found = extract(embed(None, {**made(model.defaults), "model": {"name": model.name, "weights": None}}))
    assert found is not None
    assert settings_of(found, "a")[:2] == (model.name, model.defaults)


def test_settings_that_an_earlier_version_did_not_have_are_the_defaults() -> None:
    kept = {name: value for name, value in AS_JSON["settings"].items() if name != "megapixels"}
    assert settings_of({**AS_JSON, "settings": kept}, "a").settings == replace(SETTINGS, megapixels=None)
    later = ("threads", "batch_size", "batch_place")
    earlier = settings_of({name: value for name, value in AS_JSON.items() if name not in later}, "a")
    assert (earlier.threads, earlier.batch_size, earlier.batch_place) == (None, 1, 0)


def changed(**entries: Any) -> dict[str, Any]:
    """Return a record whose settings have these entries."""
    return {**AS_JSON, "settings": {**AS_JSON["settings"], **entries}}


@pytest.mark.parametrize(
    ("record", "said"),
    [
        (
            {**AS_JSON, "format": 2, "seesr": "9.0"},
            f'made by seesr "9.0", this is {re.escape(__version__)}, which does',
        ),
        (changed(sparkle=1), 'has no setting "sparkle": update seesr'),
        ({**AS_JSON, "model": {"name": "seesr-9", "weights": None}}, 'has no model "seesr-9": update seesr'),
        ({}, "is damaged, it has no format"),
        ({**AS_JSON, "settings": []}, r"is damaged \(settings is \[\]\)"),
        ({**AS_JSON, "tags": ["sea"]}, "is damaged, it has no name"),
        ({**AS_JSON, "tags": [{"name": "\ud800"}]}, "its words are no text"),
        (changed(prompt="\udcff"), "is not text: write it in UTF-8"),
        ({**AS_JSON, "output": {"kind": "png", "quality": "high", "bits": 8}}, "quality is"),
        (changed(steps="50"), "steps is"),
        (changed(steps=True), "steps is"),
        (changed(steps=1.5), "steps is"),
        (changed(prompt=None), "prompt is null"),
        (changed(add_tags=["a", 1]), "add_tags is"),
        (changed(add_tags="ab"), "add_tags is"),
        (changed(colour="sepia"), "colour is"),
        (changed(tile="large"), "tile is"),
        (changed(guidance_within=[1.0]), "guidance_within is"),
        (changed(guidance_within=[1.0, 2.0, 3.0]), "guidance_within is"),
        (changed(guidance_within="12"), "guidance_within is"),
        (changed(guidance_within=[3.0, 1.0]), "cannot be repeated: --guidance-within 3,1"),
        (changed(steps=10**9), "cannot be repeated: --steps 1000000000 is out of range"),
        (changed(scale=10**400), "cannot be repeated: --scale"),
        ({**AS_JSON, "batch_size": 10**9}, "cannot be repeated: --batch-size 1000000000 is out of range"),
        (changed(guidance=float("inf")), "cannot be repeated: --guidance"),
    ],
)
def test_what_cannot_be_repeated_is_one_sentence(record: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        settings_of(record, "result.png")
    assert "result.png" in str(caught.value)
    assert "\n" not in str(caught.value)
