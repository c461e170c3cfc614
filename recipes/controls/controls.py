"""Train from nothing a SeeSR whose controls control, measure it, and show what each branch does.

    python recipes/controls/controls.py --out DIR [--seed 0]

Stages, each of which leaves its result in the work folder and is skipped where that is there already:

    tagger     on clean pictures, six tags
    dape       the tagger again, on small pictures
    restorer   text tower, ControlNet and UNet by the error of the predicted noise; goes on where it was stopped
    export     the folder, which `seesr upscale --model miniature --weights DIR` takes
    measure    table.md, numbers.json and sheet.png in the folder

The VAE is the miniature's first one and does not learn. Needs the extra `train`, and no photographs.
"""

from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from amounts import AUTOENCODER, FULL, MODEL, NETWORKS, READER, SCHEDULER, SMOKE, SURE, Amounts
from findings import measure, sheet, table
from prompts import token_ids
from squares import LEARNT, TEXTURES, Square, squares
from torch import Tensor
from train import Reporter
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer
from words import write_tokenizer

from seesr_cli.machine.device import Place
from seesr_cli.models import configs, load
from seesr_cli.models.graft import build_controlnet, build_unet
from seesr_cli.models.tagger import Tagger
from seesr_cli.restore.prompt import compose
from seesr_cli.restore.tag import Reader
from seesr_cli.sampling.schedule import signal_kept
from seesr_cli.settings import NEGATIVE_PROMPT
from seesr_cli.training import dape, pairs, restorer, teacher
from seesr_cli.training.folder import export, write_json
from seesr_cli.training.photographs import unit
from seesr_cli.training.restorer import Pair
from seesr_cli.training.teacher import Example

UNSEEN = 1_000_000
"""Added to the seed of the pictures that are measured on."""


class Stage(StrEnum):
    TAGGER = "tagger"
    DAPE = "dape"
    RESTORER = "restorer"
    EXPORT = "export"
    MEASURE = "measure"


