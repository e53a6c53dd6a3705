from __future__ import annotations

import subprocess
import sys

from gcavt.config import GcavtConfig
from trt_build.specs import engine_specs


def test_the_paper_has_five_encoders_and_a_generator_of_four_codes() -> None:
    specs = engine_specs(GcavtConfig.paper())
    assert list(specs) == [
        "identity_encoder",
        "pose_encoder",
        "expression_encoder",
        "content_encoder",
        "audio_encoder",
        "generator",
    ]
    assert {t.name: t.shape for t in specs["generator"].inputs} == {
        "identity_code": ("batch", 512),
        "pose_code": ("batch", 12),
        "expression_code": ("batch", 256),
        "content_code": ("batch", 256),
    }
    assert specs["generator"].output_names == ("image", "mask")


def test_lite_feeds_its_reference_state_to_the_generator_by_the_same_names_and_shapes() -> None:
    specs = engine_specs(GcavtConfig.lite())
    state = {t.name: t.shape for t in specs["reference_encoder"].outputs}
    inputs = {t.name: t.shape for t in specs["generator"].inputs}
    assert state.items() <= inputs.items()
    assert set(inputs) - set(state) == {
        "identity_code",
        "pose_code",
        "expression_code",
        "content_code",
        "reference_pose",
        "crop_origin",
        "side_poses",
    }


def test_seen_and_heard_mouths_give_one_kind_of_code() -> None:
    specs = engine_specs(GcavtConfig.lite())
    assert specs["content_encoder"].outputs == specs["audio_encoder"].outputs


def test_only_the_batch_is_left_open() -> None:
    for spec in engine_specs(GcavtConfig.lite()).values():
        for tensor in (*spec.inputs, *spec.outputs):
            assert tensor.shape[0] == "batch"
            assert tensor.with_batch(3) == (3, *tensor.shape[1:])


def test_specs_and_manifest_are_read_without_torch() -> None:
    code = "import sys; sys.modules['torch'] = None; import trt_build.specs, trt_build.manifest"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_one_profile_of_batches_holds_for_every_tensor() -> None:
    spec = engine_specs(GcavtConfig.lite())["generator"]
    for tensor in (*spec.inputs, *spec.outputs):
        least, favoured, largest = spec.profile(tensor)
        assert least == favoured == (1, *tensor.shape[1:])
        assert largest == (32, *tensor.shape[1:])
