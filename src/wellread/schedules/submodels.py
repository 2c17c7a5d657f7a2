"""Two-stage training of a grown model (bert2BERT, Chen et al., 2022, arXiv 2110.07143).

In the first stage the lowest b, 2 b, 3 b, ... layers are sub-models that share the norm and head on top; each
step draws one of them and trains its top b layers and what stands above.  The lowest sub-model trains the
embeddings too.  Then all of the model is trained as ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from wellread import rng
from wellread.settings import ModelSettings, PretrainSettings

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def layers(settings: PretrainSettings, depth: int, step: int, steps: int, seed: int) -> int | None:
    """How many layers the sub-model of a step (from 0) of ``steps`` has; None where all are trained.

    A pure function of seed and step.
    """
    each = settings.submodels
    if not each or step >= round(settings.submodel_share * steps):
        return None
    return min(depth, each * (1 + int(rng.bits(seed, "submodel", step)) % -(-depth // each)))


@contextlib.contextmanager
def only(model: PreTrainedModel, depth: int | None, each: int) -> Iterator[None]:
    """Within the block the model has its lowest ``depth`` layers, and gradients reach the top ``each``.

    Args:
        model: of one of the four layouts.
        depth: layers of the sub-model; None does nothing.
        each: layers that learn; those below, and the look-up of embeddings, stay as they are.
    """
    from torch import nn

    from wellread.sparsity.linear import STACKS

    parent_name, _, child = STACKS[model.config.model_type].rpartition(".")
    parent: Any = model.base_model.get_submodule(parent_name)
    whole: Any = getattr(parent, child)
    if depth is None:
        yield
        return
    setattr(parent, child, nn.ModuleList(whole[:depth]))
    below = max(0, depth - each)
    handle = whole[below].register_forward_pre_hook(_detach) if below else None
    try:
        yield
    finally:
        setattr(parent, child, whole)
        if handle is not None:
            handle.remove()


def flops(
    costs: Callable[[ModelSettings], tuple[float, float]], model: ModelSettings, depth: int | None, each: int
) -> tuple[float, float]:
    """(dense, accounted) FLOPs of a step: forwards through ``depth`` layers, backwards through the top ones.

    Args:
        costs: of a step in which a model of some shape is trained whole.
        model: the whole architecture.
        depth: layers that take part; None where all learn.
        each: layers that learn otherwise.
    """
    if depth is None:
        return costs(model)
    forward, backward = (costs(model.model_copy(update={"layers": n})) for n in (depth, min(each, depth)))
    return forward[0] / 3 + backward[0] * 2 / 3, forward[1] / 3 + backward[1] * 2 / 3


def cost(settings: PretrainSettings, model: ModelSettings, costs: Callable[[ModelSettings], float]) -> float:
    """What the run's steps cost on average, as a share of a step that trains the whole model.

    Args:
        settings: how many layers learn, and for how long.
        model: the whole architecture.
        costs: of a step in which a model of some shape is trained whole.
    """
    each, depth = settings.submodels, model.layers
    if not each:
        return 1.0
    depths = [min(depth, each * number) for number in range(1, -(-depth // each) + 1)]
    pairs = [flops(lambda shape: (costs(shape), 0.0), model, one, each)[0] for one in depths]
    first = sum(pairs) / len(pairs) / costs(model)
    return settings.submodel_share * first + 1 - settings.submodel_share


def _detach(_: Any, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (inputs[0].detach(), *inputs[1:])
