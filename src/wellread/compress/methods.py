"""The methods of compression by name, each as a function that writes a folder for ``wellread predict``."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from wellread.compress import early_exit
from wellread.compress.binarise import bibert, dual
from wellread.compress.binarise import stored as binaries
from wellread.compress.early_exit import ExitSettings
from wellread.compress.prune import magnitude, movement, store, wanda
from wellread.compress.prune import structured as structures
from wellread.compress.prune.settings import GradualSettings, StructuredSettings, WandaSettings
from wellread.compress.quantise import mixed, packed
from wellread.compress.quantise.qat import quantise_aware
from wellread.compress.quantise.quantise import quantise as round_weights
from wellread.compress.quantise.settings import QuantiseSettings
from wellread.compress.subject import Subject, load_model
from wellread.errors import UserError
from wellread.finetune.loop import FinetuneResult
from wellread.models import build
from wellread.serve.engines.folder import export_engine
from wellread.sparsity.patterns import Pattern

# Sensitivity of each layer, from the lowest on; asked for only where it is needed.
Omega = Callable[[], Sequence[float]]
# (subject, settings, seed, folder to write, sensitivities).
Method = Callable[[Subject, dict[str, Any], int, Path, Omega], None]

CHOICES = (2, 3, 4, 8)  # bits between which a budget chooses
KEPT_BITS = 8


def engine(subject: Subject, settings: dict[str, Any], seed: int, folder: Path, omega: Omega) -> None:
    """A graph for ONNX Runtime or OpenVINO, of the model or of what another method makes of it.

    Settings: "format"; "keep", how many of the most sensitive layers stay in floating point; "after",
    {"method", "settings"} of what comes before.
    """
    keep = _most_sensitive(omega, settings.get("keep", 0))
    with tempfile.TemporaryDirectory(prefix="wellread-compress-") as scratch:
        source, before = subject.folder, settings.get("after")
        if before:
            source = Path(scratch) / "model"
            METHODS[before["method"]](subject, before["settings"], seed, source, omega)
        export_engine(source, folder, settings["format"], task=subject.task, keep_layers=keep)


def quantise(subject: Subject, settings: dict[str, Any], seed: int, folder: Path, omega: Omega) -> None:
    """Packed weights of few bits.

    Settings: "quantise", those of :class:`QuantiseSettings`; "keep", how many of the most sensitive layers
    have 8 bits; "high", bits of the more sensitive half; or "budget", mean bits; "aware", trained.
    """
    chosen = QuantiseSettings.model_validate(settings["quantise"])
    layers = _layer_bits(subject, settings, chosen, omega)
    chosen = chosen.model_copy(update={"layer_bits": layers})
    if settings.get("aware"):
        found = quantise_aware(subject, chosen, seed)
    else:
        found = round_weights(subject, chosen, seed)
    packed.save(found, subject.tokenizer, folder)


def aware(subject: Subject, settings: dict[str, Any], seed: int, folder: Path, _: Omega) -> None:
    """A stock checkpoint whose weights are the values of their codes, for an engine to quantise again.

    Settings: those of :class:`QuantiseSettings`.
    """
    found = quantise_aware(subject, QuantiseSettings.model_validate(settings), seed).model
    state = {name: weight for name, weight in found.state_dict().items() if ".input_range." not in name}
    model = load_model(subject)
    model.load_state_dict(state)
    build.save(model, subject.tokenizer, folder)


def structured(subject: Subject, settings: dict[str, Any], seed: int, folder: Path, _: Omega) -> None:
    """A smaller stock model.  Settings: those of :class:`StructuredSettings`."""
    model = structures.prune(subject, StructuredSettings.model_validate(settings), seed)
    build.save(model, subject.tokenizer, folder)


def small_weights(subject: Subject, settings: dict[str, Any], seed: int, folder: Path, _: Omega) -> None:
    """Zeros for the smallest weights.  Settings: those of :class:`GradualSettings`."""
    chosen = GradualSettings.model_validate(settings)
    _keep_zeros(subject, magnitude.prune(subject, chosen, seed), "magnitude", chosen.pattern, folder)


def fading_weights(subject: Subject, settings: dict[str, Any], seed: int, folder: Path, _: Omega) -> None:
    """Zeros for the weights that training pushes there.  Settings: those of :class:`GradualSettings`."""
    chosen = GradualSettings.model_validate(settings)
    _keep_zeros(subject, movement.prune(subject, chosen, seed), "movement", chosen.pattern, folder)


def idle_weights(subject: Subject, settings: dict[str, Any], seed: int, folder: Path, _: Omega) -> None:
    """Zeros for weights that are small times what comes in.  Settings: those of :class:`WandaSettings`."""
    chosen = WandaSettings.model_validate(settings)
    _keep_zeros(subject, wanda.prune(subject, chosen, seed), "wanda", chosen.pattern, folder)


def one_bit(subject: Subject, _: dict[str, Any], seed: int, folder: Path, _omega: Omega) -> None:
    """Weights, activations and attention of one bit."""
    _keep_bits(subject, bibert.binarise(subject, seed), folder)


def two_planes(subject: Subject, _: dict[str, Any], seed: int, folder: Path, _omega: Omega) -> None:
    """Weights of two binary planes."""
    _keep_bits(subject, dual.binarise(subject, seed), folder)


def exits(subject: Subject, settings: dict[str, Any], seed: int, folder: Path, _: Omega) -> None:
    """A model that easy texts leave early.  Settings: "drop", points that the dial may lose on dev."""
    model = early_exit.train(subject, ExitSettings(), seed)
    criterion = "patience" if subject.task.kind == "regress" else "entropy"
    points = early_exit.dial(model, subject, criterion)
    best = early_exit.choose(points, subject.task.metric, drop=settings["drop"] / 100)
    early_exit.save(model, subject.tokenizer, folder, best.rule)


def _keep_zeros(subject: Subject, model: Any, method: str, pattern: Pattern, folder: Path) -> None:
    """A folder that has the living weights only."""
    store.save(model, subject.tokenizer, folder, method=method, pattern=pattern, compact=True)


def _keep_bits(subject: Subject, result: FinetuneResult, folder: Path) -> None:
    if result.failed:
        raise UserError(f"training failed: {result.failure}", where=subject.task.name)
    binaries.save(result.model, subject.tokenizer, folder)


def _most_sensitive(omega: Omega, count: int) -> list[int]:
    """Numbers of the most sensitive layers."""
    if not count:
        return []
    values = omega()
    return sorted(range(len(values)), key=lambda layer: (-values[layer], layer))[:count]


def _layer_bits(
    subject: Subject, settings: dict[str, Any], chosen: QuantiseSettings, omega: Omega
) -> tuple[int, ...]:
    """Bits of each layer; none where all have the same."""
    if "keep" in settings:
        kept = _most_sensitive(omega, settings["keep"])
        return tuple(KEPT_BITS if layer in kept else chosen.bits for layer in range(len(omega())))
    if "high" in settings:
        return mixed.halves(omega(), chosen.bits, settings["high"])
    if "budget" in settings:
        sizes, errors = mixed.squared_errors(load_model(subject), chosen, CHOICES)
        return mixed.budget(omega(), sizes, errors, settings["budget"])
    return ()


METHODS: dict[str, Method] = {
    "engine": engine,
    "quantise": quantise,
    "aware": aware,
    "structured": structured,
    "magnitude": small_weights,
    "movement": fading_weights,
    "wanda": idle_weights,
    "early_exit": exits,
    "binary": one_bit,
    "dual": two_planes,
}
