"""Tensors of the edit_repose generator's reference state; kept apart so that no torch is needed."""

from __future__ import annotations

from gcavt.config import EditReposeGeneratorConfig, GcavtConfig

LIGHT_TERMS = 9
"""Real spherical harmonics up to the second degree."""


def reference_state_shapes(config: GcavtConfig) -> dict[str, tuple[int, ...]]:
    """Name -> shape without batch of what the reference encoder computes once per identity, in order."""
    generator = config.generator
    if not isinstance(generator, EditReposeGeneratorConfig):
        return {}
    height, width = generator.crop_height_px, generator.crop_width_px
    _, half, quarter, eighth = generator.editor_channels
    maps = generator.reference_channels
    side = config.image_px
    return {
        "reference_primary": (3, side, side),
        "reference_crops": (6, height, width),
        "reference_editor_2": (half, height // 2, width // 2),
        "reference_editor_4": (quarter, height // 4, width // 4),
        "reference_editor_8": (eighth, height // 8, width // 8),
        "reference_map_4": (maps[0], side // 4, side // 4),
        "reference_map_8": (maps[1], side // 8, side // 8),
        "reference_map_16": (maps[2], side // 16, side // 16),
        "reference_depth": (2, side // 4, side // 4),
        "reference_normal": (3, side // 4, side // 4),
        "reference_light": (3, LIGHT_TERMS),
        "reference_sides": (6, side, side),
        "reference_side_surfaces": (10, side // 4, side // 4),
    }
