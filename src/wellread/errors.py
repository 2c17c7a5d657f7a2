"""Errors meant for the user: what is wrong, where, and how to fix it.

The command line prints these without a traceback and exits with code 2.  Any other exception is a defect
of Wellread (or of the machine) and keeps its traceback under ``--debug``.
"""

from __future__ import annotations


class UserError(Exception):
    """Something that the user can put right.

    Args:
        what: the problem in one sentence, without any document text.
        where: ``file:line``, a recipe key such as ``pretrain.learning_rate``, or a path.
        fix: what to do about it.
    """

    exit_code = 2

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(str(self))

    def __str__(self) -> str:
        parts = [f"{self.where}: {self.what}" if self.where else self.what]
        if self.fix:
            parts.append(f"Fix: {self.fix}")
        return "\n".join(parts)

    def __reduce__(self):
        """Keep the three parts when the error crosses a process boundary."""
        return _rebuild, (type(self), self.what, self.where, self.fix)


class DataError(UserError):
    """A file that the user gave cannot be read, or says something impossible."""


class RecipeError(UserError):
    """A recipe key is unknown, missing or impossible; ``where`` is the dotted key."""


class ArtefactError(UserError):
    """A checkpoint, store or model folder is damaged, incomplete or unsafe to load."""


def install(extra: str = "") -> str:
    """The command that installs Wellread, with one of its extras; it is run in a checkout."""
    return "pip install -c constraints.txt -e " + (f"'.[{extra}]'" if extra else ".")


def left_out(what: str, where: str) -> ArtefactError:
    """The error for what lies beside the sources, and is not there where these were copied without it.

    Args:
        what: is missing, in the plural.
        where: a recipe key, or the path at which it should be.
    """
    return ArtefactError(
        f"{what} come with a checkout of Wellread, and this installation has none",
        where=where,
        fix=f"run `{install()}` in a checkout",
    )


def _rebuild(kind: type[UserError], what: str, where: str, fix: str) -> UserError:
    return kind(what, where=where, fix=fix)
