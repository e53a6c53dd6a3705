from __future__ import annotations

import argparse
import json

import pytest

from clients.bench import startup


def _arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    startup.add_arguments(parser)
    return parser.parse_args(words)


def test_a_server_that_does_not_start_says_why_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert startup.run(_arguments("--runs", "1", "--model", "no-such-model")) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "gcavt bench startup: the server did not start: " in captured.err
    assert "no-such-model" in captured.err


@pytest.mark.slow
def test_a_cold_and_a_warm_start_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    startup.run(_arguments("--runs", "1"))
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["start"] for row in line["rows"]] == ["cold", "warm"]
    for row in line["rows"]:
        assert 0 < row["ready_s"] < row["first_picture_s"]
