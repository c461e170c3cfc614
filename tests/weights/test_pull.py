"""Pulling survives what networks, disks and other people's servers do; nothing unverified is ever used."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import shop
import warm
from hub import Fault
from seesr_cli.catalogue import SEESR
from seesr_cli.restore.upscaler import Upscaler
from shop import AUTHOR, BASE, CONTROLNET, MIRROR, PIECE, TEXT, TURBO, UNET, VAE, Shop
from warm import Kiln


@pytest.fixture(scope="module")
def weights_kiln() -> Iterator[Kiln]:
    with Kiln(warm.WEIGHTS) as kiln:
        yield kiln


@pytest.fixture
def store(tiny_weights: Path, tmp_path: Path, weights_kiln: Kiln) -> Iterator[Shop]:
    with shop.opened(tiny_weights, tmp_path / "shop", weights_kiln) as opened:
        yield opened


def same(store: Shop, weights: Path, folder: Path | None = None) -> None:
    """Every file of the model seesr has its bytes."""
    for path in weights.rglob("*"):
        name = path.relative_to(weights)
        if path.is_file() and name.parts[0] != "sd-turbo":
            assert ((folder or store.shelf) / name).read_bytes() == path.read_bytes(), name


def parts(store: Shop) -> list[Path]:
    return [*store.home.rglob("*incomplete"), *store.home.rglob("*.part")]


def test_a_pull_brings_everything_once_and_remembers_it(store: Shop, tiny_weights: Path) -> None:
    pulled = store.pull()
    assert pulled.stdout.strip() == str(store.shelf)
    same(store, tiny_weights)
    assert {item["state"] for name, item in store.items().items() if not name.startswith("sd-turbo")} == {"verified"}
    assert (store.shelf / VAE).resolve().is_relative_to(store.cache), "what comes from the Hub is in its cache"
    assert not parts(store)
    asked = len(store.hub.requests)
    store.pull()
    assert len(store.hub.requests) == asked, "what is here is not asked for"
    assert store.run("path").stdout.strip() == str(store.shelf)


def test_what_huggingface_hub_has_already_is_taken_from_its_cache(store: Shop, tiny_weights: Path) -> None:
    store.pull()
    shutil.rmtree(store.shelf)
    before = store.hub.fetched("/cdn/")
    store.pull()
    same(store, tiny_weights)
    assert store.hub.fetched("/cdn/") == before


def test_a_connection_cut_in_the_middle_goes_on_where_it_was(store: Shop) -> None:
    sha256 = store.grow()
    store.hub.faults = [Fault(sha256, "cut", times=2)]
    store.pull()
    assert hashlib.sha256((store.shelf / VAE).read_bytes()).hexdigest() == sha256
    ranges = [wanted for method, path, wanted in store.hub.requests if sha256 in path and method == "GET"]
    assert ranges == ["", f"bytes={PIECE}-", f"bytes={2 * PIECE}-"]


def test_wrong_bytes_are_refused_and_the_mirror_s_are_taken(store: Shop, tiny_weights: Path) -> None:
    sha256 = store.checksum(VAE)
    store.hub.faults = [Fault(f"/cdn/{sha256}", "wrong")]
    assert "sha256" in store.pull().stderr
    same(store, tiny_weights)


def test_wrong_bytes_everywhere_end_with_a_sentence_and_nothing_on_the_shelf(store: Shop, tiny_weights: Path) -> None:
    sha256 = store.checksum(VAE)
    store.hub.faults = [Fault(f"/cdn/{sha256}", "wrong", times=9)]
    ended = store.run("pull")
    assert ended.returncode == 3
    assert VAE in ended.stderr
    assert not (store.shelf / VAE).exists()
    store.hub.faults = []
    store.pull()
    same(store, tiny_weights)


@pytest.mark.parametrize("kind", ["short", "long"])
def test_a_file_of_the_wrong_size_is_refused(store: Shop, tiny_weights: Path, kind: str) -> None:
    sha256 = store.checksum("DAPE.pth")
    store.hub.faults = [Fault(f"/cdn/{sha256}", kind, times=99)]
    ended = store.run("pull")
    assert ended.returncode == 3
    assert "DAPE.pth" in ended.stderr
    assert not (store.shelf / "DAPE.pth").exists()
    store.hub.faults = []
    store.pull()
    same(store, tiny_weights)


def test_a_file_that_is_gone_from_its_repository_comes_from_the_mirror(store: Shop, tiny_weights: Path) -> None:
    store.hub.repositories.pop(BASE)
    pulled = store.pull()
    same(store, tiny_weights)
    assert MIRROR in str((store.shelf / VAE).readlink()).replace("--", "/")
    assert BASE in pulled.stderr, "it is told that the first place did not give the file"


def test_a_space_is_a_mirror_too(store: Shop, tiny_weights: Path) -> None:
    store.hub.repositories[shop.RAM] = {
        commit: {name: data for name, data in tree.items() if name == "DAPE.pth"}
        for commit, tree in store.hub.repositories[shop.RAM].items()
    }
    store.pull()
    same(store, tiny_weights)


def test_a_repository_that_wants_a_token_says_so_in_one_sentence(store: Shop) -> None:
    store.hub.faults = [Fault("/resolve/", "status", times=99, method="HEAD", status=401)]
    ended = store.run("pull")
    assert ended.returncode == 3
    assert "HF_TOKEN" in ended.stderr


def test_the_token_goes_to_the_hub_and_to_nobody_else(store: Shop) -> None:
    store.pull(HF_TOKEN="hf_secret")
    assert store.hub.tokens == {("127.0.0.1", "Bearer hf_secret")}
    raw = [path for _, path, _ in store.hub.requests if path.startswith("/raw/")]
    assert raw, "the lists are fetched too, without it"


def test_a_server_that_asks_for_patience_gets_it(store: Shop, tiny_weights: Path) -> None:
    store.hub.faults = [
        Fault("/resolve/", "status", method="HEAD", status=429, headers={"Retry-After": "1"}),
        Fault("/cdn/", "status", status=429, headers={"Retry-After": "1"}),
    ]
    began = time.monotonic()
    store.pull()
    assert time.monotonic() - began > 2
    same(store, tiny_weights)


def test_a_server_that_stumbles_is_asked_again(store: Shop, tiny_weights: Path) -> None:
    store.hub.faults = [Fault("/resolve/", "status", method="HEAD", status=500), Fault("/cdn/", "status", status=500)]
    store.pull()
    same(store, tiny_weights)


def test_a_branch_that_moved_does_not_move_us(store: Shop, tiny_weights: Path) -> None:
    store.pull()
    pinned = store.items()[UNET]
    other = dict(store.hub.repositories[AUTHOR][store.hub.main[AUTHOR]])
    changed = load_file(tiny_weights / UNET)
    first = next(iter(changed))
    changed[first] = changed[first] + 1
    save_file(changed, store.home / "other.safetensors", {"format": "pt"})
    other[UNET] = (store.home / "other.safetensors").read_bytes()
    store.hub.commit(AUTHOR, other)
    (store.shelf / UNET).unlink()
    shutil.rmtree(store.cache)
    store.pull()
    same(store, tiny_weights)
    assert store.items()[UNET]["sha256"] == pinned["sha256"]
    assert str(pinned["pinned"]).startswith("commit ")


def test_the_networks_of_one_repository_come_from_one_commit(store: Shop) -> None:
    store.pull()
    pins = json.loads((store.shelf / ".seesr/state.json").read_text())["pins"]
    assert {pin["revision"] for pin in pins.values()} == {store.hub.main[AUTHOR]}
    assert set(pins) >= {UNET, CONTROLNET, "seesr/unet/config.json"}


@pytest.mark.parametrize("change", ["renamed", "misshaped", "lying"])
def test_a_network_without_a_checksum_must_be_that_network(store: Shop, tiny_weights: Path, change: str) -> None:
    state = load_file(tiny_weights / UNET)
    name = "conv_in.weight"
    tensor = state.pop(name)
    state["elsewhere" if change == "renamed" else name] = tensor.flatten() if change == "misshaped" else tensor
    save_file(state, store.home.parent / "other.safetensors", {"format": "pt"})
    data = (store.home.parent / "other.safetensors").read_bytes()
    if change == "lying":  # the header says another place, the file is as long as before
        data = data.replace(b'"data_offsets":[0,', b'"data_offsets":[4,', 1)
    tree = store.hub.repositories[AUTHOR][store.hub.main[AUTHOR]] | {UNET: data}
    store.hub.commit(AUTHOR, tree)
    ended = store.run("pull")
    assert ended.returncode == 3
    assert UNET in ended.stderr
    assert not (store.shelf / UNET).exists()
    assert UNET not in json.loads((store.shelf / ".seesr/state.json").read_text())["pins"]
    store.hub.commit(AUTHOR, tree | {UNET: (tiny_weights / UNET).read_bytes()})
    assert store.run("pull").returncode == 3, "files of that commit are pinned already"
    assert "state.json" in ended.stderr, "it is told how to begin with another commit"
    (store.shelf / ".seesr/state.json").unlink()
    store.pull()
    same(store, tiny_weights)


def test_a_disk_too_small_is_seen_before_the_first_byte(store: Shop) -> None:
    store.rewrite({VAE: {"bytes": 10**15}})
    ended = store.run("pull")
    assert ended.returncode == 3
    assert "free" in ended.stderr
    assert not store.hub.requests


def test_a_disk_that_fills_up_keeps_what_came_and_goes_on_when_there_is_room(
    store: Shop, tiny_weights: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    size = sum(path.stat().st_size for path in tiny_weights.rglob("*") if path.is_file())
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size + (4 << 20)}", "tmpfs", disk], capture_output=True
    )
    if made.returncode:
        pytest.skip("a disk of one's own can only be mounted by root")
    try:
        store.environment = {"HF_HOME": str(disk)}
        store.home = disk
        store.hub.faults = [Fault("/cdn/", "cut")]
        # another program takes the room after the check: a stand-in file appears when the first bytes come
        process = store.start("-m", "seesr_cli", "weights", "pull")
        while not store.hub.fetched("/cdn/"):
            time.sleep(0.01)
        with (disk / "hog").open("wb") as hog:
            try:
                while True:
                    hog.write(bytes(1 << 16))
                    hog.flush()
            except OSError:
                pass
        _, err = process.communicate(timeout=300)
        assert process.returncode == 3, err
        assert "Traceback" not in err
        assert "the disk is full" in err
        (disk / "hog").unlink()
        store.pull()
        same(store, tiny_weights)
    finally:
        subprocess.run(["umount", disk], check=True)


def test_two_pulls_at_once_both_end_well(store: Shop, tiny_weights: Path) -> None:
    pulls = [store.start("-m", "seesr_cli", "weights", "pull") for _ in range(2)]
    for process in pulls:
        _, err = process.communicate(timeout=300)
        assert process.returncode == 0, err
    same(store, tiny_weights)
    sha256 = store.checksum(TEXT)
    assert store.hub.fetched(f"/cdn/{sha256}") == 1, "one fetches, the other waits"
    assert not parts(store)


def test_a_pull_that_was_killed_goes_on_where_it_was(store: Shop) -> None:
    sha256 = store.grow()
    store.hub.faults = [Fault(sha256, "stall")]
    process = store.start("-m", "seesr_cli", "weights", "pull")
    while not any(path.stat().st_size for path in store.cache.rglob(f"{sha256}*incomplete")):
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert store.run("path").returncode == 3
    store.pull()
    assert store.run("verify", "seesr").returncode == 0
    ranges = [wanted for method, path, wanted in store.hub.requests if sha256 in path and method == "GET"]
    assert ranges[0] == ""
    assert ranges[1].startswith("bytes=")
    assert len(ranges) == 2
    assert not parts(store)


@pytest.mark.parametrize("name", [VAE, "DAPE.pth"])
def test_a_part_that_was_tampered_with_is_found_out(store: Shop, tiny_weights: Path, name: str) -> None:
    sha256 = store.checksum(name)
    repository = f"models--{(BASE if name == VAE else shop.RAM).replace('/', '--')}"
    part = store.cache / repository / "blobs" / f"{sha256}.seesr.incomplete"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"not the beginning")
    store.pull()
    same(store, tiny_weights)


def test_a_pickle_in_the_place_of_dape_is_refused_and_never_opened(store: Shop, tmp_path: Path) -> None:
    fired = tmp_path / "fired"

    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return Path.touch, (fired,)

    torch.save({"x": Bomb()}, tmp_path / "bomb.pth")
    for commit in store.hub.repositories[shop.RAM].values():
        commit["DAPE.pth"] = (tmp_path / "bomb.pth").read_bytes()
    store.hub.blobs |= {hashlib.sha256(commit["DAPE.pth"]).hexdigest(): commit["DAPE.pth"]}
    ended = store.run("pull")
    assert ended.returncode == 3
    assert "DAPE.pth" in ended.stderr
    assert not (store.shelf / "DAPE.pth").exists()
    assert not fired.exists()


def test_a_file_changed_after_it_was_verified_is_not_used(store: Shop) -> None:
    store.pull()
    path = (store.shelf / VAE).resolve()
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    ended = store.run("path")
    assert ended.returncode == 3
    assert VAE in ended.stderr
    assert store.run("verify", "seesr").returncode == 3
    store.pull()
    assert store.run("path").returncode == 0


def test_a_file_only_touched_is_hashed_again_and_used(store: Shop) -> None:
    store.pull()
    os.utime((store.shelf / VAE).resolve())
    assert store.run("path").returncode == 0
    assert store.items()[VAE]["state"] == "verified"


def test_verify_reads_everything_and_finds_what_kept_its_size_and_time(store: Shop) -> None:
    store.pull()
    path = (store.shelf / VAE).resolve()
    stat, data = path.stat(), bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    ended = store.run("verify")
    assert ended.returncode == 3
    assert VAE in ended.stderr
    assert store.items()[VAE]["state"] == "unverified"


def test_a_licence_that_is_not_free_is_asked_for_by_name_and_once(store: Shop) -> None:
    refused = store.run("pull", "turbo")
    assert refused.returncode == 3
    assert f"--accept-licence {TURBO}" in refused.stderr
    assert not store.hub.requests
    store.pull("turbo", "--accept-licence", TURBO)
    shutil.rmtree(store.cache)
    store.pull("turbo")


def test_offline_says_in_one_sentence_how_to_bring_the_files(store: Shop, tiny_weights: Path) -> None:
    ended = store.run("pull", HF_HUB_OFFLINE="1")
    assert ended.returncode == 3
    assert "--to DIR" in ended.stderr
    assert "--weights DIR" in ended.stderr
    store.pull()
    asked = len(store.hub.requests)
    store.pull(HF_HUB_OFFLINE="1")
    assert store.run("path", HF_HUB_OFFLINE="1").returncode == 0
    assert len(store.hub.requests) == asked


def test_without_a_route_the_same_sentence_comes_at_once(store: Shop) -> None:
    began = time.monotonic()
    ended = store.run("pull", HF_ENDPOINT="http://127.0.0.1:9")
    assert ended.returncode == 3
    assert "--to DIR" in ended.stderr
    assert time.monotonic() - began < 15


def test_a_folder_for_another_machine_is_whole_and_needs_nothing_else(
    store: Shop, tiny_weights: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "stick"
    store.pull("--to", str(folder))
    same(store, tiny_weights, folder)
    assert not any(path.is_symlink() for path in folder.rglob("*"))
    moved = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    store.home = tmp_path / "other-home"
    assert store.run("verify", "seesr", "--weights", str(moved)).returncode == 0
    (moved / VAE).write_bytes(b"")
    assert store.run("verify", "--weights", str(moved)).returncode == 3
    shutil.copy(folder / VAE, moved / VAE)
    asked = len(store.hub.requests)
    store.pull("--to", str(moved))
    assert len(store.hub.requests) == asked


def check_loads(folder: Path) -> None:
    upscaler = Upscaler.load(SEESR, folder, "cpu", "fp32")
    assert upscaler.sampler.unet.dtype == upscaler.reader.tagger.to_tokens.weight.dtype == torch.float32


ENSURING = """
import sys
from seesr_cli.cli.weights import ensure
from seesr_cli.errors import SeesrError
from seesr_cli.catalogue import SEESR
try:
    ensure(SEESR, None, yes=sys.argv[1] == "yes")
