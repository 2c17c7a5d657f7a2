"""What is tried for each target of ``wellread compress``, in which order.  Imports nothing heavy.

A target is a few lines of candidates.  A line is tried from its first candidate on until one passes the gate:
the plain method, then the same with the sensitive layers in higher precision, then quantisation-aware
training.  Of what passes the fastest is chosen.  Where no line passes, the nearest forms that are larger or
slower are tried in order, so that the refusal can name the first that does.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from wellread.errors import UserError
from wellread.serve.engines.formats import FORMATS

AGREE = 0.99  # of the decisions, for int8 without training

Line = tuple["Candidate", ...]


@dataclass(frozen=True)
class Candidate:
    """One form of a model.

    Attributes:
        name: of its folder and its row.
        method: a name of :data:`wellread.compress.methods.METHODS`.
        settings: of the method, as JSON.
        says: what it is, for people.
        learns: it is trained, so that seeds matter.
        agreement: least share of the model's decisions that it must repeat on dev.
    """

    name: str
    method: str
    settings: dict[str, Any] = field(default_factory=dict)
    says: str = ""
    learns: bool = False
    agreement: float = 0.0


@dataclass(frozen=True)
class Plan:
    """What is tried: lines of candidates, and what is nearest to them where none passes."""

    lines: tuple[Line, ...]
    nearest: Line


def plan(target: str, layers: int, max_drop: float) -> Plan:
    """The candidates of a target.

    Args:
        target: a name of :data:`TARGETS`.
        layers: of the model.
        max_drop: points of the metric that may be lost.

    Raises:
        UserError: an unknown target.
    """
    check(target)
    return TARGETS[target](layers, max_drop)


def check(target: str) -> None:
    """Refuse an unknown target.

    Raises:
        UserError: naming those that are known.
    """
    if target not in TARGETS:
        raise UserError(
            f"there is no target {target!r}", where="--target", fix=f"one of: {', '.join(TARGETS)}"
        )


def counts(layers: int) -> tuple[int, ...]:
    """How many sensitive layers are kept in higher precision, one try after the other; half at most."""
    return tuple(sorted({count for count in (1, layers // 4, layers // 2) if 0 < count < layers}))


def missing(candidate: Candidate) -> list[str]:
    """Packages that a candidate takes and that are not installed."""
    name = candidate.settings.get("format")
    packages = FORMATS[name].packages if name else ()
    return [one for one in packages if importlib.util.find_spec(one) is None]


def engine(name: str) -> Candidate:
    """A graph of the model as it is."""
    return Candidate(name, "engine", {"format": name}, f"{_runtime(name)}, 32-bit floats")


def int8_line(name: str, layers: int) -> Line:
    """An engine's int8, with more and more layers in floating point, then from a model trained for it."""
    what = f"{_runtime(name)}, 8-bit integers"
    plain = Candidate(name, "engine", {"format": name}, what, agreement=AGREE)
    kept = (
        Candidate(
            f"{name}+keep{count}",
            "engine",
            {"format": name, "keep": count},
            f"{what}, the {_layers(count)} in floats",
            agreement=AGREE,
        )
        for count in counts(layers)
    )
    # The engines' own levels: 7 bits, a range for each output neuron, around zero.
    levels = {"bits": 7, "groups": 1 << 20, "symmetric": True, "activation_bits": 8}
    aware = Candidate(
        f"{name}+aware",
        "engine",
        {"format": name, "after": {"method": "aware", "settings": levels}},
        f"{what}, trained with them",
        learns=True,
    )
    return (plain, *kept, aware)


def bits(number: int) -> Candidate:
    """All matrices in so few bits, after training."""
    return Candidate(
        f"{number}bit", "quantise", {"quantise": {"bits": number}}, f"{number}-bit weights in 128 groups"
    )


INT8_WEIGHTS = Candidate(
    "int8-weights", "quantise", {"quantise": {"method": "int8"}}, "8-bit weights, computed in floats"
)
NF4 = Candidate("nf4", "quantise", {"quantise": {"method": "nf4"}}, "4-bit weights at the levels of nf4")


def structured(name: str, says: str, settings: dict[str, Any]) -> Candidate:
    """A smaller model of the same architecture."""
    return Candidate(name, "structured", settings, says, learns=True)


