from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

import gcavt.edit_repose
from gcavt.config import EditReposeGeneratorConfig, GcavtConfig
from gcavt.edit_repose import (
    FACE_CENTRE_PX,
    FACE_RADII_PX,
    EditReposeGenerator,
    HeadGeometry,
    Sides,
    adain_relu,
    hard_sigmoid,
    in_face,
    light_terms,
    pixel_grid,
    relighting,
    rotation_matrix,
    sample,
)
from gcavt.edit_repose_shapes import reference_state_shapes


def small_config() -> GcavtConfig:
    generator = EditReposeGeneratorConfig(
        editor_channels=(4, 4, 6, 8),
        reference_channels=(4, 6, 8),
        depth_channels=(8, 6, 4),
        reposer_channels=(8, 8, 8, 6, 4),
    )
    return replace(GcavtConfig.lite(), generator=generator)


@pytest.fixture(scope="module")
def generator() -> EditReposeGenerator:
    torch.manual_seed(0)
    return EditReposeGenerator(small_config()).eval()


def codes(batch: int = 1) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(1)
    return tuple(torch.randn(batch, width) for width in (512, 12, 256, 256))


def portrait(batch: int = 1) -> torch.Tensor:
    torch.manual_seed(2)
    return F.interpolate(torch.rand(batch, 3, 16, 16), size=(256, 256), mode="bicubic").clamp(0, 1)


ORIGIN = torch.tensor([[56.0, 60.0, 58.0, 62.0]])
SIDES = torch.cat([portrait().flip(2), portrait().flip(3)], 1)
NOT_TURNED = torch.zeros(1, 12)
TURNED = torch.tensor([[0, -30.0, 0, 0, 0, 0, 0, 30.0, 0, 0, 0, 0]])


def test_image_and_mask_have_the_promised_shape_and_range(generator: EditReposeGenerator) -> None:
    with torch.no_grad():
        state = generator.reference_encoder(portrait(), portrait(), ORIGIN, SIDES)
        image, mask = generator(*codes(), torch.zeros(1, 6), ORIGIN, NOT_TURNED, *state)
    assert image.shape == (1, 3, 256, 256)
    assert mask.shape == (1, 1, 256, 256)
    assert 0 <= image.min() and image.max() <= 1
    assert 0 <= mask.min() and mask.max() <= 1


def test_the_reference_state_has_the_declared_names_and_shapes(generator: EditReposeGenerator) -> None:
    with torch.no_grad():
        state = generator.reference_encoder(portrait(), portrait(), ORIGIN, SIDES)
    shapes = reference_state_shapes(small_config())
    assert [tuple(tensor.shape[1:]) for tensor in state] == list(shapes.values())
    assert all(name.startswith("reference_") for name in shapes)


def test_the_adain_member_has_no_reference_state() -> None:
    assert reference_state_shapes(GcavtConfig.paper()) == {}


def test_a_crop_is_an_exact_cut_and_pasting_no_change_restores_the_portrait(
    generator: EditReposeGenerator,
) -> None:
    image = portrait()
    crop = generator.reference_encoder.crop(image, ORIGIN[:, :2])
    torch.testing.assert_close(crop, image[:, :, 60:236, 56:200], atol=1e-5, rtol=0)
    pasted = generator.paste(image, torch.zeros_like(crop), ORIGIN[:, :2])
    torch.testing.assert_close(pasted, image)


def test_a_change_is_pasted_where_the_crop_was_cut(generator: EditReposeGenerator) -> None:
    change = torch.ones(1, 3, 176, 144)
    pasted = generator.paste(torch.zeros(1, 3, 256, 256), change, ORIGIN[:, :2])
    expected = F.pad(change, (56, 256 - 56 - 144, 60, 256 - 60 - 176))
    torch.testing.assert_close(pasted, expected, atol=1e-4, rtol=0)


def test_equal_poses_leave_every_pixel_in_place() -> None:
    geometry = HeadGeometry(EditReposeGeneratorConfig(), 256, 64)
    depth_blend = torch.rand(2, 2, 64, 64)
    pose = torch.tensor([[5.0, -20.0, 3.0, 0.1, 0.0, 0.2], [0.0, 30.0, 0.0, 0.0, 0.05, -0.3]])
    position = geometry(depth_blend, pose, pose)
    # the neck's inverse is approximate where head and body mix, exact at blend 0 and 1
    depth_blend[:, 1] = 1
    exact = geometry(depth_blend, pose, pose)
    torch.testing.assert_close(exact, geometry.grid.expand(2, -1, -1, -1), atol=2e-3, rtol=0)
    assert (position - geometry.grid).abs().max() < 12


