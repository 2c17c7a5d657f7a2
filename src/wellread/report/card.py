"""model_card.md: what a model is for, what it was made from, how good it is and what it is not, in numbers.

The front matter is what model hubs read; the same text serves as README.md of an exported model.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from wellread import files
from wellread.errors import UserError
from wellread.report import numbers, results, words
from wellread.report.gather import RunFacts, gather
from wellread.report.results import Score
from wellread.report.weaknesses import weaknesses

# ISO 639-2 as in the corpus to the two letters that model hubs expect.
LANGUAGES = {
    "eng": "en", "ger": "de", "deu": "de", "fre": "fr", "fra": "fr", "spa": "es", "ita": "it", "por": "pt",
    "rus": "ru", "jpn": "ja", "chi": "zh", "zho": "zh", "dut": "nl", "nld": "nl", "pol": "pl", "tur": "tr",
}  # fmt: skip
# Kind of task: pipeline of transformers, and its class.
PIPELINES = {
    "classify": ("text-classification", "AutoModelForSequenceClassification"),
    "multilabel": ("text-classification", "AutoModelForSequenceClassification"),
    "regress": ("text-classification", "AutoModelForSequenceClassification"),
    "tag": ("token-classification", "AutoModelForTokenClassification"),
}
MOST_LANGUAGES = 5


def write(run: Path, folder: Path) -> None:
    """Write ``folder/model_card.md`` about the main model of a run.

    Raises:
        ArtefactError, RecipeError: as :func:`wellread.report.gather.gather`.
    """
    files.write_bytes(Path(folder) / "model_card.md", card(gather(run)).encode())


def card(facts: RunFacts, task: str | None = None, model: str | None = None, head: str = "") -> str:
    """The card of the pre-trained model, or of the model fine-tuned on ``task``.

    Args:
        facts: of the run.
        task: on which it was fine-tuned.
        model: variant or checkpoint; default the main variant.
        head: with which it answers, where that is none of transformers' own.

    Raises:
        UserError: the run has no scores of such a task.
    """
    name = model or facts.recipe.variant_names()[0]
    facts = replace(facts, variants=[one for one in facts.variants if one.name == name])
    parts = [
        _front_matter(facts, task, name),
        f"# {_title(facts, task)}\n",
        _text(facts.recipe.description),
        words.built(facts) + "\n" if facts.main else f"The checkpoint {_text(name).strip()}, fine-tuned.\n",
        _uses(facts, task),
        _loading(facts, task, name, head),
        _data(facts) if facts.main else "",
        _training(facts),
        _finetuning(facts, task, name),
        _evaluation(facts, task),
        _limitations(facts),
        _provenance(facts),
    ]
    return "\n".join(part for part in parts if part)


def _title(facts: RunFacts, task: str | None) -> str:
    return f"{_text(facts.recipe.name)}: {_text(task)}".strip() if task else _text(facts.recipe.name).strip()


def _text(text: str) -> str:
    """Words of a user on one line of Markdown, in which no sign makes HTML or a table."""
    plain = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;").replace("|", "\\|")
    return plain + "\n" if plain else ""


def _pipeline(facts: RunFacts, task: str | None) -> tuple[str, str]:
    """Pipeline tag and class to load with."""
    if task:
        if task not in facts.summary:
            raise UserError(
                f"the run has no scores of a task {task!r}",
                fix=f"one of: {', '.join(facts.summary) or 'none'}",
            )
        return PIPELINES[facts.summary[task]["kind"]]
    causal = facts.recipe.model_for(facts.recipe.variant_names()[0]).causal
    return ("text-generation", "AutoModelForCausalLM") if causal else ("fill-mask", "AutoModelForMaskedLM")


def _front_matter(facts: RunFacts, task: str | None, model: str) -> str:
    """YAML in which every value is also JSON, so that no name can break out of its place."""
    known = (facts.corpus or {}).get("languages") or {}
    ordered = sorted(known, key=lambda code: (-known[code], code))
    spoken = [LANGUAGES.get(code, code) for code in ordered if code != "not stated"][:MOST_LANGUAGES]
    metrics = sorted({entry["metric"] for entry in facts.summary.values()})
    lines = {
        "library_name": "transformers",
        "license": "other",
        "license_name": "chosen-by-whoever-publishes",
        "language": spoken or ["und"],
        "pipeline_tag": _pipeline(facts, task)[0],
        "tags": ["wellread", *(["sparse-pretraining"] if facts.main and facts.main.sparse else [])],
        "metrics": metrics,
        "model-index": [{"name": facts.recipe.name, "results": _index(facts, task, model)}],
    }
    body = "\n".join(
        f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in lines.items() if value
    )
    return f"---\n{body}\n---\n"


def _index(facts: RunFacts, wanted: str | None, model: str) -> list[dict[str, Any]]:
    """The model's scores with the most labels, as model hubs list them."""
    found = []
    for task, one in _scores_of(facts, model).items():
        if wanted in (None, task):
            kind = PIPELINES[facts.summary[task]["kind"]][0]
            metric = {
                "type": one.metric,
                "value": one.mean,
                "args": {"labels": one.labels, "seeds": len(one.seeds)},
            }
            found.append(
                {
                    "task": {"type": kind},
                    "dataset": {"name": task, "type": task, "split": "test"},
                    "metrics": [metric],
                }
            )
    return found