def _int8(layers: int, _: float) -> Plan:
    lines = tuple(int8_line(name, layers) for name in FORMATS if FORMATS[name].int8)
    # Where no engine is installed, nothing but the weights can be 8-bit integers.
    here = tuple(line for line in lines if not missing(line[0]))
    return Plan(lines, (INT8_WEIGHTS,)) if here else Plan((*lines, (INT8_WEIGHTS,)), ())


def _four(layers: int, _: float) -> Plan:
    kept = (
        Candidate(
            f"4bit+keep{count}",
            "quantise",
            {"quantise": {"bits": 4}, "keep": count},
            f"4-bit weights, the {_layers(count)} in 8 bits",
        )
        for count in counts(layers)
    )
    aware = Candidate(
        "4bit+aware",
        "quantise",
        {"quantise": {"bits": 4}, "aware": True},
        "4-bit weights, trained with them",
        learns=True,
    )
    return Plan(((bits(4), NF4, *kept, aware),), (bits(5), bits(6), INT8_WEIGHTS))


def _two_mixed(_layers: int, _: float) -> Plan:
    line = []
    for aware in (False, True):
        for name, choice, says in (
            ("2bit-mixed", {"high": 4}, "2-bit weights, the more sensitive half of the layers in 4 bits"),
            ("2bit-budget3", {"budget": 3.0}, "3 bits a weight on average, more where layers are sensitive"),
        ):
            settings: dict[str, Any] = {"quantise": {"bits": 2}, **choice}
            if aware:
                name, says, settings = (
                    f"{name}+aware",
                    f"{says}; trained with them",
                    settings | {"aware": True},
                )
            line.append(Candidate(name, "quantise", settings, says, learns=aware))
    return Plan((tuple(line),), (bits(4), bits(6), INT8_WEIGHTS))


def _binary(_layers: int, _: float) -> Plan:
    line = (
        Candidate("binary", "binary", {}, "one bit: weights, activations and attention", learns=True),
        Candidate("dual-binary", "dual", {}, "two binary planes a weight", learns=True),
    )
    return Plan((line,), (bits(4), INT8_WEIGHTS))


def _pruned(layers: int, _: float) -> Plan:
    gone = layers // 3
    half = structured(
        "pruned-half",
        f"half of the neurons and {gone} of {layers} layers taken out",
        {"ffn": 0.5, "layers": gone},
    )
    sparse = tuple(
        Candidate(
            f"sparse{level}",
            "magnitude",
            {"level": level / 100},
            f"{level}% of the weights zero, by magnitude",
            learns=True,
        )
        for level in (75, 50)
    )
    lines = ((*((half,) if gone else ()), _ffn(50), _ffn(25)), sparse)
    return Plan(lines, tuple(engine(name) for name in FORMATS if not FORMATS[name].int8))


def _auto(layers: int, max_drop: float) -> Plan:
    floats = tuple((engine(name),) for name in FORMATS if not FORMATS[name].int8)
    int8 = tuple(int8_line(name, layers)[:-1] for name in FORMATS if FORMATS[name].int8)
    small = tuple(
        (
            Candidate(
                f"pruned-ffn50+{name}",
                "engine",
                {"format": name, "after": {"method": "structured", "settings": {"ffn": 0.5}}},
                f"half of the neurons taken out; {_runtime(name)}, 8-bit integers",
                learns=True,
            ),
        )
        for name in FORMATS
        if FORMATS[name].int8
    )
    early = Candidate(
        "early-exit", "early_exit", {"drop": max_drop}, "easy texts leave at a lower layer", learns=True
    )
    # What is left out of the lines of int8, training for it, is asked for by --target int8.
    return Plan((*floats, *int8, *small, (_ffn(50),), (early,), (bits(4),), (INT8_WEIGHTS,)), ())


def _ffn(percent: int) -> Candidate:
    return structured(
        f"pruned-ffn{percent}",
        f"{percent}% of the feed-forward neurons taken out",
        {"ffn": percent / 100},
    )


def _layers(count: int) -> str:
    return "most sensitive layer" if count == 1 else f"{count} most sensitive layers"


def _runtime(name: str) -> str:
    return {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}[FORMATS[name].engine]


TARGETS: dict[str, Callable[[int, float], Plan]] = {
    "int8": _int8,
    "4bit": _four,
    "2bit-mixed": _two_mixed,
    "binary": _binary,
    "pruned": _pruned,
    "auto": _auto,
}
