"""A plan for people."""

from __future__ import annotations

from typing import Any


def to_text(found: dict[str, Any]) -> str:
    """The plan for people."""
    named = (found["recipe"]["name"], found["recipe"]["description"])
    lines = [": ".join(filter(None, named)), ""]
    corpus, time = found["corpus"], found["time"]
    if corpus:
        lines.append(
            f"corpus    about {corpus['documents']:,} documents, {corpus['words'] / 1e6:.1f}M words, "
            f"{corpus['tokens'] / 1e6:.1f}M tokens"
        )
    for model in found["models"]:
        lines += _model_lines(model)
    lines.append(f"memory    {size(found['memory']['bytes'])} at the peak")
    if found["disk"]:
        lines.append(f"disk      {size(found['disk']['bytes'])} at the fullest")
    if time:
        parts = ", ".join(f"{kind} {seconds:.0f} s" for kind, seconds in time["stages"].items())
        lines.append(f"time      {time['seconds'] / 60:.1f} minutes: {parts}")
    if found["up_to_date"]:
        lines.append(f"          up to date: {', '.join(found['up_to_date'])}")
    lines.append(f"writes    {', '.join(found['writes'])}")
    lines += [f"note      {note}" for note in found["notes"]]
    for problem in found["problems"]:
        lines += [f"PROBLEM   {problem['where']}: {problem['what']}", f"          Fix: {problem['fix']}"]
    return "\n".join(lines)


def _model_lines(model: dict[str, Any]) -> list[str]:
    whole, inner = model["parameters"] / 1e6, model["parameters_without_embeddings"] / 1e6
    lines = [
        f"model     {model['name']}: {model['layout']} {model['shape']}, {model['sparsity']:.1%} sparse "
        f"({model['pattern']})",
        f"          {whole:.2f}M parameters, {inner:.2f}M without embeddings",
    ]
    if model["tokens"]:
        lines.append(f"          {model['tokens'] / 1e6:,.1f}M tokens in {model['steps']:,} steps")
    if model["flops"]:
        dense, accounted = model["flops"]["dense"], model["flops"]["accounted"]
        lines.append(f"          {dense:.3g} FLOPs dense, {accounted:.3g} accounted (which is not time)")
    ratio = model["full_length_ratio"]
    return [*lines, f"          {ratio:.2f}x fewer FLOPs than dense, as the papers count (full length)"]


def size(count: float) -> str:
    """1234567890 as 1.2 GB."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count / 1e3:.0f} kB"
