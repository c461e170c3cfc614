"""Make the miniature from nothing: photographs in, the folder `seesr upscale --model miniature` reads out.

    pip install --no-deps -r recipes/miniature/requirements.txt
    python recipes/miniature/train.py --photos DIR [--photos DIR ...] --out DIR [--start MINIATURE]

Stages, each of which leaves its result in the work folder and is skipped where that is there already:

    autoencoder   VAE on photographs
    tagger        teacher on clean pictures, and the control: the teacher after as many more steps as the student's
    dape          student: LoRA on the teacher, degraded pictures
    restorer      text tower, ControlNet and UNet, later the decoder with them; goes on where it was stopped
    squares       what Real-ESRGAN x4plus makes of degraded squares (`imitation.py`)
    prompts       text tower and cross-attention: what words are worth (`prompts.py`)
    together      a compact decoder (`srvgg.py`), UNet and ControlNet imitate the teacher (`together.py`), with
                  adversaries (`judge.py`), and draw grain from noise (`grain.py`), for which two words are learnt
                  (`grain_words.py`); goes on where it was stopped
    export        the folder, fp16
    evaluate      numbers.json and the model card, on the photographs that were kept aside

With --start all networks are taken from a miniature that knows its words. They learn together as above; if its decoder
is a compact one, only the last course of that. Needs the extra `train`. The miniature stands in for the published model
offline; it is not the published model.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import grain
import grain_words
import imitation
import look
import prompts
import srvgg
import together
import torch
import typer
from card import write_card
from diffusers import AutoencoderKL
from examples import make_examples, whole_views
from measure import measure
from recipe import (
    CONTROLNET,
    FULL,
    MIXTURE,
    SCHEDULER,
    SMOKE,
    TEXT,
    TOKEN_WIDTH,
    UNET,
    Recipe,
    read_split,
    with_channels,
)
from together import LOUDER
from torch import Tensor, nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from words import labels, write_tokenizer

from seesr_cli.catalogue import MINIATURE
from seesr_cli.machine.device import Place
from seesr_cli.models import load
from seesr_cli.models.compact import CompactDecoder
from seesr_cli.models.graft import build_controlnet, build_unet, build_vae
from seesr_cli.models.tagger import Tagger
from seesr_cli.restore.prompt import compose
from seesr_cli.restore.tag import Reader
from seesr_cli.sampling.schedule import signal_kept
from seesr_cli.training import autoencoder, dape, lora, pairs, restorer
from seesr_cli.training import teacher as tagger
from seesr_cli.training.folder import export, write_json
from seesr_cli.training.objective import Denoiser
from seesr_cli.training.photographs import Split, unit
from seesr_cli.training.restorer import Pair
from seesr_cli.training.teacher import Example

EMBEDDING = "embeddings.token_embedding.weight"
"""Of the text tower: a row for each piece of text."""

READ = 8
"""Of so many squares one is read: any embedding may meet any picture."""


SEED = 0
"""Of the squares."""


class Stage(StrEnum):
    AUTOENCODER = "autoencoder"
    TAGGER = "tagger"
    DAPE = "dape"
    RESTORER = "restorer"
    SQUARES = "squares"
    PROMPTS = "prompts"
    TOGETHER = "together"
    EXPORT = "export"
    EVALUATE = "evaluate"


class Making:
    """One making of the miniature: its recipe, its pictures, and the folder its intermediate files are in."""

    def __init__(self, recipe: Recipe, split: Split, work: Path, out: Path) -> None:
        self.recipe = recipe
        self.split = split
        self.work = work
        self.out = out
        work.mkdir(parents=True, exist_ok=True)
        self.names = labels()

    def train_autoencoder(self) -> None:
        """Train the VAE and keep it with its scaling factor."""
        if self._there("vae"):
            return
        recipe = self.recipe.autoencoder
        torch.manual_seed(recipe.seed)
        vae = build_vae(recipe.config)
        autoencoder.start_linear(vae, self.split.training, recipe)
        report = Reporter("autoencoder", recipe.steps)
        average = None
        for progress in autoencoder.train(vae, self.split.training, recipe):
            report(progress.step, progress.loss)
            average = progress.average
        if average is not None:
            vae.load_state_dict(average.weights)
        size = min(256, min(min(photograph.pixels.shape[-2:]) for photograph in self.split.training))
        self._keep(
            "vae", {"weights": vae.state_dict(), "scale": round(autoencoder.scale(vae, self.split.training, size), 4)}
        )

    def train_tagger(self) -> None:
        """Train the teacher, choose its thresholds, and train the control: the teacher, going on for the student's
        time."""
        if self._there("control"):
            return
        recipe, examples = self.recipe.tagger, self._examples()
        torch.manual_seed(recipe.seed)
        teacher = Tagger(recipe.config, len(self.names))
        tagger.start_from_nothing(teacher, recipe.seed)
        report = Reporter("teacher", recipe.teacher_steps)
        for step, loss in tagger.train(teacher, examples, recipe.teacher_steps, recipe.batch, recipe.lr, recipe.seed):
            report(step, loss)
        batch = tagger.stack(examples, 1)
        scores = tagger.scores(teacher, [example.clean for example in examples])
        thresholds = tagger.best_thresholds(scores, batch.labels, batch.known)
        self._keep("teacher", {"weights": teacher.state_dict(), "thresholds": thresholds})
        report = Reporter("control", recipe.student_steps)
        rest = tagger.train(teacher, examples, recipe.student_steps, recipe.batch, recipe.lr / 3, recipe.seed + 1)
        for step, loss in rest:
            report(step, loss)
        self._keep("control", {"weights": teacher.state_dict()})

    def train_student(self) -> None:
        """Train the student and keep it with its LoRA folded in."""
        if self._there("student"):
            return
        recipe = self.recipe.tagger
        teacher = self._tagger("teacher")
        student_recipe = dape.DapeRecipe(
            recipe.config["lora_rank"],
            recipe.config["lora_alpha"],
            recipe.student_steps,
            recipe.batch,
            recipe.student_lr,
        )
        student, learning = dape.make_student(teacher, student_recipe)
        report = Reporter("student", recipe.student_steps)
        for step, loss in dape.train(teacher, student, learning, self._examples(), student_recipe):
            report(step, loss)
        lora.fold(student)
        self._keep("student", {"weights": student.state_dict()})

    def train_restorer(self) -> None:
        """Train the rest, taking up what an earlier call left."""
        if self._there("restorer"):
            return
        networks = self.networks()
        training = restorer.Training(networks, self.recipe.restorer)
        if self._there("restorer-state"):
            training.restore(self._kept("restorer-state"))
        report = Reporter("restorer", self.recipe.restorer.steps)
        for progress in training.run(self._pairs(networks)):
            report(progress.step, progress.loss)
            if progress.step % 200 == 0:
                self._keep("restorer-state", training.state())
        self._keep("restorer", {name: average.weights for name, average in training.averages.items()})

    def take_over(self, folder: Path) -> None:
        """Keep the networks of a miniature's `folder`, which knows its words, as what the stages have made."""
        place = Place(torch.device("cpu"), torch.float32)
        vae = load.load_vae(MINIATURE, folder, place)
        names = ("layers_per_block", "block_out_channels", "latent_channels", "compact_decoder")
        config = json.loads((folder / "vae" / "config.json").read_text(encoding="utf-8"))
        sizes = {name: config[name] for name in names if name in config}
        self._keep("vae", {"weights": vae.state_dict(), "scale": vae.config.scaling_factor, "sizes": sizes})
        unet, controlnet = load.load_unet(MINIATURE, folder, place), load.load_controlnet(MINIATURE, folder, place)
        tokenizer, text = load.load_text_tower(MINIATURE, folder, place)
        parts = {"text": text, "unet": unet, "controlnet": controlnet}
        states = {name: network.state_dict() for name, network in parts.items()}
        pieces = tokenizer.get_vocab(), self._tokenizer(self.work / "tokenizer").get_vocab()
        states["text"][EMBEDDING] = prompts.renumbered(states["text"][EMBEDDING], *pieces)
        self._keep("prompts", states)
        if isinstance(vae.decoder, CompactDecoder):
            self._keep("drawing", {"vae": vae.state_dict()})
        self._keep("student", {"weights": load.load_tagger(MINIATURE, folder, place).state_dict()})
        thresholds = (folder / MINIATURE.thresholds).read_text(encoding="utf-8").split()
        self._keep("teacher", {"thresholds": torch.tensor([float(each) for each in thresholds])})

    def make_squares(self) -> None:
        """Make the squares that the look is learnt from."""
        folder, count = self.work / "squares", self.recipe.squares
        for path in imitation.write(self.split.training, folder, count, SEED, torch.get_num_threads()):
            typer.echo(path)

    def train_prompts(self) -> None:
        """Train the text tower, UNet and ControlNet that are shipped."""
        if self._there("prompts"):
            return
        recipe = self.recipe.prompts
        networks, squares = self._taught("restorer", build_vae(self.vae_config()))
        start, goal = self._restored(networks, squares)
        reader = self._reader("student")
        tokens = torch.stack([reader.read(frame.float()).tokens[0] for frame in squares.frame[::READ]])
        denoiser = Denoiser(networks.unet, networks.controlnet, networks.text)
        training = prompts.Training(denoiser, self._tokenizer(self.work / "tokenizer"), networks.kept, recipe)
        report = Reporter("prompts", recipe.steps)
        for step, off in training.run(prompts.Material(start, goal, squares.frame, tokens, self.names)):
            report(step, off)
        self._keep("prompts", together.by_part(training.average.weights))

    def train_together(self) -> None:
        """Train what is shipped of UNet, ControlNet and decoder; takes up what an earlier call left."""
        if self._there("together"):
            return
        networks, squares = self._drawing()
        reader = self._reader("student")
        tokens = torch.stack([reader.read(frame.float()).tokens[0] for frame in squares.frame])
        guide = prompts.Guide(tokens, self.names, self._tokenizer(self.work / "tokenizer"))
        adversary = None
        courses = [*self.recipe.together.items()]
        for name, recipe in courses[-1:] if self._there("drawing") else courses:
            if self._extra(networks) < recipe.grain:
                more = recipe.grain - self._extra(networks)
                weights = grain.widened(together.by_name(learning(networks)), more, noise_of(networks))
                networks = self._rebuilt(networks, weights)
            if recipe.asked and self._extra(networks) == recipe.grain:
                networks = self._rebuilt(networks, grain.asked(together.by_name(learning(networks))))
                self._train_grain_words(networks, squares, guide)
                together.hear(networks.vae.decoder, recipe.heard, grain_words.ASKED)
            elif recipe.heard and not recipe.asked:
                together.hear(networks.vae.decoder, recipe.heard)
            began = {name: tensor.clone() for name, tensor in together.by_name(learning(networks)).items()}
            denoiser = Denoiser(networks.unet, networks.controlnet, networks.text)
            training = together.Together(networks.vae, denoiser, networks.kept, recipe, guide)
            if self._there(f"{name}-state"):
                training.restore(self._kept(f"{name}-state"))
            elif training.adversary is not None and adversary is not None:
                training.adversary.restore(adversary)
            report = Reporter(name, recipe.steps)
            for step, share in training.run(squares):
                report(step, share)
                if step % 100 == 0:
                    self._keep(f"{name}-state", training.state())
            state = training.state()
            self._keep(f"{name}-state", state)
            adversary = state["adversary"]
            ended = {name: tensor.lerp(began[name], recipe.before) for name, tensor in state["average"].items()}
            for part, weights in together.by_part(ended).items():
                getattr(networks, part).load_state_dict(weights)
        shipped = learning(networks) | {"text": networks.text}
        self._keep("together", {name: network.state_dict() for name, network in shipped.items()})

    def _drawing(self) -> tuple[restorer.Networks, look.Squares]:
        """Return the networks as they begin to learn together, and the squares."""
        networks, squares = self._taught("prompts", build_vae(self.drawing_config()))
        if self._there("drawing"):
            networks.vae.load_state_dict(self._kept("drawing")["vae"])
            return networks, squares
        encoder = {
            name: tensor for name, tensor in self._kept("vae")["weights"].items() if not name.startswith("decoder.")
        }
        networks.vae.load_state_dict(encoder, strict=False)
        together.begin(networks.unet, networks.controlnet)
        small = squares.small[: self.recipe.fitted]
        srvgg.begin(networks.vae, small, srvgg.read_weights(), noise_of(networks))
        return networks, squares

    def _extra(self, networks: restorer.Networks) -> int:
        """Return how many components the latent has beside those that the autoencoder learnt."""
        return int(networks.vae.config.latent_channels - self.recipe.autoencoder.config["latent_channels"])

    def _rebuilt(self, networks: restorer.Networks, weights: Mapping[str, Tensor]) -> restorer.Networks:
        """Return the networks of `weights`, which may have other numbers of components and channels."""
        parts = together.by_part(weights)
        vae = build_vae(self.drawing_config(parts["vae"]))
        unet, controlnet = (with_channels(each, vae.config.latent_channels) for each in (UNET, CONTROLNET))
        made = {"vae": vae, "unet": build_unet(unet), "controlnet": build_controlnet(controlnet)}
        for part, network in made.items():
            network.load_state_dict(parts[part])
        return networks._replace(**made)

    def _train_grain_words(self, networks: restorer.Networks, squares: look.Squares, guide: prompts.Guide) -> None:
        """Let text tower, UNet and ControlNet learn the words for grain."""
        recipe = self.recipe.grain_words
        denoiser = Denoiser(networks.unet, networks.controlnet, networks.text)
        if not self._there("grain-words"):
            training = grain_words.GrainWords(denoiser, networks.kept, recipe, guide)
            report = Reporter("grain words", recipe.steps)
            for step, off in training.run(look.encoded(networks.vae, squares.frame), squares.frame):
                report(step, off)
            self._keep("grain-words", training.average.weights)
        denoiser.load_state_dict(self._kept("grain-words"))

    def write_folder(self) -> None:
        """Write the miniature's folder."""
        weights = self._kept("together")
        self._tokenizer(self.out / "tokenizer")
        vae = self.drawing_config(weights["vae"])
        channels = vae["latent_channels"]
        configs = {
            "vae": vae | {"_class_name": "AutoencoderKL"},
            "unet": with_channels(UNET, channels),
            "controlnet": with_channels(CONTROLNET, channels),
            "text": self.text_config(),
            "tagger": self.recipe.tagger.config | {"labels": len(self.names)},
            "scheduler": SCHEDULER,
        }
        states = weights | {"tagger": self._kept("student")["weights"]}
        thresholds = tuple(float(each) for each in self._kept("teacher")["thresholds"])
        size = export(self.out, configs, states, self.names, thresholds)
        shutil.copy(Path(__file__).with_name("LICENSE-Real-ESRGAN"), self.out)  # of what the decoder began as
        typer.echo(f"{self.out}: {size / 1e6:.1f} MB of weights")

    def evaluate(self) -> None:
        """Measure on the photographs kept aside, keep the numbers and write the card."""
        taggers = {name: self._tagger(name) for name in ("teacher", "student", "control") if self._trained(name)}
        held_out = self.split.held_out
        views = whole_views(held_out, MIXTURE, seed=5)
        numbers = measure(self.out, held_out, views, taggers, self._kept("teacher")["thresholds"])
        numbers["sums"] = self.sums()
        write_json(self.work / "numbers.json", numbers)
        write_card(self.out / "README.md", numbers)

    def sums(self) -> dict[str, str]:
        """Return the sha256 of the training photographs, of the squares, and of the weights that were made of them."""
        photographs = (
            part for each in self.split.training for part in (each.name.encode(), each.pixels.numpy().tobytes())
        )
        squares, weights = sorted((self.work / "squares").glob("*.npz")), sorted(self.out.rglob("*.safetensors"))
        files = {"squares": squares, "weights": weights}
        parts = {name: (path.read_bytes() for path in paths) for name, paths in files.items()}
        return {"photographs": _sum(photographs)} | {name: _sum(each) for name, each in parts.items()}

    def networks(self) -> restorer.Networks:
        """Return the networks as they are before the restorer's stage: the VAE trained, the others at their start."""
        torch.manual_seed(self.recipe.restorer.seed + 1)
        vae = build_vae(self.vae_config())
        vae.load_state_dict(self._kept("vae")["weights"])
        text = CLIPTextModel(CLIPTextConfig(**self.text_config()))
        unet, controlnet = build_unet(UNET), build_controlnet(CONTROLNET)
        restorer.copy_encoder(unet, controlnet)
        networks = restorer.Networks(vae, text, unet, controlnet, signal_kept(SCHEDULER))
        restorer.start_from_nothing(networks)
        return networks

    def _taught(self, stage: str, vae: AutoencoderKL) -> tuple[restorer.Networks, look.Squares]:
        """Return the networks as `stage` left them, with `vae` where it left none, and the squares."""
        text = CLIPTextModel(CLIPTextConfig(**self.text_config()))
        unet, controlnet = (with_channels(each, vae.config.latent_channels) for each in (UNET, CONTROLNET))
        networks = restorer.Networks(vae, text, build_unet(unet), build_controlnet(controlnet), signal_kept(SCHEDULER))
        for part, weights in self._kept(stage).items():
            getattr(networks, part).load_state_dict(weights)
        return networks, look.read_squares(sorted((self.work / "squares").glob("*.npz")))

    def _restored(self, networks: restorer.Networks, squares: look.Squares) -> tuple[Tensor, Tensor]:
        """Return the latents of squares, and what the networks make of them.

        They are told nothing: no tags, no embedding.
        """
        denoiser = Denoiser(networks.unet, networks.controlnet, networks.text)
        nothing = prompts.token_ids([compose((), "", "").positive], self._tokenizer(self.work / "tokenizer"))
        tokens = torch.zeros(1, 1, TOKEN_WIDTH)
        starts = look.encoded(networks.vae, squares.frame)
        return starts, look.restored(denoiser, starts, squares.frame, nothing, tokens, networks.kept)

    def vae_config(self) -> dict[str, Any]:
        """Return the VAE's configuration with the scaling factor that was measured, and the sizes that it has."""
        kept = self._kept("vae")
        return self.recipe.autoencoder.config | {"scaling_factor": kept["scale"]} | kept.get("sizes", {})

    def drawing_config(self, weights: Mapping[str, Tensor] | None = None) -> dict[str, Any]:
        """Return the configuration of the VAE whose decoder draws: as it begins, or of its `weights`."""
        config = self.vae_config()
        if not self._there("drawing"):
            compact = {"width": srvgg.WIDTH, "layers": srvgg.LAYERS}
            config |= {"compact_decoder": compact, "scaling_factor": LOUDER * config["scaling_factor"]}
        if weights is None:
            return config
        compact = config["compact_decoder"] | {"width": len(weights["decoder.conv_in.bias"])}
        return config | {"latent_channels": len(weights["post_quant_conv.bias"]), "compact_decoder": compact}

    def text_config(self) -> dict[str, Any]:
        """Return the text tower's configuration for the tokenizer of this recipe."""
        tokenizer = self._tokenizer(self.work / "tokenizer")
        return TEXT | {
            "vocab_size": len(tokenizer),
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        }

    def _tokenizer(self, folder: Path) -> CLIPTokenizer:
        write_tokenizer(folder, [*self.names, *prompts.STRENGTHS, *prompts.GRAIN_WORDS])
        return CLIPTokenizer.from_pretrained(folder, local_files_only=True)

    def _tagger(self, name: str) -> Tagger:
        network = Tagger(self.recipe.tagger.config, len(self.names))
        network.load_state_dict(self._kept(name)["weights"])
        return network.requires_grad_(False).eval()

    def _reader(self, name: str) -> Reader:
        thresholds = tuple(float(each) for each in self._kept("teacher")["thresholds"])
        return Reader(self._tagger(name), self.names, thresholds)

    def _examples(self) -> list[Example]:
        typer.echo(f"making {self.recipe.tagger.pictures} examples for the tagger")
        return make_examples(self.split.training, self.recipe.tagger.pictures, MIXTURE, self.recipe.tagger.seed)

    def _pairs(self, networks: restorer.Networks) -> list[Pair]:
        """Make the pairs: tags of the clean picture by the teacher, tokens of the degraded one by the student."""
        typer.echo(f"making {self.recipe.pairs} pairs for the restorer")
        generator = torch.Generator().manual_seed(self.recipe.restorer.seed + 2)
        teacher, student = self._reader("teacher"), self._reader("student")
        tokenizer = self._tokenizer(self.work / "tokenizer")
        made = []
        for _ in range(self.recipe.pairs):
            pair = pairs.draw_pair(self.split.training, self.recipe.region, MIXTURE, networks.vae, generator)
            made.append(guide(pair, teacher, student, tokenizer))
        return made

    def _trained(self, name: str) -> bool:
        return self._there(name) and "weights" in self._kept(name)

    def _there(self, name: str) -> bool:
        return (self.work / f"{name}.pt").is_file()

    def _kept(self, name: str) -> dict[str, Any]:
        return dict(torch.load(self.work / f"{name}.pt", weights_only=True))

    def _keep(self, name: str, content: dict[str, Any]) -> None:
        partial = self.work / f"{name}.part"
        torch.save(content, partial)
        partial.replace(self.work / f"{name}.pt")