def _scores_of(facts: RunFacts, model: str) -> dict[str, Score]:
    found = {}
    for task, groups in results.scores(facts).items():
        main = results.main_score(facts, groups, results.amounts(groups)[-1], model) if groups else None
        if main:
            found[task] = main
    return found


def _uses(facts: RunFacts, task: str | None) -> str:
    if task:
        labels = [_text(label).strip() for label in facts.summary[task].get("labels", [])]
        told = f" Its labels: {', '.join(labels)}." if 0 < len(labels) <= 40 else ""
        text = (
            f"Predictions for the task “{_text(task).strip()}” on texts like those it was trained on.{told}"
        )
    else:
        text = "A start for fine-tuning on tasks of the same field, with few labels or many."
    return (
        f"## Intended use\n\n{text} It is a research artefact: it has not been validated for decisions about "
        "people, in particular not for diagnosis or treatment.\n"
    )


def _loading(facts: RunFacts, task: str | None, model: str, head: str) -> str:
    pipeline, loader = _pipeline(facts, task)
    folder = f"stages/finetune/{task}/{model}/model" if task else f"stages/pretrain/{model}/model"
    if head:
        return f"""## How to load it

In the run folder the model lies in `{folder}`; `wellread export` copies it anywhere. It answers by the head
`{head}`, which plain `transformers` does not have: there it loads, but gives no answers of use.

```
wellread predict FOLDER --input FILE
```
"""
    sample = {
        "fill-mask": 'print(predict(f"The results show a {tokenizer.mask_token}."))',
        "text-generation": 'print(predict("The results show", max_new_tokens=20))',
    }.get(pipeline, 'print(predict("A sentence of the field."))')
    return f"""## How to load it

Plain `transformers`; Wellread need not be installed. In the run folder the model lies in
`{folder}`; `wellread export` copies it anywhere.

```python
from transformers import AutoTokenizer, {loader}, pipeline

folder = "{folder}"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = {loader}.from_pretrained(folder)
predict = pipeline("{pipeline}", model=model, tokenizer=tokenizer)
{sample}
```
"""


def _data(facts: RunFacts) -> str:
    known = facts.corpus
    if not known:
        return ""
    lines = [
        f"- Sources: {_counted(known.get('sources') or {})}.",
        f"- Documents: {numbers.whole(known.get('kept', 0))} kept of "
        f"{numbers.whole(known.get('documents_read', 0))} read.",
        f"- Words: {numbers.whole(known.get('words', 0))}.",
        f"- Languages, as stated: {_counted(known.get('languages') or {})}.",
        f"- Licences, as stated: {_counted(known.get('licences') or {})}.",
        f"- Duplicates left out: {_counted(known.get('duplicates') or {})}.",
    ]
    if facts.documents.get("train"):
        lines.append(
            f"- Pre-trained on {numbers.whole(facts.documents['train'])} of them; those behind dev and test "
            "examples of derived tasks were left out."
        )
    return "## Data\n\n" + "\n".join(lines) + "\n"


def _counted(counts: dict[str, int], most: int = 6) -> str:
    ordered = sorted(((name, n) for name, n in counts.items() if n), key=lambda item: (-item[1], item[0]))
    shown = [f"{_text(name).strip()} {numbers.whole(count)}" for name, count in ordered[:most]]
    if len(ordered) > most:
        shown.append(f"{len(ordered) - most} others {numbers.whole(sum(n for _, n in ordered[most:]))}")
    return ", ".join(shown) or "none"


