import math

import pytest
import torch
from torch import Tensor

from gcavt.discriminator import ScaleOutput
from gcavt.feature_networks import FeatureNetwork
from gcavt.losses import (
    ContrastiveSyncLoss,
    IdentityClassifier,
    LossWeights,
    PerceptualLoss,
    ReconstructionLoss,
    adversarial_loss,
    dice_loss,
    discriminator_loss,
    embedding_match_loss,
    feature_matching_loss,
)


class Pixels(FeatureNetwork):
    """The image itself as the one feature map."""

    def __init__(self, *, compares_relatively: bool = False) -> None:
        super().__init__(
            "pixels",
            (2.0,),
            compares_relatively=compares_relatively,
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        )

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        return [self.normalised(image_BCHW)]


def said(*logits: float) -> list[ScaleOutput]:
    """One discriminator output per scale with a constant logit, and features equal to it."""
    return [ScaleOutput([torch.full((1, 2, 2, 2), x)] * 3, torch.full((1, 1, 4, 4), x)) for x in logits]


def test_hinge_loss_on_known_logits() -> None:
    assert discriminator_loss(said(0.5), said(-0.25)) == pytest.approx(0.5 + 0.75)
    assert discriminator_loss(said(3.0), said(-3.0)) == 0
    assert discriminator_loss(said(-1.0, 3.0), said(1.0, -3.0)) == pytest.approx((4 + 0) / 2)
    assert adversarial_loss(said(0.5, -1.5)) == pytest.approx(0.5)


def test_original_gan_loss_is_equation_4() -> None:
    real, fake = 0.7, -0.4

    def sigmoid(x: float) -> float:
        return 1 / (1 + math.exp(-x))

    expected = -math.log(sigmoid(real)) - math.log(1 - sigmoid(fake))
    assert discriminator_loss(said(real), said(fake), "original") == pytest.approx(expected, rel=1e-5)
    assert adversarial_loss(said(fake), "original") == pytest.approx(-math.log(sigmoid(fake)), rel=1e-5)


def test_feature_matching_sums_layers_and_averages_scales() -> None:
    assert feature_matching_loss(said(1.0, 1.0), said(3.0, 0.0)) == pytest.approx((3 * 2 + 3 * 1) / 2)


def test_feature_matching_does_not_train_on_the_real_image() -> None:
    real = torch.ones(1, 2, 2, 2, requires_grad=True)
    fake = torch.zeros(1, 2, 2, 2, requires_grad=True)
    torch.autograd.backward(feature_matching_loss([ScaleOutput([real], real)], [ScaleOutput([fake], fake)]))
    assert real.grad is None
    assert fake.grad is not None


def test_dice_is_zero_for_identical_masks() -> None:
    torch.manual_seed(0)
    mask = torch.rand(2, 1, 16, 16)
    assert dice_loss(mask, mask) == pytest.approx(0, abs=1e-6)
    assert dice_loss(torch.zeros_like(mask), torch.zeros_like(mask)) == 0


def test_dice_is_the_log_of_twice_the_overlap_over_the_sum() -> None:
    left, all_ = torch.zeros(1, 1, 100, 100), torch.ones(1, 1, 100, 100)
    left[..., :50] = 1
    assert dice_loss(left, all_) == pytest.approx(-math.log(2 * 5000 / 15000), rel=1e-3)


def test_identity_loss_is_the_cross_entropy_over_people() -> None:
    classifier = IdentityClassifier(512, 10)
    torch.nn.init.zeros_(classifier.linear.weight)
    torch.nn.init.zeros_(classifier.linear.bias)
    loss = classifier(torch.randn(4, 512), torch.tensor([0, 3, 9, 1]))
    assert loss.item() == pytest.approx(math.log(10))


def test_embedding_match_is_the_mean_absolute_difference() -> None:
    assert embedding_match_loss(torch.zeros(2, 8), torch.full((2, 8), 0.5)) == 0.5


def test_perceptual_loss_weighs_layers_and_spares_the_target() -> None:
    image = torch.full((1, 3, 8, 8), 0.5, requires_grad=True)
    target = torch.full((1, 3, 8, 8), 0.25, requires_grad=True)
    loss = PerceptualLoss(Pixels())(image, target)
    loss.backward()
    assert loss.item() == pytest.approx(2 * 0.25)
    assert image.grad is not None and target.grad is None


