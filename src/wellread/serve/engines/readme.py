"""README.md of an exported folder: what it holds, and a script that runs it without Wellread and torch."""

from __future__ import annotations

from typing import Any

from wellread.serve.engines.formats import RUNTIMES
from wellread.tasks.examples import TOKEN

_BEGIN = """\
import json, {regex}sys
import numpy as np
from tokenizers import Tokenizer
{load}
facts = json.load(open("engine.json", encoding="utf-8"))
tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.enable_truncation(facts["max_length"])
tokenizer.enable_padding(pad_id=facts["pad_id"])

def logits_of(texts):
    rows = tokenizer.encode_batch(texts)
    feed = {{"input_ids": [row.ids for row in rows], "attention_mask": [row.attention_mask for row in rows],
            "token_type_ids": [row.type_ids for row in rows]}}
    return rows, run({{name: np.array(feed[name]) for name in facts["inputs"]}})

def answers(texts):
"""
_SEQUENCES = """\
    _, logits = logits_of([tuple(text) if isinstance(text, list) else text for text in texts])
"""
# The texts in batches of neighbours by length: little padding, and memory for no more than these.
_REST = """

texts, found = json.load(sys.stdin), {}
order = sorted(range(len(texts)), key=lambda number: len(str(texts[number])))
for begin in range(0, len(order), 16):
    batch = order[begin : begin + 16]
    found.update(zip(batch, answers([texts[number] for number in batch])))
print(json.dumps([found[number] for number in range(len(texts))]))
"""
_LOAD = {
    "onnx": """\
import onnxruntime
session = onnxruntime.InferenceSession("{file}")
run = lambda feed: session.run(None, feed)[0]""",
    "openvino": """\
import openvino
model = openvino.compile_model("{file}", "CPU", {{"INFERENCE_PRECISION_HINT": "f32"}})
run = lambda feed: model(feed)[0]""",
}
_END = {
    "classify": """\
    return [facts["labels"][number] for number in logits.argmax(-1)]""",
    "multilabel": """\
    return [[label for label, value in zip(facts["labels"], row) if value >= 0] for row in logits]""",
    "regress": """\
    return logits[:, 0].tolist()""",
    # A piece's last character says which word it is of, since its first may be the space before; the scores
    # of a word are those of its first piece.
    "tag": """\
    cut = [list(re.finditer(r"{token}", text)) for text in texts]  # as in training
    rows, logits = logits_of([" ".join(word.group() for word in words) for words in cut])
    return [tagged(*one) for one in zip(cut, rows, logits)]

def tagged(words, row, logits):
    places = [word.span() for word in words for _ in range(len(word.group()) + 1)]
    first = {}
    for (_, end), scores in zip(row.offsets, logits):
        if end:
            first.setdefault(places[end - 1], scores)
    return [[*place, facts["labels"][tag]] for place, tag in zip(first, best_valid(list(first.values())))]

def best_valid(scores):
    # Of all rows of tags in which an I- continues its own type the one with the greatest sum (Viterbi).
    labels = facts["labels"]
    inner = [facts["iob2"] and label[:2] == "I-" and "B" + label[1:] in labels for label in labels]
    breaks = [
        [inside and label[2:] != last for inside, label in zip(inner, labels)]
        for last in ["", *(label[2:] for label in labels)]
    ]
    cost = np.where(breaks, -np.inf, 0.0)
    total, origins = cost[0], []
    for number, row in enumerate(scores):
        paths = total[:, None] + cost[1:] if number else cost[:1]
        origins.append(paths.argmax(0))
        total = paths.max(0) + row
    best = [total.argmax()]
    for origin in origins[:0:-1]:
        best.append(origin[best[-1]])
    return best[::-1]""".replace("{token}", TOKEN.pattern),
}
_SAYS = {
    "classify": "the label of each text",
    "multilabel": "the labels of each text",
    "regress": "the score of each text",
    "tag": "for each word of each text its first character, the one after its last, and its tag; texts "
    "longer than the model reads are cut (Wellread takes windows)",
}


def script(facts: dict[str, Any], engine: str) -> str:
    """The lines that run one engine of a folder, JSON list of texts (or pairs) in, JSON list out."""
    load = _LOAD[engine].format(file=facts["engines"][engine]["file"])
    words = facts["kind"] == "tag"
    begin = _BEGIN.format(load=load, regex="re, " if words else "")
    return begin + ("" if words else _SEQUENCES) + _END[facts["kind"]] + _REST


def text(facts: dict[str, Any]) -> str:
    """The section of a README about the engines of a folder."""
    first = next(iter(facts["engines"]))
    parts = [
        "# A model to deploy",
        "",
        f"A fine-tuned model for {facts['kind']}; up to {facts['max_length']} tokens.",
    ]
    parts += ["", "| engine | format | file | MB |", "|---|---|---|---|"]
    for name, one in facts["engines"].items():
        parts.append(f"| {name} | {one['format']} | {one['file']} | {one['bytes'] / 1e6:.1f} |")
    parity = facts["parity"]
    parts += [
        "",
        f"In floating point the graph gives the model's logits over {parity['shapes']} shapes of batches; "
        f"the largest difference is {parity['largest_difference']:.1e} "
        f"({parity['tolerance']:.1e} is allowed).",
    ]
    for name, one in facts["engines"].items():
        if one["int8"]:
            parts += ["", f"{name} computes in 8-bit integers. {_agreement(one['agreement'])}"]
    parts += [
        "",
        f"    echo 'A text.' | wellread predict FOLDER --engine {first}",
        "",
        f"Without Wellread and torch: `pip install {_packages(facts, first)}`, then `python ../script.py` "
        "in this folder, a JSON list of texts (or pairs) on standard input, gives "
        f"{_SAYS[facts['kind']]}. Save the script beside the folder, not in it: Wellread refuses a folder "
        "with a file that manifest.json does not name.",
        "",
        "```python",
        script(facts, first).rstrip(),
        "```",
    ]
    return "\n".join(parts) + "\n"


def _packages(facts: dict[str, Any], engine: str) -> str:
    """What to install, in the versions with which the folder was made as far as it tells them."""
    versions = facts["engines"][engine]["versions"]
    names = (RUNTIMES[engine], "tokenizers", "numpy")
    return " ".join(f"{name}=={versions[name]}" if name in versions else name for name in names)


def _agreement(found: dict[str, Any] | None) -> str:
    if found is None:
        return "How far it agrees with floating point was not measured: no labelled data were given."
    return (
        f"On {found['examples']} {found['split']} examples its decisions agree with floating point in "
        f"{found['agreement']:.2%}; {found['metric']} is {found['score']:.2f}, in floating point "
        f"{found['reference_score']:.2f}."
    )
