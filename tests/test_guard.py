"""How programs end: the exit code says why, and nobody sees a traceback who has not asked for one."""

import errno
import signal
import sys

import pytest
import typer

from wellread.errors import UserError
from wellread.guard import guarded


def stop(error):
    raise error


@pytest.fixture(autouse=True)
def alone(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program"])
    monkeypatch.setattr(signal, "signal", lambda *_: None)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("no such file", fix="give it"), 2, "Error: no such file\nFix: give it\n"),
        (KeyboardInterrupt(), 130, "Interrupted; the same command continues.\n"),
        (ValueError("odd"), 1, "Unexpected ValueError: odd\n"),
        (SystemExit(3), 3, ""),
    ],
)
def test_what_stops_a_program_becomes_a_message_and_a_code(error, code, said, capsys):
    with pytest.raises(SystemExit) as stopped:
        guarded(lambda: stop(error))
    assert stopped.value.code == code and capsys.readouterr().err.startswith(said)


@pytest.mark.parametrize(
    ("command", "said"),
    [("predict", "Interrupted.\n"), ("run", "Interrupted; the same command continues.\n")],
)
def test_only_what_goes_on_is_said_to_go_on(command, said, monkeypatch, capsys):
    for line in (["wellread", "--debug", command], ["wellread", command]):
        monkeypatch.setattr(sys, "argv", line)
        with pytest.raises(SystemExit):
            guarded(lambda: stop(KeyboardInterrupt()))
        assert capsys.readouterr().err == said
    with pytest.raises(SystemExit):
        guarded(lambda: stop(ValueError("odd")))
    assert ("by the same command" in capsys.readouterr().err) == (command == "run")


def test_nobody_reading_on_is_no_failure(capsys):
    """As typer ends a command whose reader has gone."""
    app = typer.Typer()
    app.command()(lambda: stop(BrokenPipeError(errno.EPIPE, "Broken pipe")))
    streams = sys.stdout, sys.stderr
    try:
        with pytest.raises(SystemExit) as stopped:
            guarded(app)
    finally:
        sys.stdout, sys.stderr = streams
    assert stopped.value.code == 0 and capsys.readouterr().err == ""


def test_debug_shows_the_error_itself_and_is_no_argument_of_the_program(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["program", "--debug", "-x"])
    with pytest.raises(ValueError, match="odd"):
        guarded(lambda: stop(ValueError("odd")))
    assert sys.argv == ["program", "-x"]
