import json

import av
import cv2
import numpy as np
import pytest

from training.synthetic.bank import IDENTITIES, PRETRAINED, room


@pytest.mark.parametrize("name", sorted(IDENTITIES))
def test_shipped_identity_has_four_portraits_on_black_and_its_facts(name: str) -> None:
    folder = PRETRAINED / "lite" / "identities" / name
    facts = json.loads((folder / "identity.json").read_text())
    assert facts["name"] == name and len(facts["reference_pose"]) == 6 and len(facts["crop_origin"]) == 4
    assert len(facts["side_poses"]) == 12 and facts["side_poses"][1] < -20 and facts["side_poses"][7] > 20
    for i in range(4):
        portrait = cv2.imread(str(folder / f"portrait_{i}.png"))
        assert portrait is not None and portrait.shape == (256, 256, 3)
        assert (portrait[:4, :4] == 0).all() and (portrait[:4, -4:] == 0).all()


def test_shipped_driver_clip_moves_and_sounds() -> None:
    path = PRETRAINED / "clips" / "demo.mp4"
    assert path.stat().st_size < 600_000
    with av.open(str(path)) as container:
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.name, audio.codec_context.name) == ("h264", "aac")
        assert video.average_rate == 25 and video.width == video.height == 384
        first, *_, last = container.decode(video=0)
    difference = first.to_ndarray(format="gray").astype(float) - last.to_ndarray(format="gray")
    assert np.abs(difference).mean() > 1


def test_room_is_a_picture_in_range() -> None:
    picture = room(64)
    assert picture.shape == (64, 64, 3)
    assert picture.min() >= 0 and picture.max() <= 1 and picture.std() > 0.05
