"""A small made-up field: PubMed-like records whose structure the derived tasks can be learnt from."""

from __future__ import annotations

import gzip
import random
from pathlib import Path
from xml.sax.saxutils import escape

_PHRASES = {
    "BACKGROUND": "little is known about the burden of this common disorder in primary care settings",
    "OBJECTIVE": "we aimed to determine whether early treatment improves long term outcome",
    "METHODS": "patients were randomly assigned to placebo or active drug in a double blind trial",
    "RESULTS": "mean score decreased significantly by percent with confidence interval and p value",
    "CONCLUSIONS": "these findings suggest that further research should confirm the observed benefit",
}
WORDS = {role: phrase.split() for role, phrase in _PHRASES.items()}
TOPICS = ("asthma", "diabetes", "stroke", "anemia", "sepsis", "gout", "hepatitis", "migraine")
SUBJECTS = {
    "Humans": ["women", "volunteers", "nurses", "adults"],
    "Animals": ["rats", "mice", "rabbits", "beagles"],
}


def sentence(generator: random.Random, role: str, topic: str, subject: str) -> str:
    """A sentence of 8 to 14 words that carries its role, topic and kind of subject."""
    words = [generator.choice(WORDS[role]) for _ in range(generator.randint(6, 11))]
    words.insert(generator.randrange(len(words)), topic)
    words.insert(generator.randrange(len(words)), generator.choice(SUBJECTS[subject]))
    return " ".join(words).capitalize() + f" {generator.randint(2, 99)}."


def record(number: int, seed: int = 0) -> str:
    """One PubmedArticle element, a pure function of its number."""
    generator = random.Random(f"{seed}-{number}")
    topic = generator.choice(TOPICS)
    subject = generator.choice(list(SUBJECTS))
    sections = "".join(
        f'<AbstractText Label="{role}" NlmCategory="{role}">'
        + escape(" ".join(sentence(generator, role, topic, subject) for _ in range(generator.randint(1, 3))))
        + "</AbstractText>"
        for role in WORDS
    )
    kind = "Review" if generator.random() < 0.3 else "Journal Article"
    return f"""<PubmedArticle><MedlineCitation Status="MEDLINE" Owner="NLM"><PMID Version="1">{number}</PMID>
<Article PubModel="Print"><Journal><JournalIssue CitedMedium="Print"><PubDate><Year>2020</Year></PubDate>
</JournalIssue><Title>Journal of Made Up Medicine</Title></Journal>
<ArticleTitle>{escape(sentence(generator, "OBJECTIVE", topic, subject))}</ArticleTitle>
<Abstract>{sections}<CopyrightInformation>Made up, {number}.</CopyrightInformation></Abstract>
<Language>eng</Language><PublicationTypeList><PublicationType UI="D016428">{kind}</PublicationType>
</PublicationTypeList></Article><MeshHeadingList>
<MeshHeading><DescriptorName UI="D001" MajorTopicYN="N">{subject}</DescriptorName></MeshHeading>
<MeshHeading><DescriptorName UI="D002" MajorTopicYN="Y">{topic.title()}</DescriptorName></MeshHeading>
</MeshHeadingList></MedlineCitation></PubmedArticle>"""


def write_pubmed(path: Path, records: int, seed: int = 0) -> Path:
    """A pubmedYYnNNNN.xml.gz with so many records; the same bytes each time."""
    body = "\n".join(record(number, seed) for number in range(1, records + 1))
    xml = f'<?xml version="1.0" encoding="utf-8"?>\n<PubmedArticleSet>\n{body}\n</PubmedArticleSet>\n'
    with open(path, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb", mtime=0) as stream:
        stream.write(xml.encode())
    return path


RECIPE = """\
name = "tiny"
threads = 1

[corpus]
sources = ["pubmed99n0001.xml.gz"]
validation = 0.05

[tokenizer]
vocab_size = 400

[model]
layers = 2
hidden = 32
heads = 2
max_length = 64
local_attention = 16

[pretrain]
epochs = {epochs}
batch_tokens = 512
learning_rate = 5e-3
checkpoint_seconds = {checkpoint_seconds}

[pretrain.sparsity]
level = 0.75

[tasks.role]
derive = "sentence-role"
max_train = 120
max_eval = 60
budgets = [40, "all"]

[tasks.human]
derive = "human-animal"
max_train = 100
max_eval = 60

[finetune]
seeds = [0, 1]
epochs = 2
min_steps = 8
batch = 16
evaluations = 2

[evaluate]
bootstrap = 50
"""


def write_tiny_run(
    folder: Path, *, records: int = 240, epochs: float = 1, checkpoint_seconds: float = 0.05
) -> Path:
    """A corpus and a recipe that run in seconds; returns the recipe's path."""
    folder.mkdir(parents=True, exist_ok=True)
    write_pubmed(folder / "pubmed99n0001.xml.gz", records)
    path = folder / "tiny.toml"
    path.write_text(RECIPE.format(epochs=epochs, checkpoint_seconds=checkpoint_seconds))
    return path
