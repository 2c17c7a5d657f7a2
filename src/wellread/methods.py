"""The methods that are here, as their own pages tell them: ``wellread methods``.

Each page in docs/methods begins with its title and a table of one row: room, status, paper, gain.  A page
that is added is a method that is listed; nothing else names them.
"""

from __future__ import annotations

import difflib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from wellread.commands.options import Json
from wellread.errors import DataError, UserError, left_out
from wellread.progress import say

ROOMS = ("pre-training", "fine-tuning", "compression", "data", "evaluation")
# On unless switched off; on by a line of a recipe or a command; there to compare with.
STATUSES = ("default", "option", "ablation")
HEAD = "| room | status | paper (arXiv) | gain measured here |"
NO_PAPER = "none"
_ARXIV = re.compile(r"\d{2}(0[1-9]|1[0-2])\.\d{4,5}")


@dataclass(frozen=True)
class Method:
    """One method.

    Attributes:
        name: of its page, without the ending.
        title: of the page.
        room: one of ROOMS.
        status: one of STATUSES.
        papers: arXiv ids; empty where it follows no paper there.
        gain: what was measured here, or "not measured yet".
    """

    name: str
    title: str
    room: str
    status: str
    papers: tuple[str, ...]
    gain: str


def folder() -> Path:
    """Where the pages lie: beside the sources.

    Raises:
        ArtefactError: this installation has no pages.
    """
    found = Path(__file__).parents[2] / "docs" / "methods"
    if not found.is_dir():
        raise left_out("the pages of the methods", str(found))
    return found


def read(page: Path) -> Method:
    """What a page says at its head.

    Raises:
        DataError: it has no such head, or something impossible in it; names the page.
    """
    lines = page.read_text("utf-8").splitlines()[:5]
    shaped = len(lines) == 5 and lines[0].startswith("# ") and not lines[1] and lines[2] == HEAD
    cells = [cell.strip() for cell in lines[4].strip("|").split("|")] if shaped else []
    if len(cells) != 4:
        raise _wrong(page, 1, "the page does not begin with its title and the table of a method")
    room, status, papers, gain = cells
    for word, known in ((room, ROOMS), (status, STATUSES)):
        if word not in known:
            raise _wrong(page, 5, f"{word!r} is none of {', '.join(known)}")
    ids = () if papers == NO_PAPER else tuple(one.strip() for one in papers.split(","))
    for one in ids:
        if not _ARXIV.fullmatch(one):
            raise _wrong(page, 5, f'{one!r} is no arXiv id such as 1810.04805 (or "{NO_PAPER}")')
    if not gain:
        raise _wrong(page, 5, "nothing is said of what was measured")
    return Method(page.stem, lines[0].removeprefix("# "), room, status, ids, gain)


def _wrong(page: Path, line: int, what: str) -> DataError:
    fix = f'write "# TITLE", an empty line, "{HEAD}", the line below it and the row, as other pages do'
    return DataError(what, where=f"{page}:{line}", fix=fix)


def listed(pages: Path | None = None) -> list[Method]:
    """All methods, room by room, by name.

    Raises:
        DataError: a page is without its head.
    """
    found = [read(page) for page in sorted((pages or folder()).glob("*.md"))]
    return sorted(found, key=lambda one: (ROOMS.index(one.room), one.name))


def find(name: str, pages: Path | None = None) -> Path:
    """The page of a method.

    Raises:
        UserError: there is none of that name; names the nearest.
    """
    place = pages or folder()
    names = {page.stem: page for page in place.glob("*.md")}
    if name in names:
        return names[name]
    near = difflib.get_close_matches(name.lower(), names, n=1, cutoff=0.5)
    fix = f"did you mean `{near[0]}`?" if near else "`wellread methods` lists them"
    raise UserError(f"there is no method {name!r}", where="methods show", fix=fix)


def to_text(found: list[Method]) -> str:
    """The list for people, a paragraph for each room."""
    wide = max((len(one.name) for one in found), default=0)
    parts = []
    for room in ROOMS:
        rows = [one for one in found if one.room == room]
        lines = [f"{one.name:{wide}}  {one.status:8}  {_papers(one):23}  {one.gain}" for one in rows]
        parts += ["\n".join([room.upper(), *lines])] if rows else []
    return "\n\n".join(parts)


def _papers(method: Method) -> str:
    """As many arXiv ids as there is room for."""
    first, rest = method.papers[:1], len(method.papers) - 1
    return (f"arXiv {first[0]}" + (f" +{rest}" if rest > 0 else "")) if first else ""


app = typer.Typer(help="List the methods, what they gained here, and show their pages.")


@app.callback(invoke_without_command=True)
def _list(context: typer.Context, as_json: Json = False) -> None:
    """List the methods: status, paper, what was measured here."""
    if context.invoked_subcommand is not None:
        return
    found = listed()
    print(json.dumps([asdict(one) for one in found], indent=1) if as_json else to_text(found))
    say("Next: `wellread methods show NAME`.")


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name from `wellread methods`.")], as_json: Json = False
) -> None:
    """Print the page of a method."""
    page = find(name)
    text = page.read_text("utf-8")
    if as_json:
        facts: dict[str, Any] = asdict(read(page))
        print(json.dumps(facts | {"page": text}, indent=1))
    else:
        print(text, end="")
