"""The compact convolutional transformer for texts (Hassani et al., arXiv 2104.05704): a small classifier.

Word vectors go through a convolution over neighbouring tokens and a max-pool, which halves the sequence; a
few transformer blocks follow, and a learnt softmax over the positions (sequence pooling) in the place of
[CLS].  transformers has no such architecture, so these folders load through Wellread only.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedConfig, PreTrainedModel

from wellread.errors import ArtefactError
from wellread.models.build import seeded
from wellread.tokens.batch import PackedBatch

MODEL_TYPE = "wellread-cct"
# The published sizes: layers, heads, width, inner width over width.
SIZES = {"cct-2": (2, 2, 128, 1), "cct-4": (4, 2, 128, 1), "cct-6": (6, 4, 256, 2)}


class CctConfig(PreTrainedConfig):
    """Shape of a :class:`Cct`; ``max_position_embeddings`` is the longest input in tokens."""

    model_type = MODEL_TYPE

    def __init__(
        self,
        size: str = "cct-2",
        kernel: int = 2,
        vocab_size: int = 8192,
        embedding_size: int = 300,
        max_position_embeddings: int = 256,
        **rest: Any,
    ) -> None:
        layers, heads, hidden, ratio = SIZES[size]
        self.size, self.kernel, self.vocab_size = size, kernel, vocab_size
        self.embedding_size, self.max_position_embeddings = embedding_size, max_position_embeddings
        self.num_hidden_layers, self.num_attention_heads = layers, heads
        self.hidden_size, self.intermediate_size = hidden, ratio * hidden
        self.attention_dropout, self.drop_path = 0.1, 0.1
        super().__init__(**rest)


class Cct(PreTrainedModel):
    """Tokens to logits.  L tokens of a sequence become about L / 2 positions P of width d."""

    config_class = CctConfig
    _supports_sdpa = True

    def __init__(self, config: CctConfig) -> None:
        super().__init__(config)
        kernel, hidden = config.kernel, config.hidden_size
        self.words = nn.Embedding(config.vocab_size, config.embedding_size)
        self.convolution = nn.Conv1d(
            config.embedding_size,
            hidden,
            kernel,
            stride=max(1, kernel // 2 - 1),
            padding=max(1, kernel // 2),
            bias=False,
        )
        drops = torch.linspace(0, config.drop_path, config.num_hidden_layers, device="cpu").tolist()
        self.blocks = nn.ModuleList(_Block(config, drop) for drop in drops)
        self.norm = nn.LayerNorm(hidden)
        self.attention_pool = nn.Linear(hidden, 1)
        self.classifier = nn.Linear(hidden, int(config.num_labels or 1))
        self.post_init()

    def forward(self, batch: PackedBatch) -> Tensor:
        """(S, labels) logits of S sequences."""
        ids = pad_sequence(list(batch.input_ids.split(batch.lengths)), batch_first=True)
        lengths = batch.cu_seqlens.diff()[:, None]
        return self.logits(ids, torch.arange(ids.shape[1], device=ids.device)[None] < lengths)

    def logits(self, ids: Tensor, real: Tensor) -> Tensor:
        """Logits of padded sequences, whatever the padding.

        Args:
            ids: (S, L) tokens.
            real: (S, L) bool, False at the padding.

        Returns:
            (S, labels).
        """
        x, seen = self.tokenise(self.words(ids) * real[..., None], real)
        x = x + sinusoids(x.shape[1], x.shape[2]).to(x)
        for block in self.blocks:
            x = block(x, seen)
        return self.classifier(self.pool(self.norm(x), seen))

    def tokenise(self, vectors: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Convolve and pool, as if every sequence stood alone.

        Windows that would begin only because a longer sequence stands beside are left out.

        Args:
            vectors: (S, L, e) word vectors, zero at the padding.
            real: (S, L) bool, False at the padding.

        Returns:
            (S, P, d), and (S, P) bool: whether a real token stands behind a position.
        """
        layer = self.convolution
        (kernel,), (stride,) = layer.kernel_size, layer.stride
        padding = max(1, kernel // 2)
        x = F.relu(layer(vectors.mT))
        ones = torch.ones(1, 1, kernel, device=real.device)
        seen = F.conv1d(real[:, None].float(), ones, stride=stride, padding=padding)
        windows = (real.sum(-1) + 2 * padding - kernel) // stride + 1
        own = (torch.arange(x.shape[-1], device=x.device) < windows[:, None])[:, None]
        return _halve(x * own).mT, _halve(seen * own)[:, 0] > 0

    def pool(self, x: Tensor, seen: Tensor) -> Tensor:
        """Sequence pooling: (S, P, d) -> (S, d), a learnt weighted mean over the positions that are seen."""
        scores = self.attention_pool(x)[..., 0].masked_fill(~seen, -math.inf)
        return (scores.softmax(-1)[:, None] @ x)[:, 0]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Conv1d):
            nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight)


