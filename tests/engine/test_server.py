"""The entry: options and the address to serve on."""

import argparse
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from engine.errors import PortInUseError
from engine.server import add_arguments, bind, config_from


def test_a_port_in_use_is_one_clear_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"127.0.0.1:{port}"):
            bind("127.0.0.1", port)


def test_a_port_in_use_ends_the_command_with_code_2_and_one_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        command = [sys.executable, "-m", "engine", "--port", str(taken.getsockname()[1])]
        finished = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 2
    assert len(finished.stderr.strip().splitlines()) == 1
    assert "--port" in finished.stderr


def parse(*arguments: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return parser.parse_args(arguments)


def test_secrets_are_read_from_files_and_not_shown(tmp_path: Path) -> None:
    for name in ("token", "turn"):
        (tmp_path / name).write_text(f"{name}-s3cret\n")
    config = config_from(
        parse(
            *("--token-file", str(tmp_path / "token"), "--turn", "turn:relay.example:3478"),
            *("--turn-secret-file", str(tmp_path / "turn")),
        )
    )
    assert (config.token, config.rtc.turn_secret) == ("token-s3cret", "turn-s3cret")
    assert "s3cret" not in repr(config)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--turn", "relay.example"), "--turn"),
        (("--turn", "turn:relay.example"), "secret"),
        (("--ice-server", "http://stun.example"), "--ice-server"),
        (("--token-file", "/nowhere/token"), "/nowhere/token"),
        (("--token-file", "/dev/null"), "one word"),
    ],
)
def test_a_setting_that_cannot_work_is_named(arguments: tuple[str, ...], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        config_from(parse(*arguments))
