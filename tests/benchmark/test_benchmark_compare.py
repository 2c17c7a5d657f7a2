"""Results side by side: the numbers, seeds of several files together, what cannot be compared."""

from __future__ import annotations

from dataclasses import replace

import pytest
from typer.testing import CliRunner

from wellread import files
from wellread.benchmark import compare
from wellread.benchmark.suite import load
from wellread.benchmark.table import TaskState, results
from wellread.cli import app
from wellread.errors import DataError


def state(task, values, seconds=10.0, first=0, **costs):
    one = {"seconds": seconds, "seconds_per_1000": 2.0, "peak_memory_bytes": 3e6, "size_bytes": 5e5} | costs
    seeds = tuple(range(first, first + len(values)))
    scores = dict(zip(seeds, values, strict=True))
    return TaskState(task, "pearson", seeds, scores, dict.fromkeys(seeds, one))


@pytest.fixture
def write(tmp_path):
    def written(name, model, *states, suite="blurb"):
        files.write_json(tmp_path / name, results(load(suite), model, list(states)))
        return tmp_path / name

    return written


def rows(table):
    return {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in table.split("\n")
    }


def test_scores_and_costs_side_by_side(write):
    ours = write("a.json", "ours", state("biosses", [0.8, 0.9]), state("gad", [0.7], seconds=32.5))
    theirs = write("b.json", "theirs", state("biosses", [0.9]))
    table = rows(compare.to_markdown(*compare.read([ours, theirs])))
    assert table["task"] == ["ours", "theirs", "BERT", "PubMedBERT", "BioLinkBERT"]
    assert table["biosses"][:2] == ["85.0 ± 7.1 (2)", "**90.0** (1)"]
    assert table["gad"][:2] == ["**70.0** (1)", ""]
    assert table["mean of 1 tasks that all have"][:2] == ["85.0", "90.0"]
    assert table["mean of 1 tasks that all have"][3] == table["biosses"][3]
    assert table["seconds to train, all of these"][:2] == ["10", "10"]
    assert table["ms a text"][0] == "2" and table["MB on disk"][0] == "0.5"
    alone = rows(compare.to_markdown(*compare.read([ours])))
    assert alone["mean of 2 tasks"][0] == "77.5" and alone["seconds to train, all of these"][0] == "42.5"


def test_seeds_of_several_files_are_put_together(write):
    first = write("a.json", "ours", state("biosses", [0.8, 0.9]))
    later = write("b.json", "ours", state("biosses", [0.7], first=2), state("gad", [0.6]))
    _, (model,) = compare.read([first, later])
    assert model.scores("biosses") == pytest.approx([80.0, 90.0, 70.0]) and model.scores("gad") == [60.0]
    assert len(model.cost("biosses", "seconds")) == 3


def test_what_cannot_be_compared_is_refused(write, tmp_path):
    first = write("a.json", "ours", state("biosses", [0.8]))
    with pytest.raises(DataError, match=r"seed 0 has another score.*\n?"):
        compare.read([first, write("b.json", "ours", state("biosses", [0.7]))])
    with pytest.raises(DataError, match="different benchmarks: blurb, general"):
        compare.read([first, write("c.json", "ours", state("sst2", [0.7]), suite="general")])
    files.write_json(tmp_path / "d.json", {"task": 1})
    (tmp_path / "notes.md").write_text("# Notes")
    for name in ("d.json", "notes.md", "nowhere"):
        with pytest.raises(DataError, match="no result of a benchmark"):
            compare.read([tmp_path / name])


def test_what_one_file_lacks_another_tells(write):
    there = write("a.json", "ours", replace(state("ebm-pico", [0.7]), partial="no train file"))
    lacking = write("b.json", "ours", TaskState("ebm-pico", missing="no folder"))
    for order in ([there, lacking], [lacking, there]):
        [ours] = compare.read(order)[1]
        told = ours.tasks["ebm-pico"]
        assert (told["partial"], told["missing"], ours.scores("ebm-pico")) == ("no train file", "", [70.0])


def test_failed_runs_are_counted_once(write):
    first = write("a.json", "ours", replace(state("gad", [0.5, 0.6]), failed=1))
    same = write("b.json", "ours", replace(state("gad", [0.5, 0.6]), failed=1))
    assert compare.read([first, same])[1][0].tasks["gad"]["failed"] == 1
    overlapping = write("c.json", "ours", replace(state("gad", [0.6, 0.7], first=1), failed=1))
    with pytest.raises(DataError, match="which failed"):
        compare.read([first, overlapping])


def test_the_command_prints_and_draws(write, tmp_path):
    ours, theirs = (write(f"{name}.json", name, state("gad", [0.7])) for name in ("ours", "theirs"))
    picture = tmp_path / "new" / "cost.svg"
    told = CliRunner().invoke(app, ["benchmark", "compare", str(ours), str(theirs), "--plot", str(picture)])
    assert told.exit_code == 0, told.output
    assert told.stdout.startswith("| task | ours | theirs |")
    drawn = picture.read_text()
    assert "ours" in drawn and "theirs" in drawn


def test_what_is_partial_or_failed_is_said(write, tmp_path):
    ours = write("a.json", "ours", state("biosses", [0.8, 0.9]), state("gad", [0.7]))
    told = files.read_json(ours)
    told["tasks"]["gad"]["partial"] = "12 of 534"
    told["tasks"]["biosses"]["failed"] = 1
    files.write_json(ours, told)
    theirs = write("b.json", "theirs", state("biosses", [0.9]), state("gad", [0.8]))
    table = rows(compare.to_markdown(*compare.read([ours, theirs])))
    assert table["biosses"][0] == "85.0 ± 7.1 (2, 1 failed)"
    assert table["gad (partial)"][:2] == ["70.0 (1)", "**80.0** (1)"]
    assert table["mean of 2 tasks"] == ["77.5", "85.0", "", "", ""]
    assert table["mean of the 1 whole ones"][:3] == ["85.0", "90.0", table["biosses"][2]]
