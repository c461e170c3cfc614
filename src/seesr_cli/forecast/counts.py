"""Count what the networks cost, from their configurations alone: parameters, operations, numbers held at once.

Each network is walked through layer by layer as its class builds and runs it, without torch: a forecast for hundreds of
pictures has to answer at once, and for a model whose files are not here. Operations are floating-point ones of matrix
products and convolutions, a multiply-add as two, as `torch.utils.flop_counter` counts them; sizes are (height, width).
"""

from itertools import pairwise
from math import ceil, prod
from typing import NamedTuple

from ..models.configs import PUBLISHED_CONTROLNET, Config
from ..sizes import Size

WINDOW, WINDOWS = 256, 2
"""Side, in latent pixels, up to which the VAE's attention is global; above, each position attends to a window of that
side and to as many means over the rest (`vae.attention.GLOBAL`)."""


class Cost(NamedTuple):
    """The cost of one call of a network.

    widest: most numbers in memory at once, besides the weights.
    held: numbers of the result, which stays after the call.
    """

    parameters: int
    operations: int
    widest: int
    held: int = 0


class ConditioningSize(NamedTuple):
    """The sizes (tokens, width) of the encoded prompt, and of the tagger's tokens for networks with image attention."""

    text: Size
    image: Size | None


class _Walk:
    """Sums up the cost of a network, layer by layer.

    copies: whether convolutions copy operands and kernels into another layout, as oneDNN does on CPUs.
    padded: whether convolutions pad by a copy, as all modes but "zeros" do.
    """

    def __init__(self, copies: bool, padded: bool = False) -> None:
        self.parameters = self.operations = self.held = self.widest = 0
        self._copies = copies
        self._padded = padded

    def cost(self) -> Cost:
        return Cost(self.parameters, self.operations, self.widest, self.held)

    def use(self, numbers: int) -> None:
        """Count `numbers` that are in memory for a moment, besides those held."""
        self.widest = max(self.widest, self.held + numbers)

    def linear(self, into: int, out: int, times: int, bias: bool = True) -> None:
        self.parameters += into * out + out * bias
        self.operations += 2 * into * out * times

    def norm(self, width: int) -> None:
        self.parameters += 2 * width

    def conv(self, into: int, out: int, size: Size, kernel: int = 3, stride: int = 1, kept: int = 0) -> None:
        """kept: channels of another tensor of that size that waits meanwhile."""
        self.linear(kernel**2 * into, out, prod(size))
        source = into * prod(size) * stride**2
        self.use(
            kept * prod(size)
            + source * (1 + self._copies + (self._padded and kernel > 1))
            + out * prod(size) * (1 + self._copies)
            + kernel**2 * into * out * self._copies
        )

    def attend(self, queries: int, keys: int, width: int) -> None:
        """Heads take no part: they share the width. Scores are never all there at once."""
        self.operations += 4 * queries * keys * width

    def resnet(self, into: int, out: int, size: Size, time: int = 0) -> None:
        self.norm(into)
        self.use(3 * into * prod(size))
        self.conv(into, out, size, kept=into)
        if time:
            self.linear(time, out, 1)
        self.norm(out)
        self.use((into + 2 * out) * prod(size))
        self.conv(out, out, size, kept=into)
        if into != out:
            self.conv(into, out, size, kernel=1, kept=out)

    def transformer(self, width: int, size: Size, reading: Size) -> None:
        """One Transformer2DModel of one block: attention to itself, to `reading`, and a gated MLP."""
        count = prod(size)
        self.norm(width)
        self.linear(width, width, count)
        for (tokens, source), cross in (((count, width), False), (reading, True)):
            self.norm(width)
            self.linear(width, width, count, bias=False)
            self.linear(source, width, tokens, bias=False)
            self.linear(source, width, tokens, bias=False)
            self.attend(count, tokens, width)
            self.linear(width, width, count)
            self.use((4 if cross else 7) * width * count)
        self.norm(width)
        self.linear(width, 8 * width, count)
        self.use((3 + 8 + 4) * width * count)  # outer and inner residual, normed; both halves; the gate's GELU
        self.linear(4 * width, width, count)
        self.linear(width, width, count)


def unet(config: Config, size: Size, conditioning: ConditioningSize, copies: bool = False) -> Cost:
    """Return the cost of the grafted UNet for one row on a latent of `size`; the ControlNet's residuals are held."""
    walk = _Walk(copies, _pads(config))
    channels = config["block_out_channels"]
    skips = _lower_half(walk, config, size, conditioning, residuals=True)
    into, layers = channels[-1], config.get("layers_per_block", 2)
    stages = list(zip(config["up_block_types"], reversed(channels), strict=True))
    for place, (kind, out) in enumerate(stages):
        for _ in range(layers + 1):
            skip, at = skips.pop()
            walk.use(2 * (into + skip) * prod(at))
            walk.resnet(into + skip, out, at, 4 * channels[0])
            walk.held -= 2 * skip * prod(at)
            into = out
            if kind.startswith("CrossAttn"):
                _read(walk, out, at, conditioning)
        if place < len(stages) - 1:
            walk.conv(into, into, skips[-1][1])
    walk.norm(channels[0])
    walk.conv(channels[0], config.get("out_channels", 4), size)
    walk.held = config.get("out_channels", 4) * prod(size)
    return walk.cost()