def _training(facts: RunFacts) -> str:
    main = facts.main
    if main is None:
        return ""
    how, counted = main.settings, main.facts.get("flops") or {}
    ratio = words.flops_ratio(main)
    lines = [
        f"- Model: {words.describe(main)} ({main.model.layers} layers of width {main.model.hidden}).",
        f"- Objective: {main.facts.get('objective')}; {how.optimizer}, peak rate {how.learning_rate:g}.",
        f"- Read: {numbers.whole(main.facts.get('tokens', 0))} tokens in "
        f"{numbers.whole(main.facts.get('steps', 0))} steps.",
    ]
    if main.facts.get("loss") is not None:
        lines.append(f"- Last validation loss: {main.facts['loss']:.4f} nats per predicted token.")
    if counted.get("accounted"):
        more = (
            f", {numbers.flops(counted['dense'])} as if dense ({ratio:.2f}×)"
            if ratio and ratio > 1.005
            else ""
        )
        lines.append(f"- FLOPs, accounted: {numbers.flops(counted['accounted'])}{more}; a count, not a time.")
    if main.timing:
        lines.append(
            f"- Time: {numbers.duration(main.timing[-1]['seconds'])} {_on(facts)}.".replace(" .", ".")
        )
    return "## Training\n\n" + "\n".join(lines) + "\n"


def _finetuning(facts: RunFacts, task: str | None, model: str) -> str:
    """Which weights were trained on the task."""
    if task is None or task not in facts.recipe.tasks:
        return ""
    how = facts.recipe.finetune_for(task, model)
    told = f"by {how.light.method}" if how.light.keeps_weights else "every weight trained"
    if not how.light.frozen:
        told += f", with a {how.light.method}"
    if how.freeze_layers is not None:
        told += f", the embeddings and the lowest {numbers.plural(how.freeze_layers, 'layer')} frozen"
    return f"## Fine-tuning\n\nDense; {told}.\n"


def _on(facts: RunFacts) -> str:
    where = words.machine(facts)
    return f"on {where}" if where else ""


def _evaluation(facts: RunFacts, wanted: str | None) -> str:
    lines = []
    for task, groups in results.scores(facts).items():
        if wanted not in (None, task):
            continue
        for labels in results.amounts(groups):
            here = results.at(groups, labels)
            marks = results.ranks(here)
            for one in here:
                name = _text(results.name(one, facts)).strip()
                score = words.score_text(one)
                told = {"best": f"**{score}**", "tied": f"{score} ≈"}.get(marks.get(one.key, ""), score)
                failed = f", {one.failed} failed" if one.failed else ""
                cells = [
                    _text(task).strip(),
                    numbers.metric_name(one.metric),
                    numbers.whole(labels),
                    name,
                    told,
                ]
                lines.append(f"| {' | '.join(cells)} | {len(one.seeds)}{failed} |")
    if not lines:
        return ""
    head = "| task | metric | labels | model | test score | seeds |\n|---|---|--:|---|--:|--:|\n"
    note = (
        "\nMeans over seeds with 95% bootstrap intervals over test examples. Bold: the interval is above "
        "all others with as many labels; ≈: cannot be told from the highest mean.\n"
    )
    return "## Evaluation\n\n" + head + "\n".join(lines) + "\n" + note


def _limitations(facts: RunFacts) -> str:
    lines = [f"- {_text(text).strip()}" for statements in weaknesses(facts).values() for text in statements]
    return "## Limitations\n\n" + ("\n".join(lines) or "- None that the numbers of the run call for.") + "\n"


def _provenance(facts: RunFacts) -> str:
    lines = [f"- recipe.toml: SHA-256 {facts.recipe_sha256}"]
    lines += [f"- {name}: SHA-256 {value}" for name, value in facts.inputs.items()]
    if facts.run.get("commit"):
        lines.append(f"- code: commit {facts.run['commit']}")
    libraries = facts.run.get("libraries") or {}
    if libraries:
        lines.append("- " + ", ".join(f"{name} {version}" for name, version in libraries.items()))
    return "## Provenance\n\n" + "\n".join(lines) + "\n"
