"""What is wrong in a user's labelled files: ``wellread data check``.

The raw files are read with line numbers, and one problem does not hide the next.  Nothing here says what an
example's text is.
"""

from __future__ import annotations

import difflib
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

from wellread import files
from wellread.errors import DataError
from wellread.tasks.examples import kind_of, parse
from wellread.tasks.near import near_pairs
from wellread.tasks.read import read_settings
from wellread.tasks.rows import FORMATS, SPLIT_NAMES, Row, read_rows, split_files
from wellread.tasks.task import SPLITS, Example, Kind, entity_types, names_of

Severity = Literal["error", "warning", "note"]
SHOWN = 20
TINY_CLASS = 10
SMALL_SPLIT = 50
LONG_WORDS = 1000
_ORDER: dict[Severity, int] = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True, slots=True)
class Finding:
    """A problem, where it is, and its cure; an error makes the task unusable or its scores wrong."""

    severity: Severity
    what: str
    where: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class _Placed:
    """An example with its split and its place."""

    split: str
    example: Example
    where: str


def check(folder: Path) -> list[Finding]:
    """All problems of a task folder, the worst first; files are read to their end whatever is wrong."""
    folder = Path(folder)
    try:
        paths = split_files(folder)
        settings = read_settings(folder)
    except DataError as error:
        return [_from_error(error)]
    found: list[Finding] = []
    rows = {split: list(_readable(path, found)) for split, path in paths.items()}
    kind: Kind | None = settings.get("kind")
    try:
        kind = kind or next(filter(None, map(kind_of, rows["train"])), None)
    except DataError as error:
        return _sorted([*found, _from_error(error)])
    if kind is None:
        what = "no row has a label, labels, score, tags or spans"
        found.append(Finding("error", what, str(paths["train"]), "name the label's key so"))
        return _sorted(found)
    counts: Counter[str] = Counter()
    placed = [one for split in SPLITS for one in _parsed(rows.get(split, []), kind, split, counts, found)]
    found += [
        Finding("note", f"{what}: {number}", str(folder)) for what, number in sorted(counts.items()) if number
    ]
    found += _sizes(placed, paths, folder)
    found += _unread(paths, folder)
    found += _hashes(settings, paths, folder)
    found += _ids(placed)
    found += _labels(placed, kind, settings, folder)
    found += _duplicates(placed)
    found += _near(placed)
    found += _documents(placed)
    found += _lengths(placed)
    return _sorted(_capped(found))


def to_dict(finding: Finding) -> dict[str, Any]:
    """For ``--json``."""
    return asdict(finding)


def to_text(findings: list[Finding]) -> str:
    """For people."""
    if not findings:
        return "no problems found"
    lines = []
    for finding in findings:
        lines.append(f"{finding.severity}: {finding.where}: {finding.what}")
        if finding.fix:
            lines.append(f"  fix: {finding.fix}")
    counted = Counter(finding.severity for finding in findings)
    shown = [f"{counted[level]} {level}{'s' * (counted[level] != 1)}" for level in _ORDER if counted[level]]
    return "\n".join([*lines, ", ".join(shown)])


def _from_error(error: DataError) -> Finding:
    return Finding("error", error.what, error.where, error.fix)


def _sorted(found: list[Finding]) -> list[Finding]:
    return sorted(found, key=lambda finding: _ORDER[finding.severity])


def _capped(found: list[Finding]) -> list[Finding]:
    """At most SHOWN findings with the same cure, then one that counts the rest."""
    kept: list[Finding] = []
    groups: dict[tuple[str, str], int] = defaultdict(int)
    for finding in found:
        key = (finding.severity, finding.fix or finding.what)
        groups[key] += 1
        if groups[key] <= SHOWN:
            kept.append(finding)
    for (severity, fix), number in groups.items():
        if number > SHOWN:
            more = f"{number - SHOWN} more of the kind whose cure is: {fix}"
            kept.append(Finding(severity, more, "in the same files"))  # type: ignore[arg-type]
    return kept


def _readable(path: Path, found: list[Finding]) -> Iterator[Row]:
    """The rows of a file; what cannot be read goes to ``found``."""
    empty = True
    for item in read_rows(path):
        empty = False
        if isinstance(item, DataError):
            found.append(_from_error(item))
        else:
            yield item
    if empty:
        found.append(Finding("error", "the file holds no examples", str(path), "give at least one"))


def _parsed(
    rows: list[Row], kind: Kind, split: str, counts: Counter[str], found: list[Finding]
) -> Iterator[_Placed]:
    """The examples of a split; rows that are none go to ``found``."""
    first = next((type(row.values["label"]) for row in rows if row.values.get("label") is not None), str)
    for number, row in enumerate(rows):
        try:
            example = parse(row, kind, number, split, counts)
        except DataError as error:
            found.append(_from_error(error))
            continue
        if kind == "classify" and type(row.values["label"]) is not first:
            what = (
                f"the label is a {type(row.values['label']).__name__} where the first is a {first.__name__}"
            )
            found.append(Finding("error", what, row.where, "give all labels as strings"))
        yield _Placed(split, example, row.where)


