"""Task folders: round trips, formats, repairs, and what is refused."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wellread.errors import DataError
from wellread.tasks.examples import iob2_tags
from wellread.tasks.read import read_task, to_toml, write_task
from wellread.tasks.rows import Row, read_rows
from wellread.tasks.task import SPLITS, Example, Task

SECRET = "zanzibar"


def folder_of(path: Path, **splits: object) -> Path:
    """A folder with one file a split: a list of rows (jsonl), or bytes, or a string; key "name_ext"."""
    path.mkdir(exist_ok=True)
    for key, content in splits.items():
        name = key.replace("_", ".") if "_" in key else f"{key}.jsonl"
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        data = content.encode() if isinstance(content, str) else content
        (path / name).write_bytes(data)
    return path


def rows(number: int, labels: str = "ab", offset: int = 0) -> list[dict]:
    return [
        {"id": f"i{offset + i}", "text": f"text number {offset + i}", "label": labels[i % len(labels)]}
        for i in range(number)
    ]


def three(tmp_path: Path, **change: object) -> Path:
    splits = {"train": rows(6), "dev": rows(2, offset=10), "test": rows(2, offset=20), **change}
    return folder_of(tmp_path / "task", **splits)


words = st.text(
    st.characters(codec="utf-8", exclude_categories=["Cs", "Cc", "Zs", "Zl", "Zp"]), min_size=1, max_size=8
).filter(lambda word: word.strip() == word and word.split() == [word])


@st.composite
def tasks(draw: st.DrawFn) -> Task:
    kind = draw(st.sampled_from(["classify", "multilabel", "regress", "tag"]))
    names = sorted(draw(st.sets(words, min_size=2, max_size=4)))
    splits: dict[str, list[Example]] = {}
    for split in SPLITS:
        splits[split] = []
        for number in range(draw(st.integers(2, 4))):
            tokens = tuple(draw(st.lists(words, min_size=1, max_size=5)))
            text, label = " ".join(tokens), None
            if kind == "classify":
                label = names[number % len(names)]
            elif kind == "multilabel":
                label = tuple(sorted(draw(st.sets(st.sampled_from(names)))))
            elif kind == "regress":
                label = draw(st.floats(allow_nan=False, allow_infinity=False))
            else:
                marks = draw(st.lists(st.sampled_from("OBI"), min_size=len(tokens), max_size=len(tokens)))
                label = iob2_tags([m if m == "O" else f"{m}-{draw(st.sampled_from(names))}" for m in marks])
            splits[split].append(
                Example(
                    f"{split}{number}",
                    text,
                    label,
                    text_pair=draw(st.none() | words) if kind in ("classify", "regress") else None,
                    tokens=tokens if kind == "tag" else (),
                    doc=draw(st.sampled_from(["", "pmid:1", "d|ü"])),
                )
            )
    labels: tuple[str, ...] = tuple(names)
    if kind == "regress":
        labels = ("score",)
    elif kind == "tag":
        labels = ("O", *(f"{mark}-{name}" for name in names for mark in "BI"))
    metric = {"classify": "accuracy", "multilabel": "macro_f1", "regress": "spearman", "tag": "entity_f1"}[
        kind
    ]
    return Task("t", kind, labels, metric, splits, 'a "source"', "CC\\BY")


@settings(max_examples=60, deadline=None)
@given(task=tasks())
def test_what_is_written_is_read_again(task: Task, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("task")
    write_task(task, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    again = read_task(folder)
    assert again.splits == task.splits
    assert (again.name, again.kind, again.labels, again.metric) == ("t", task.kind, task.labels, task.metric)
    assert (again.source, again.licence) == (task.source, task.licence)
    write_task(again, folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@given(
    st.recursive(
        st.dictionaries(
            st.text(min_size=1, max_size=5), st.integers(-9, 9) | st.booleans() | st.text(max_size=5)
        ),
        lambda inner: st.dictionaries(st.text(min_size=1, max_size=4), inner, max_size=3),
        max_leaves=6,
    )
)
def test_toml_is_what_tomllib_reads(values: dict) -> None:
    import tomllib

    try:
        to_toml(values).encode()
    except UnicodeEncodeError:
        return  # lone surrogates never get so far
    assert tomllib.loads(to_toml(values)) == values


def test_counts_and_hashes_stand_in_task_toml(tmp_path: Path) -> None:
    import hashlib
    import tomllib

    write_task(read_task(three(tmp_path)), tmp_path / "out")
    told = tomllib.loads((tmp_path / "out" / "task.toml").read_text())
    assert told["counts"] == {"train": 6, "dev": 2, "test": 2}
    assert told["derived"] is False
    data = (tmp_path / "out" / "dev.jsonl").read_bytes()
    assert told["sha256"]["dev"] == hashlib.sha256(data).hexdigest()


def test_a_lone_train_file_is_cut_by_hash_and_says_so(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "t", train=rows(400))
    task = read_task(folder)
    assert task.facts["cut_from_train"] == ["dev", "test"]
    assert sum(len(task.splits[split]) for split in SPLITS) == 400
    assert 20 <= len(task.splits["dev"]) <= 60 and 20 <= len(task.splits["test"]) <= 60
    # Other rows beside them do not move an example into another split.
    more = read_task(folder_of(tmp_path / "u", train=rows(400) + rows(100, offset=400)))
    for split in SPLITS:
        ids = {example.id for example in more.splits[split]}
        assert {example.id for example in task.splits[split]} <= ids


def test_a_document_is_never_cut_in_two(tmp_path: Path) -> None:
    made = [{**row, "doc": f"d{index // 5}"} for index, row in enumerate(rows(300))]
    task = read_task(folder_of(tmp_path / "t", train=made))
    docs = {split: {example.doc for example in task.splits[split]} for split in SPLITS}
    assert (
        not docs["train"] & docs["test"]
        and not docs["dev"] & docs["test"]
        and not docs["train"] & docs["dev"]
    )


@pytest.mark.parametrize("number", [5, 8])
def test_a_tiny_train_file_still_gives_three_splits(tmp_path: Path, number: int) -> None:
    task = read_task(folder_of(tmp_path / "t", train=rows(number)))
    assert all(task.splits[split] for split in SPLITS)


def test_csv_tsv_and_jsonl_say_the_same(tmp_path: Path) -> None:
    made = [
        {"id": "1", "text": 'He said, "so"', "label": "a"},
        {"id": "2", "text": "two", "text_pair": "zwei", "label": "b"},
    ]
    header = "id,text,text_pair,label\n"
    csv_text = header + '1,"He said, ""so""",,a\n2,two,zwei,b\n'
    tsv_text = header.replace(",", "\t") + '1\tHe said, "so"\t\ta\n2\ttwo\tzwei\tb\n'
    other = {"dev": rows(2, offset=5), "test": rows(2, offset=7)}
    expected = read_task(folder_of(tmp_path / "j", train=made, **other)).splits
    assert read_task(folder_of(tmp_path / "c", train_csv=csv_text, **other)).splits == expected
    assert read_task(folder_of(tmp_path / "t", train_tsv=tsv_text, **other)).splits == expected


