"""README.md of an exported folder: what it holds, and ten lines that run it without Wellread and torch."""

from __future__ import annotations

from typing import Any

_BEGIN = """\
import json, sys
import numpy as np
from tokenizers import Tokenizer
{load}
facts = json.load(open("engine.json", encoding="utf-8"))
tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.enable_truncation(facts["max_length"])
tokenizer.enable_padding(pad_id=facts["pad_id"])
texts = json.load(sys.stdin)
rows = tokenizer.encode_batch([tuple(text) if isinstance(text, list) else text for text in texts])
feed = {{"input_ids": [row.ids for row in rows], "attention_mask": [row.attention_mask for row in rows],
        "token_type_ids": [row.type_ids for row in rows]}}
logits = run({{name: np.array(feed[name]) for name in facts["inputs"]}})
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
    "classify": 'print(json.dumps([facts["labels"][number] for number in logits.argmax(-1)]))',
    "multilabel": """\
print(json.dumps([[label for label, value in zip(facts["labels"], row) if value >= 0] for row in logits]))""",
    "regress": "print(json.dumps(logits[:, 0].tolist()))",
    "tag": """\
print(json.dumps([[[*place, facts["labels"][number]] for place, number in zip(row.offsets, best) if place[1]]
                  for row, best in zip(rows, logits.argmax(-1))]))""",
}
_SAYS = {
    "classify": "the label of each text",
    "multilabel": "the labels of each text",
    "regress": "the score of each text",
    "tag": "for each piece of each text its first character, the one after its last, and its tag; a word's "
    "tag is that of its first piece; texts longer than the model reads are cut (Wellread takes windows)",
}


def script(facts: dict[str, Any], engine: str) -> str:
    """The lines that run one engine of a folder, JSON list of texts (or pairs) in, JSON list out."""
    load = _LOAD[engine].format(file=facts["engines"][engine]["file"])
    return _BEGIN.format(load=load) + _END[facts["kind"]] + "\n"


def text(facts: dict[str, Any]) -> str:
    """The section of a README about the engines of a folder."""
    first = next(iter(facts["engines"]))
    package = {"onnx": "onnxruntime", "openvino": "openvino"}[first]
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
        f"Without Wellread and torch: `pip install {package} tokenizers numpy`, then in this folder, a "
        f"JSON list of texts (or pairs) on standard input, gives {_SAYS[facts['kind']]}:",
        "",
        "```python",
        script(facts, first).rstrip(),
        "```",
    ]
    return "\n".join(parts) + "\n"


def _agreement(found: dict[str, Any] | None) -> str:
    if found is None:
        return "How far it agrees with floating point was not measured: no labelled data were given."
    return (
        f"On {found['examples']} {found['split']} examples its decisions agree with floating point in "
        f"{found['agreement']:.2%}; {found['metric']} is {found['score']:.2f}, in floating point "
        f"{found['reference_score']:.2f}."
    )