def test_depth_found_in_the_reference_is_carried_over_to_the_target() -> None:
    geometry = HeadGeometry(EditReposeGeneratorConfig(), 256, 64)
    truth = torch.stack([torch.rand(1, 64, 64), torch.ones(1, 64, 64)], 1)
    target = torch.tensor([[4.0, 18.0, -3.0, 0.1, 0.0, 0.2]])
    reference = torch.tensor([[-2.0, -6.0, 1.0, 0.0, 0.05, -0.1]])
    position = geometry(truth, target, reference)
    # what the reference shows at those positions: the same points in the reference's own pose
    found = geometry.carry_over(geometry.grid, truth, reference, target)
    torch.testing.assert_close(
        geometry.carry_over(position, found, target, reference), truth, atol=1e-3, rtol=0
    )


def test_fixed_point_steps_lead_from_a_flat_guess_to_the_targets_depth() -> None:
    geometry = HeadGeometry(EditReposeGeneratorConfig(), 256, 64)
    across, down = (geometry.grid[:, i : i + 1] / 128 - 1 for i in range(2))
    bowl = 0.8 - across**2 - down**2
    known = torch.cat([bowl, torch.ones_like(bowl)], 1)
    target, reference = torch.tensor([[0.0, 12.0, 0, 0, 0, 0]]), torch.zeros(1, 6)
    depth = torch.cat([torch.full_like(bowl, 0.3), torch.ones_like(bowl)], 1)
    changes = []
    for _ in range(4):
        position = geometry(depth, target, reference)
        nearer = geometry.carry_over(position, sample(known, position / 4), target, reference)
        changes.append((nearer - depth)[:, :, 12:52, 12:52].abs().mean())
        depth = nearer
    assert changes[1] < 0.5 * changes[0]
    assert changes[3] < 0.1 * changes[0]


