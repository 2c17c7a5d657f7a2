from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from wellread.corpus import documents
from wellread.corpus.documents import Document, MeshHeading, Section
from wellread.errors import ArtefactError, DataError
from wellread.objectives import categories
from wellread.objectives.categories import label, reader
from wellread.objectives.prediction import Prediction
from wellread.pretrain.auxiliary import Counts, Seen
from wellread.tokens.batch import PackedBatch, pack


def document(name="d", **told):
    return Document(name, "title", (Section("", "", "text"),), **told)


def test_properties_of_a_document():
    assert reader("journal")(document(meta={"journal": "Lancet"})) == "Lancet"
    assert reader("journal")(document(meta={"journal": None})) is None
    assert reader("year")(document(year=1999)) == "1999" and reader("year")(document()) is None
    types = ("Journal Article", "Research Support, Non-U.S. Gov't", "Case Reports")
    assert reader("type")(document(publication_types=types)) == "Case Reports"
    assert reader("type")(document(publication_types=types[:2])) is None


def test_mesh_takes_the_branch_of_most_headings(monkeypatch):
    from wellread.tasks import mesh

    branches = {"asthma": ["C08", "C20"], "pneumonia": ["C01", "C08"], "measles": ["C01"]}
    monkeypatch.setattr(mesh, "load_categories", lambda: branches)
    read = reader("mesh")
    headings = [MeshHeading(name) for name in ("Asthma", "Pneumonia", "Humans")]
    assert read(document(mesh=tuple(headings))) == "C08"
    assert read(document(mesh=(MeshHeading("Pneumonia"),))) == "C01"
    assert read(document(mesh=(MeshHeading("Humans"),))) is None


def test_small_categories_are_left_out_and_the_most_frequent_comes_first():
    labels, counts = label(["b"] * 60 + ["a"] * 80 + ["c"] * 49 + [None], "journal")
    assert counts == {"a": 80, "b": 60}
    assert labels.tolist() == [1] * 60 + [0] * 80 + [-1] * 50


def test_fewer_than_two_categories_are_refused_with_key_cause_and_cure():
    with pytest.raises(DataError, match="1 of 2 categories by journal") as found:
        label(["a"] * 80 + ["b"] * 49 + [None] * 129, "journal")
    assert found.value.where == "pretrain.categories" and found.value.fix and "50%" in found.value.what
    assert len(label(["a"] * 8 + ["b"] * 5, "journal", scale=10)[1]) == 2  # a sample of a larger corpus


@dataclass
class Opened:
    ids: list[str]

    @property
    def n_documents(self):
        return len(self.ids)

    def document_ids(self):
        return self.ids


def test_categories_follow_the_order_of_the_store(tmp_path, monkeypatch):
    every = [document(f"d{n}", meta={"journal": "ab"[n % 2]}) for n in range(120)]
    documents.write(tmp_path / "documents.jsonl.zst", every)
    store = Opened([f"d{n}" for n in range(119, 5, -1)])
    monkeypatch.setattr(categories.Store, "open", lambda _: store)
    categories.prepare(tmp_path / "documents.jsonl.zst", tmp_path, "journal", tmp_path)
    labels = categories.load(tmp_path, store)
    assert labels.tolist() == [1, 0] * 57
    with pytest.raises(ArtefactError):
        categories.load(tmp_path, Opened(["d1"]))


def test_the_loss_is_the_cross_entropy_of_the_mean_state_over_documents_with_a_category():
    labels = np.array([2, -1, 0, 1], np.int32)
    one = categories.auxiliary(1.0, 8, labels, seed=0)
    model = SimpleNamespace(auxiliary=nn.ModuleDict({one.name: one.module}))
    packed = pack([[1, 5, 2], [1, 6, 7, 2], [1, 2]])
    batch = PackedBatch(**{**vars(packed), "document_ids": torch.tensor([0, 1, 3])})
    hidden = torch.randn(9, 8, requires_grad=True)
    nothing = torch.empty(0, dtype=torch.int64)
    found = one.loss(model, Seen(batch, Prediction(batch, nothing, nothing), hidden, 0, Counts(samples=6)))
    means = torch.stack([hidden[:3].mean(0), hidden[7:].mean(0)])
    expected = F.cross_entropy(one.module(means), torch.tensor([2, 1]), reduction="sum") / 6  # of the step
    torch.testing.assert_close(found, expected)
    found.backward()
    assert not hidden.grad[3:7].any() and hidden.grad[:3].all()