def _sizes(placed: list[_Placed], paths: dict[str, Path], folder: Path) -> Iterator[Finding]:
    counted = Counter(one.split for one in placed)
    for split in ("dev", "test"):
        if split not in paths:
            yield Finding(
                "note", f"no {split} file: 10% of train will serve", str(folder), f"add a {split} file"
            )
        elif counted[split] < SMALL_SPLIT:
            yield Finding(
                "warning",
                f"only {counted[split]} usable examples: scores will have wide intervals",
                str(paths[split]),
                f"give at least {SMALL_SPLIT}, better some hundred",
            )


def _unread(paths: dict[str, Path], folder: Path) -> Iterator[Finding]:
    """Labelled files that are of no split by their name."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.is_file() and path.suffix in FORMATS and path not in paths.values():
            names = ", ".join(name for names in SPLIT_NAMES.values() for name in names)
            yield Finding("warning", "no split by its name, so not read", str(path), f"splits are {names}")


def _hashes(settings: dict[str, Any], paths: dict[str, Path], folder: Path) -> Iterator[Finding]:
    stated = settings.get("sha256", {})
    for split, path in paths.items():
        if isinstance(stated, dict) and split in stated and files.sha256_file(path) != stated[split]:
            what = f"{path.name} has changed since task.toml was written"
            yield Finding("warning", what, str(folder / "task.toml"), "remove its [sha256] if that was meant")


def _ids(placed: list[_Placed]) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for one in placed:
        if one.example.id in seen:
            what = f"the id of {seen[one.example.id]} again"
            yield Finding("error", what, one.where, "give each example its own id")
        seen.setdefault(one.example.id, one.where)


def _labels(placed: list[_Placed], kind: Kind, settings: dict[str, Any], folder: Path) -> Iterator[Finding]:
    if kind == "regress":
        if len({one.example.label for one in placed if one.split == "train"}) == 1:
            yield Finding("error", "all training scores are equal", str(folder), "give scores that differ")
        return
    train = Counter(name for one in placed if one.split == "train" for name in names_of(one.example, kind))
    stated = settings.get("labels") or []
    known = entity_types(stated) if kind == "tag" else set(stated)
    if not train and kind != "classify":
        yield Finding("error", "no training example has a label", str(folder), "name the right column")
    for one in placed:
        for name in sorted(names_of(one.example, kind)):
            if known and name not in known:
                what = f"the label {_shown(name)} is not in task.toml{_hint(name, known)}"
                yield Finding("error", what, one.where, _SPELL)
            elif one.split != "train" and name not in train:
                what = f"the label {_shown(name)} is not seen in train{_hint(name, set(train))}"
                yield Finding("error", what, one.where, _SPELL)
    yield from _classes(placed, kind, train, folder)


_SPELL = "correct the spelling, or add training examples of this label"


def _classes(placed: list[_Placed], kind: Kind, train: Counter[str], folder: Path) -> Iterator[Finding]:
    first: dict[str, str] = {}
    for one in placed:
        for name in sorted(names_of(one.example, kind)):
            first.setdefault(name, one.where)
    if kind == "classify":
        yield from _numbers(train, folder)
        yield from _absent(placed, train, folder)
    if kind == "multilabel":
        yield from _joined(train, first)
    if kind == "classify" and len(train) < 2:
        yield Finding("error", f"{len(train)} label(s) in train", str(folder), "give at least two classes")
    for name, number in sorted(train.items()):
        if number < TINY_CLASS:
            what = f"the label {_shown(name)} has {number} training example(s)"
            yield Finding(
                "warning", what, first[name], f"give at least {TINY_CLASS}, or merge it with another"
            )
    for one_name, other in combinations(sorted(train), 2):
        if _alike(one_name, other, train):
            rare, common = sorted((one_name, other), key=lambda name: train[name])
            what = (
                f"the labels {_shown(rare)} ({train[rare]}) and {_shown(common)} ({train[common]}) look alike"
            )
            yield Finding("warning", what, first[rare], "if one is a misspelling of the other, correct it")
    total = sum(one.split == "train" for one in placed)
    if kind == "classify" and train and max(train.values()) > 0.95 * total:
        what = f"{100 * max(train.values()) / total:.0f}% of the training examples have one label"
        yield Finding("warning", what, str(folder), "look at macro_f1, not accuracy; try class_weights")


def _numbers(train: Counter[str], folder: Path) -> Iterator[Finding]:
    """Scores that were read as the names of classes."""
    try:
        whole = all(float(name).is_integer() for name in train)
    except ValueError:
        return
    if not whole and 2 * len(train) > sum(train.values()):
        what = f"the labels are {len(train)} different numbers"
        yield Finding("error", what, str(folder), "name the column or key `score`, if they are scores")


def _absent(placed: list[_Placed], train: Counter[str], folder: Path) -> Iterator[Finding]:
    for split in ("dev", "test"):
        labels = {one.example.label for one in placed if one.split == split}
        for name in sorted(train) if labels else []:
            if name not in labels:
                what = f"no {split} example has the label {_shown(name)}"
                yield Finding("warning", what, str(folder), "add some, or cut the splits anew")


def _joined(train: Counter[str], first: dict[str, str]) -> Iterator[Finding]:
    """Names that look like several of the others, between other marks than |."""
    for name in sorted(train):
        parts = [part.strip() for part in re.split("[,;]", name)]
        if len(parts) > 1 and any(part in train for part in parts):
            yield Finding("warning", f"the label {_shown(name)} looks like several", first[name], "write a|b")


def _alike(one: str, other: str, train: Counter[str]) -> bool:
    """Whether two labels differ in case, spaces and punctuation only, or nearly so where one is rare."""
    if _squeezed(one) == _squeezed(other):
        return True
    rare = 20 * min(train[one], train[other]) <= max(train[one], train[other])
    near = difflib.SequenceMatcher(None, one.lower(), other.lower()).ratio()
    # Short names and names that differ in a number ("grade 1", "grade 2") are meant so.
    letters = [name.translate({ord(digit): None for digit in "0123456789"}) for name in (one, other)]
    return rare and near >= 0.8 and min(len(one), len(other)) >= 4 and letters[0] != letters[1]


def _squeezed(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum()) or name


def _hint(name: str, known: set[str]) -> str:
    """The known label that was probably meant."""
    same = [other for other in sorted(known) if _squeezed(other) == _squeezed(name) and other != name]
    near = same or difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.75)
    return f" (is {_shown(near[0])} meant?)" if near else ""


def _shown(name: str) -> str:
    return repr(name if len(name) <= 60 else name[:57] + "...")


def _key(example: Example) -> tuple[str, str]:
    return " ".join(example.text.lower().split()), " ".join((example.second or "").lower().split())


def _duplicates(placed: list[_Placed]) -> Iterator[Finding]:
    """Examples whose text (but for case and white space) stood before, in the same or in another split."""
    seen: dict[tuple[str, str], _Placed] = {}
    for one in placed:
        before = seen.setdefault(_key(one.example), one)
        if before is one:
            continue
        other_label = before.example.label != one.example.label
        if before.split != one.split:
            tail = ", with another label" if other_label else ""
            what = f"the text of {before.where} ({before.split}) again{tail}: {one.split} is no fair test"
            yield Finding("error", what, one.where, "remove it from one of the two splits")
        elif other_label:
            what = f"the text of {before.where} again with another label"
            yield Finding("error", what, one.where, "decide on one label")
        else:
            yield Finding(
                "warning", f"the example of {before.where} again", one.where, "remove one of the two"
            )


def _near(placed: list[_Placed]) -> Iterator[Finding]:
    """Examples of dev and test that are nearly equal to one of an earlier split."""
    texts = ["\n".join(part for part in (_key(one.example)) if part) for one in placed]
    keys = [_key(one.example) for one in placed]
    number = {split: index for index, split in enumerate(SPLITS)}
    for first, second, similarity in near_pairs(texts, [number[one.split] for one in placed]):
        if keys[first] != keys[second]:
            before, one = placed[first], placed[second]
            what = f"nearly the text of {before.where} ({before.split}; {similarity:.0%} of their word runs)"
            yield Finding("warning", what, one.where, "keep both in the same split, or remove one")


def _documents(placed: list[_Placed]) -> Iterator[Finding]:
    """Documents of which one split has a part and another split another part."""
    seen: dict[str, _Placed] = {}
    told: set[tuple[str, str]] = set()
    for one in placed:
        if not one.example.doc:
            continue
        before = seen.setdefault(one.example.doc, one)
        if before.split != one.split and (one.example.doc, one.split) not in told:
            told.add((one.example.doc, one.split))
            what = f"from the same document as {before.where} ({before.split})"
            yield Finding("warning", what, one.where, "split by document")


def _lengths(placed: list[_Placed]) -> Iterator[Finding]:
    for one in placed:
        words = len(one.example.tokens) or len(f"{one.example.text} {one.example.second or ''}".split())
        if words > LONG_WORDS:
            what = f"{words} words: longer than most models read at once"
            yield Finding("warning", what, one.where, "cut it into parts, or raise model.max_length")