class Making:
    """One making of the model: its amounts, its pictures, and the folder its intermediate files are in."""

    def __init__(self, amounts: Amounts, seed: int, work: Path, out: Path) -> None:
        self.amounts, self.seed, self.work, self.out = amounts, seed, work, out
        work.mkdir(parents=True, exist_ok=True)
        self.squares = squares(amounts.pictures, seed, LEARNT)
        write_tokenizer(work / "tokenizer", TEXTURES)
        self.tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer", local_files_only=True)
        self.vae = load.load_vae(MODEL, AUTOENCODER, Place(torch.device("cpu"), torch.float32))

    def train_tagger(self) -> None:
        """Train the teacher on clean pictures. Nothing is mirrored: tags name directions."""
        if self._there("teacher"):
            return
        amounts, examples = self.amounts, self._examples()
        torch.manual_seed(self.seed)
        network = Tagger(READER, len(TEXTURES))
        teacher.start_from_nothing(network, self.seed)
        report = Reporter("tagger", amounts.teacher_steps)
        steps = teacher.train(
            network, examples, amounts.teacher_steps, amounts.teacher_batch, amounts.teacher_lr, self.seed, mirror=False
        )
        for step, loss in steps:
            report(step, loss)
        self._keep("teacher", {"weights": network.state_dict()})

    def train_student(self) -> None:
        """Train the student: small pictures to what the teacher reads of clean ones."""
        if self._there("student"):
            return
        network = self._tagger("teacher")
        recipe = self.amounts.student
        student, learning = dape.make_student(network, recipe)
        report = Reporter("dape", recipe.steps)
        for step, loss in dape.train(network, student, learning, self._examples(), recipe):
            report(step, loss)
        self._keep("student", {"weights": student.state_dict()})

    def train_restorer(self) -> None:
        """Train the rest, taking up what an earlier call left."""
        if self._there("restorer"):
            return
        networks = self._networks()
        training = restorer.Training(networks, self.amounts.restorer)
        if self._there("restorer-state"):
            training.restore(self._kept("restorer-state"))
        report = Reporter("restorer", self.amounts.restorer.steps)
        for progress in training.run(self._pairs()):
            report(progress.step, progress.loss)
            if progress.step % 200 == 0:
                self._keep("restorer-state", training.state())
        self._keep("restorer", {name: average.weights for name, average in training.averages.items()})

    def write_folder(self) -> None:
        """Write the folder that the command line takes."""
        write_tokenizer(self.out / "tokenizer", TEXTURES)
        described = {
            **NETWORKS,
            "text": self._text_config(),
            "vae": {**configs.networks(MODEL, AUTOENCODER).vae, "_class_name": "AutoencoderKL"},
            "tagger": READER | {"labels": len(TEXTURES)},
            "scheduler": SCHEDULER,
        }
        states: Mapping[str, Any] = self._kept("restorer") | {
            "vae": self.vae.state_dict(),
            "tagger": self._kept("student")["weights"],
        }
        size = export(self.out, described, states, TEXTURES, (SURE,) * len(TEXTURES))
        typer.echo(f"{self.out}: {size / 1e6:.1f} MB of weights")

    def measure(self) -> None:
        """Measure the exported folder on unseen pictures, and draw the sheet."""
        unseen = squares(self.amounts.unseen, UNSEEN + self.seed)
        numbers = measure(self.out, self._tagger("teacher"), unseen)
        write_json(self.out / "numbers.json", numbers)
        (self.out / "table.md").write_text(table(numbers) + "\n", encoding="utf-8")
        sheet(self.out, self._tagger("teacher"), unseen[: self.amounts.shown]).save(
            self.out / "sheet.png", optimize=True
        )
        typer.echo(table(numbers))

    def _examples(self) -> list[Example]:
        """Return the pictures for the tagger; every other small one has a hint."""
        return [
            Example(
                each.clean,
                _small(each, number),
                torch.eye(len(TEXTURES))[each.texture],
                torch.ones(len(TEXTURES)),
            )
            for number, each in enumerate(self.squares)
        ]

    def _pairs(self) -> list[Pair]:
        """Return each picture as two pairs: with the tokens of the clean picture, and with those of the small one."""
        typer.echo(f"making {2 * len(self.squares)} pairs for the restorer")
        generator = torch.Generator().manual_seed(self.seed)
        readers = [Reader(self._tagger(name), TEXTURES, (0.5,) * len(TEXTURES)) for name in ("teacher", "student")]
        told = token_ids([compose((name,), "", "").positive for name in TEXTURES], self.tokenizer)
        # half of the prompts without tags are the negative one, so that guidance moves away from what has been learnt
        untold = token_ids([compose((), "", "").positive, NEGATIVE_PROMPT], self.tokenizer)
        made = []
        for number, each in enumerate(self.squares):
            small = _small(each, number)
            pair = pairs.make_pair(each.clean, shown(small), self.vae, generator)
            for place, (reader, read) in enumerate(zip(readers, (each.clean, small), strict=True)):
                prompt = untold[(number // (2 * len(LEARNT)) + place) % 2]
                made.append(pairs.guide(pair, reader.read(unit(read)).tokens[0], told[each.texture], prompt))
        return made

    def _networks(self) -> restorer.Networks:
        """Return the networks at their start."""
        torch.manual_seed(self.seed + 1)
        text = CLIPTextModel(CLIPTextConfig(**self._text_config()))
        unet, controlnet = build_unet(NETWORKS["unet"]), build_controlnet(NETWORKS["controlnet"])
        restorer.copy_encoder(unet, controlnet)
        networks = restorer.Networks(self.vae, text, unet, controlnet, signal_kept(SCHEDULER))
        restorer.start_at_noise(networks)
        return networks

    def _text_config(self) -> dict[str, Any]:
        return NETWORKS["text"] | {
            "vocab_size": len(self.tokenizer),
            "bos_token_id": self.tokenizer.bos_token_id,
            "eos_token_id": self.tokenizer.eos_token_id,
        }

    def _tagger(self, name: str) -> Tagger:
        network = Tagger(READER, len(TEXTURES))
        network.load_state_dict(self._kept(name)["weights"])
        return network.requires_grad_(False).eval()

    def _there(self, name: str) -> bool:
        return (self.work / f"{name}.pt").is_file()

    def _kept(self, name: str) -> dict[str, Any]:
        return dict(torch.load(self.work / f"{name}.pt", weights_only=True))

    def _keep(self, name: str, content: dict[str, Any]) -> None:
        partial = self.work / f"{name}.part"
        torch.save(content, partial)
        partial.replace(self.work / f"{name}.pt")


def shown(small: Tensor) -> pairs.Degrade:
    """Return what makes of any picture this small one."""
    return lambda _, __: unit(small)


def _small(each: Square, number: int) -> Tensor:
    """Return the small picture that is learnt from: with a hint in every other round of the textures."""
    return each.hinted if number // len(LEARNT) % 2 else each.bare


def main(
    out: Annotated[Path, typer.Option(help="Where the model is written.")],
    work: Annotated[Path | None, typer.Option(help="Intermediate files; OUT with '-work' behind it if absent.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of pictures, weights and noise.")] = 0,
    stage: Annotated[list[Stage] | None, typer.Option(help="Only these stages; all if absent.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
    smoke: Annotated[bool, typer.Option("--smoke", help="Every stage once, in seconds; of no use.")] = False,
) -> None:
    """Train the model, measure it, and draw its sheet."""
    torch.set_num_threads(threads)
    amounts = SMOKE if smoke else FULL
    making = Making(amounts.seeded(seed), seed, work or out.with_name(f"{out.name}-work"), out)
    steps: dict[Stage, Callable[[], None]] = {
        Stage.TAGGER: making.train_tagger,
        Stage.DAPE: making.train_student,
        Stage.RESTORER: making.train_restorer,
        Stage.EXPORT: making.write_folder,
        Stage.MEASURE: making.measure,
    }
    for each in stage or list(Stage):
        steps[each]()


if __name__ == "__main__":
    typer.run(main)
