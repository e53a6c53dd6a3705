"""`gcavt doctor`: each finding, and the verdict that they add up to."""

from __future__ import annotations

import argparse
import dataclasses
import json
import socket
from pathlib import Path

import pytest

from clients import doctor
from clients.doctor import Check
from gcavt.config import GcavtConfig
from trt_build.manifest import FILE_NAME, Manifest, NetworkEntry, file_sha256, shapes_of
from trt_build.specs import engine_specs

CPUINFO = """\
processor\t: 0
model name\t: Example CPU 9000
flags\t\t: fpu sse2 avx2 avx512f amx_bf16
processor\t: 1
model name\t: Example CPU 9000
flags\t\t: fpu sse2 avx2 avx512f amx_bf16
"""


def _write_bundle(folder: Path) -> Manifest:
    """A bundle of the tiny model whose network files hold a few bytes each."""
    networks = {}
    config = GcavtConfig.tiny()
    for name, spec in engine_specs(config).items():
        path = folder / f"{name}.onnx"
        path.write_bytes(name.encode())
        networks[name] = NetworkEntry(
            file=path.name,
            sha256=file_sha256(path),
            inputs=shapes_of(spec.inputs),
            outputs=shapes_of(spec.outputs),
        )
    manifest = Manifest(name="tiny", config=config, networks=networks, code_space="free", neutral=None)
    manifest.save(folder / FILE_NAME)
    return manifest


def test_cpu_is_named_with_the_instructions_that_inference_gains_from() -> None:
    check = doctor.check_cpu(CPUINFO, cores=2)
    assert check.finding == "Example CPU 9000, 2 cores, AVX2, AVX-512, AMX bf16"


def test_whole_bundle_is_verified(tmp_path: Path) -> None:
    _write_bundle(tmp_path)
    check = doctor.check_bundle(tmp_path)
    assert check.status == "ok"
    assert "5 networks verified" in check.finding or "6 networks verified" in check.finding


def test_damaged_network_file_is_named(tmp_path: Path) -> None:
    _write_bundle(tmp_path)
    (tmp_path / "pose_encoder.onnx").write_bytes(b"other bytes")
    check = doctor.check_bundle(tmp_path)
    assert check.status == "broken"
    assert "pose_encoder.onnx is damaged" in check.finding
    assert check.remedy


def test_missing_network_file_is_named(tmp_path: Path) -> None:
    _write_bundle(tmp_path)
    (tmp_path / "generator.onnx").unlink()
    assert "generator.onnx does not exist" in doctor.check_bundle(tmp_path).finding


def test_bundle_of_other_shapes_is_refused(tmp_path: Path) -> None:
    manifest = _write_bundle(tmp_path)
    networks = {name: entry for name, entry in manifest.networks.items() if name != "audio_encoder"}
    dataclasses.replace(manifest, networks=networks).save(tmp_path / FILE_NAME)
    assert doctor.check_bundle(tmp_path).finding == "network audio_encoder is missing"


def test_missing_bundle_is_broken_with_its_path(tmp_path: Path) -> None:
    check = doctor.check_bundle(tmp_path / "nowhere")
    assert check.status == "broken"
    assert "nowhere" in check.finding


def test_port_in_use_is_found_and_another_is_offered() -> None:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        port = holder.getsockname()[1]
        check = doctor.check_port(port)
    assert check.status == "absent"
    assert f"--port {port + 1}" in check.remedy


def test_closed_camera_is_told_from_no_camera(tmp_path: Path) -> None:
    assert "none at" in doctor.check_camera([]).finding
    closed = doctor.check_camera([str(tmp_path / "video0")])
    assert "usermod" in closed.remedy


def test_package_that_is_not_installed_comes_with_its_command() -> None:
    check = doctor.check_package("Nothing", "no_such_package_at_all", "pip install nothing")
    assert (check.status, check.finding, check.remedy) == ("absent", "not installed", "pip install nothing")


def test_default_backend_says_its_devices_and_precision() -> None:
    check = doctor.check_openvino()
    assert check.status == "ok"
    assert "devices CPU" in check.finding
    assert check.finding.endswith(("CPU in f32", "CPU in bf16", "CPU in int8"))


def test_table_puts_the_remedy_below_its_check() -> None:
    lines = doctor.table(
        [
            Check(name="port", status="ok", finding="free"),
            Check(name="model", status="broken", finding="damaged", remedy="fetch it again"),
        ]
    ).splitlines()
    assert lines == [" ok  port   free", " !!  model  damaged", "            -> fetch it again"]


@pytest.mark.parametrize(("status", "code"), [("ok", 0), ("absent", 0), ("broken", 1)])
def test_exit_code_says_whether_the_engine_can_serve(
    status: doctor.Status, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    check = Check(name="model", status=status, finding="as found")
    monkeypatch.setattr(doctor, "examine", lambda port: [check])
    assert doctor.run(argparse.Namespace(port=8080, json=True)) == code
    answer = json.loads(capsys.readouterr().out)
    assert answer["can_serve"] is (code == 0)
    assert answer["checks"] == [{"name": "model", "status": status, "finding": "as found", "remedy": ""}]


def test_whole_examination_ends_with_a_verdict(capsys: pytest.CaptureFixture[str]) -> None:
    code = doctor.run(argparse.Namespace(port=8080, json=False))
    text = capsys.readouterr().out
    assert ("The engine can serve here." in text) == (code == 0)
    for name in ("CPU", "memory", "GPU", "OpenVINO", "model", "face model", "camera", "microphone", "port"):
        assert f"  {name} " in text
