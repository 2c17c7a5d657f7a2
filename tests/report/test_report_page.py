"""The page: whole, self-contained, escaped, the same every time, and true to summary.json."""

from __future__ import annotations

import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import fake_run
import pytest
from lxml import etree, html

from wellread import files
from wellread.errors import ArtefactError
from wellread.report import numbers, page, results
from wellread.report.gather import gather

SECTIONS = [
    "verdict",
    "model",
    "data",
    "tokenizer",
    "loss",
    "sparsity",
    "scores",
    "weaknesses",
    "costs",
    "provenance",
]
VOID = {"meta", "br", "hr", "img", "input", "link"}
HOSTILE = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def text(run) -> str:
    return page.render(gather(run))


@pytest.fixture(scope="module")
def tree(text):
    return html.fromstring(text)


class Balance(HTMLParser):
    """Fails on a tag that is not closed, or closed in the wrong place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_endtag(self, tag):
        assert self.open and self.open[-1] == tag, f"</{tag}> closes <{self.open[-1:]}> at {self.getpos()}"
        self.open.pop()


def assert_whole(text: str) -> None:
    balance = Balance()
    balance.feed(text)
    assert balance.open == []
    for picture in re.findall(r"<svg.*?</svg>(?:</svg>)?", text, re.S):
        if picture.count("<svg") == picture.count("</svg>"):
            etree.fromstring(picture)


def test_whole_and_every_section_present(text, tree):
    assert_whole(text)
    assert [section for section in SECTIONS if not tree.xpath(f"//*[@id='{section}']")] == []
    for task in ("sentence-role", "human-animal", "disease-category"):
        assert tree.xpath(f"//section[@id='task-{task}']")


def test_ids_are_unique_and_links_reach_them(tree):
    names = tree.xpath("//@id")
    assert len(names) == len(set(names))
    assert {link[1:] for link in tree.xpath("//a/@href")} <= set(names)


def test_nothing_is_loaded(text, tree):
    assert not tree.xpath("//script | //link | //iframe | //img | //object | //embed | //*[@src] | //base")
    assert all(link.startswith("#") for link in tree.xpath("//@href"))
    assert not re.search(r"url\(|@import|https?://", text)


def test_small_enough(text):
    assert len(text.encode()) < 1_500_000


def test_same_bytes_every_time_and_wherever_the_folder_lies(run, tmp_path, text):
    copy = tmp_path / "elsewhere" / run.name
    shutil.copytree(run, copy)
    page.write(copy, tmp_path)
    assert (tmp_path / "report.html").read_bytes() == text.encode()


def test_numbers_of_the_tables_are_those_of_the_summary(run, tree):
    summary = files.read_json(run / "stages" / "evaluate" / "summary.json")["tasks"]
    for task, entry in summary.items():
        shown = tree.xpath(f"//section[@id='task-{task}']//td[@data-value]")
        wanted = [group["mean"] for group in entry["groups"]]
        assert sorted(float(cell.get("data-value")) for cell in shown) == sorted(wanted)
        for cell in shown:
            assert cell.text == f"{100 * float(cell.get('data-value')):.1f}"
        bounds = tree.xpath(f"//section[@id='task-{task}']//td[contains(@class, 'interval')]/text()")
        told = [numbers.interval(group["interval"], entry["metric"]) for group in entry["groups"]]
        assert sorted(bounds) == sorted(told)
    overview = tree.xpath("//table[@class='overview']//td[@data-value]")
    assert len(overview) == sum(len(entry["groups"]) for entry in summary.values())


def test_verdict_agrees_with_the_intervals(run, tree):
    facts = gather(run)
    cards = tree.xpath("//section[@class='card']")
    for card, (_, groups) in zip(cards, results.scores(facts).items(), strict=True):
        outcomes = [outcome for _, outcome in results.against(facts, groups, results.amounts(groups)[-1])]
        classes = [item.get("class") for item in card.xpath(".//li")]
        assert classes == [{1: "up", 0: "even", -1: "down"}[outcome] for outcome in outcomes]


def test_failed_seeds_and_costs_are_shown(text, tree):
    assert "the loss became NaN" in text
    rows = tree.xpath("//table[@class='costs']/tbody/tr/th/text()")
    assert rows[0] == "corpus" and "finetune/human-animal/random" in rows and "evaluate" in rows
    assert not any("units" in row for row in rows)


def test_hostile_names_stay_text(tmp_path):
    run = fake_run.make(
        tmp_path / "run",
        tasks=("sentence-role",),
        labels={"sentence-role": [HOSTILE, 'a"onload="x', "b & c"]},
    )
    recipe = run / "recipe.toml"
    recipe.write_text(recipe.read_text().replace("A sparse encoder", HOSTILE.replace('"', "'")))
    units = sorted((run / "stages").glob("finetune/*/*/units/*/result.json"))
    files.write_json(units[0], files.read_json(units[0]) | {"failed": True, "failure": HOSTILE})
    shown = page.render(gather(run))
    assert_whole(shown)
    tree = html.fromstring(shown)
    assert not tree.xpath("//script") and not tree.xpath("//@onload")
    assert HOSTILE in tree.text_content()


def test_moving_sparsity_is_named(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    sparse = [
        (path, facts)
        for path in sorted((tmp_path / "run" / "stages" / "pretrain").glob("*/pretrain.json"))
        if (facts := files.read_json(path))["sparsity"]
    ]
    assert sparse and "RigL" not in page.render(gather(tmp_path / "run"))
    files.write_json(sparse[0][0], sparse[0][1] | {"dynamic": {"method": "rigl", "moved": 9, "layers": {}}})
    assert "moving (RigL)" in page.render(gather(tmp_path / "run"))


def test_zeros_are_those_that_there_were_not_those_asked_for(run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    assert "asked for" not in page.render(gather(run))
    for path in (tmp_path / "run" / "stages" / "pretrain").glob("*/sparsity.json"):
        files.write_json(path, files.read_json(path) | {"level": 0.6944})
    shown = page.render(gather(tmp_path / "run"))
    assert "69.4% (75% asked for)" in shown and "with 69.4% of its attention" in shown


def test_without_tasks(tmp_path):
    shown = page.render(gather(fake_run.make(tmp_path / "run", tasks=())))
    assert_whole(shown)
    assert "no labelled task" in shown and 'id="scores"' not in shown and 'id="loss"' in shown


def test_without_pretraining(tmp_path):
    shown = page.render(gather(fake_run.make(tmp_path / "run", pretrained=False)))
    assert_whole(shown)
    assert "holds no pre-trained model" in shown and 'id="loss"' not in shown and 'id="scores"' in shown


@pytest.mark.parametrize(
    "stage", ["corpus", "selection", "tokenizer", "tokens", "tasks", "pretrain", "evaluate"]
)
def test_any_stage_may_be_missing(run, tmp_path, stage):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    shutil.rmtree(copy / "stages" / stage)
    assert_whole(page.render(gather(copy)))


def test_a_run_that_has_just_begun(run, tmp_path):
    (tmp_path / "recipe.toml").write_bytes((run / "recipe.toml").read_bytes())
    assert_whole(page.render(gather(tmp_path)))


def test_one_budget_has_no_learning_curve_and_one_dense_model_no_sparsity(tmp_path):
    run = fake_run.make(tmp_path / "run", variants=(("plain", 0.0, "unstructured"),), budgets=("all",))
    shown = page.render(gather(run))
    assert_whole(shown)
    assert "log scale" not in shown and 'id="sparsity"' not in shown


def test_not_a_run_folder_is_refused(tmp_path):
    with pytest.raises(ArtefactError, match="not a run folder"):
        page.write(tmp_path, tmp_path)
    assert not list(tmp_path.iterdir())


def test_damaged_file_is_refused_by_name(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    (copy / "stages" / "pretrain" / "dense" / "log.jsonl").write_text('{"step": 1')
    with pytest.raises(ArtefactError, match="log.jsonl"):
        gather(copy)


def test_no_example_of_a_task_reaches_the_page(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for split in Path(copy / "stages" / "tasks").glob("*/*.jsonl"):
        split.write_text(split.read_text().replace('"words"', '"a secret sentence"'))
    assert "secret" not in page.render(gather(copy))