def controlnet(config: Config, size: Size, factor: int, conditioning: ConditioningSize, copies: bool = False) -> Cost:
    """Return the cost of the grafted ControlNet for one row; the control picture is `factor` times as large."""
    walk = _Walk(copies, _pads(config))
    levels = config.get(
        "conditioning_embedding_out_channels", PUBLISHED_CONTROLNET["conditioning_embedding_out_channels"]
    )
    at = (size[0] * factor, size[1] * factor)
    walk.conv(3, levels[0], at)
    for into, out in pairwise(levels):
        walk.conv(into, into, at)
        at = _half(at)
        walk.conv(into, out, at, stride=2)
    walk.conv(levels[-1], config["block_out_channels"][0], at)
    skips = _lower_half(walk, config, size, conditioning, residuals=False)
    middle = (config["block_out_channels"][-1], skips[-1][1])
    for width, where in [*skips, middle]:
        walk.conv(width, width, where, kernel=1)
        walk.held += width * prod(where)
    walk.use(walk.held // 2)  # every residual times the control's factor, while the skips are still there
    walk.held = sum(width * prod(where) for width, where in [*skips, middle])
    return walk.cost()


def _lower_half(
    walk: _Walk, config: Config, size: Size, conditioning: ConditioningSize, residuals: bool
) -> list[tuple[int, Size]]:
    """Walk from the latent to the middle; return what the upper half takes up again, (channels, size) each.

    residuals: the ControlNet's are held meanwhile, as many as the skips.
    """
    channels = config["block_out_channels"]
    first, time = channels[0], 4 * channels[0]
    skips = [(first, size)]

    def keep(width: int, at: Size) -> None:
        skips.append((width, at))
        walk.held += width * prod(at)

    walk.conv(config.get("in_channels", 4), first, size)
    walk.held += first * prod(size)
    walk.linear(first, time, 1)
    walk.linear(time, time, 1)
    into = first
    stages = list(zip(config["down_block_types"], channels, strict=True))
    for place, (kind, out) in enumerate(stages):
        for _ in range(config.get("layers_per_block", 2)):
            walk.resnet(into, out, size, time)
            into = out
            if kind.startswith("CrossAttn"):
                _read(walk, out, size, conditioning)
            keep(out, size)
        if place < len(stages) - 1:
            size = _half(size)
            walk.conv(out, out, size, stride=2)
            keep(out, size)
    if residuals:
        walk.widest += walk.held
        walk.held *= 2
    walk.resnet(into, into, size, time)
    _read(walk, into, size, conditioning)
    walk.resnet(into, into, size, time)
    return skips


def _read(walk: _Walk, width: int, size: Size, conditioning: ConditioningSize) -> None:
    walk.transformer(width, size, conditioning.text)
    if conditioning.image is not None:
        walk.transformer(width, size, conditioning.image)


def encoder(config: Config, size: Size, copies: bool = False) -> Cost:
    """Return the cost of encoding pixels of `size` in one piece, with attention limited to WINDOW."""
    walk = _Walk(copies, _pads(config))
    channels = config["block_out_channels"]
    walk.conv(config.get("in_channels", 3), channels[0], size)
    into = channels[0]
    for place, out in enumerate(channels):
        for _ in range(config.get("layers_per_block", 1)):
            walk.resnet(into, out, size)
            into = out
        if place < len(channels) - 1:
            size = (size[0] // 2, size[1] // 2)
            walk.conv(out, out, size, stride=2)
    _middle(walk, config, into, size)
    walk.norm(into)
    walk.conv(into, 2 * config["latent_channels"], size)
    walk.conv(2 * config["latent_channels"], 2 * config["latent_channels"], size, kernel=1)
    walk.held = 2 * config["latent_channels"] * prod(size)
    return walk.cost()


def decoder(config: Config, size: Size, copies: bool = False) -> Cost:
    """Return the cost of the VAE's way from a latent of `size` to pixels; see `encoder`."""
    walk = _Walk(copies, _pads(config))
    channels = config["block_out_channels"]
    into = channels[-1]
    walk.conv(config["latent_channels"], config["latent_channels"], size, kernel=1)
    if (compact := config.get("compact_decoder")) is not None:
        return _compact(walk, config, compact, size)
    walk.conv(config["latent_channels"], into, size)
    _middle(walk, config, into, size)
    for place, out in enumerate(reversed(channels)):
        for _ in range(config.get("layers_per_block", 1) + 1):
            walk.resnet(into, out, size)
            into = out
        if place < len(channels) - 1:
            size = (2 * size[0], 2 * size[1])
            walk.conv(out, out, size)
    walk.norm(into)
    walk.use(3 * into * prod(size))
    walk.conv(into, config.get("out_channels", 3), size)
    walk.held = config.get("out_channels", 3) * prod(size)
    return walk.cost()


def _compact(walk: _Walk, config: Config, compact: Config, size: Size) -> Cost:
    """Return the cost of a decoder that computes everything at the latent's size."""
    latent, width = config["latent_channels"], compact["width"]
    pixels = config.get("out_channels", 3) * 4 ** (len(config["block_out_channels"]) - 1)
    walk.conv(latent, width, size, kept=latent)
    for out in [width] * compact["layers"] + [pixels]:
        walk.parameters += width
        walk.use((latent + 2 * width) * prod(size))
        walk.conv(width, out, size, kept=latent)
    walk.conv(latent, pixels, size, kernel=1, kept=pixels)
    walk.held = pixels * prod(size)
    return walk.cost()


def _middle(walk: _Walk, config: Config, width: int, size: Size) -> None:
    walk.resnet(width, width, size)
    if config.get("mid_block_add_attention", True):
        walk.norm(width)
        for _ in range(4):
            walk.linear(width, width, prod(size))
        count = prod(size)
        walk.attend(count, count if count <= WINDOW**2 else WINDOWS * WINDOW**2, width)
        walk.use(6 * width * count)
    walk.resnet(width, width, size)


def text(config: Config) -> Cost:
    """Return the cost of the text tower for one prompt, always of its full length."""
    walk = _Walk(copies=False)
    width, tokens = config["hidden_size"], config["max_position_embeddings"]
    walk.parameters += (config["vocab_size"] + tokens) * width
    for _ in range(config["num_hidden_layers"]):
        _block(walk, width, config["intermediate_size"], tokens)
        walk.attend(tokens, tokens, width)
    walk.norm(width)
    walk.held = tokens * width
    return walk.cost()


def tagger(config: Config) -> Cost:
    """Return the cost of reading one picture: backbone and head."""
    walk = _Walk(copies=False)
    patch, window = config["patch_size"], config["window_size"]
    side, width = config["image_res"] // patch, config["embed_dim"]
    walk.linear(3 * patch**2, width, side**2)
    walk.norm(width)
    for place, (depth, heads) in enumerate(zip(config["depths"], config["num_heads"], strict=True)):
        within = min(window, side)
        whole = ceil(side / within) * within  # windows at the border are filled up
        for _ in range(depth):
            walk.parameters += (2 * within - 1) ** 2 * heads
            _block(walk, width, int(config["mlp_ratio"] * width), side**2, padded=whole**2)
            walk.attend(whole**2, within**2, width)
            walk.use(2 * whole**2 * within**2 * heads + 4 * whole**2 * width)
        if place < len(config["depths"]) - 1:
            side = ceil(side / 2)
            walk.norm(4 * width)
            walk.linear(4 * width, 2 * width, side**2, bias=False)
            width *= 2
    walk.norm(width)
    _head(walk, config["tagging_head"], config["labels"], width, side**2 + 1)
    return walk.cost()


def _head(walk: _Walk, head: Config, labels: int, backbone: int, tokens: int) -> None:
    width, read = head["hidden_size"], head["encoder_width"]
    walk.linear(backbone, read, tokens)
    walk.parameters += labels * read
    walk.linear(read, width, labels)
    for _ in range(head["num_hidden_layers"]):
        walk.linear(width, width, labels)
        walk.linear(read, width, tokens)
        walk.linear(read, width, tokens)
        walk.attend(labels, tokens, width)
        walk.linear(width, width, labels)
        walk.norm(width)
        walk.linear(width, head["intermediate_size"], labels)
        walk.linear(head["intermediate_size"], width, labels)
        walk.norm(width)
        walk.use((2 * width + 2 * head["intermediate_size"]) * labels)
    walk.linear(width, 1, labels)
    walk.held = tokens * read


def _block(walk: _Walk, width: int, inner: int, tokens: int, padded: int | None = None) -> None:
    """A transformer block without what its queries and keys do; padded: the tokens that attention sees."""
    walk.norm(width)
    for _ in range(4):
        walk.linear(width, width, padded or tokens)
    walk.norm(width)
    walk.linear(width, inner, tokens)
    walk.linear(inner, width, tokens)
    walk.use((2 * width + 2 * inner) * tokens)


def _pads(config: Config) -> bool:
    return config.get("padding_mode", "zeros") != "zeros"


def _half(size: Size) -> Size:
    return ceil(size[0] / 2), ceil(size[1] / 2)