class _Block(nn.Module):
    """x + attention(norm(x)), then from its *normalised* value y: y + feed-forward(y), as published."""

    def __init__(self, config: CctConfig, drop: float) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, config.intermediate_size
        self.heads, self.drop = config.num_attention_heads, drop
        self.attention_dropout = config.attention_dropout
        self.before, self.after = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        self.qkv = nn.Linear(hidden, 3 * hidden, bias=False)
        self.output = nn.Linear(hidden, hidden)
        self.wide, self.narrow = nn.Linear(hidden, inner), nn.Linear(inner, hidden)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        """(S, P, d), and (S, P) bool -> (S, P, d)."""
        x = self.after(x + self._path(self._attend(self.before(x), seen)))
        return x + self._path(self.narrow(F.gelu(self.wide(x))))

    def _attend(self, x: Tensor, seen: Tensor) -> Tensor:
        query, key, value = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=seen[:, None, None],
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        return self.output(mixed.transpose(1, 2).flatten(2))

    def _path(self, x: Tensor) -> Tensor:
        """Stochastic depth: the branch of a whole sequence is left out, the others are scaled up."""
        if not (self.training and self.drop):
            return x
        kept = torch.rand(x.shape[0], 1, 1, device=x.device) >= self.drop
        return x * kept / (1 - self.drop)


def make(config: CctConfig, seed: int) -> Cct:
    """A model with random weights, the same for the same seed; the global generator is left alone."""
    with seeded(seed):
        return Cct(config)


def is_folder(folder: Path) -> bool:
    """Whether a folder holds such a model."""
    try:
        return bool(json.loads((Path(folder) / "config.json").read_bytes())["model_type"] == MODEL_TYPE)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def load(folder: Path) -> Cct:
    """A saved model (:func:`wellread.models.build.save` writes it), in evaluation mode.

    Raises:
        ArtefactError: the configuration or the weights are damaged.
    """
    try:
        found: Any = Cct.from_pretrained(
            Path(folder), local_files_only=True, use_safetensors=True, output_loading_info=True
        )
        model, facts = found
        lost = [*facts["missing_keys"], *facts["mismatched_keys"]]
    except Exception as error:
        lost = [type(error).__name__]
    if lost:
        raise ArtefactError(
            f"the weights cannot be loaded ({lost[0]})",
            where=str(folder),
            fix="restore the folder from its source",
        )
    return model.eval()  # type: ignore[no-any-return]


def sinusoids(positions: int, width: int) -> Tensor:
    """(P, d) fixed waves, one wavelength for each pair of features (Vaswani et al., 2017)."""
    place = torch.arange(positions, dtype=torch.float32)[:, None]
    waves = torch.exp(-math.log(10_000) * torch.arange(0, width, 2, dtype=torch.float32) / width)
    return torch.stack([torch.sin(place * waves), torch.cos(place * waves)], dim=-1).flatten(1)


def _halve(x: Tensor) -> Tensor:
    """Max-pool over the last dimension, two positions into one."""
    return F.max_pool1d(x, kernel_size=2, stride=2, padding=1)
