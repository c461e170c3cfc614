"""Read a recipe: every number of a training run, from a TOML file and `--set key=value`."""

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from difflib import get_close_matches
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from ..errors import UsageError

FOLDER = Path(__file__).parent / "recipes"

Stage = Literal["dape", "seesr"]
STAGES: tuple[Stage, ...] = get_args(Stage)

FREE = {"steps", "save_every", "validate_every", "keep", "workers", "micro", "degrade_on", "tracker"}
"""Keys that may be others when a run goes on: the same samples are learnt from in the same way, up to rounding."""


@dataclass(frozen=True)
class Recipe:
    """All keys of a recipe. Those that a stage has no use for keep their defaults.

    model: whose networks and folder layout. start: "base" (Stable Diffusion's UNet, the ControlNet its copy), "weights"
    (the folder's own networks: fine-tuning) or "nothing" (new weights of the folder's sizes).
    learns: for seesr "published" (ControlNet and image attention), "networks", "all" (text tower too); for dape "lora"
    or "all".
    optimiser: AdamW, or the one whose moments have 8 bits (extra `8bit`).
    steps: of the optimiser. batch: pictures a step, over all devices. micro: pictures a device computes at once; 0 lets
    the program choose. warmup: steps. halvings: steps at which the learning rate is halved.
    precision: "fp32", "bf16" or "fp16", of the computation; what is learnt stays fp32. checkpointing: compute features
    anew in the backward pass, a third more time for a fraction of the memory.
    size, whole, flip, turns, least_side, least_bytes: as `samples.Cut`. degradation: published, strong or mild.
    degrade_on: "workers" or "device". sharpened: the target is the sharpened picture. posterior: sample the latent's
    posterior anew. enlargement: "published" (torch's bicubic) or "inference" (Pillow's). quality_words: end prompts as
    inference does. drop_path, dropout: of DAPE's student. token_loss, tag_loss: weights of DAPE's two losses.
    ema: decay of averaged weights, 0 for none. keep: checkpoints that stay. validate: pictures kept aside to look at.
    tracker: who is told the numbers besides the log.
    """

    stage: Stage
    model: str = "seesr"
    start: Literal["base", "weights", "nothing"] = "base"
    learns: Literal["published", "networks", "all", "lora"] = "published"
    steps: int = 150_000
    batch: int = 192
    micro: int = 0
    optimiser: Literal["adamw", "adamw8bit"] = "adamw"
    lr: float = 5e-5
    betas: tuple[float, ...] = (0.9, 0.999)
    decay: float = 1e-2
    clip: float = 1.0
    warmup: int = 0
    halvings: tuple[int, ...] = ()
    precision: Literal["fp32", "bf16", "fp16"] = "fp16"
    checkpointing: bool = False
    prediction: Literal["epsilon", "v_prediction", "sample"] = "epsilon"
    weighting: Literal["none", "min-snr", "late"] = "none"
    tag_dropout: float = 0.5
    token_dropout: float = 0.0
    size: int = 512
    whole: bool = False
    flip: bool = True
    turns: bool = False
    least_side: int = 384
    least_bytes: int = 100_000
    degradation: Literal["published", "strong", "mild"] = "published"
    degrade_on: Literal["workers", "device"] = "workers"
    sharpened: bool = True
    posterior: bool = True
    enlargement: Literal["published", "inference"] = "published"
    quality_words: bool = False
    drop_path: float = 0.1
    dropout: float = 0.1
    token_loss: float = 1.0
    tag_loss: float = 1.0
    ema: float = 0.0
    workers: int = 8
    save_every: int = 1000
    validate_every: int = 1000
    validate: int = 4
    keep: int = 3
    tracker: Literal["none", "tensorboard"] = "none"
    seed: int = 0

    def as_json(self) -> dict[str, Any]:
        """Return the keys and values as JSON has them."""
        return json.loads(json.dumps(asdict(self)))

    def digest(self) -> str:
        """Return a digest of all keys that decide the weights, which those in `FREE` do not."""
        bound = {name: value for name, value in self.as_json().items() if name not in FREE}
        return blake2b(json.dumps(bound, sort_keys=True).encode(), digest_size=16).hexdigest()


def names(stage: Stage) -> tuple[str, ...]:
    """Return the names of the recipes that come with the program."""
    return tuple(sorted(path.parent.name for path in FOLDER.glob(f"*/{stage}.toml")))


def load(stage: Stage, name: str, sets: Sequence[str] = ()) -> Recipe:
    """Return the recipe `name`, one of `names` or a TOML file, with `key=value` words put in.

    Raises UsageError, naming the key and the nearest one, for what a recipe cannot have.
    """
    path = FOLDER / name / f"{stage}.toml" if name in names(stage) else Path(name)
    if not path.is_file():
        raise UsageError(f"There is no recipe {name}: give {', '.join(names(stage))}, or a .toml file.")
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as problem:
        raise UsageError(f"{path} is not TOML: {problem}.") from None
    for word in sets:
        key, equals, text = word.partition("=")
        if not equals:
            raise UsageError(f"--set {word}: write key=value.")
        content[key.strip()] = _value(text.strip())
    return parsed(stage, content, str(path))


def parsed(stage: Stage, content: Mapping[str, Any], place: str) -> Recipe:
    """Return the recipe with these keys. Raises UsageError for unknown keys and for values of another kind."""
    known = {each.name: each.type for each in fields(Recipe)}
    values: dict[str, Any] = {"stage": stage}
    for key, value in content.items():
        if key not in known:
            near = get_close_matches(key, known, 1, 0.5)
            raise UsageError(f"{place}: a recipe has no key {key}." + (f" Did you mean {near[0]}?" if near else ""))
        if key == "stage" and value != stage:
            raise UsageError(f"{place} is a recipe of seesr train {value}, not of seesr train {stage}.")
        values[key] = _fitting(key, value, known[key], place)
    recipe = Recipe(**values)
    for key in ("steps", "batch", "save_every", "validate_every", "keep", "size"):
        if getattr(recipe, key) < 1:
            raise UsageError(f"{place}: {key} is {getattr(recipe, key)}: give 1 or more.")
    if len(recipe.betas) != 2:
        raise UsageError(f"{place}: betas are two numbers.")
    if (recipe.learns == "lora") != (stage == "dape") and not (stage == "dape" and recipe.learns == "all"):
        allowed = "lora or all" if stage == "dape" else "published, networks or all"
        raise UsageError(f"{place}: learns is {recipe.learns}: seesr train {stage} has {allowed}.")
    return recipe


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _fitting(key: str, value: Any, kind: Any, place: str) -> Any:
    if get_origin(kind) is Literal:
        if value in get_args(kind):
            return value
        near = get_close_matches(str(value), get_args(kind), 1, 0.5)
        meant = f" Did you mean {near[0]}?" if near else ""
        raise UsageError(f"{place}: {key} is {value!r}: give {', '.join(get_args(kind))}.{meant}")
    if get_origin(kind) is tuple:
        if isinstance(value, list | tuple) and all(isinstance(each, int | float) for each in value):
            return tuple(value)
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(value, kind) and not (kind is int and isinstance(value, bool)):
        return value
    wanted = {int: "a whole number", float: "a number", bool: "true or false", str: "a word"}.get(kind, "numbers")
    raise UsageError(f"{place}: {key} is {value!r}: give {wanted}.")