except SeesrError as error:
    print(error, *error.remedies, sep="\\n", file=sys.stderr)
    sys.exit(error.exit_code)
"""


def test_on_demand_a_yes_fetches_and_a_script_is_told_the_command(store: Shop, tiny_weights: Path) -> None:
    process = store.start("-c", ENSURING, "no")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 3
    assert "seesr weights pull seesr: fetches them" in err
    assert not store.hub.requests
    process = store.start("-c", ENSURING, "yes")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    assert AUTHOR in err, "it is told where the files come from"
    same(store, tiny_weights)
    process = store.start("-c", ENSURING, "no", HF_HUB_OFFLINE="1")
    assert process.communicate(timeout=300)[1] == ""
    assert process.returncode == 0


def test_upscale_fetches_what_it_needs_and_then_works_without_a_network(store: Shop, tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), "teal").save(tmp_path / "photo.png")
    command = ["-m", "seesr_cli", "upscale", str(tmp_path / "photo.png"), "--device", "cpu"]
    command += ["--scale", "2", "--process-size", "64", "--steps", "1"]
    process = store.start(*command)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (3, "")
    assert "seesr weights pull seesr" in err
    process = store.start(*command, "--yes")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    asked = len(store.hub.requests)
    process = store.start(*command, "--overwrite", HF_HUB_OFFLINE="1")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    with Image.open(out.strip()) as restored:
        assert restored.size == (64, 64)
    assert len(store.hub.requests) == asked


def test_what_was_pulled_slim_is_loaded_without_a_network_and_the_originals_are_gone(store: Shop) -> None:
    told = store.pull("--slim").stderr
    assert "deleted, also from huggingface_hub's cache" in " ".join(told.split())
    assert not list(store.home.rglob("ram_swin_large_14m.pth"))
    assert not list(store.home.rglob("DAPE.pth"))
    assert store.items()["ram_swin_large_14m.pth"]["state"] == "replaced"
    asked = len(store.hub.requests)
    check_loads(Path(store.run("path", HF_HUB_OFFLINE="1").stdout.strip()))
    assert store.run("verify", "seesr").returncode == 0
    store.pull("--slim")
    assert len(store.hub.requests) == asked


def test_a_folder_that_can_only_be_read_serves_too(store: Shop, tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    store.pull("--to", str(folder))
    os.utime(folder / VAE)
    bound = subprocess.run(["mount", "--bind", folder, folder], capture_output=True)
    if bound.returncode:
        pytest.skip("only root can make a folder that root cannot write")
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)
        assert store.run("path", SEESR_WEIGHTS=str(folder)).stdout.strip() == str(folder)
        check_loads(folder)
    finally:
        subprocess.run(["umount", folder], check=True)


def test_a_folder_of_somebody_s_own_is_verified_as_far_as_checksums_are_known(
    store: Shop, tiny_weights: Path, tmp_path: Path
) -> None:
    own = shutil.copytree(tiny_weights, tmp_path / "own")
    checked = store.run("verify", "seesr", "--weights", str(own))
    assert checked.returncode == 3, "the model is not whole: nobody vouches for two of its networks"
    assert f"{UNET} cannot be verified" in checked.stderr
    states = {line.split("\t")[0]: line.split("\t")[2] for line in checked.stdout.splitlines()}
    assert (states[VAE], states[UNET]) == ("verified", "unverified")


def test_a_folder_is_filled_from_the_cache_where_that_has_the_files(store: Shop, tmp_path: Path) -> None:
    store.pull()
    asked = len(store.hub.requests)
    store.pull("--to", str(tmp_path / "stick"))
    assert len(store.hub.requests) == asked


def test_huggingface_s_own_variables_keep_their_meaning(store: Shop, tiny_weights: Path, tmp_path: Path) -> None:
    store.pull(HF_HUB_CACHE=str(tmp_path / "cache"))
    assert (store.shelf / VAE).resolve().is_relative_to(tmp_path / "cache")
    same(store, tiny_weights)


def test_prune_deletes_parts_and_nothing_that_is_needed(store: Shop, tiny_weights: Path) -> None:
    store.pull()
    sha256 = str(hashlib.sha256((store.shelf / VAE).read_bytes()).hexdigest())
    left = store.cache / f"models--{BASE.replace('/', '--')}" / "blobs" / f"{sha256}.seesr.incomplete"
    left.write_bytes(b"x" * 10)
    foreign = [store.shelf / "mine.part", (store.shelf / VAE).with_name("film.mkv.part")]
    for path in foreign:
        path.write_text("precious")
    assert json.loads(store.run("prune", "--json").stdout)["bytes"] == 10
    assert not left.exists()
    assert [path.read_text() for path in foreign] == ["precious", "precious"]
    same(store, tiny_weights)


def test_the_lock_is_renewed_from_the_hub_and_then_pins_everything(store: Shop, tiny_weights: Path) -> None:
    before = store.lock_file.read_text()
    assert "unpinned" in before
    shown = store.run("lock", "--check")
    assert shown.returncode == 0, shown.stderr
    assert f'+revision = "{store.hub.main[AUTHOR]}"' in shown.stdout
    assert store.lock_file.read_text() == before
    store.run("lock", "--file", str(store.lock_file))
    after = store.lock_file.read_text()
    assert "unpinned" not in after.partition("[[file]]")[2]
    assert store.run("lock", "--check").stdout == ""
    store.pull()
    same(store, tiny_weights)
    assert store.items()[UNET]["pinned"] == "sha256"


def test_a_checksum_that_the_hub_does_not_confirm_stops_the_renewal(store: Shop) -> None:
    store.rewrite({VAE: {"sha256": "0" * 64}})
    before = store.lock_file.read_text()
    ended = store.run("lock")
    assert ended.returncode == 3
    assert VAE in ended.stderr
    assert store.lock_file.read_text() == before