def test_tsv_as_spreadsheets_write_it_and_as_benchmarks_do(tmp_path: Path) -> None:
    """Quoted where a value holds quotes, tabs or line ends; else a quote is part of the text."""
    lines = [
        "text\tlabel",
        '"He said ""so"""\ta',
        '"two\tcells"\tb',
        '"two',
        'lines"\ta',
        'a 5" needle\tb',
        '"IL-2" is cut\ta',
    ]
    path = tmp_path / "train.tsv"
    path.write_text("\n".join([*lines, 'an "unclosed\ta\tthird', "last\tb"]) + "\n")
    found = list(read_rows(path))
    read = [(row.line, row.values["text"]) for row in found if isinstance(row, Row)]
    assert read == [
        (2, 'He said "so"'),
        (3, "two\tcells"),
        (4, "two\nlines"),
        (6, 'a 5" needle'),
        (7, '"IL-2" is cut'),
        (9, "last"),
    ]
    assert [str(row.where) for row in found if isinstance(row, DataError)] == [f"{path}:8"]


def test_multilabel_and_scores_from_tables(tmp_path: Path) -> None:
    text = "text,labels\none,b|a\ntwo,\nthree,b\n"
    task = read_task(folder_of(tmp_path / "m", train_csv=text, dev_csv=text, test_csv=text))
    assert task.kind == "multilabel" and task.labels == ("a", "b")
    assert [one.label for one in task.splits["train"]] == [("a", "b"), (), ("b",)]
    scored = "text,score\nx,1\ny,2.5\nz,-3e2\nw,0\nv,7\n"
    task = read_task(folder_of(tmp_path / "s", train_csv=scored))
    assert task.kind == "regress" and task.labels == ("score",)
    assert sorted(one.label for split in SPLITS for one in task.splits[split]) == [-300.0, 0.0, 1.0, 2.5, 7.0]


