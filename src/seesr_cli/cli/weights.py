"""`seesr weights`: which files the models are made of, and getting, checking and freeing them."""

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from ..errors import WeightsInvalid, WeightsMissing
from ..wording import bytes_in_words
from .config import Group, Plain

if TYPE_CHECKING:
    from collections.abc import Collection

    from ..catalogue import Model
    from ..weights.pull import PullPlan
    from ..weights.shelf import Shelf

app = typer.Typer(
    name="weights",
    cls=Group,
    help="Get, check and free the files of the published models.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PULL_EXAMPLES = """\
[bold]Examples[/bold]
  seesr weights pull
  seesr weights pull turbo --accept-licence stabilityai/sd-turbo
  seesr weights pull --slim --to /media/stick/seesr"""

Pulled = Literal["seesr", "turbo", "metrics", "testsets", "all"]

ModelToPull = Annotated[
    Pulled,
    typer.Argument(
        metavar="MODEL", help="seesr, turbo, metrics (for evaluate), all of these, or testsets (for evaluate --set)."
    ),
]
Where = Annotated[
    Path | None,
    typer.Option(
        "--weights", metavar="DIR", help="A folder that was pulled with --to, in the place of the cache.", exists=True
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object per file, a line each.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print results and errors only.")]


@app.command("list", cls=Plain)
def list_files(model: ModelToPull = "all", weights: Where = None, as_json: AsJson = False) -> None:
    """Print every file of the models: size, licence, whether it is here and verified, and how it is pinned."""
    from ..report import inventory
    from ..weights import lock, status

    shelf = _shelf(weights)
    inventory.show(status.items(lock.read(), shelf, model), shelf, as_json)


@app.command(cls=Plain, epilog=PULL_EXAMPLES)
def pull(
    model: ModelToPull = "seesr",
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="DIR", help="Into this folder, to be taken to another machine, not the cache."),
    ] = None,
    slim: Annotated[
        bool,
        typer.Option(
            "--slim",
            help="Keep 16-bit files only: fetch them where they are published, else make them and delete the "
            "originals, also from huggingface_hub's cache, which other programs share.",
        ),
    ] = False,
    accept_licence: Annotated[
        list[str] | None,
        typer.Option("--accept-licence", metavar="NAME", help="Accept the licence that the model names; once."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fetch the files that a model lacks, and verify them.

    An interrupted download is kept, and the same command again goes on there.
    """
    from ..report import inventory
    from ..weights import hub, lock, status
    from ..weights import pull as pulling

    wanted = pulling.plan(lock.read(), model, to, half=slim)
    if not hub.offline():
        wanted = pulling.sized(wanted)
    fetch(wanted, accept_licence or [], quiet or as_json)
    if slim:
        _slim(model, wanted.into, quiet or as_json)
    if as_json:
        inventory.show(status.items(wanted.lock, wanted.into, model), wanted.into, as_json)
    else:
        inventory.result(wanted.into.root)


def fetch(wanted: "PullPlan", accepted: list[str], quiet: bool) -> None:
    """Fetch the files of a plan with progress, and ask for licences if a person can answer.

    Raises as `weights.pull.fetch_all`.
    """
    from ..report import inventory
    from ..weights import pull as pulling
    from ..weights import status

    agreed = [name for name in wanted.licences if name in accepted or _agrees(name)]
    if agreed:
        pulling.accept(wanted.into, agreed)
        wanted = wanted._replace(licences=tuple(name for name in wanted.licences if name not in agreed))
    if wanted.files and not quiet:
        inventory.note(f"{status.in_words(wanted.files)} to get, into {wanted.into.root}.")
    with inventory.Bar(quiet) as bar:
        pulling.fetch_all(wanted, bar)


def ensure(model: "Model", given: Path | None, yes: bool = False, quiet: bool = False) -> None:
    """Fetch the files that `model` lacks, if no folder is named and the person agrees or gave `yes`.

    For commands that need weights, before they load any. Says first what is needed, from where, and how large.
    Raises WeightsMissing, with the command to run, when nobody can be asked or the answer is no; else as `locate` and
    `weights.pull.fetch_all`.
    """
    from ..weights import locate

    if not (model.bundled or _named(given)):
        _offer(f"Model '{model.name}' needs", model.name, (), yes, quiet)
    locate(model, given)


def ensure_metrics(metrics: "Collection[str]", given: Path | None, yes: bool, quiet: bool) -> Path:
    """Return the folder with the networks of `metrics`, after fetching the missing files, as `ensure` does."""
    from ..weights import METRICS, locate_metrics

    if not _named(given):
        _offer(f"The networks of {', '.join(metrics)} need", METRICS, metrics, yes, quiet)
    return locate_metrics(metrics, given)


def ensure_test_sets(given: Path | None, yes: bool, quiet: bool) -> Path:
    """Return the archive of the published test sets, after fetching it, as `ensure` does."""
    from ..weights import TEST_SETS, locate_test_sets

    with suppress(WeightsMissing):
        return locate_test_sets(given)
    _offer("The test sets need", TEST_SETS, (), yes, quiet)
    return locate_test_sets(given)


def _named(given: Path | None) -> bool:
    """Return whether an option or the environment names a folder of weights."""
    from ..weights import FOLDER_VARIABLE

    return given is not None or bool(os.environ.get(FOLDER_VARIABLE))


def _offer(needs: str, model: str, roles: "Collection[str]", yes: bool, quiet: bool) -> None:
    """Fetch what lacks of `model` if the person says yes; say first what is needed, from where, and how large."""
    from ..report import inventory
    from ..weights import hub, lock, status
    from ..weights import pull as pulling

    wanted = pulling.plan(lock.read(), model, roles=roles)
    if wanted.files and not hub.offline() and (yes or (inventory.talks() and not quiet)):
        wanted = pulling.sized(wanted)
        inventory.note(
            f"{needs} {status.in_words(wanted.files)}, of {', '.join(wanted.origins)}; "
            f"they go to {wanted.into.root} and huggingface_hub's cache."
        )
        if yes or typer.confirm("Fetch them now?", err=True):
            fetch(wanted, [], quiet)


def _agrees(licence: str) -> bool:
    """Whether the person at the terminal accepts; where nobody can be asked, nobody does."""
    from ..report import inventory

    if not inventory.talks():
        return False
    question = (
        f"{licence} has a licence of its owner's own, which is not a free one: https://huggingface.co/{licence}\n"
        "Do you accept it?"
    )
    return typer.confirm(question, err=True)


def _slim(model: Pulled, shelf: "Shelf", quiet: bool) -> None:
    """Convert; only here is torch needed."""
    from ..catalogue import MODELS
    from ..models import convert
    from ..report import inventory

    if not quiet:
        inventory.note("Making 16-bit copies; then the originals are deleted, also from huggingface_hub's cache.")
    for one in MODELS.values():
        if model in ("all", one.name) and not one.bundled:
            convert.prepare_slim(one, shelf)
    freed = convert.free_sources(shelf)
    if not quiet:
        inventory.note(f"Freed {bytes_in_words(freed)}.")


@app.command(cls=Plain)
def verify(model: ModelToPull = "all", weights: Where = None, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Read every byte again; exit with 3 if a file of a named model is damaged or missing."""
    from ..report import inventory
    from ..weights import lock, status, verify

    shelf, entries = _shelf(weights), lock.read()
    with inventory.Bar(quiet or as_json) as bar:
        items = verify.verify(entries, shelf, model, bar)
    inventory.show(items, shelf, as_json)
    for item in items:
        if item.state == "unverified" and not shelf.sha256(item.file):
            inventory.note(f"{item.file.file} cannot be verified: no checksum of it is known yet.")
    if wrong := [item.file.file for item in items if item.state == "unverified" and shelf.sha256(item.file)]:
        raise WeightsInvalid(f"{shelf.path(wrong[0])} is not what it should be; seesr weights pull gets it again.")
    if model != "all" and (lacking := status.lacking(entries, shelf, model)):
        raise WeightsMissing(f"{status.in_words(lacking)} of '{model}' are missing. Run: seesr weights pull {model}.")


@app.command(cls=Plain)
def path(model: ModelToPull = "seesr", as_json: AsJson = False) -> None:
    """Print the folder that holds the pulled files; exits with 3 when some of the model's are missing."""
    from ..catalogue import MODELS
    from ..report import inventory
    from ..weights import METRICS, locate, locate_metrics, locate_test_sets, lock

    if model == "testsets":
        folder = locate_test_sets(None).parent
    elif model == "metrics":
        folder = locate_metrics(sorted({file.role for file in lock.read().of(METRICS)}), None)
    else:
        folder = locate(MODELS["seesr" if model == "all" else model], None)
    inventory.result(folder, as_json)


@app.command(cls=Plain)
def prune(weights: Where = None, as_json: AsJson = False, quiet: Quiet = False) -> None:
    """Delete parts of downloads and conversions, damaged copies, and files that no model needs any more."""
    from ..report import inventory
    from ..weights import lock, verify

    gone = verify.prune(lock.read(), _shelf(weights))
    for name, size in gone:
        inventory.result(name, as_json, bytes=size)
    if not (quiet or as_json):
        inventory.note(f"Freed {bytes_in_words(sum(size for _, size in gone))}.")


@app.command("lock", cls=Plain)
def rewrite_lock(
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="The lock to renew.", exists=True, dir_okay=False)
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Show the difference, and leave the file as it is.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask the Hub for revisions, sizes and checksums, show the difference, and rewrite the lock (for maintainers)."""
    from ..report import inventory
    from ..weights import lock, relock

    old = lock.read(file)
    with inventory.Bar(as_json) as bar:
        new = relock.renew(old, bar)
    before, after = old.path.read_text(encoding="utf-8"), lock.render(new)
    inventory.difference(before, after, old.path, as_json)
    if not check and before != after:
        old.path.write_text(after, encoding="utf-8")


def _shelf(weights: Path | None) -> "Shelf":
    from ..weights import shelf

    return shelf.default() if weights is None else shelf.Shelf(weights)