def test_relative_perceptual_loss_divides_by_the_targets_magnitude() -> None:
    image, target = torch.full((1, 3, 8, 8), 0.5), torch.full((1, 3, 8, 8), 0.25)
    assert PerceptualLoss(Pixels(compares_relatively=True))(image, target) == pytest.approx(2.0, rel=0.01)


def test_face_loss_sees_only_the_centre() -> None:
    target = torch.zeros(1, 3, 36, 36)
    image = target.clone()
    image[:, :, :6] = 1
    loss = PerceptualLoss(Pixels(), centre_fraction=1 / 1.8)
    assert loss(image, target) == 0
    image[:, :, 14:22, 14:22] = 1
    assert loss(image, target) > 0


@pytest.mark.parametrize("negatives", [1, 15, 63])
def test_sync_loss_of_the_papers_temperature_has_its_floor(negatives: int) -> None:
    """The best there is: own pair at cosine 1, all others at -1. Shifted pieces give any number of those."""
    audio = torch.tensor([[1.0, 0.0]])
    shifted = torch.tensor([[-1.0, 0.0]]).expand(1, negatives, 2)
    loss = ContrastiveSyncLoss(mode="audio_only", temperature=1, learns_temperature=False)
    assert loss(audio * 3, audio, shifted) == pytest.approx(math.log(1 + negatives * math.exp(-2)), rel=1e-5)


def test_sync_loss_of_unrelated_clips_is_the_log_of_their_number() -> None:
    same = torch.ones(8, 5)
    shifted = torch.ones(8, 4, 5)
    assert ContrastiveSyncLoss()(same, same).item() == pytest.approx(math.log(8))
    assert ContrastiveSyncLoss(mode="audio_only")(same, same, shifted).item() == pytest.approx(math.log(12))


def test_symmetric_sync_loss_trains_both_branches_and_audio_only_one() -> None:
    torch.manual_seed(0)
    for mode, trains_visual in (("symmetric", True), ("audio_only", False)):
        visual, audio = torch.randn(4, 6, requires_grad=True), torch.randn(4, 6, requires_grad=True)
        shifted = torch.randn(4, 2, 6, requires_grad=True)
        ContrastiveSyncLoss(mode=mode)(visual, audio, shifted).backward()  # type: ignore[arg-type]
        assert audio.grad is not None and audio.grad.abs().max() > 0
        assert (visual.grad is not None) == trains_visual
        assert (shifted.grad is not None) == trains_visual


def test_temperature_learns_but_never_falls_below_its_bound() -> None:
    loss = ContrastiveSyncLoss()
    assert loss.temperature.item() == pytest.approx(0.07)
    loss.log_temperature.data.fill_(-20)
    assert loss.temperature.item() == pytest.approx(0.01)
    torch.autograd.backward(loss.temperature)
    assert loss.log_temperature.grad is not None and loss.log_temperature.grad > 0
    assert not ContrastiveSyncLoss(learns_temperature=False).log_temperature.requires_grad
    with pytest.raises(ValueError, match="temperature must be at least"):
        ContrastiveSyncLoss(temperature=0.001)


def test_total_weighs_every_term_and_both_streams() -> None:
    weights = LossWeights(l1=10, dice=2, sync=3, audio_stream=0.5)
    one = torch.tensor(1.0)
    total = weights.total({"l1": one, "dice": one}, {"l1": one}, {"sync": one})
    assert total == 10 + 2 + 5 + 3
    with pytest.raises(AttributeError, match="lpips"):
        weights.total({"lpips": one}, {}, {})


def test_reconstruction_loss_names_its_terms_and_vanishes_on_a_perfect_picture() -> None:
    torch.manual_seed(0)
    image, mask = torch.rand(1, 3, 16, 16), torch.ones(1, 1, 16, 16)
    loss = ReconstructionLoss(PerceptualLoss(Pixels()), PerceptualLoss(Pixels(), centre_fraction=0.5))
    terms = loss(image, mask, image, mask, real=said(1.0), fake=said(1.0))
    assert terms.pop("adversarial") == -1
    assert set(terms) == {"l1", "perceptual", "face_perceptual", "dice", "feature_matching"}
    assert all(value == pytest.approx(0, abs=1e-6) for value in terms.values())
