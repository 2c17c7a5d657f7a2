"""Write the small made-up data sets of the how-to pages: ``python docs/how-to/data/make.py``.

All sentences are put together from lists of phrases by chance with a fixed seed; nobody wrote or is described
by them.  They are easy: the pages show commands, not how good a model is.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

HERE = Path(__file__).parent
DRUGS = [
    "metoprolol",
    "ibuprofen",
    "omeprazole",
    "warfarin",
    "insulin",
    "amoxicillin",
    "prednisone",
    "gabapentin",
    "gabapentin",
    "furosemide",
    "lisinopril",
    "atorvastatin",
    "levetiracetam",
    "methotrexate",
    "salbutamol",
]
PEOPLE = [
    "A 54-year-old man",
    "A 31-year-old woman",
    "The patient",
    "A 70-year-old woman",
    "A 12-year-old boy",
]
TIMES = [
    "for two days",
    "since last week",
    "for three months",
    "after a fall",
    "since this morning",
    "at night",
]
NOTES = {
    "cardiology": {
        "complains of": ["chest tightness", "palpitations", "swollen ankles", "breathlessness on stairs"],
        "found": [
            "an irregular pulse",
            "a systolic murmur",
            "ST depression in lateral leads",
            "a raised troponin",
        ],
        "plan": ["echocardiogram", "24-hour ECG", "start of a beta blocker", "coronary angiography"],
    },
    "orthopaedics": {
        "complains of": ["knee pain", "a stiff shoulder", "pain in the lower back", "a swollen wrist"],
        "found": [
            "limited flexion",
            "a positive drawer test",
            "a distal fracture",
            "tenderness over the joint line",
        ],
        "plan": ["plain radiographs", "a cast for six weeks", "physiotherapy", "MRI of the joint"],
    },
    "gastroenterology": {
        "complains of": ["heartburn", "abdominal cramps", "loose stools", "difficulty swallowing"],
        "found": [
            "epigastric tenderness",
            "raised liver enzymes",
            "occult blood in stool",
            "a distended abdomen",
        ],
        "plan": ["gastroscopy", "a proton pump inhibitor", "colonoscopy", "ultrasound of the abdomen"],
    },
    "neurology": {
        "complains of": ["headache with flashes", "numb fingers", "two seizures", "an unsteady gait"],
        "found": [
            "brisk reflexes",
            "a left facial droop",
            "reduced vibration sense",
            "nystagmus to the right",
        ],
        "plan": ["EEG", "MRI of the head", "nerve conduction studies", "a trial of an antiepileptic"],
    },
}
ACTIONS = ["was started on", "was switched from {} to", "stopped taking", "was given", "tolerates"]
CLAIMS = [
    (
        "{drug} lowers blood pressure",
        "patients on {drug} had lower blood pressure than those on placebo",
        "no difference in blood pressure was seen between {drug} and placebo",
    ),
    (
        "{drug} reduces pain",
        "pain scores fell by half in the {drug} group",
        "pain scores were the same with {drug} and without",
    ),
    (
        "{drug} causes nausea",
        "nausea was twice as frequent under {drug}",
        "nausea was equally rare in both groups, {drug} or not",
    ),
    (
        "{drug} shortens hospital stay",
        "the {drug} group left hospital two days earlier",
        "length of stay did not change with {drug}",
    ),
]


def notes(draw: random.Random, count: int) -> list[dict]:
    """A note and the ward that it belongs to."""
    rows = []
    for number in range(count):
        label = list(NOTES)[number % len(NOTES)]
        told = {part: draw.choice(phrases) for part, phrases in NOTES[label].items()}
        person, time = draw.choice(PEOPLE), draw.choice(TIMES)
        text = f"{person} complains of {told['complains of']} {time}. "
        text += f"On examination {told['found']}. Plan: {told['plan']}."
        rows.append({"text": text, "label": label})
    return rows


def drugs(draw: random.Random, count: int) -> list[dict]:
    """A sentence and the drugs in it."""
    rows = []
    for _ in range(count):
        action, drug, other = draw.choice(ACTIONS), *draw.sample(DRUGS, 2)
        begin = f"{draw.choice(PEOPLE)} {action.format(other)} "
        text = f"{begin}{drug} {draw.choice(TIMES)}."
        spans = [{"start": len(begin), "end": len(begin) + len(drug), "label": "Drug"}]
        if "{}" in action:
            first = text.index(other)
            spans.insert(0, {"start": first, "end": first + len(other), "label": "Drug"})
        rows.append({"text": text, "spans": spans})
    return rows


def similarity(draw: random.Random, count: int) -> list[dict]:
    """4 the same, 3 another person, 2 another finding, 1 the same field, 0 another field."""
    rows = []
    for number in range(count):
        score, (label, other) = number % 5, draw.sample(list(NOTES), 2)
        person, second = draw.sample(PEOPLE, 2)
        complaint, different = draw.sample(NOTES[label]["complains of"], 2)
        found, changed = draw.sample(NOTES[label]["found"], 2)
        first = f"{person} has {complaint} and {found}."
        pair = {
            4: f"{complaint.capitalize()} and {found} were noted in {person[0].lower()}{person[1:]}.",
            3: f"{second} has {complaint} and {found}.",
            2: f"{second} has {complaint} and {changed}.",
            1: f"{second} has {different} and {changed}.",
            0: f"{second} needs {draw.choice(NOTES[other]['plan'])}.",
        }[score]
        rows.append({"text": first, "text_pair": pair, "score": float(score)})
    return rows


def questions(draw: random.Random, count: int) -> list[dict]:
    """A question, a finding, and whether it says yes."""
    rows = []
    for number in range(count):
        claim, yes, no = draw.choice(CLAIMS)
        drug, answer = draw.choice(DRUGS), ("yes", "no")[number % 2]
        told = (yes if answer == "yes" else no).format(drug=drug)
        question = f"Is it true that {claim.format(drug=drug)}?"
        text = f"In {draw.randrange(40, 400)} patients followed {draw.choice(TIMES)}, {told}."
        rows.append({"text": question, "text_pair": text, "label": answer})
    return rows


def main() -> None:
    """Write all four."""
    for name, make, count in (
        ("notes", notes, 200),
        ("drugs", drugs, 200),
        ("similar", similarity, 200),
        ("questions", questions, 200),
    ):
        rows, seen = [], set()
        for row in make(random.Random(name), 4 * count):
            key = (row["text"], row.get("text_pair"))
            if key not in seen and len(rows) < count:
                seen.add(key)
                rows.append(row)
        (HERE / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
