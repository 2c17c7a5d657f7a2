"""Known tasks in their published formats, in miniature; the real files where WELLREAD_DATA names them."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from wellread.errors import DataError, RecipeError
from wellread.evaluate.metrics import metrics_of
from wellread.tasks.known import describe, find_folder, known_files, known_names, read_known
from wellread.tasks.task import SPLITS, Task


def put(folder: Path, text: str, dev: str = "dev.tsv") -> Path:
    for name in ("train.tsv", dev, "test.tsv"):
        (folder / name).write_text(text, encoding="utf-8")
    return folder


def unique_ids(task: Task) -> bool:
    ids = [example.id for split in SPLITS for example in task.splits[split]]
    return len(set(ids)) == len(ids)


def test_every_declaration_is_complete() -> None:
    for name in known_names():
        told = describe(name)
        for layout in told.get("layouts", [{}]):
            merged = {**told, **layout}
            if "divide" in merged:
                assert set(merged["files"]) == {"all"}
                continue
            assert "reader" in merged or {"train", "test"} <= set(merged["files"]) <= set(SPLITS)
            assert "dev" in merged["files"] or "reader" in merged or merged["partial"]
            assert "reader" in merged or merged["format"]
        assert told["title"] and told["source"] and told["licence"]
        allowed = metrics_of(told["kind"], len(told.get("labels", [])))
        assert told.get("metric", allowed[0]) in allowed


def test_entities(tmp_path: Path) -> None:
    task = read_known(
        "ncbi-disease", put(tmp_path, "A\tB-Disease\nb\tI-Disease\n\nc\tO\n", "devel.tsv"), "ner"
    )
    assert task.name == "ner" and task.labels == ("O", "B-Disease", "I-Disease")
    assert [len(task.splits[split]) for split in SPLITS] == [2, 2, 2] and unique_ids(task)


def test_untyped_entities_get_a_type(tmp_path: Path) -> None:
    task = read_known("jnlpba", put(tmp_path, "-DOCSTART- 95369245\n\nIL-2\tB\ngene\tI\nc\tO\n"))
    assert (
        task.splits["dev"][0].label == ("B-Entity", "I-Entity", "O")
        and task.splits["dev"][0].doc == "95369245"
    )


def test_biosses(tmp_path: Path) -> None:
    for number, name in enumerate(("train", "dev", "test")):
        (tmp_path / f"{name}.tsv").write_text(f"pair_id\tsent1\tsent2\tscore\n{number}\tOne.\tTwo.\t2.4\n")
    task = read_known("biosses", tmp_path)
    assert task.kind == "regress" and task.metric == "pearson"
    one = task.splits["train"][0]
    assert (one.id, one.text, one.text_pair, one.label) == ("0", "One.", "Two.", 2.4)


def hoc(*flags: str) -> str:
    lines = [f"{flag}\tA sentence.\t{{0}}_s{number}" for number, flag in enumerate(flags)]
    return "\n".join(["labels\tsentence\tindex", *lines, ""])


def test_hallmarks_of_cancer(tmp_path: Path) -> None:
    none = ",".join(f"{index}_0" for index in range(10))
    for number, name in enumerate(("train", "dev", "test"), start=5):
        text = hoc(none.replace("4_0", "4_1").replace("9_0", "9_1"), none).format(number)
        (tmp_path / f"{name}.tsv").write_text(text)
    task = read_known("hoc", tmp_path)
    assert task.kind == "multilabel" and task.metric == "micro_f1_doc" and len(task.labels) == 10
    first, second = task.splits["train"]
    assert (
        first.label == ("evading growth suppressors", "tumor promoting inflammation") and second.label == ()
    )
    assert first.doc == second.doc == "pmid:5"
    (tmp_path / "dev.tsv").write_text(hoc("0_1,1_0").format(9))
    with pytest.raises(DataError) as caught:
        read_known("hoc", tmp_path)
    assert caught.value.where.endswith("dev.tsv:2")


def test_ids_that_begin_anew_in_each_split(tmp_path: Path) -> None:
    task = read_known("gad", put(tmp_path, "index\tsentence\tlabel\n0\t@GENE$ a.\t1\n1\t@GENE$ b.\t0\n"))
    assert unique_ids(task) and task.labels == ("no", "yes")
    assert [one.label for one in task.splits["test"]] == ["yes", "no"]


def test_errors(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'ncbi-disease'"):
        read_known("ncbi-diseases", tmp_path)
    with pytest.raises(DataError, match=r"devel.tsv or dev.tsv|train.tsv"):
        known_files("bc2gm", tmp_path)
    put(tmp_path, "index\tsentence\tlabel\n0\tA.\t2\n")
    with pytest.raises(DataError, match="'2' is not among the labels") as caught:
        read_known("gad", tmp_path)
    assert caught.value.where.endswith(":2")


def splits(folder: Path, names: tuple[str, ...], text: str, encoding: str = "utf-8") -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding=encoding)
    return folder


PICO = "-DOCSTART- (10037531)\n\nXylitol\tI-INT\nfor\tO\nacute\tI-PAR\notitis\tI-PAR\n\n"


def test_pico_words(tmp_path: Path) -> None:
    task = read_known("ebm-pico", splits(tmp_path, ("train.tsv", "dev.tsv", "test.tsv"), PICO))
    assert task.metric == "word_macro_f1" and task.labels == ("O", "B-INT", "I-INT", "B-PAR", "I-PAR")
    one = task.splits["train"][0]
    assert one.label == ("B-INT", "O", "B-PAR", "I-PAR") and one.doc == "pmid:10037531"
    assert task.facts["partial"].startswith("train has 3 words, the benchmark 339,167; dev has 3 words")


def test_pico_without_train_is_said_to_be_partial(tmp_path: Path) -> None:
    text = "".join(PICO.replace("10037531", str(number)).replace("for", f"w{number}") for number in range(40))
    task = read_known("ebm-pico", splits(tmp_path, ("dev.tsv", "test.tsv"), text))
    assert task.facts["partial"].startswith("no train file: dev is the training set")
    train, dev = ({example.doc for example in task.splits[split]} for split in ("train", "dev"))
    assert train and dev and not train & dev and len(train | dev) == 40


def test_chemprot_of_three_makers(tmp_path: Path) -> None:
    pairs = "10471277.T1.T6\t@CHEMICAL$ binds @GENE$.\tCPR:3\n10471277.T2.T6\t@CHEMICAL$, @GENE$.\tfalse\n"
    names = ("train.tsv", "dev.tsv", "test.tsv")
    bare = read_known("chemprot", splits(tmp_path / "bare", names, pairs))
    headed = read_known(
        "chemprot", splits(tmp_path / "headed", names, "index\tsentence\tlabel\n" + pairs), "h"
    )
    assert bare.splits == headed.splits and bare.metric == "micro_f1_positive" and bare.labels[0] == "false"
    first = bare.splits["dev"][0]
    assert (first.text, first.label, first.doc) == ("@CHEMICAL$ binds @GENE$.", "CPR:3", "pmid:10471277")
    assert "no negative" not in bare.facts["partial"]
    line = '{"text": "The [[ [3H] X ]] of << Ang II >>.", "label": "AGONIST-INHIBITOR", "metadata": []}\n'
    marked = splits(tmp_path / "marked", ("train.jsonl", "dev.jsonl", "test.jsonl"), line)
    task = read_known("chemprot", marked)
    one = task.splits["test"][0]
    assert (one.text, one.label) == ("The @ENTITY$ of @ENTITY$.", "CPR:5")
    assert task.facts["partial"].startswith("no negative pairs")


def test_sizes_of_the_benchmark(tmp_path: Path) -> None:
    def rows(name: str, count: int) -> str:
        lines = [f"{name}{number}\tOne.\tTwo.\t2.4\n" for number in range(count)]
        return "pair_id\tsent1\tsent2\tscore\n" + "".join(lines)

    for name, count in (("train", 64), ("dev", 16), ("test", 21)):
        (tmp_path / f"{name}.tsv").write_text(rows(name, count))
    facts = read_known("biosses", tmp_path).facts
    assert facts["differs"] == "test has 21 examples, the benchmark 20" and "partial" not in facts


def test_parts_of_speech(tmp_path: Path) -> None:
    """Every word has a tag of its own; of a contraction the parts are read, not the surface."""
    names = ("train.conllu.pos", "dev.conllu.pos", "test.conllu.pos")
    inline = "Ama##CCONJ boyundaki##_ boyunda##NOUN ki##ADP C#:##X .##PUNCT\n"
    task = read_known("pos-tr", splits(tmp_path / "inline", names, inline))
    one = task.splits["train"][0]
    assert one.tokens == ("Ama", "boyunda", "ki", "C#:", ".") and task.metric == "word_accuracy"
    assert one.label == ("B-CCONJ", "B-NOUN", "B-ADP", "B-X", "B-PUNCT") and "partial" not in task.facts
    cells = ["# text = x", "1\tAma\t_\tCCONJ" + "\t_" * 6, "2-3\tboyundaki\t_\t_" + "\t_" * 6]
    cells += ["2\tboyunda\t_\tNOUN" + "\t_" * 6, "2.1\tx\t_\tX" + "\t_" * 6, "3\tki\t_\tADP" + "\t_" * 6]
    published = tuple(f"tr_imst-ud-{split}.conllu" for split in SPLITS)
    again = read_known("pos-tr", splits(tmp_path / "conllu", published, "\n".join([*cells, "", ""])))
    assert again.splits["dev"][0].tokens == ("Ama", "boyunda", "ki")
    assert again.splits["dev"][0].label == ("B-CCONJ", "B-NOUN", "B-ADP")
    splits(tmp_path / "inline", names[1:2], "fine##X\nbroken\n")
    with pytest.raises(DataError, match="word##TAG") as caught:
        read_known("pos-tr", tmp_path / "inline")
    assert caught.value.where.endswith("dev.conllu.pos:2")


def test_files_in_an_archive_and_in_latin_1(tmp_path: Path) -> None:
    text = "El NP O\nEspaña NP B-LOC\n\n"
    names = ("esp.train", "esp.testa", "esp.testb")
    plain = read_known("conll2002-es", splits(tmp_path / "plain", names, text, "latin-1"))
    (tmp_path / "zip").mkdir()
    with zipfile.ZipFile(tmp_path / "zip" / "conll2002.zip", "w") as archive:
        for name in names:
            archive.writestr(f"conll2002/{name}", text.encode("latin-1"))
    zipped = read_known("conll2002-es", tmp_path / "zip")
    assert zipped.splits == plain.splits and plain.splits["dev"][0].tokens == ("El", "España")
    files = known_files("conll2002-es", tmp_path / "zip")
    assert set(files.values()) == {tmp_path / "zip" / "conll2002.zip"}, "what is hashed is on the disk"
    (tmp_path / "zip" / "conll2002.zip").write_bytes(b"no archive")
    with pytest.raises(DataError, match=r"no train file"):
        read_known("conll2002-es", tmp_path / "zip")


def test_docstart_lines_name_documents_only_when_they_do(tmp_path: Path) -> None:
    for start, doc in (("-DOCSTART- -X- O O", ""), ("-DOCSTART-\tO", ""), ("-DOCSTART-\t77", "77")):
        put(tmp_path, f"{start}\n\na\tB-Disease\n")
        assert read_known("ncbi-disease", tmp_path).splits["train"][0].doc == doc


def test_sentiment_and_grammar(tmp_path: Path) -> None:
    lines = "".join(f"{number % 2}\ta film {number}\n" for number in range(30))
    task = read_known("sst2", splits(tmp_path / "sst", ("train.tsv", "dev.tsv"), lines))
    assert len(task.splits["test"]) == 30 and task.facts["cut_from_train"] == ["dev"]
    assert task.facts["partial"].startswith("no validation file")
    glue = "".join(f"gj04\t{number % 2}\t*\tA sentence {number}.\n" for number in range(30))
    cola = read_known("cola", splits(tmp_path / "cola", ("train.tsv", "dev.tsv"), glue))
    assert cola.metric == "matthews" and cola.splits["test"][1].text == "A sentence 1."
    assert cola.splits["test"][1].label == "acceptable"


def test_a_folder_is_found_under_its_usual_names(tmp_path: Path) -> None:
    assert find_folder("gad", tmp_path) is None
    text = "index\tsentence\tlabel\n0\t@GENE$ a.\t1\n"
    splits(tmp_path / "GAD", ("train.tsv", "dev.tsv"), text)
    assert find_folder("gad", tmp_path) is None, "not without test"
    splits(tmp_path / "GAD", ("test.tsv",), text)
    assert find_folder("gad", tmp_path) == tmp_path / "GAD"


FOLDERS = {
    "ncbi-disease": ("ner_ncbi_disease", (5424, 923, 940), 960),
    "bc5cdr-disease": ("ner_bc5cdr_disease", (4560, 4581, 4797), 4424),
    "bc5cdr-chem": ("ner_bc5cdr_chem", (4560, 4581, 4797), 5385),
    "bc2gm": ("ner_bc2gm", (12574, 2519, 5038), 6325),
    "jnlpba": ("ner_jnlpba", (16807, 1739, 3856), 8662),
    "biosses": ("blurb_biosses", (64, 16, 20), None),
    "hoc": ("blurb_hoc", (12119, 1798, 3547), None),
    "gad": ("blurb_gad", (4261, 535, 534), None),
    "ddi": ("blurb_ddi", (25252, 2496, 5716), None),
    "bioasq": ("blurb_bioasq", (670, 75, 140), None),
    "chemprot": ("scibert_tasks/chemprot", (4169, 2427, 3469), None),
    "ebm-pico": ("pico_ebmnlp", (9384, 1002, 2076), 4190),
    "pubmedqa": ("pubmedqa", (450, 50, 500), None),
    "scicite": ("scibert_tasks/sci-cite", (7320, 916, 1861), None),
    "conll2002-es": ("nltk_corpora", (8323, 1915, 1517), 3559),
    "ner-tr": ("ner_multilingual_linspector/tr", (4878, 522, 5360), 12805),
    "pos-tr": ("ner_multilingual_linspector/ud_pos_tr", (3685, 975, 975), None),
    "pos-es": ("ner_multilingual_linspector/ud_pos_es", (1478, 176, 1721), None),
    "sst2": ("glue_like/SST2", (6243, 677, 1821), None),
    "cola": ("glue_like/CoLA", (7735, 816, 516), None),
    "mtsamples": ("clinical_mtsamples", (218, 87, 131), None),
}
# Where the copies lack something of the benchmark, and where they hold more.
PARTIAL = {"chemprot", "ddi", "ebm-pico", "ner-tr", "pos-es", "sst2", "cola"}
DIFFERENT = {"bc5cdr-disease"}


@pytest.mark.data
@pytest.mark.parametrize("name", FOLDERS)
def test_published_sizes(name: str) -> None:
    folder, sizes, entities = FOLDERS[name]
    base = os.environ.get("WELLREAD_DATA", "")
    if not base or not (Path(base) / folder).is_dir():
        pytest.skip(f"WELLREAD_DATA has no {folder}")
    task = read_known(name, Path(base) / folder)
    assert tuple(len(task.splits[split]) for split in SPLITS) == sizes
    if entities is not None:
        begun = sum(tag.startswith("B-") for one in task.splits["test"] for tag in one.label)  # type: ignore[union-attr]
        assert begun == entities
    assert ("partial" in task.facts) == (name in PARTIAL), task.facts.get("partial")
    assert ("differs" in task.facts) == (name in DIFFERENT), task.facts.get("differs")
    assert find_folder(name, Path(base)) == Path(base) / folder