def _sum(parts: Iterable[bytes]) -> str:
    total = hashlib.sha256()
    for part in parts:
        total.update(part)
    return total.hexdigest()


def learning(networks: restorer.Networks) -> dict[str, nn.Module]:
    """Return the networks that learn together, by their names."""
    return {"vae": networks.vae, "unet": networks.unet, "controlnet": networks.controlnet}


def noise_of(networks: restorer.Networks) -> float:
    """Return the deviation of the sampler's noise beside a latent without its scale."""
    kept = networks.kept[-1]
    return float(((1 - kept) / kept).sqrt() / networks.vae.config.scaling_factor)


def guide(pair: Pair, teacher: Reader, student: Reader, tokenizer: CLIPTokenizer) -> Pair:
    """Return `pair` with its guidance, in the prompts that the command line writes."""
    tags = tuple(tag.name for tag in teacher.read(unit(pair.clean)).tags)
    tokens = student.read(unit(pair.degraded)).tokens[0]
    told, untold = (compose(each, "", "").positive for each in (tags, ()))
    return pairs.guide(pair, tokens, *prompts.token_ids((told, untold), tokenizer))


class Reporter:
    """Prints a stage's loss now and then, averaged since the last line."""

    def __init__(self, stage: str, steps: int, every: int = 20) -> None:
        self.stage, self.steps, self.every = stage, steps, every
        self.losses: list[float] = []
        self.started = time.monotonic()

    def __call__(self, step: int, loss: float) -> None:
        self.losses.append(loss)
        if step % self.every == 0 or step == self.steps:
            spent = time.monotonic() - self.started
            typer.echo(
                f"{self.stage} {step}/{self.steps}  loss {sum(self.losses) / len(self.losses):.4f}  {spent:.0f} s"
            )
            self.losses.clear()


