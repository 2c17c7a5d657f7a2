"""TinyAttention: an attention of few heads of one dimension after each attention (arXiv 2211.01979)."""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor, nn

from wellread.finetune.light.sites import CAUSAL, attach, outputs, through
from wellread.models import packed
from wellread.settings import LightSettings


class TinyAttention(nn.Module):
    """h + W_o attention(h) within each sequence of a packed batch, W_o and its bias zero at the start.

    A decoder's looks back only.
    """

    def __init__(self, hidden: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.qkv = nn.Linear(hidden, 3 * heads)
        self.out = nn.Linear(heads, hidden)
        self.is_causal = causal
        self.bounds: Any = {}  # of the sequences of the batch that is under way
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, hidden: Tensor) -> Tensor:
        """(1, T, d) -> (1, T, d)."""
        # In float32: the GPU's variable-length kernel, for half precision, takes no heads of one dimension.
        query, key, value = (part.mT[..., None].float() for part in self.qkv(hidden).chunk(3, dim=-1))
        mixed, _ = packed.attention(self, query, key, value, None, scaling=1.0, **self.bounds)
        return hidden + self.out(mixed[..., 0])


def equip(model: Any, settings: LightSettings, _dropout: float) -> nn.Module:
    """A TinyAttention after each attention, before the residual sum.

    Returns:
        One a layer: 4 * d * heads + 3 * heads + d parameters each.
    """
    causal = model.config.model_type in CAUSAL
    adapters = nn.ModuleList()
    for module in outputs(model, ffn=False):
        adapter = TinyAttention(model.config.hidden_size, settings.heads, causal=causal)
        attach(module, adapter, through)
        adapters.append(adapter)
    model.base_model.register_forward_pre_hook(partial(_note, adapters), with_kwargs=True)
    return adapters


def _note(adapters: nn.ModuleList, _body: nn.Module, _args: Any, named: dict[str, Any]) -> None:
    """Tell the adapters where the sequences of the batch begin: the module they hang on is not told."""
    bounds: Any = {name: named.get(name) for name in ("cu_seqlens", "lengths")}
    for adapter in adapters:
        adapter.bounds = bounds
