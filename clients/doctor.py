"""`gcavt doctor`: what of this machine the engine can use, and how to mend what it cannot."""

from __future__ import annotations

import argparse
import glob
import importlib
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Literal

import gcavt
from engine.errors import EngineError
from trt_build.manifest import FILE_NAME, Manifest, ManifestError, file_sha256, shape_mismatches

Status = Literal["ok", "absent", "broken"]
"""`absent`: something optional is not here. `broken`: the engine cannot serve without it."""

DEFAULT_PORT: Final = 8080
BUNDLE_DIR: Final = Path(gcavt.__file__).parent / "pretrained" / "lite"
CPU_FEATURES: Final = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx_vnni": "AVX VNNI",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 bf16",
    "amx_bf16": "AMX bf16",
}
MARKS: Final = {"ok": "ok", "absent": "--", "broken": "!!"}


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing looked at: what it is, what was found, and how to mend it."""

    name: str
    status: Status
    finding: str
    remedy: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=DEFAULT_PORT, help="port to try (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def run(args: argparse.Namespace) -> int:
    """Print every check. Returns 0 if the engine can serve here, else 1."""
    checks = examine(args.port)
    can_serve = all(check.status != "broken" for check in checks)
    if args.json:
        print(json.dumps({"can_serve": can_serve, "checks": [asdict(check) for check in checks]}, indent=1))
    else:
        print(table(checks))
        if any("pip install" in check.remedy for check in checks):
            print(f"\npip stands for: {sys.executable} -m pip")
        print(
            "\nThe engine can serve here."
            if can_serve
            else "\nThe engine cannot serve here: mend the lines marked !!"
        )
    return 0 if can_serve else 1


def examine(port: int) -> list[Check]:
    """Every check, in the order of the data flow. Takes a few seconds: each backend is really loaded."""
    return [
        check_python(),
        check_cpu(_read("/proc/cpuinfo"), os.cpu_count() or 1),
        check_memory(),
        check_gpu(),
        check_openvino(),
        check_onnxruntime(),
        check_torch(),
        check_package("TensorRT", "tensorrt", "pip install 'gcavt-live[tensorrt]'  (NVIDIA GPUs)"),
        check_package("TensorRT RTX", "tensorrt_rtx_libs", "pip install 'gcavt-live[rtx]'  (GeForce RTX)"),
        check_bundle(BUNDLE_DIR),
        *check_face_models(),
        check_camera(sorted(glob.glob("/dev/video*"))),
        check_microphone(),
        check_port(port),
        check_tool("espeak-ng", "only the synthetic data needs it"),
        check_tool("chromium", "only the page's test needs it"),
    ]


def table(checks: Sequence[Check]) -> str:
    """One line per check, and one more where there is something to do."""
    width = max(len(check.name) for check in checks)
    lines = []
    for check in checks:
        lines.append(f"{MARKS[check.status]:>3}  {check.name:<{width}}  {check.finding}")
        if check.remedy:
            lines.append(f"     {'':<{width}}  -> {check.remedy}")
    return "\n".join(lines)


def check_python() -> Check:
    return Check(name="Python", status="ok", finding=f"{platform.python_version()} on {platform.platform()}")


def check_cpu(cpuinfo: str, cores: int) -> Check:
    """Name, cores and the instructions that inference gains from. `cpuinfo`: the text of /proc/cpuinfo."""
    fields = [line.partition(":") for line in cpuinfo.splitlines()]
    values = {key.strip(): value.strip() for key, _, value in fields}
    name = values.get("model name", platform.processor() or platform.machine())
    flags = values.get("flags", "").split()
    found = [label for flag, label in CPU_FEATURES.items() if flag in flags]
    features = ", ".join(found) or "no vector extension that speeds up inference"
    return Check(name="CPU", status="ok", finding=f"{name}, {cores} cores, {features}")


def check_memory() -> Check:
    import psutil

    memory = psutil.virtual_memory()
    free_gib, total_gib = memory.available / 2**30, memory.total / 2**30
    finding = f"{free_gib:.1f} of {total_gib:.1f} GiB free"
    if free_gib < 1.0:
        return Check(
            name="memory",
            status="absent",
            finding=finding,
            remedy="the engine takes about 1 GiB: close something",
        )
    return Check(name="memory", status="ok", finding=finding)


def check_gpu() -> Check:
    if shutil.which("nvidia-smi") is None:
        return Check(name="GPU", status="absent", finding="no NVIDIA driver found; the CPU does the work")
    query = [
        "nvidia-smi",
        "--query-gpu=name,memory.total,driver_version,compute_cap",
        "--format=csv,noheader",
    ]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=30, check=False)
    if answer.returncode != 0:
        complaint = (answer.stdout + answer.stderr).strip().splitlines() or ["no message"]
        return Check(name="GPU", status="absent", finding=f"nvidia-smi fails: {complaint[0]}")
    return Check(name="GPU", status="ok", finding="; ".join(answer.stdout.strip().splitlines()))


def check_openvino() -> Check:
    """The default backend, with its devices and the precision it computes in on the CPU."""

    def describe(openvino: Any) -> str:
        from trt_build.openvino_precision import has_native_bf16, has_vnni  # which import OpenVINO

        core = openvino.Core()
        precision = "bf16" if has_native_bf16(core) else "int8" if has_vnni() else "f32"
        return f"{_version('openvino')}, devices {', '.join(core.available_devices)}, CPU in {precision}"

    return _check_import("OpenVINO", "openvino", describe, "pip install openvino", is_required=True)


def check_onnxruntime() -> Check:
    def describe(onnxruntime: Any) -> str:
        return f"{_version('onnxruntime')}, providers {', '.join(onnxruntime.get_available_providers())}"

    return _check_import("ONNX Runtime", "onnxruntime", describe, "pip install 'gcavt-live[onnxruntime]'")


def check_torch() -> Check:
    def describe(torch: Any) -> str:
        return f"{torch.__version__}, {'CUDA' if torch.cuda.is_available() else 'CPU only'}"

    return _check_import(
        "PyTorch", "torch", describe, "pip install 'gcavt-live[train]'  (training and reference only)"
    )


def check_package(name: str, module: str, install: str) -> Check:
    return _check_import(name, module, lambda found: str(getattr(found, "__version__", "installed")), install)


def check_bundle(bundle_dir: Path) -> Check:
    """The shipped model: every file is there, is the one that was exported, and fits this engine."""
    reinstall = "reinstall gcavt-live, or check out gcavt/pretrained again"
    try:
        manifest = Manifest.load(bundle_dir / FILE_NAME)
    except ManifestError as error:
        return Check(name="model", status="broken", finding=str(error), remedy=reinstall)
    problems = shape_mismatches(manifest)
    for name, entry in manifest.networks.items():
        path = bundle_dir / entry.file
        if not path.is_file():
            problems.append(f"{path} does not exist")
        elif file_sha256(path) != entry.sha256:
            problems.append(f"{path} is damaged: {name} has another sha256 than its manifest says")
    if problems:
        return Check(name="model", status="broken", finding=problems[0], remedy=reinstall)
    finding = f"{manifest.name}, {len(manifest.networks)} networks verified ({bundle_dir})"
    return Check(name="model", status="ok", finding=finding)


def check_face_models() -> list[Check]:
    """MediaPipe itself and the two model files it runs; files that are not here yet are fetched now."""

    def describe(vision: Any) -> str:
        return f"{_version('mediapipe')}, face tracking loads"

    remedy = "apt-get install -y libgl1 libglib2.0-0 libgles2 libegl1 && pip install mediapipe==0.10.35"
    runtime = _check_import("MediaPipe", "mediapipe.tasks.python.vision", describe, remedy, is_required=True)
    from engine.assets import face_landmarker_path, selfie_segmentation_path

    return [
        runtime,
        _check_asset("face model", face_landmarker_path),
        _check_asset("mask model", selfie_segmentation_path),
    ]


def check_camera(devices: Sequence[str]) -> Check:
    """Cameras of this machine itself: a browser on another machine brings its own."""
    name = "camera"
    if not devices:
        finding = "none at /dev/video*; a camera of the browser's machine works all the same"
        return Check(name=name, status="absent", finding=finding)
    closed = [device for device in devices if not os.access(device, os.R_OK | os.W_OK)]
    if closed:
        return Check(
            name=name,
            status="absent",
            finding=f"{', '.join(closed)} may not be opened by this user",
            remedy="sudo usermod -aG video $USER, then log in again",
        )
    return Check(name=name, status="ok", finding=", ".join(devices))


def check_microphone() -> Check:
    """Microphones of this machine itself, through PortAudio; the browser brings its own."""
    name = "microphone"
    try:
        import sounddevice
    except OSError as error:  # the Python package is here, its C library is not
        remedy = "apt-get install -y libportaudio2"
        return Check(name=name, status="absent", finding=f"PortAudio does not load: {error}", remedy=remedy)
    except ModuleNotFoundError:
        remedy = "pip install 'gcavt-live[desktop]'"
        return Check(name=name, status="absent", finding="sounddevice is not installed", remedy=remedy)
    inputs = [device["name"] for device in sounddevice.query_devices() if device["max_input_channels"] > 0]
    if not inputs:
        return Check(
            name=name, status="absent", finding="none here; the browser's microphone works all the same"
        )
    return Check(name=name, status="ok", finding=", ".join(inputs))


def check_port(port: int, host: str = "127.0.0.1") -> Check:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            remedy = f"stop what uses it, or run: gcavt serve --port {port + 1}"
            finding = f"{host}:{port} cannot be used: {error.strerror}"
            return Check(name="port", status="absent", finding=finding, remedy=remedy)
    return Check(name="port", status="ok", finding=f"{host}:{port} is free")


def check_tool(command: str, purpose: str) -> Check:
    path = shutil.which(command)
    if path is None:
        remedy = f"apt-get install -y {command}"
        return Check(name=command, status="absent", finding=f"not installed; {purpose}", remedy=remedy)
    return Check(name=command, status="ok", finding=path)


def _check_import(
    name: str, module: str, describe: Callable[[Any], str], install: str, *, is_required: bool = False
) -> Check:
    """Load `module` for real. `install` is the command that brings it."""
    failure: Status = "broken" if is_required else "absent"
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        return Check(name=name, status=failure, finding="not installed", remedy=install)
    try:
        finding = describe(importlib.import_module(module))
    except (
        ImportError,
        OSError,
        RuntimeError,
    ) as error:  # a library that does not load, a driver that is missing
        reason = str(error).strip().partition("\n")[0]
        return Check(
            name=name, status=failure, finding=f"installed but does not load: {reason}", remedy=install
        )
    return Check(name=name, status="ok", finding=finding)


def _check_asset(name: str, find: Callable[[], Path]) -> Check:
    try:
        return Check(name=name, status="ok", finding=str(find()))
    except EngineError as error:
        return Check(name=name, status="broken", finding=error.message)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "of unknown version"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux: there is no such file
        return ""
