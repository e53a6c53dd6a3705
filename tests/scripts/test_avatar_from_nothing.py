"""The whole way from nothing to a served avatar, at the small settings (minutes)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from gcavt.checkpoint import read_checkpoint
from training.metrics.actor import opened
from training.metrics.showcase import bank_sheet, read_bank
from training.synthetic import espeak, flite

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not espeak.is_installed(), reason="libespeak-ng is not installed"),
    pytest.mark.skipif(not flite.is_installed(), reason="flite is not installed"),
]


def run(*arguments: str) -> None:
    bin_folder = Path(sys.executable).parent
    subprocess.run(
        [str(ROOT / "scripts" / "avatar-from-nothing"), *arguments],
        check=True,
        cwd=ROOT,
        env=os.environ | {"BIN": str(bin_folder)},
    )


def test_rendered_people_become_an_avatar_that_is_served(tmp_path: Path) -> None:
    run(str(tmp_path / "avatar"), "small")
    checkpoint = read_checkpoint(tmp_path / "avatar" / "avatar.safetensors")
    assert checkpoint.provenance["untrained"] == []

    bundle = tmp_path / "avatar" / "bundle"
    with opened(str(bundle)) as actor:
        (character,) = read_bank(actor, bundle / "identities")
        sheet = bank_sheet(actor, [character])
    assert sheet.std() > 5

    command = [sys.executable, "-m", "clients", "serve", "--model", str(bundle), "--port", "0"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as server:
        try:
            assert server.stderr is not None
            url = next(m.group() for line in server.stderr if (m := re.search(r"http://[\w.]+:\d+", line)))
            with urllib.request.urlopen(f"{url}/healthz") as answer:
                assert answer.status == 200
        finally:
            server.terminate()


def test_unknown_settings_are_refused(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as error:
        run(str(tmp_path), "large")
    assert error.value.returncode == 2