def main(
    photos: Annotated[list[Path], typer.Option(exists=True, file_okay=False, help="Folders of photographs.")],
    out: Annotated[Path, typer.Option(help="Where the miniature is written.")],
    work: Annotated[Path | None, typer.Option(help="Intermediate files; OUT with '-work' behind it if absent.")] = None,
    stage: Annotated[list[Stage] | None, typer.Option(help="Only these stages; all if absent.")] = None,
    start: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="A miniature that learns further.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads.")] = None,
    smoke: Annotated[
        bool, typer.Option("--smoke", help="Every stage once, in under a minute; the result is of no use.")
    ] = False,
) -> None:
    """Make the miniature."""
    if threads is not None:
        torch.set_num_threads(threads)
    making = Making(SMOKE if smoke else FULL, read_split(photos), work or out.with_name(f"{out.name}-work"), out)
    if start is not None:
        making.take_over(start)
    steps: dict[Stage, Callable[[], None]] = {
        Stage.AUTOENCODER: making.train_autoencoder,
        Stage.TAGGER: making.train_tagger,
        Stage.DAPE: making.train_student,
        Stage.RESTORER: making.train_restorer,
        Stage.SQUARES: making.make_squares,
        Stage.PROMPTS: making.train_prompts,
        Stage.TOGETHER: making.train_together,
        Stage.EXPORT: making.write_folder,
        Stage.EVALUATE: making.evaluate,
    }
    first = 0 if start is None else list(Stage).index(Stage.SQUARES)
    for each in stage or list(Stage)[first:]:
        steps[each]()


if __name__ == "__main__":
    typer.run(main)
