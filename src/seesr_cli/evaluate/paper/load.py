"""The published files become the metrics' networks: strictly, by the names and shapes of all their tensors."""

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import PictureError, WeightsInvalid
from ...machine.device import Place
from ...machine.out_of_memory import ran_out
from ...models.keys import StateDict
from ...models.load import fill, pickled, same
from ...weights import find
from ...weights.shelf import Shelf, sha256
from ..fidelity import check_sizes
from ..pixels import Pixels
from . import clipiqa, fid, lpips, maniqa
from .clipiqa import ClipIqa
from .dists import Dists
from .inception import Inception
from .lpips import Lpips
from .maniqa import Maniqa
from .musiq import Musiq

COUNTER = ".num_batches_tracked"
"""Ends the name of what a layer counts in training; some files have it and some do not."""


def archive(path: Path) -> StateDict:
    """Return the tensors of a TorchScript archive, as OpenAI publishes CLIP. Raises WeightsInvalid."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript, which the published file is
            return dict(torch.jit.load(str(path), map_location="cpu").state_dict())  # type: ignore[no-untyped-call]
    except Exception as problem:  # torch has no common class for what a damaged file raises
        reason = str(problem).strip().partition("\n")[0]
        raise WeightsInvalid(f"{path}: not a whole TorchScript archive ({reason}); get the file anew.") from problem


class Network(NamedTuple):
    """How a metric's network is made of its files.

    files: names in the folder `metrics`. unused: how names begin, or end, of tensors that nothing is computed with.
    least: pixels a side that a picture must have. read: a file's tensors. ours, published: from one kind of names to
    the other.
    """

    files: tuple[str, ...]
    build: Callable[[], nn.Module]
    unused: tuple[str, ...] = ()
    least: int = 1
    read: Callable[[Path], StateDict] = pickled
    ours: Callable[[StateDict], StateDict] = same
    published: Callable[[StateDict], StateDict] = same


NETWORKS: Mapping[str, Network] = {
    "lpips": Network(
        ("alexnet-owt-7be5be79.pth", "LPIPS_v0.1_alex-df73285e.pth"), Lpips, ("classifier.",), lpips.LEAST
    ),
    "dists": Network(("vgg16-397923af.pth", "DISTS_weights-f5e65c96.pth"), Dists, ("classifier.",)),
    "fid": Network(("pt_inception-2015-12-05-6726825d.pth",), Inception, ("fc.", COUNTER)),
    "clipiqa": Network(
        ("RN50.pt",),
        ClipIqa,
        ("visual.attnpool.positional_embedding", "input_resolution", "context_length", "vocab_size", COUNTER),
        clipiqa.LEAST,
        read=archive,
    ),
    "musiq": Network(("musiq_koniq_ckpt-e95806b9.pth",), Musiq),
    "maniqa": Network(
        ("MANIQA_PIPAL-ae6d356b.pth",),
        Maniqa,
        (
            *("vit.blocks.10.", "vit.blocks.11.", "vit.norm.", "vit.head.", "swintransformer1.downsample."),
            *("swintransformer2.downsample.", ".relative_position_index", ".attn_mask"),
        ),
        ours=maniqa.ours,
        published=maniqa.published,
    ),
}


class Learned:
    """The networks of the metrics that were asked for, on a device."""

    def __init__(self, metrics: Iterable[str], weights: Path, device: torch.device) -> None:
        """Read the files of `metrics` in a folder of weights. Raises WeightsMissing or WeightsInvalid."""
        self._device = device
        self._networks = {metric: load(NETWORKS[metric], weights, device) for metric in metrics if metric in NETWORKS}

    def measures(self, metric: str) -> bool:
        """Return whether a metric of single pictures is computed here."""
        return metric in self._networks and metric != "fid"

    def value(self, metric: str, result: Pixels, reference: Pixels | None) -> float:
        """Return the metric of a picture.

        Raises PictureError for unequal sizes, for a picture that is too small, and where memory runs out.
        """
        if reference is not None:
            check_sizes(result, reference)
        height, width = result.shape[:2]
        if min(height, width) < (least := NETWORKS[metric].least):
            raise PictureError(f"It needs {least} pixels a side, and the picture has {width} x {height}.")
        pictures = (result,) if reference is None else (result, reference)
        with _computing():
            return float(self._networks[metric](*map(self._tensor, pictures)))

    def features(self, pixels: Pixels) -> fid.Features | None:
        """Return the features that FID compares of a picture; None if FID is not asked for.

        Raises PictureError, as `value`.
        """
        if (network := self._networks.get("fid")) is None:
            return None
        with _computing():
            return fid.features(network, self._tensor(pixels))

    def _tensor(self, pixels: Pixels) -> Tensor:
        """Return the picture as [1, 3, H, W], RGB in [0, 1]."""
        planes = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        return torch.from_numpy(planes).unsqueeze(0).to(self._device).float().div_(255)


@contextmanager
def _computing() -> Iterator[None]:
    """Let networks be computed inside. Raises PictureError where memory runs out."""
    try:
        with torch.inference_mode():
            yield
    except (RuntimeError, MemoryError) as error:
        if not ran_out(error):
            raise
        what = "It needs more memory than there is: leave this metric out, or take another --device."
        raise PictureError(what) from error


def checksums_of(metrics: Iterable[str], weights: Path) -> dict[str, str]:
    """Return the sha256 of the files of `metrics` by name, remembered from their verification or read now."""
    shelf = Shelf(weights)
    files = shelf.memory().files
    found = {}
    for name in (name for metric in metrics for name in NETWORKS[metric].files):
        record = files.get(f"metrics/{name}")
        known = record is not None and shelf.untouched(f"metrics/{name}", record)
        found[name] = record.sha256 if record and known else sha256(find(weights, f"metrics/{name}", name))
    return found


def load(network: Network, weights: Path, device: torch.device) -> nn.Module:
    """Return a network with the tensors of its files, in float32. Raises WeightsMissing or WeightsInvalid."""
    state: StateDict = {}
    for name in network.files:
        path = find(weights, f"metrics/{name}", name)
        state |= network.read(path)
    return fill(
        network.build,
        used(state, network),
        path,
        Place(device, torch.float32),
        network.ours,
        lambda state: used(network.published(state), network),
    )


def used(state: StateDict, network: Network) -> StateDict:
    """Return the tensors that are computed with, without the prefix of parallel training."""
    named = {name.removeprefix("module."): tensor for name, tensor in state.items()}
    return {
        name: tensor
        for name, tensor in named.items()
        if not name.startswith(network.unused) and not name.endswith(network.unused)
    }
