"""``data check``: every planted fault is found at its file and line, all in one go, and no text is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from wellread.errors import DataError
from wellread.tasks.check import SHOWN, Finding, check, to_dict, to_text
from wellread.tasks.read import read_task, write_task

WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "jumps",
    "over",
    "some",
    "lazy",
    "dog",
    "while",
    "many",
    "other",
    "animals",
    "look",
    "on",
    "from",
    "afar",
    "today",
]


def row(number: int, label: str = "", **values: object) -> dict:
    text = " ".join(f"{word}{number}" for word in WORDS)
    return {"id": f"i{number}", "text": text, "label": label or "ab"[number % 2]} | values


def put(folder: Path, **splits: list) -> Path:
    folder.mkdir(exist_ok=True)
    for split, made in splits.items():
        lines = [one if isinstance(one, str) else json.dumps(one) for one in made]
        (folder / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def clean(**change: list) -> dict[str, list]:
    splits = {
        "train": [row(n) for n in range(60)],
        "dev": [row(n) for n in range(100, 160)],
        "test": [row(n) for n in range(200, 260)],
    }
    for split, extra in change.items():
        splits[split] = splits[split] + extra
    return splits


def found(folder: Path, what: str) -> list[Finding]:
    return [finding for finding in check(folder) if what in finding.what]


def places(findings: list[Finding]) -> list[str]:
    return [finding.where.rsplit("/", 1)[-1] for finding in findings]


def test_a_clean_folder_has_no_findings(tmp_path: Path) -> None:
    assert check(put(tmp_path / "t", **clean())) == []
    assert to_text([]) == "no problems found"
    write_task(read_task(tmp_path / "t"), tmp_path / "u")
    assert check(tmp_path / "u") == []


NEAR = " ".join(f"{word}5" for word in WORDS[:-1]) + " yesterday"
FAULTS = [
    ({"dev": [row(160, "c")]}, "the label 'c' is not seen in train", "error", "dev.jsonl:61"),
    (
        {"test": [row(260, "A")]},
        "the label 'A' is not seen in train (is 'a' meant?)",
        "error",
        "test.jsonl:61",
    ),
    (
        {"train": [row(60, "A ")], "dev": []},
        "the labels 'A' (1) and 'a' (30) look alike",
        "warning",
        "train.jsonl:61",
    ),
    ({"train": [row(60, "c")]}, "the label 'c' has 1 training example(s)", "warning", "train.jsonl:61"),
    ({"test": [row(3, id="x")]}, "(train) again: test is no fair test", "error", "test.jsonl:61"),
    ({"dev": [row(3, "a", id="x")]}, "(train) again, with another label", "error", "dev.jsonl:61"),
    ({"test": [row(9, text=row(9)["text"].upper(), id="x")]}, "(train) again", "error", "test.jsonl:61"),
    ({"train": [row(4, id="x")]}, "train.jsonl:5 again", "warning", "train.jsonl:61"),
    ({"train": [row(4, "b", id="x")]}, "train.jsonl:5 again with another label", "error", "train.jsonl:61"),
    ({"test": [row(260, text=NEAR)]}, "nearly the text of", "warning", "test.jsonl:61"),
    ({"train": [row(4, id="i7", text="new")]}, "the id of", "error", "train.jsonl:61"),
    ({"train": [row(60, text="")]}, "`text` is empty", "error", "train.jsonl:61"),
    ({"train": [row(60, label=1)]}, "the label is a int where the first is a str", "error", "train.jsonl:61"),
    ({"train": ["{broken"]}, "not valid JSON", "error", "train.jsonl:61"),
    ({"train": [{"text": "no label"}]}, "no label in a task of kind classify", "error", "train.jsonl:61"),
    ({"train": [row(60, text="long " * 1001)]}, "1001 words", "warning", "train.jsonl:61"),
    (
        {"train": [row(60, doc="d")], "test": [row(260, doc="d")]},
        "from the same document",
        "warning",
        "test.jsonl:61",
    ),
]


@pytest.mark.parametrize(("change", "what", "severity", "where"), FAULTS)
def test_a_planted_fault_is_found_at_its_line(
    tmp_path: Path, change: dict, what: str, severity: str, where: str
) -> None:
    findings = found(put(tmp_path / "t", **clean(**change)), what)
    assert places(findings) == [where]
    assert findings[0].severity == severity and findings[0].fix


def test_many_faults_are_found_together(tmp_path: Path) -> None:
    change = {
        "train": ["{broken", row(60, text=" "), {**row(61), "label": None}, row(4, id="x"), row(62)],
        "dev": [row(160, "c"), "[]", row(161, "d")],
        "test": [row(62, id="y")],
    }
    findings = check(put(tmp_path / "t", **clean(**change)))
    wanted = {"train.jsonl:61", "train.jsonl:62", "train.jsonl:63", "train.jsonl:64"}
    assert set(places(findings)) == wanted | {"dev.jsonl:61", "dev.jsonl:62", "dev.jsonl:63", "test.jsonl:61"}
    severities = [finding.severity for finding in findings]
    assert severities == sorted(severities)  # "error" < "note" < "warning" holds here: there are no notes
    assert to_text(findings).endswith("7 errors, 1 warning")
    assert json.loads(json.dumps([to_dict(finding) for finding in findings]))[0]["severity"] == "error"


def test_texts_are_never_told(tmp_path: Path) -> None:
    secret = "Zanzibar"
    change = {
        "train": [
            row(60, text=f"{secret} \ud800"),
            f'{{"text": "{secret}',
            row(61, text=f"{secret} x", label=[secret]),
        ],
        "dev": [row(160, text=f"{secret} one two three")],
        "test": [row(260, text=f"{secret} one two three"), row(261, text=5, doc=secret)],
    }
    assert secret not in to_text(check(put(tmp_path / "t", **clean(**change))))


def tagged(number: int, *spans: object) -> dict:
    return {"id": f"i{number}", "text": " ".join(f"{word}{number}" for word in WORDS), "spans": list(spans)}


def span(start: int, end: int, label: str = "Gene") -> dict:
    return {"start": start, "end": end, "label": label}


@pytest.mark.parametrize(
    ("bad", "what"),
    [
        (tagged(60, span(0, 9), span(5, 12)), "the spans 0-9 and 5-12 overlap"),
        (tagged(60, span(0, 999)), "the span 0-999 lies outside the text of"),
        (tagged(60, span(5, 2)), "lies outside"),
        (tagged(60, {"start": 0, "end": 3}), "a span lacks"),
        (tagged(60, span(0, 4, "gene")), "the labels 'gene' (1) and 'Gene' (60) look alike"),
        (tagged(60, span(0, 4, "Protein")), "the label 'Protein' has 1 training example(s)"),
    ],
)
def test_spans(tmp_path: Path, bad: dict, what: str) -> None:
    good = {
        "train": [tagged(n, span(0, 4)) for n in range(60)],
        "dev": [tagged(n, span(0, 4)) for n in range(100, 160)],
        "test": [tagged(n, span(0, 4)) for n in range(200, 260)],
    }
    assert [finding for finding in check(put(tmp_path / "a", **good)) if finding.severity != "note"] == []
    good["train"] = [*good["train"], bad]
    assert places(found(put(tmp_path / "b", **good), what)) == ["train.jsonl:61"]


def test_tag_labels_of_other_splits(tmp_path: Path) -> None:
    for name in ("train", "dev", "test"):
        tags = "B-Disease" if name != "dev" else "B-Diseese"
        lines = [f"word{name}{n}\t{tags}\nend{name}{n}\tO\n" for n in range(60)]
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines))
    findings = found(tmp_path, "'Diseese' is not seen in train (is 'Disease' meant?)")
    assert places(findings)[:2] == ["dev.tsv:1", "dev.tsv:4"]
    assert len(findings) == SHOWN
    assert found(tmp_path, "40 more of the kind")


def test_labels_of_task_toml(tmp_path: Path) -> None:
    folder = put(tmp_path / "t", **clean())
    (folder / "task.toml").write_text('kind = "classify"\nlabels = ["a", "B"]\n')
    assert places(found(folder, "the label 'b' is not in task.toml (is 'B' meant?)"))[0] == "train.jsonl:2"


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    write_task(read_task(put(tmp_path / "t", **clean())), tmp_path / "u")
    with open(tmp_path / "u" / "dev.jsonl", "a", encoding="utf-8") as stream:
        stream.write(json.dumps(row(170)) + "\n")
    assert places(found(tmp_path / "u", "dev.jsonl has changed")) == ["task.toml"]


@pytest.mark.parametrize(
    ("splits", "what", "severity"),
    [
        ({"train": [row(n, "a") for n in range(60)]}, "1 label(s) in train", "error"),
        (
            {"train": [row(n, "b" if n == 1 else "a") for n in range(60)]},
            "98% of the training examples",
            "warning",
        ),
        ({"train": [row(n) for n in range(60)]}, "no dev file", "note"),
        ({"train": [row(n) for n in range(60)], "dev": [row(99)]}, "only 1 usable examples", "warning"),
        ({"train": [{"text": "x"}]}, "no row has a label", "error"),
        (
            {"train": [{"text": f"t{n}", "labels": []} for n in range(60)]},
            "no training example has a label",
            "error",
        ),
        ({"train": []}, "holds no examples", "error"),
        ({"dev": [row(1)]}, "no train file", "error"),
        (
            {"train": [{"text": f"t{n}", "score": 3} for n in range(9)]},
            "all training scores are equal",
            "error",
        ),
        ({"train": [{"text": "t", "score": float("nan")}]}, "not a finite number", "error"),
    ],
)
def test_whole_folders(tmp_path: Path, splits: dict, what: str, severity: str) -> None:
    folder = put(tmp_path / "t", **{split: made for split, made in splits.items() if made})
    for split, made in splits.items():
        if not made:
            (folder / f"{split}.jsonl").write_bytes(b"")
    assert [finding.severity for finding in found(folder, what)] == [severity]


def test_a_missing_folder(tmp_path: Path) -> None:
    [finding] = check(tmp_path / "absent")
    assert finding.severity == "error" and "no such folder" in finding.what


def table(folder: Path, *lines: str) -> Path:
    folder.mkdir()
    (folder / "train.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def test_two_kinds_of_label_in_a_row_are_refused_unless_one_is_chosen(tmp_path: Path) -> None:
    lines = [f"{' '.join(f'{word}{n}' for word in WORDS)},{'ab'[n % 2]},0.{n}" for n in range(60)]
    folder = table(tmp_path / "t", "text,label,score", *lines)
    [finding] = check(folder)
    assert "`label` and `score`" in finding.what and finding.where.endswith("train.csv:2")
    with pytest.raises(DataError, match="`label` and `score`"):
        read_task(folder)
    (folder / "task.toml").write_text('kind = "classify"\n')
    assert [one.severity for one in check(folder)] == ["note", "note"]
    assert read_task(folder).labels == ("a", "b")


@pytest.mark.parametrize(
    ("cells", "labels"),
    [
        (["a|b", "b"], ("a", "b")),
        (["\"['a', 'b']\"", "['b']"], ("a", "b")),
        (['"[""a"", ""b""]"', "[]"], ("a", "b")),
    ],
)
def test_several_labels_in_a_cell(tmp_path: Path, cells: list[str], labels: tuple[str, ...]) -> None:
    lines = [f"{' '.join(f'{word}{n}' for word in WORDS)},{cells[n % 2]}" for n in range(60)]
    assert read_task(table(tmp_path / "t", "text,labels", *lines)).labels == labels


@pytest.mark.parametrize(
    ("cells", "what", "severity"),
    [
        (['"a, b"', "b"], "'a, b' looks like several", "warning"),
        (["['a' 'b']", "b"], "`labels` is not a list", "error"),
        (["[a b]", "b"], "`labels` is not a list", "error"),
    ],
)
def test_what_is_no_list_of_labels(tmp_path: Path, cells: list[str], what: str, severity: str) -> None:
    lines = [f"{' '.join(f'{word}{n}' for word in WORDS)},{cells[n % 2]}" for n in range(60)]
    assert severity in {one.severity for one in found(table(tmp_path / "t", "text,labels", *lines), what)}


def test_scores_that_are_called_labels(tmp_path: Path) -> None:
    lines = [f"{' '.join(f'{word}{n}' for word in WORDS)},{n / 8}" for n in range(60)]
    assert found(table(tmp_path / "t", "text,label", *lines), "60 different numbers")[0].severity == "error"
    stars = [f"{' '.join(f'{word}{n}' for word in WORDS)},{n % 5 + 1}" for n in range(60)]
    assert not found(table(tmp_path / "u", "text,label", *stars), "different numbers")


def test_a_class_that_a_split_lacks_and_a_file_of_no_split(tmp_path: Path) -> None:
    splits = clean(train=[row(n, "c") for n in range(300, 312)])
    folder = put(tmp_path / "t", **splits, holdout=[row(1)])
    assert {one.severity for one in found(folder, "no dev example has the label 'c'")} == {"warning"}
    assert [one.where for one in found(folder, "no split by its name")] == [str(folder / "holdout.jsonl")]
    (folder / "dev.jsonl").rename(folder / "val.jsonl")
    assert not found(folder, "no dev file")


def test_entity_types_of_task_toml_may_be_plain(tmp_path: Path) -> None:
    tagged = [{"tokens": row(n)["text"].split(), "tags": ["B-Drug", *["O"] * 17]} for n in range(60)]
    for names in ('["Drug"]', '["O", "B-Drug", "I-Drug"]'):
        folder = put(tmp_path / "t", train=tagged)
        (folder / "task.toml").write_text(f'kind = "tag"\nlabels = {names}\n')
        assert not found(folder, "not in task.toml")
        assert read_task(folder).labels == ("O", "B-Drug", "I-Drug")


def test_questions_with_one_stem_and_other_options_are_two(tmp_path: Path) -> None:
    def asked(number: int, label: str) -> dict:
        options = [f"drug {number}", f"gene {number}"]
        return {"text": "Which of the following is true?", "options": options, "label": label}

    folder = put(tmp_path / "q", train=[asked(number, "AB"[number % 2]) for number in range(60)])
    assert not found(folder, "again")
