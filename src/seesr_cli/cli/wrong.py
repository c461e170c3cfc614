"""Sentences for usage errors: the wrong word, its place, and the option that was probably meant."""

from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import typer

PICTURES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".heic", ".avif", ".bmp", ".gif", ".jp2"}
"""Suffixes that tell a picture's name from a mistyped command, without asking the reader for all it reads."""


def command(path: str, typed: str, commands: Sequence[str]) -> str:
    """Return the sentence for a word in the place of a command: a picture's name, or a mistyped one."""
    if Path(typed).suffix.lower() in PICTURES or Path(typed).exists():
        return f"{path} {typed}: a command is missing. To restore it: {path} upscale {typed}"
    if typed.startswith("-"):
        return f"{path} has no option {typed}. More: {path} --help"
    return f"{path} has no command {typed}.{_meant(typed, commands)} More: {path} --help"


def sentence(problem: typer.TyperException, of: Any, context: Any, args: Sequence[str]) -> str:
    """Return the sentence for `args` of the command `of`, for which the parser raised `problem`."""
    if isinstance(problem, typer.BadParameter):
        parameter = vars(problem)["param"]
        if parameter is not None:
            return _value(parameter, of, context, args)
    typed = vars(problem).get("option_name")
    spelled = [name for option in of.params for name in (*option.opts, *option.secondary_opts) if name.startswith("-")]
    if typed is not None and typed not in spelled:
        return (
            f"{context.command_path} has no option {typed}.{_meant(typed, spelled)} More: {context.command_path} --help"
        )
    if typed is not None:
        return f"{typed} needs a value. More: {context.command_path} --help"
    return f"{problem.format_message().rstrip('.')}. More: {context.command_path} --help"


def _value(parameter: Any, of: Any, context: Any, args: Sequence[str]) -> str:
    """Return what is wrong with the value of an option or argument, and where the value came from."""
    typed, _, _ = of.make_parser(context).parse_args(args=list(args))
    if parameter.param_type_name == "option":
        value, source = parameter.consume_value(context, typed)
        place = {
            "ENVIRONMENT": f"{parameter.envvar} in the environment",
            "DEFAULT_MAP": f"{parameter.opts[0].removeprefix('--')} in seesr.toml",
        }.get(source.name, parameter.opts[0])
    else:
        value, place = typed.get(parameter.name), parameter.metavar or parameter.name
    if value is None:
        return f"{place} is missing. More: {context.command_path} --help"
    value = value[0] if isinstance(value, (list, tuple)) and value else value
    described = parameter.type_descriptor
    if choices := [str(choice) for choice in described.choices or ()]:
        return f"{place} is '{value}': give {_or(choices)}.{_meant(str(value), choices)}"
    if described.is_path:
        asked = described.parameter_info
        kind = {(True, False): "file", (False, True): "folder"}.get((asked.file_okay, asked.dir_okay), "file or folder")
        return f"{place} is '{value}': there is no such {kind}."
    kinds = {int: "a whole number", float: "a number", bool: "true or false"}
    wanted = kinds.get(_plain_type(described.annotation), "another value")
    return f"{place} is '{value}': give {wanted}{_range(parameter)}."


def _plain_type(annotation: Any) -> Any:
    """Return the type of an option's value, where it may be left out as well."""
    inner = [each for each in getattr(annotation, "__args__", ()) if each is not type(None)]
    return inner[0] if inner else annotation


def _range(option: Any) -> str:
    least, most = option.min, option.max
    if least is not None and most is not None:
        return f" from {least:,} to {most:,}"
    return f" of at least {least:,}" if least is not None else ""


def _meant(typed: str, possible: Sequence[str]) -> str:
    near = get_close_matches(typed, possible, cutoff=0.6)
    return f" Did you mean {_or(near)}?" if near else ""


def _or(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"
