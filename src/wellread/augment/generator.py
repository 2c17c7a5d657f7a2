"""A language model on this machine that writes text: a `transformers` folder, or a GGUF file.

A GGUF file is read by `transformers` (with the package ``gguf``; no other runtime): its quantised weights are
turned back into full numbers once, and kept as a plain model folder.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wellread import files
from wellread.errors import ArtefactError, UserError, install
from wellread.progress import say


@dataclass(frozen=True)
class Sampling:
    """How text is drawn: nucleus sampling.

    Attributes:
        max_new_tokens: longest answer.
        temperature: above 0.
        top_p: share of the probability that is drawn from.
    """

    max_new_tokens: int = 48
    temperature: float = 0.7
    top_p: float = 0.9


@dataclass(frozen=True)
class Generator:
    """A stock causal language model with its tokenizer, ready to write."""

    model: Any
    tokenizer: Any


def prepare(path: Path, folder: Path, *, quiet: bool = False) -> Path:
    """The model folder of a generator; a GGUF file is converted into ``folder`` once.

    Raises:
        ArtefactError: neither a model folder nor a GGUF file of a layout that Wellread knows.
        UserError: the package that reads GGUF files is missing.
    """
    if path.is_dir():
        return path
    if path.suffix != ".gguf" or not path.is_file():
        raise ArtefactError(
            "no generator there", where=str(path), fix="give a transformers folder or a .gguf file"
        )
    source = files.sha256_file(path)
    manifest = files.read_manifest(folder)
    if manifest is not None and manifest.get("source") == source and not files.problems(folder):
        return folder
    if importlib.util.find_spec("gguf") is None:
        raise UserError(
            "the package `gguf`, which reads GGUF files, is not installed",
            where=str(path),
            fix=f"{install('augment')}, or give a transformers folder",
        )
    if not quiet:
        say(f"{path.name}: turned into a transformers folder, once")
    _convert(path, folder, source)
    return folder


def load(folder: Path) -> Generator:
    """Load a prepared folder.

    Raises:
        ArtefactError: missing, unsafe, damaged, or no decoder.
    """
    import torch
    from transformers import AutoTokenizer

    from wellread.models import build

    if build.load_config(folder).model_type not in ("llama", "gpt2"):
        raise ArtefactError("not a decoder", where=str(folder), fix="give a causal language model")
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Generator(build.load(folder, "clm").eval().to(device), tokenizer)


def complete(
    generator: Generator, prompts: Sequence[tuple[str, str]], sampling: Sampling, seed: int
) -> list[str]:
    """Answers to some prompts, a pure function of the arguments (on one machine with so many threads).

    Args:
        generator: put to chat where its tokenizer has a template for that.
        prompts: each with the beginning of its answer; read side by side, so each answer depends on its
            neighbours in the last bits.
        sampling: how.
        seed: of the draws.
    """
    import torch

    from wellread.models.build import seeded

    tokenizer, model = generator.tokenizer, generator.model
    texts = [f"{prompt}\n{lead}" for prompt, lead in prompts]
    if tokenizer.chat_template is not None:
        turns = [[{"role": "user", "content": prompt}] for prompt, _ in prompts]
        begun = tokenizer.apply_chat_template(turns, add_generation_prompt=True, tokenize=False)
        texts = [text + lead for text, (_, lead) in zip(begun, prompts, strict=True)]
    room = int(model.config.max_position_embeddings) - sampling.max_new_tokens
    # The template has the special tokens in it; a plain prompt must not be closed by one.
    rows = [tokenizer(text, add_special_tokens=False)["input_ids"][-room:] for text in texts]
    batch = tokenizer.pad({"input_ids": rows}, return_tensors="pt").to(model.device)
    with seeded(seed), torch.inference_mode():
        written = model.generate(
            input_ids=batch["input_ids"],
            attention_mask=batch["attention_mask"],
            do_sample=True,
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            top_k=0,
            max_new_tokens=sampling.max_new_tokens,
            pad_token_id=tokenizer.pad_token_id,
        )
    begin = batch["input_ids"].shape[1]
    return tokenizer.batch_decode(written[:, begin:], skip_special_tokens=True)


def _convert(path: Path, folder: Path, source: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from wellread.models import build

    here = {"gguf_file": path.name, "local_files_only": True, "trust_remote_code": False}
    try:
        with build._quiet():
            tokenizer = AutoTokenizer.from_pretrained(path.parent, **here)
            read = AutoModelForCausalLM.from_pretrained(path.parent, dtype=torch.float32, **here)
    except Exception as error:
        raise ArtefactError(
            f"the GGUF file cannot be read ({type(error).__name__})",
            where=str(path),
            fix="take a file of a Llama or GPT-2 layout, or a transformers folder",
        ) from None
    # What was read remembers that it was quantised and refuses to be saved; a plain model does not.
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    model.load_state_dict(read.state_dict())
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.new_folder(folder, source=source) as partial:
        build.save(model, tokenizer, partial)
