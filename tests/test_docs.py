"""What the pages say is so."""

import re
from pathlib import Path

import pytest
import typer

import options
from seesr_cli import __version__
from seesr_cli.cli import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
OPTIONS = [
    (name, parameter)
    for name, command in COMMANDS.items()
    for parameter in command.params
    if parameter.param_type_name == "option" and parameter.name != "help"
]
TEXTS = [
    *ROOT.glob("*.md"),
    *(path for folder in ("src", "benchmarks", "docs", "recipes") for path in (ROOT / folder).rglob("*.[pm][yd]")),
]
DECISIONS_NAMED = sorted(
    {
        (path.relative_to(ROOT).as_posix(), int(number))
        for path in TEXTS
        for numbers in re.findall(r"\bdecisions?(?:\)?, | |/)(\d+)(?: to (\d+))?", path.read_text())
        for number in filter(None, numbers)
    }
)


PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINKS = [
    (page.relative_to(ROOT).as_posix(), link)
    for page in PAGES
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", page.read_text())
]
MODULES = sorted(
    {
        (page.relative_to(ROOT).as_posix(), name)
        for page in (*PAGES, *(ROOT / "docs/decisions").glob("*.md"))
        for name in re.findall(r"`((?:[\w-]+/)*\w+\.py)\b", page.read_text())
    }
)


def typed() -> list[tuple[str, str]]:
    """Return (page, command line) of every line in the pages that calls seesr."""
    found = []
    for page in PAGES:
        text = page.read_text()
        lines = re.findall(r"^ {4}(?:.*[|&] )?(seesr [^#|>&\n]*)", text, re.MULTILINE)
        lines += re.findall(r"`(seesr [^`\n]*)`", text)
        found += [(page.relative_to(ROOT).as_posix(), " ".join(line.split())) for line in lines]
    return sorted(set(found))


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_stands_in_the_pages(command: str) -> None:
    assert COMMANDS[command].help
    assert any(f"seesr {command}" in page.read_text() for page in PAGES)


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=[f"{name} {option.opts[0]}" for name, option in OPTIONS])
def test_every_option_has_help(command: str, option: typer.core.TyperOption) -> None:
    assert option.help, f"{option.opts[0]} of {command} has no help"


def test_the_page_of_options_is_the_command_line_s() -> None:
    assert options.PAGE.read_text() == options.page(), "run: python tests/options.py"


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 150


@pytest.mark.parametrize(("page", "line"), typed())
def test_every_command_line_in_the_pages_can_be_typed(page: str, line: str) -> None:
    words = line.split()[1:]
    known = {"--help", "--help-all", "--version", "--install-completion"}
    if words and words[0].startswith("-"):
        assert words[0] in known
        return
    if words[0] in ("COMMAND", "photo.jpg"):  # what is said of any command, and of none
        return
    command = COMMANDS[words[0]]
    if "commands" in vars(command):
        assert words[1] in command.commands, line
        command = command.commands[words[1]]
    known |= {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert [word for word in words if word.startswith("-") and len(word) > 1 and word.split("=")[0] not in known] == []


@pytest.mark.parametrize(("page", "link"), LINKS)
def test_every_link_leads_somewhere(page: str, link: str) -> None:
    name, _, anchor = link.partition("#")
    target = (ROOT / page).parent / name if name else ROOT / page
    assert target.exists()
    assert not anchor or anchor in anchors(target.read_text())


@pytest.mark.parametrize(("page", "module"), MODULES)
def test_every_module_that_the_pages_name_is_there(page: str, module: str) -> None:
    places = (ROOT, ROOT / "src" / "seesr_cli", ROOT / "tests", ROOT / "benchmarks", ROOT / "recipes" / "miniature")
    assert any((place / module).is_file() for place in places)


def anchors(text: str) -> set[str]:
    """Return what GitHub lets a link within `text` lead to: headings in small letters, hyphens for spaces."""
    found: list[str] = []
    for heading in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE):
        slug = re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-")
        again = found.count(slug)
        found += [slug, f"{slug}-{again}"] if again else [slug]
    return set(found)


def test_anchors_are_those_of_github() -> None:
    assert anchors("# A `b`-c, d!\n## Use\ntext # no\n### Use\n") == {"a-b-c-d", "use", "use-1"}


@pytest.mark.parametrize(("file", "decision"), DECISIONS_NAMED)
def test_every_decision_that_is_named_is_there(file: str, decision: int) -> None:
    assert list((ROOT / "docs/decisions").glob(f"{decision:04}-*.md"))


def test_the_changelog_knows_this_version() -> None:
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_every_decision_has_its_own_number_and_states_choice_and_reason() -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert decisions
    assert [int(decision.name[:4]) for decision in decisions] == list(range(1, len(decisions) + 1))
    for number, decision in enumerate(decisions, 1):
        assert decision.read_text().startswith(f"# {number}. "), decision.name
        assert "**Choice.**" in decision.read_text(), decision.name
        assert "**Reason.**" in decision.read_text(), decision.name
