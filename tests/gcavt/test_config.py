import json

import pytest

from gcavt.config import AdainGeneratorConfig, EditReposeGeneratorConfig, GcavtConfig


def test_joined_code_of_the_paper_is_1036_wide() -> None:
    assert GcavtConfig.paper().code_dim == 1036


@pytest.mark.parametrize(
    "config", [GcavtConfig.paper(), GcavtConfig.lite(), GcavtConfig.lite_adain(), GcavtConfig.tiny()]
)
def test_config_survives_json(config: GcavtConfig) -> None:
    assert GcavtConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_lite_uses_the_edit_repose_generator_and_lite_adain_the_papers() -> None:
    assert isinstance(GcavtConfig.lite().generator, EditReposeGeneratorConfig)
    assert isinstance(GcavtConfig.lite_adain().generator, AdainGeneratorConfig)


def test_unknown_key_is_named() -> None:
    values = GcavtConfig.tiny().to_dict()
    values["audio"]["heads"] = 8
    with pytest.raises(ValueError, match="unknown key in audio config: heads"):
        GcavtConfig.from_dict(values)


def test_missing_part_is_named() -> None:
    values = GcavtConfig.tiny().to_dict()
    del values["content"]
    with pytest.raises(ValueError, match="missing key in model config: content"):
        GcavtConfig.from_dict(values)


def test_unknown_generator_kind_is_refused() -> None:
    values = GcavtConfig.tiny().to_dict()
    values["generator"]["kind"] = "stylegan"
    with pytest.raises(ValueError, match="generator.kind must be one of"):
        GcavtConfig.from_dict(values)


def test_image_side_must_be_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="image_px must be a power of two of at least 16, got 200"):
        GcavtConfig(image_px=200)
