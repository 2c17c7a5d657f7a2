"""The list of methods: every page has its head, wrong heads are told with the page, names are found."""

import json

import pytest
from typer.testing import CliRunner

from wellread import methods
from wellread.cli import app
from wellread.errors import DataError, UserError

PAGES = sorted(methods.folder().glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_page_begins_with_the_table_of_a_method(page):
    found = methods.read(page)
    text = page.read_text()
    # Its papers stand in the page itself, not only in its head.
    assert all(text.count(paper) > 1 for paper in found.papers), found.papers


def test_a_method_is_listed_once_its_page_is_there(tmp_path):
    assert methods.listed(tmp_path) == []
    row = "| data | option | 1810.04805, 2202.08005 | 3 points of F1 |"
    (tmp_path / "new-one.md").write_text(f"# A new one\n\n{methods.HEAD}\n|---|---|---|---|\n{row}\n")
    [found] = methods.listed(tmp_path)
    papers = ("1810.04805", "2202.08005")
    assert found == methods.Method("new-one", "A new one", "data", "option", papers, "3 points of F1")
    assert "new-one" in methods.to_text([found])


WRONG = {
    "head": "Just text.",
    "room": "| kitchen | option | none | x |",
    "status": "| data | soon | none | x |",
    "paper": "| data | option | 1813.04805 | x |",
    "short id": "| data | option | 1810.048 | x |",
    "gain": "| data | option | none | |",
    "cells": "| data | option | none |",
}


@pytest.mark.parametrize("row", WRONG.values(), ids=WRONG)
def test_a_wrong_head_is_refused_with_the_page_named(row, tmp_path):
    page = tmp_path / "odd.md"
    head = f"{methods.HEAD}\n|---|---|---|---|\n" if row.startswith("|") else ""
    page.write_text(f"# Odd\n\n{head}{row}\n\nText.\n\n\n")
    with pytest.raises(DataError) as caught:
        methods.listed(tmp_path)
    assert "odd.md:" in caught.value.where and caught.value.fix


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(UserError) as caught:
        methods.find("pmi-maskin")
    assert caught.value.fix == "did you mean `pmi-masking`?"
    with pytest.raises(UserError) as caught:
        methods.find("zzzzzz")
    assert "lists them" in caught.value.fix


def test_the_commands_print_all_methods_and_a_page():
    runner = CliRunner()
    listed = json.loads(runner.invoke(app, ["methods", "--json"]).stdout)
    assert {one["name"] for one in listed} == {page.stem for page in PAGES}
    text = runner.invoke(app, ["methods"]).stdout
    assert "PRE-TRAINING" in text and "arXiv 2010.01825" in text
    page = runner.invoke(app, ["methods", "show", "pmi-masking"]).stdout
    assert page == (methods.folder() / "pmi-masking.md").read_text()
    facts = json.loads(runner.invoke(app, ["methods", "show", "pmi-masking", "--json"]).stdout)
    assert facts["papers"] == ["2010.01825"] and facts["page"] == page
