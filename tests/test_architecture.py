"""Imports point one way, and the command line answers without the heavy libraries."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import seesr_cli

PACKAGE = Path(seesr_cli.__file__).parent
HEAVY = ("torch", "diffusers", "transformers", "numpy", "PIL")

# From the top of the house to its ground; a module imports only from floors below its own.
FLOORS = (
    ("__main__",),
    ("cli",),
    ("report",),
    ("run", "training"),
    ("evaluate",),
    ("records",),
    ("restore", "forecast"),
    ("models.load", "models.convert", "vae"),
    ("models.predict", "models.compiled"),
    ("models.graft", "models.tagger", "models.keys"),
    ("models.swin", "models"),
    ("weights", "image", "sampling"),
    ("machine", "sizes"),
    ("files",),
    ("settings",),
    ("errors", ""),
)
# Folders whose modules may import each other; models has floors of its own.
WITHIN = {"cli", "report", "run", "training", "records", "restore", "forecast", "vae", "weights", "image", "sampling"}
WITHIN |= {"machine", "evaluate"}


def floor(module: str) -> int:
    for number, rooms in enumerate(FLOORS):
        if any(module == room or (room in WITHIN and module.startswith(f"{room}.")) for room in rooms):
            return number
    raise AssertionError(f"{module} stands on no floor: give it one")


def imports() -> list[tuple[str, str]]:
    """All pairs (module, module of ours that it imports), named from the package down."""
    names = {".".join(path.relative_to(PACKAGE).with_suffix("").parts): path for path in PACKAGE.rglob("*.py")}
    modules = {name.removesuffix("__init__").removesuffix("."): path for name, path in names.items()}
    pairs = []
    for module, path in modules.items():
        package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level:
                base = [part for part in package if part][: len(package) - node.level + 1]
                target = [*base, *(node.module or "").split(".")] if node.module else base
                stem = ".".join(target)
                for alias in node.names:
                    whole = f"{stem}.{alias.name}".strip(".")
                    pairs.append((module, whole if whole in modules else stem))
    return pairs


def test_every_import_points_down() -> None:
    assert len(imports()) > 30
    upward = [
        f"{module} imports {target}"
        for module, target in imports()
        if target and floor(module) >= floor(target) and module.split(".")[0] != target.split(".")[0]
    ]
    assert not upward


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