CONLL = "-DOCSTART- 77\n\nBRCA1\tB-Gene\ngene\tO\n\nIL\tI-Gene\n-\tI-Gene\n2\tI-Gene\n\n"


def test_conll_with_documents_and_repairs(tmp_path: Path) -> None:
    windows = CONLL.replace("\n", "\r\n")
    task = read_task(folder_of(tmp_path / "n", train_tsv=CONLL, dev_conll=CONLL, test_bio=windows))
    first, second = task.splits["train"]
    assert first.doc == "77" and first.tokens == ("BRCA1", "gene") and first.label == ("B-Gene", "O")
    assert second.label == ("B-Gene", "I-Gene", "I-Gene")
    assert task.labels == ("O", "B-Gene", "I-Gene") and task.metric == "entity_f1"
    assert task.facts["tags repaired to IOB2"] == 3
    assert [one.tokens for one in task.splits["test"]] == [one.tokens for one in task.splits["train"]]


def test_spans_become_tokens(tmp_path: Path) -> None:
    text = "The BRCA-1 gene."
    row = {"text": text, "spans": [{"start": 4, "end": 10, "label": "Gene"}]}
    widened = {
        "text": text,
        "spans": [{"start": 5, "end": 9, "label": "Gene"}, {"start": 9, "end": 10, "label": "X"}],
    }
    task = read_task(folder_of(tmp_path / "s", train=[row, widened], dev=[row], test=[row]))
    one, two = task.splits["train"]
    assert one.tokens == ("The", "BRCA", "-", "1", "gene", ".")
    assert one.label == ("O", "B-Gene", "I-Gene", "I-Gene", "O", "O")
    assert two.label == ("O", "B-Gene", "I-Gene", "B-X", "O", "O")
    assert task.facts["spans moved to token borders"] == 1
    assert one.text == "The BRCA - 1 gene ."


tags = st.lists(
    st.sampled_from(["O", "B-a", "I-a", "B-b", "I-b", "S-a", "E-b", "L-a", "U-b", "B", "I"]), max_size=12
)


@given(tags)
def test_repaired_tags_are_iob2_and_stay_so(found: list[str]) -> None:
    fixed = iob2_tags(found)
    assert len(fixed) == len(found) and iob2_tags(list(fixed)) == fixed
    for before, tag in zip(("O", *fixed), fixed, strict=False):
        assert not tag.startswith("I-") or before[2:] == tag[2:]


def test_iobes_and_iob1() -> None:
    assert iob2_tags(["S-a", "S-a", "B-a", "E-a", "I-a"]) == ("B-a", "B-a", "B-a", "I-a", "B-a")
    assert iob2_tags(["I-a", "I-a", "B-a", "I-b"]) == ("B-a", "I-a", "B-a", "B-b")


def tag_row(**values: object) -> dict:
    return {"tokens": [SECRET, "b"], "tags": ["B-x", "O"]} | values


def span_row(*spans: object) -> dict:
    return {"text": f"{SECRET} and more", "spans": list(spans)}