def test_a_normal_turns_with_the_head_and_stays_with_the_body() -> None:
    ahead = torch.tensor([0.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
    straight, turned = torch.zeros(1, 6), torch.tensor([[0.0, 30.0, 0.0, 0.2, 0.1, 0.3]])
    head = HeadGeometry.turned(ahead, torch.ones(1, 1, 1, 1), straight, turned)
    expected = rotation_matrix(torch.tensor([[0.0, 30.0, 0.0]])) @ torch.tensor([0.0, 0.0, 1.0])
    torch.testing.assert_close(head.flatten(), expected.flatten())
    body = HeadGeometry.turned(ahead, torch.zeros(1, 1, 1, 1), straight, turned)
    torch.testing.assert_close(body, ahead)
    back = HeadGeometry.turned(head, torch.ones(1, 1, 1, 1), turned, straight)
    torch.testing.assert_close(back, ahead)


def test_harmonics_relight_a_surface_as_the_lights_brightness_says() -> None:
    # brightness 2 + x: what faced right is brighter, whatever its colour
    light = torch.zeros(1, 3, 9)
    light[..., 0], light[..., 1] = 2.0, 1.0
    left, right = torch.tensor([-0.6, 0.0, 0.8]), torch.tensor([0.6, 0.0, 0.8])
    before, after = (n.reshape(1, 3, 1, 1) for n in (left, right))
    gain = relighting(light, before, after)
    torch.testing.assert_close(gain, torch.full((1, 3, 1, 1), 2.6 / 1.4))
    torch.testing.assert_close(relighting(light, after, before) * gain, torch.ones(1, 3, 1, 1))
    assert light_terms(before).shape == (1, 9, 1, 1)


def test_an_untrained_light_changes_almost_nothing(generator: EditReposeGenerator) -> None:
    with torch.no_grad():
        light = generator.reference_encoder(portrait(), portrait(), ORIGIN, SIDES)[10]
    torch.manual_seed(4)
    before, after = (F.normalize(torch.randn(1, 3, 8, 8), dim=1) for _ in range(2))
    assert (relighting(light, before, after) - 1).abs().max() < 0.2


def test_a_hard_sigmoid_lets_gradient_through_only_towards_its_ramp() -> None:
    x = torch.tensor([-5.0, 0.0, 5.0], requires_grad=True)
    y = hard_sigmoid(x)
    torch.testing.assert_close(y, torch.tensor([0.0, 0.5, 1.0]))
    (outwards,) = torch.autograd.grad(y, x, torch.tensor([1.0, 1.0, -1.0]), retain_graph=True)
    (inwards,) = torch.autograd.grad(y, x, torch.tensor([-1.0, 1.0, 1.0]))
    assert outwards.tolist() == [0.0, 0.25, 0.0]
    assert inwards.tolist() == [-0.25, 0.25, 0.25]


def test_moving_the_head_nearer_magnifies_about_the_optical_axis() -> None:
    geometry = HeadGeometry(EditReposeGeneratorConfig(), 256, 64)
    flat = torch.stack([torch.full((1, 64, 64), 1.0), torch.ones(1, 64, 64)], 1)
    near, far = torch.zeros(1, 6), torch.zeros(1, 6)
    near[0, 5] = 1.0
    position = geometry(flat + torch.tensor([1.0, 0.0])[None, :, None, None], near, far)
    offset_here, offset_there = geometry.grid - 128, position - 128
    torch.testing.assert_close(offset_there, offset_here * (9.0 / 10.0), atol=1e-2, rtol=0)


def test_rotation_turns_about_the_axes_in_the_renderers_order() -> None:
    yaw = rotation_matrix(torch.tensor([[0.0, 90.0, 0.0]]))[0]
    torch.testing.assert_close(
        yaw @ torch.tensor([0.0, 0.0, 1.0]), torch.tensor([1.0, 0.0, 0.0]), atol=1e-6, rtol=0
    )
    pitch = rotation_matrix(torch.tensor([[90.0, 0.0, 0.0]]))[0]
    torch.testing.assert_close(
        pitch @ torch.tensor([0.0, 0.0, 1.0]), torch.tensor([0.0, -1.0, 0.0]), atol=1e-6, rtol=0
    )


def test_sampling_at_pixel_centres_returns_the_picture() -> None:
    image = torch.rand(1, 3, 20, 30)
    torch.testing.assert_close(sample(image, pixel_grid(20, 30)), image, atol=1e-5, rtol=0)


def test_fused_adain_equals_instance_norm_in_value_and_gradient() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 5, 9, 7, requires_grad=True)
    scale = torch.randn(2, 5, requires_grad=True)
    shift = torch.randn(2, 5, requires_grad=True)
    weight = torch.randn(2, 5, 9, 7)
    fused = adain_relu(x, scale, shift)
    plain = F.relu(F.instance_norm(x, eps=1e-4) * scale[:, :, None, None] + shift[:, :, None, None])
    torch.testing.assert_close(fused, plain, atol=1e-5, rtol=1e-5)
    ours = torch.autograd.grad((fused * weight).sum(), (x, scale, shift))
    reference = torch.autograd.grad((plain * weight).sum(), (x, scale, shift))
    for mine, theirs in zip(ours, reference, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-4, rtol=1e-4)


def test_the_mouth_code_reaches_the_picture(generator: EditReposeGenerator) -> None:
    identity, pose, expression, content = codes()
    with torch.no_grad():
        state = generator.reference_encoder(portrait(), portrait(), ORIGIN, SIDES)
        one, _ = generator(identity, pose, expression, content, torch.zeros(1, 6), ORIGIN, NOT_TURNED, *state)
        two, _ = generator(
            identity, pose, expression, -content, torch.zeros(1, 6), ORIGIN, NOT_TURNED, *state
        )
    assert (one - two).abs().max() > 1e-4


def test_lite_generates_within_its_budget_of_operations() -> None:
    from torch.utils.flop_counter import FlopCounterMode

    config = GcavtConfig.lite()
    with torch.device("meta"):
        lite = EditReposeGenerator(config)
        state = [torch.empty(1, *shape) for shape in reference_state_shapes(config).values()]
        inputs = [torch.empty(1, width) for width in (512, 12, 256, 256, 6, 4, 12)]
        with FlopCounterMode(display=False) as counter:
            lite(*inputs, *state)
    assert counter.get_total_flops() < 1.5e9


def drawn(
    generator: EditReposeGenerator, yaw_deg: float, sides: torch.Tensor, side_poses: torch.Tensor
) -> torch.Tensor:
    identity, _, expression, content = codes()
    pose = torch.zeros(1, 12)
    pose[0, 1] = yaw_deg / 15
    with torch.no_grad():
        state = generator.reference_encoder(portrait(), portrait(), ORIGIN, sides)
        image: torch.Tensor = generator(
            identity, pose, expression, content, torch.zeros(1, 6), ORIGIN, side_poses, *state
        )[0]
    return image


def test_a_turned_head_shows_what_the_side_portrait_on_that_side_shows(
    generator: EditReposeGenerator,
) -> None:
    left, right = torch.split(SIDES, 3, 1)
    other_left, other_right = torch.cat([1 - left, right], 1), torch.cat([left, 1 - right], 1)
    turned_left = drawn(generator, -20, SIDES, TURNED)
    assert (drawn(generator, -20, other_left, TURNED) - turned_left).abs().max() > 1e-3
    torch.testing.assert_close(drawn(generator, -20, other_right, TURNED), turned_left)
    turned_right = drawn(generator, 20, SIDES, TURNED)
    assert (drawn(generator, 20, other_right, TURNED) - turned_right).abs().max() > 1e-3
    torch.testing.assert_close(drawn(generator, 20, other_left, TURNED), turned_right)


def test_at_rest_and_without_turned_portraits_the_sides_do_not_matter(generator: EditReposeGenerator) -> None:
    torch.testing.assert_close(drawn(generator, 0, SIDES, TURNED), drawn(generator, 0, 1 - SIDES, TURNED))
    torch.testing.assert_close(
        drawn(generator, 20, SIDES, NOT_TURNED), drawn(generator, 20, 1 - SIDES, NOT_TURNED)
    )


def test_the_sides_change_without_a_jump_where_the_head_passes_the_middle(
    generator: EditReposeGenerator,
) -> None:
    across = drawn(generator, -0.01, SIDES, TURNED) - drawn(generator, 0.01, SIDES, TURNED)
    assert across.abs().max() < 0.01


def test_both_sides_are_looked_at_alike_in_a_mirror(generator: EditReposeGenerator) -> None:
    encoder = generator.reference_encoder
    left = portrait()
    with torch.no_grad():
        _, maps = encoder.encode_portraits(left, torch.cat([left, left.flip(3)], 1))
        surfaces = encoder.side_surfaces(maps)
    one, other = surfaces.chunk(2, 1)
    mirrored = other.flip(3) * torch.tensor([1.0, 1, -1, 1, 1])[None, :, None, None]
    torch.testing.assert_close(one, mirrored)


def test_a_reference_tells_what_its_surface_hides() -> None:
    geometry = HeadGeometry(EditReposeGeneratorConfig(), 256, 64)
    pose = torch.zeros(1, 6)
    wall = torch.stack([torch.full((1, 64, 64), 0.5), torch.ones(1, 64, 64)], 1)
    behind = wall - torch.tensor([0.3, 0.0])[None, :, None, None]
    _, hidden, _ = geometry.look_up(behind, wall, pose, pose)
    torch.testing.assert_close(hidden, torch.full((1, 1, 64, 64), 0.3))
    facing = torch.rand(1, 3, 64, 64)
    found, hidden, rest = geometry.look_up(wall, torch.cat([wall, facing], 1), pose, pose)
    torch.testing.assert_close(rest, facing, atol=1e-4, rtol=0)
    torch.testing.assert_close(hidden, torch.zeros(1, 1, 64, 64), atol=1e-5, rtol=0)
    torch.testing.assert_close(found, wall, atol=1e-5, rtol=0)


def test_a_side_portrait_lends_nothing_in_the_middle_of_the_face_and_all_beside_it() -> None:
    origin = torch.tensor([[56.0, 60.0]])
    x, y = origin[0] + torch.tensor(FACE_CENTRE_PX)
    columns = x + torch.tensor([0.0, FACE_RADII_PX[0] - 1, 2 * FACE_RADII_PX[0]])
    position = torch.stack([columns, y.expand(3)])[None, :, None]
    assert in_face(position, origin).flatten().tolist() == [1.0, 1.0, 0.0]


@pytest.mark.parametrize(("faces_from", "is_shown"), [(-3.0, True), (2.0, False)])
def test_what_a_side_portrait_lends_changes_as_the_portrait_does_where_that_shows_how(
    generator: EditReposeGenerator, monkeypatch: pytest.MonkeyPatch, faces_from: float, is_shown: bool
) -> None:
    monkeypatch.setattr(gcavt.edit_repose, "FACES_FROM", faces_from)
    monkeypatch.setattr(gcavt.edit_repose, "FACES_FULLY", faces_from + 1)
    monkeypatch.setattr(gcavt.edit_repose, "HIDES", 0.0)
    monkeypatch.setattr(gcavt.edit_repose, "FACE_RADII_PX", (0.1, 0.1))
    identity, pose, expression, content = codes()
    pose[0, 1] = 20 / 15
    white = torch.ones(1, 3, 256, 256)
    with torch.no_grad():
        state = generator.reference_encoder(portrait(), portrait(), ORIGIN, SIDES)
        given = (state[5:8], state[8:11], identity, pose, expression, content, torch.zeros(1, 6), ORIGIN)
        sides = Sides(TURNED, torch.ones(1, 6, 256, 256), state[12])
        at_rest, changed = (
            generator.reposer(edited, white, *given, sides).lit for edited in (white, 1.5 * white)
        )
    change = changed / at_rest - 1
    assert change.max() < 0.5 + 1e-4
    assert (change.min() > 0.5 - 1e-4) == is_shown
