"""Pruning: single weights, blocks, or whole parts of a fine-tuned model.

| name | function | settings | what goes |
|---|---|---|---|
| magnitude | :func:`.magnitude.prune` | :class:`.settings.GradualSettings` | the smallest weights |
| movement | :func:`.movement.prune` | :class:`.settings.GradualSettings` | weights pushed towards zero |
| wanda | :func:`.wanda.prune` | :class:`.settings.WandaSettings` | small weights with small inputs |
| structured | :func:`.structured.prune` | :class:`.settings.StructuredSettings` | heads, neurons, layers |

Each is ``prune(subject, settings, seed, *, loss=None) -> model``; :func:`.store.save` writes a model with
zeros, :func:`wellread.models.build.save` a smaller one.
"""