GOOD_SPAN = {"start": 0, "end": 4, "label": "x"}
LABELS = 'labels = ["a", "c"]'
BAD = {
    "label missing": ([*rows(2), {"text": SECRET}], ":3", "no label"),
    "label null": ([*rows(2), {"text": SECRET, "label": None}], ":3", "not a name"),
    "label empty": ([*rows(2), {"text": SECRET, "label": " "}], ":3", "label is empty"),
    "label a list": ([*rows(2), {"text": SECRET, "label": ["a"]}], ":3", "label is a list"),
    "label a float": ([*rows(2), {"text": SECRET, "label": 0.5}], ":3", "label is a float"),
    "label types mixed": (
        [*rows(2), {"text": SECRET, "label": 1}],
        ":3",
        "is a int, the first one a str",
    ),
    "text missing": ([*rows(2), {"label": "a"}], ":3", "no `text`"),
    "text empty": ([*rows(2), {"text": " \n", "label": "a"}], ":3", "`text` is empty"),
    "text a number": ([*rows(2), {"text": 5, "label": "a"}], ":3", "not a string"),
    "text with NUL": ([*rows(2), {"text": f"{SECRET}\0", "label": "a"}], ":3", "NUL"),
    "half a surrogate": ([*rows(2), {"text": f"{SECRET}\ud800", "label": "a"}], ":3", "surrogate"),
    "pair a list": ([*rows(2), {"text": SECRET, "text_pair": [], "label": "a"}], ":3", "`text_pair`"),
    "id a list": ([*rows(2), {"id": [1], "text": SECRET, "label": "a"}], ":3", "`id` is not a string"),
    "id twice": ([*rows(2), {"id": "i0", "text": SECRET, "label": "a"}], ":3", "an id that an earlier"),
    "not JSON": (b'{"text": "a", "label": "b"}\n{"text": "zanzibar\n', ":2", "not valid JSON"),
    "not an object": (b'["zanzibar"]\n', ":1", "not a JSON object"),
    "deep nesting": (b"[" * 100_000 + b"\n", ":1", "not valid JSON"),
    "empty file": (b"", "train.jsonl", "no examples"),
    "only blank lines": (b"\n\r\n\n", "train.jsonl", "no examples"),
    "UTF-16": (json.dumps(rows(1)[0]).encode("utf-16"), ":1", "UTF-16"),
    "Latin-1": (
        b'{"text": "a", "label": "b"}\n{"text": "caf\xe9 zanzibar", "label": "a"}\n',
        ":2",
        "not UTF-8",
    ),
    "score NaN": (b'{"text": "zanzibar", "score": NaN}\n', ":1", "not a finite number"),
    "score huge": (b'{"text": "zanzibar", "score": 1e999}\n', ":1", "not a finite number"),
    "score a word": ([{"text": SECRET, "score": "high"}], ":1", "not a finite number"),
    "score true": ([{"text": SECRET, "score": True}], ":1", "not a finite number"),
    "labels a number": ([{"text": SECRET, "labels": 3}], ":1", "`labels` is not a list"),
    "labels twice": ([{"text": SECRET, "labels": ["a", "a"]}], ":1", "stands twice"),
    "kinds mixed": (
        [*rows(2), {"text": SECRET, "labels": ["a"]}],
        ":3",
        "kind multilabel in a task of kind classify",
    ),
    "no label key": ([{"text": SECRET, "class": "a"}], ":1", "no label, labels, score"),
    "tokens missing": ([{"tags": ["O"]}], ":1", "`tokens` is not a list"),
    "no tokens": ([{"tokens": [], "tags": []}], ":1", "no tokens"),
    "too few tags": ([tag_row(tags=["O"])], ":1", "2 tokens but 1 tags"),
    "no IOB tag": ([tag_row(tags=["O", "Gene"])], ":1", "not an IOB tag"),
    "token empty": ([tag_row(tokens=[SECRET, ""])], ":1", "`tokens` is not a list of words"),
    "span beyond the end": ([span_row({"start": 0, "end": 99, "label": "x"})], ":1", "lies outside"),
    "span negative": ([span_row({"start": -1, "end": 4, "label": "x"})], ":1", "lies outside"),
    "span empty": ([span_row({"start": 4, "end": 4, "label": "x"})], ":1", "or is empty"),
    "span as text": ([span_row({"start": "0", "end": 4, "label": "x"})], ":1", "a span lacks"),
    "span a bool": ([span_row({"start": False, "end": 4, "label": "x"})], ":1", "a span lacks"),
    "span without label": ([span_row({"start": 0, "end": 4})], ":1", "a span lacks"),
    "span label with space": ([span_row({"start": 0, "end": 4, "label": "a b"})], ":1", "a span lacks"),
    "span no object": ([span_row([0, 4, "x"])], ":1", "a span lacks"),
    "spans no list": ([{"text": SECRET, "spans": GOOD_SPAN}], ":1", "`spans` is not a list"),
    "spans overlap": (
        [span_row(GOOD_SPAN, {"start": 3, "end": 7, "label": "y"})],
        ":1",
        "0-4 and 3-7 overlap",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_train_files_are_refused_with_their_line(tmp_path: Path, name: str) -> None:
    content, line, what = BAD[name]
    folder = three(tmp_path, train=content)
    with pytest.raises(DataError) as caught:
        read_task(folder)
    assert what in caught.value.what
    assert caught.value.where.startswith(str(folder)) and caught.value.where.endswith(line)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("files", "what", "where"),
    [
        ({"train_csv": "text,label\nx,a\ny\n"}, "1 cells where the header has 2", ":3"),
        ({"train_csv": 'text,label\n"x,a\n'}, "broken row", ":2"),
        ({"train_csv": "sentence,label\nx,a\n"}, "names no `text` column", ":1"),
        ({"train_conll": "a\tO\nb\n"}, "not `token<TAB>tag`", ":2"),
        ({"train": rows(4), "train_csv": "text,label\nx,a\n"}, "two files for the train split", "task"),
        ({"dev": rows(2)}, "no train file", "task"),
        ({"train": rows(4), "dev": rows(2, "c", 10)}, "'c' is not seen in train", "dev.jsonl:1"),
        ({"train": rows(4), "task_toml": "kind = 3"}, "`kind` is not a string", "task.toml"),
        ({"train": rows(4), "task_toml": 'kind = "ner"'}, "unknown kind 'ner'", "task.toml"),
        ({"train": rows(4), "task_toml": "kind = "}, "not valid TOML", "task.toml"),
        ({"train": rows(4), "task_toml": 'labels = "a"'}, "not a list of strings", "task.toml"),
        (
            {"train": rows(4), "dev": rows(1, offset=5), "test": rows(1, offset=6), "task_toml": LABELS},
            "'b' is not among the labels",
            "train.jsonl:2",
        ),
        ({"train": rows(4), "task_toml": 'metric = "f2"'}, "'f2' is no metric", "task"),
        ({"train": rows(4), "task_toml": 'metric = "entity_f1"'}, "no metric of a classify task", "task"),
        ({"train": rows(2)}, "has no examples", "task"),
        ({"train": rows(9, "a")}, "only one label in train", "train.jsonl:1"),
        (
            {"train": [{"text": f"t{n}", "labels": []} for n in range(9)]},
            "no training example has a label",
            "train.jsonl:1",
        ),
    ],
)
def test_bad_folders_are_refused(tmp_path: Path, files: dict, what: str, where: str) -> None:
    with pytest.raises(DataError) as caught:
        read_task(folder_of(tmp_path / "task", **files))
    assert what in caught.value.what and caught.value.where.endswith(where)


def test_a_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder"):
        read_task(tmp_path / "absent")


def test_a_byte_order_mark_and_carriage_returns_are_no_problem(tmp_path: Path) -> None:
    text = "\ufeff" + "\r".join(json.dumps(row) for row in rows(6))
    task = read_task(three(tmp_path, train=text))
    assert len(task.splits["train"]) == 6 and task.splits["train"][0].id == "i0"


def test_number_labels_become_names(tmp_path: Path) -> None:
    made = [{"text": f"t{i}", "label": i % 2} for i in range(6)]
    task = read_task(folder_of(tmp_path / "t", train=made, dev=made[:2], test=made[:2]))
    assert task.labels == ("0", "1")
    assert Counter(one.label for one in task.splits["train"]) == {"0": 3, "1": 3}


def test_the_negative_class_must_be_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "t", train=rows(60))
    (folder / "task.toml").write_text('metric = "micro_f1_positive"\n')
    with pytest.raises(DataError, match="does not say which"):
        read_task(folder)
    (folder / "task.toml").write_text('metric = "micro_f1_positive"\nlabels = ["b", "a"]\n')
    assert read_task(folder).labels == ("b", "a")
