"""The tagger: a Swin transformer that gives tokens, and a head that asks them for each label.

RAM (arXiv 2306.03514), and with its LoRA folded in, DAPE: the backbone is a Swin transformer, the head follows
Query2Label: label vectors attend to the tokens, without attending to each other.
"""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .swin import Swin


class Tagger(nn.Module):
    """Reads a picture into one logit per label and a sequence of tokens.

    config: as `configs.PUBLISHED_TAGGER`; labels: how many there are.
    """

    def __init__(self, config: Mapping[str, Any], labels: int) -> None:
        super().__init__()
        head = config["tagging_head"]
        self.side: int = config["image_res"]
        self.backbone = Swin(
            side=self.side,
            patch=config["patch_size"],
            window=config["window_size"],
            width=config["embed_dim"],
            depths=config["depths"],
            heads=config["num_heads"],
            mlp_ratio=config["mlp_ratio"],
        )
        self.to_tokens = nn.Linear(self.backbone.num_features, head["encoder_width"])
        self.label_vectors = nn.Parameter(torch.zeros(labels, head["encoder_width"]))
        self.to_queries = nn.Linear(head["encoder_width"], head["hidden_size"])
        self.layers = nn.ModuleList(HeadLayer(head) for _ in range(head["num_hidden_layers"]))
        self.to_logit = nn.Linear(head["hidden_size"], 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return (logits [B, labels], tokens [B, 1 + cells, width]) of pictures.

        pixels: [B, 3, side, side], RGB, normalised with ImageNet's mean and deviation. The first token stands for the
        mean of the others.
        """
        cells = self.backbone(pixels)
        tokens = self.to_tokens(torch.cat([cells.mean(dim=1, keepdim=True), cells], dim=1))
        queries = F.relu(self.to_queries(self.label_vectors)).expand(len(pixels), -1, -1)
        for layer in self.layers:
            queries = layer(queries, tokens)
        return self.to_logit(queries).squeeze(-1), tokens


class HeadLayer(nn.Module):
    """One layer of the tagging head: labels attend to tokens, then an MLP; each with a residual and a LayerNorm."""

    def __init__(self, head: Mapping[str, Any]) -> None:
        super().__init__()
        width, eps = head["hidden_size"], head["layer_norm_eps"]
        self.heads: int = head["num_attention_heads"]
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(head["encoder_width"], width)
        self.value = nn.Linear(head["encoder_width"], width)
        self.attended = nn.Linear(width, width)
        self.attended_norm = nn.LayerNorm(width, eps=eps)
        self.widen = nn.Linear(width, head["intermediate_size"])
        self.narrow = nn.Linear(head["intermediate_size"], width)
        self.mlp_norm = nn.LayerNorm(width, eps=eps)
        self.dropout = nn.Dropout(0.0)  # of attention and of both updates, as BERT has it; training sets its share

    def forward(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """Return queries [B, labels, width] after reading tokens [B, cells, token width]."""
        query, key, value = (
            projected.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for projected in (self.query(queries), self.key(tokens), self.value(tokens))
        )
        share = self.dropout.p if self.training else 0.0
        attended = F.scaled_dot_product_attention(query, key, value, dropout_p=share).transpose(1, 2).flatten(2)
        queries = self.attended_norm(queries + self.dropout(self.attended(attended)))
        return self.mlp_norm(queries + self.dropout(self.narrow(F.gelu(self.widen(queries)))))
