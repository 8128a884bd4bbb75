from __future__ import annotations

import signal
from pathlib import Path

from tests.examples.programs import Target, program, run


def grade(target: Target, folder: Path, script: str, *options: str) -> tuple[int, list[str], str]:
    submission = folder / "submission"
    submission.write_text(script)
    code, lines, errors = run(
        "grader.py", *target.options, "--interpreter", "sh -c", *options, target.image, str(submission)
    )
    assert target.containers() == []
    return code, [line[9:] if line[6:8] == " s" else line for line in lines], errors


def test_a_submission_passes(target: Target, tmp_path: Path) -> None:
    (tmp_path / "input").write_text("a\nb\n")
    (tmp_path / "expected").write_text("<a>\n<b>\n")
    files = ["--input", str(tmp_path / "input"), "--expect", str(tmp_path / "expected")]
    code, lines, errors = grade(target, tmp_path, 'echo hm >&2; while read -r line; do echo "<$line>"; done', *files)
    assert (code, lines[-1], errors) == (0, "passed", "")
    assert sorted(lines[:-1]) == ["! hm", "| <a>", "| <b>"]


def test_input_that_is_not_read(target: Target, tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(bytes(10_000_000))
    assert grade(target, tmp_path, "echo 1", "--input", str(tmp_path / "input")) == (0, ["| 1", "passed"], "")


def test_what_can_be_wrong(target: Target, tmp_path: Path) -> None:
    (tmp_path / "expected").write_text("2\n")
    expect = ["--expect", str(tmp_path / "expected")]
    assert grade(target, tmp_path, "echo 1", *expect) == (
        1,
        ["| 1", "failed: it printed something else than expected"],
        "",
    )
    assert grade(target, tmp_path, "echo 2; exit 3", *expect) == (1, ["| 2", "failed: its exit code is 3"], "")
    late = grade(target, tmp_path, "echo 2; exec sleep 1000", *expect, "--timeout", "1.5")
    assert late == (1, ["| 2", "failed: it had not ended after 1.5 s"], "")
    code, lines, _ = grade(
        target, tmp_path, "yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes yes"
    )
    assert (code, lines[-1]) == (1, "failed: it printed too much")


def test_lines_are_shown_as_they_come(target: Target, tmp_path: Path) -> None:
    submission = tmp_path / "submission"
    submission.write_text("echo one; exec sleep 1000")
    given = ["--interpreter", "sh -c", "--timeout", "1000", target.image, str(submission)]
    with program("grader.py", *target.options, *given) as running:
        assert running.line().endswith("| one")
        assert len(target.containers()) == 1
        assert running.end(signal.SIGINT) == (130, [], "")
        assert target.containers() == []
