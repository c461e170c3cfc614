"""Imports point one way, and the command line answers without the heavy libraries."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest
from PIL import Image

import seesr_cli

PACKAGE = Path(seesr_cli.__file__).parent
NAME = PACKAGE.name
HEAVY = ("torch", "diffusers", "transformers", "numpy", "PIL")

# Rooms (folders and modules of the package), from the top down. A module imports from its own room and from rooms of
# lower floors, never from another room of its own floor. A new room fails until it is given a floor here.
ORDER = (
    "__main__ > cli > report, demo > run, training, door > evaluate > records > restore, forecast > vae > models"
    " > weights, image, sampling > machine, sizes > files, catalogue > settings > errors, wording"
)
# Rooms that have an order of their own inside.
INSIDE = {"models": "convert > load > predict > graft, tagger, keys > swin, compact, configs, products"}
# What `import seesr_cli` itself may lead to, and only when it is asked for.
DOOR = "door"

Sources = dict[str, str]
"""Text of every module by its name, from the package down; the package itself is ""."""


def sources() -> Sources:
    """Return the modules of the package."""
    named = {path.relative_to(PACKAGE).with_suffix("").parts: path for path in PACKAGE.rglob("*.py")}
    return {
        ".".join(parts[:-1] if parts[-1] == "__init__" else parts): path.read_text(encoding="utf-8")
        for parts, path in named.items()
    }


def floors(order: str) -> dict[str, int]:
    """Return the number of each room's floor, counted from the top."""
    return {room.strip(): number for number, floor in enumerate(order.split(">")) for room in floor.split(",")}


@cache
def parsed(text: str) -> tuple[ast.Import | ast.ImportFrom, ...]:
    """Return the statements of a module that import, wherever they stand in it."""
    return tuple(node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom))


def imports(modules: Sources) -> Iterator[tuple[str, str]]:
    """Yield all pairs (module, module of ours that it imports): relative, absolute, in functions, for types alone."""
    packages = {name.rpartition(".")[0] for name in modules} | {""}
    for module, text in modules.items():
        package = module if module in packages else module.rpartition(".")[0]
        for node in parsed(text):
            if isinstance(node, ast.Import):
                stems = [(alias.name, "") for alias in node.names]
            else:
                above = ".".join([NAME, *package.split(".")] if package else [NAME])
                for _ in range(node.level - 1):
                    above = above.rpartition(".")[0]
                stem = ".".join(filter(None, (above if node.level else "", node.module or "")))
                stems = [(stem, alias.name) for alias in node.names]
            for stem, name in stems:
                if stem == NAME or stem.startswith(f"{NAME}."):
                    inner = stem.removeprefix(NAME).removeprefix(".")
                    whole = f"{inner}.{name}".strip(".")
                    yield module, whole if whole in modules else inner


def wrong(modules: Sources) -> list[str]:
    """Return a sentence for every room without a floor and every import against the order."""
    order, told = floors(ORDER), []
    rooms = sorted({module.split(".")[0] for module in modules} - {""})
    told += [f"{room} has no floor" for room in rooms if room not in order]
    for room, inside in INSIDE.items():
        inner = sorted(name.split(".")[1] for name in modules if name.startswith(f"{room}."))
        told += [f"{room}.{name} has no floor" for name in inner if name not in floors(inside)]
    for module, target in imports(modules):
        room, other = module.split(".")[0], target.split(".")[0]
        if not other:  # the package's own names: its version
            continue
        if not room:
            if other != DOOR:
                told.append(f"the package imports {target}")
        elif room != other:
            if order.get(room, len(order)) >= order.get(other, -1):
                told.append(f"{module} imports {target}")
        elif room in INSIDE and module != target:
            within, from_, to = floors(INSIDE[room]), *(name.partition(".")[2] for name in (module, target))
            if not from_ or (to and within.get(from_, len(within)) >= within.get(to, -1)):
                told.append(f"{module} imports {target}")
    return told


def test_every_import_points_down() -> None:
    assert len(list(imports(sources()))) > 300
    assert wrong(sources()) == []


@pytest.mark.parametrize(
    ("module", "text", "told"),
    [
        ("image.reader", "from ..run import batch", "image.reader imports run.batch"),
        ("image.reader", "from seesr_cli.run.batch import x", "image.reader imports run.batch"),
        ("image.reader", "import seesr_cli.run.batch as b", "image.reader imports run.batch"),
        ("image.reader", "from .. import cli", "image.reader imports cli"),
        ("image", "from ..cli import app", "image imports cli"),
        ("image.reader", "def f():\n    from ..run import batch", "image.reader imports run.batch"),
        ("files", "if TYPE_CHECKING:\n    from .run.batch import x", "files imports run.batch"),
        ("forecast.rates", "from ..restore import tag", "forecast.rates imports restore.tag"),  # of the same floor
        ("settings", "from .files import cause", "settings imports files"),
        ("models.swin", "from .graft import Conditioning", "models.swin imports models.graft"),
        ("models.keys", "from seesr_cli.models import tagger", "models.keys imports models.tagger"),
        ("models", "from . import load", "models imports models.load"),
        ("models.unlisted", "", "models.unlisted has no floor"),
        ("unlisted", "", "unlisted has no floor"),
        ("unlisted.inner", "", "unlisted has no floor"),
        ("", "from .cli import app", "the package imports cli"),
    ],
)
def test_what_is_planted_against_the_order_is_found(module: str, text: str, told: str) -> None:
    assert told in wrong(sources() | {module: text})


def test_rooms_to_come_have_their_floors() -> None:
    coming = {"run.cluster": "from ..evaluate import fidelity", "demo": "from .run import batch"}
    assert wrong(sources() | coming) == []


def circle(modules: Sources) -> list[str]:
    """Return the modules of one circle of imports, [] where there is none."""
    graph: dict[str, set[str]] = {module: set() for module in modules}
    for module, target in imports(modules):
        if target != module:
            graph[module].add(target)
    del graph[""]  # the package asks for its door when it is itself asked
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_module_imports_itself_by_a_detour() -> None:
    assert circle(sources()) == []
    assert circle(sources() | {"files": "from .errors import a", "errors": "from seesr_cli.files import b"})


def test_only_the_command_line_leads_to_the_exit() -> None:
    for path in PACKAGE.rglob("*.py"):
        if "cli" not in path.relative_to(PACKAGE).parts and path.name != "__main__.py":
            assert "sys.exit" not in path.read_text(), path


@pytest.mark.parametrize("module", ["seesr_cli.cli", "seesr_cli.settings", "seesr_cli.weights"])
def test_no_heavy_library_is_imported_before_it_is_needed(module: str) -> None:
    code = f"import sys, {module}; print(sorted(set(sys.modules) & {set(HEAVY)!r}))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"


def test_tags_are_read_without_what_only_other_commands_need(tmp_path: Path) -> None:
    spared = {"diffusers", "transformers", "scipy", "sympy", "torch._dynamo", "PIL.TiffImagePlugin", "pillow_heif"}
    spared |= {"rich.progress", "seesr_cli.report.inventory", "seesr_cli.restore.upscaler", "seesr_cli.forecast"}
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    code = (
        "import sys; from seesr_cli.cli import app\n"
        "app(['tags', sys.argv[1], '--model', 'miniature', '--device', 'cpu'], standalone_mode=False)\n"
        f"print('torch' in sys.modules, sorted(set(sys.modules) & {spared!r}))"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.png")]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "True []"


def test_nothing_has_an_exit_function_before_the_one_that_ends_the_process() -> None:
    code = "import atexit, seesr_cli.__main__; print(atexit._ncallbacks())"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "0\n"
