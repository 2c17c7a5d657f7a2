"""What people watch."""

from __future__ import annotations

import time

import pytest

from wellread.progress import Progress, shown_by


@pytest.mark.parametrize(
    ("done", "seconds", "expected"),
    [
        (3_000_000, 10.0, "pretrain   30%  3.0M/10.0M tokens  300k tokens/s  ETA 0:23  loss 2.1"),
        (1, 400.0, "pretrain    0%  1/10.0M tokens  6:40 each"),
        (0, 5.0, "pretrain    0%  0/10.0M tokens  0 tokens/s"),
    ],
)
def test_line(monkeypatch: pytest.MonkeyPatch, done: int, seconds: float, expected: str) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    progress = Progress("pretrain", 10_000_000, "tokens")
    progress.advance(done, note="loss 2.1" if done > 1 else None)
    assert progress.line(seconds).startswith(expected)


def test_what_a_resumed_job_had_done_is_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    progress = Progress("rivals", 10, "units", done=8)
    progress.advance()
    assert progress.line(2.0) == "rivals   90%  9/10 units  0.5 units/s  ETA 0:02"


def test_work_under_way_counts_until_it_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    progress = Progress("finetune", 4, "runs", done=1)
    progress.partly(0.5)
    assert progress.line(10.0) == "finetune   38%  1.5/4 runs  0:20 each  ETA 0:50"
    progress.partly(0.0)
    progress.advance()
    assert progress.line(20.0) == "finetune   50%  2/4 runs  0:20 each  ETA 0:40"


def test_plain_streams_get_a_last_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("role", 2, "runs") as progress:
        progress.advance(2, note="dev 0.8")
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    assert told.err.startswith("role  2 runs in 0:00  ") and told.err.endswith("dev 0.8\n")


def test_who_has_the_terminal_shows_the_lines(capsys: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    with shown_by(lines.append), Progress("finetune", 2, "runs") as progress:
        progress.advance(2)
    assert [line.split("  ")[0] for line in lines] == ["finetune"] and not capsys.readouterr().err
    with Progress("finetune", 2, "runs") as progress:
        progress.advance(2)
    assert len(lines) == 1 and capsys.readouterr().err.startswith("finetune  2 runs in")
