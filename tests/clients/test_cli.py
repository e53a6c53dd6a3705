"""The command line: help, dispatch, and what a person sees when something is wrong."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

from clients import cli
from engine.errors import BadMediaError


def _install_command(monkeypatch: pytest.MonkeyPatch, run: object) -> None:
    """Put a one-option command `probe` in place of the real ones."""
    module = types.ModuleType("probe_command")
    vars(module)["add_arguments"] = lambda parser: parser.add_argument("--size", type=int, default=1)
    vars(module)["run"] = run
    monkeypatch.setitem(sys.modules, "probe_command", module)
    monkeypatch.setattr(
        cli, "COMMANDS", (cli.Command("probe", "probe_command", "probe the command line", "train"),)
    )


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    for command in cli.COMMANDS:
        assert f"    {command.words.split()[0]} " in text


def test_no_command_prints_help_and_fails(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == cli.EXIT_USER_ERROR
    assert "gcavt serve" in capsys.readouterr().out


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["--version"])
    assert stop.value.code == 0
    assert capsys.readouterr().out.startswith("gcavt ")


def test_help_imports_no_engine_and_no_torch() -> None:
    code = (
        "import sys; from clients import cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'torch', 'aiortc', 'openvino', 'cv2', 'numpy'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_command_gets_its_own_options_and_its_exit_code_is_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    _install_command(monkeypatch, lambda args: args.size)
    assert cli.main(["probe", "--size", "7"]) == 7


def test_engine_error_is_one_line_and_code_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: object) -> int:
        raise BadMediaError("notes.txt is not a video")

    _install_command(monkeypatch, run)
    assert cli.main(["probe"]) == cli.EXIT_USER_ERROR
    assert capsys.readouterr().err == "gcavt: notes.txt is not a video\n"


def test_missing_extra_is_named_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: object) -> int:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    _install_command(monkeypatch, run)
    assert cli.main(["probe"]) == cli.EXIT_USER_ERROR
    assert capsys.readouterr().err == "gcavt: probe needs torch. Run: pip install 'gcavt-live[train]'\n"


def test_what_only_an_option_needs_is_not_sought_in_the_commands_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: object) -> int:
        raise ModuleNotFoundError("No module named 'nncf'", name="nncf")

    _install_command(monkeypatch, run)
    assert cli.main(["probe"]) == cli.EXIT_USER_ERROR
    assert capsys.readouterr().err == "gcavt: probe needs nncf. Run: pip install 'gcavt-live[int8]'\n"


def test_missing_module_of_ours_is_not_blamed_on_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: object) -> int:
        raise ModuleNotFoundError("No module named 'engine.mailbox'", name="engine.mailbox")

    _install_command(monkeypatch, run)
    with pytest.raises(ModuleNotFoundError):
        cli.main(["probe"])


def test_interrupt_ends_with_code_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(args: object) -> int:
        raise KeyboardInterrupt

    _install_command(monkeypatch, run)
    assert cli.main(["probe"]) == cli.EXIT_INTERRUPTED


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda command: command.words)
def test_every_command_of_the_list_explains_itself(
    command: cli.Command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main([*command.words.split(), "--help"])
    assert stop.value.code == 0
    assert "options:" in capsys.readouterr().out
