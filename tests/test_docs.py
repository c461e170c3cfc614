"""What the README says is so."""

import re
from pathlib import Path

import pytest
import typer

from seesr_cli import __version__
from seesr_cli.cli import app
from seesr_cli.settings import MODELS

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


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_and_stands_in_the_readme(command: str) -> None:
    assert COMMANDS[command].help
    assert f"seesr {command}" in README


@pytest.mark.parametrize(("command", "option"), OPTIONS, ids=[f"{name} {option.opts[0]}" for name, option in OPTIONS])
def test_every_option_has_help_and_stands_in_the_readme(command: str, option: typer.core.TyperOption) -> None:
    assert option.help, f"{option.opts[0]} of {command} has no help"
    for spelling in [*option.opts, *option.secondary_opts]:
        assert re.search(rf"`[^`\n]*{re.escape(spelling)}(?![\w-])[^`\n]*`", README), spelling


def test_the_readme_s_options_table_shows_the_models_own_defaults() -> None:
    rows = dict(re.findall(r"^\| `--([\w-]+)[^|]*\|[^|]*\| ([^|]*) \|$", README, flags=re.MULTILINE))
    published = MODELS["seesr"].defaults
    for option, field in (("steps", published.steps), ("guidance", published.guidance), ("tile", published.tile)):
        assert str(field) in rows[option]


@pytest.mark.parametrize("target", re.findall(r"\]\((?!https?:)([^)#]+)", README))
def test_every_link_leads_somewhere(target: str) -> None:
    assert (ROOT / target).exists()


@pytest.mark.parametrize("anchor", re.findall(r"\]\(#([^)]+)\)", README))
def test_every_link_within_the_readme_leads_to_a_heading(anchor: str) -> None:
    assert anchor in anchors(README)


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


def test_every_decision_states_choice_and_reason() -> None:
    decisions = sorted((ROOT / "docs/decisions").glob("*.md"))
    assert decisions
    for decision in decisions:
        assert "**Choice.**" in decision.read_text(), decision.name
        assert "**Reason.**" in decision.read_text(), decision.name
