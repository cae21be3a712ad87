"""Whole images as steps: the encoder, what training does to images, and what a data set says of its size."""

import numpy as np
import pytest
import torch

from hstnn_deploy.data import registry
from hstnn_deploy.data.dataset import Source
from hstnn_deploy.data.encoding import draws, spikes
from hstnn_deploy.data.images import Images, ImageSplit, encoded
from hstnn_deploy.data.preprocessing import counts_events, preprocessing
from hstnn_deploy.data.sets.digits import DigitsConfig, digit_images, load_digits
from hstnn_deploy.errors import RecipeError
from hstnn_deploy.recipe.load import load_recipe
from tests.models.test_stack_golden import golden

CPU = torch.device("cpu")


def digits(training: bool = False, **options: object) -> ImageSplit:
    images, target = digit_images()
    how = Images.model_validate({"steps": 50, **options})
    return ImageSplit(images[:, None], target, 16, how, training)


def test_the_encoder_fires_with_the_sign_and_half_the_size_of_a_value() -> None:
    x = torch.tensor([-2.5, -1.0, -0.2, 0.0, 0.5, 1.0, 2.0])
    u = torch.rand(20_000, 7, generator=torch.Generator().manual_seed(1)).clamp(min=1e-9)
    found = encoded(x, u)
    assert set(found.unique().tolist()) == {-1.0, 0.0, 1.0}
    rates = (x.abs() / 2).clamp(max=1) * x.sign()
    assert torch.allclose(found.mean(0), rates, atol=0.02)
    # 2 u <= |x|: a value of 0 may fire nothing, for its sign is 0; one of 2 or more fires always.
    assert encoded(torch.zeros(3), torch.zeros(1, 3)).abs().sum() == 0
    assert encoded(torch.tensor([0.5]), torch.tensor([[0.25]])).item() == 1


@pytest.mark.parametrize("name", ["bntt_vgg9", "bntt_vgg11"])
def test_what_the_authors_encoded_is_such(name: str) -> None:
    """Their draws are not known; but their spikes have the images' signs, and are as many as expected."""
    numbers = golden(name)
    images, spikes = numbers["images"], numbers["encoded"].float()
    assert bool(((spikes == 0) | (spikes == images.sign())).all())
    expected = (images.abs() / 2).clamp(max=1)
    spread = (expected * (1 - expected) * len(spikes)).sum().sqrt()
    assert abs(float(spikes.abs().sum() - expected.sum() * len(spikes))) < 5 * float(spread)


def test_in_evaluation_a_sample_is_always_encoded_alike() -> None:
    split = digits(mean=[0.3], std=[0.4])
    together = split.batch(torch.tensor([3, 7, 9]), CPU)
    alone = split.batch(torch.tensor([7]), CPU)
    assert together.x.shape == (50, 3, 1, 8, 8)
    assert torch.equal(together.x[:, 1], alone.x[:, 0])
    assert together.lengths is None
    other = digits(mean=[0.3], std=[0.4], seed=1).batch(torch.tensor([7]), CPU)
    assert not torch.equal(other.x, alone.x)
    pixels = digit_images()[0][7] / 16
    expected = ((pixels - 0.3) / 0.4).sign()
    assert bool(((alone.x[:, 0, 0] == 0) | (alone.x[:, 0, 0] == expected)).all())


def philox(key: tuple[int, int], counter: int) -> list[int]:
    """Return four words of Philox4x64-10, as its authors define it (Salmon et al., SC 2011)."""
    below, (a, b), c = 2**64 - 1, key, [counter, 0, 0, 0]
    for _ in range(10):
        first, second = 0xD2E7470EE14C6C93 * c[0], 0xCA5A826395121157 * c[2]
        c = [(second >> 64) ^ c[1] ^ a, second & below, (first >> 64) ^ c[3] ^ b, first & below]
        a, b = (a + 0x9E3779B97F4A7C15) & below, (b + 0xBB67AE8584CAA73B) & below
    return c


def test_a_sample_s_draws_are_the_same_everywhere_and_for_ever() -> None:
    found = draws(5, 7, (2, 3))
    words = philox((5, 7), 1)
    halves = [half >> 8 for word in words for half in (word & 0xFFFFFFFF, word >> 32)]
    assert (found * 2**24).ravel().tolist() == halves[:6] == [13139438, 3006711, 5479853, 12102845, 16032681, 14431358]
    assert found.dtype == np.float32
    assert not np.array_equal(draws(5, 8, (2, 3)), found)
    assert not np.array_equal(draws(6, 7, (2, 3)), found)
    many = draws(0, 0, (100_000,))
    assert many.min() >= 0
    assert many.max() < 1
    assert abs(many.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(many[::2], many[1::2])[0, 1]) < 0.02


def test_training_and_evaluation_encode_alike() -> None:
    x = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(1))
    u = torch.rand(9, 3, 4, 5, generator=torch.Generator().manual_seed(2))
    assert torch.equal(encoded(x, u), torch.from_numpy(spikes(x.numpy(), u.numpy())))
    split, alone = (
        digits(mean=[0.3], std=[0.4], encoding="repeat"),
        digits(True, mean=[0.3], std=[0.4], encoding="repeat"),
    )
    numbers = torch.arange(0, 1797, 10)
    assert torch.equal(split.batch(numbers, CPU).x, alone.batch(numbers, CPU).x)


def test_in_training_draws_and_moves_come_from_torch_s_generator() -> None:
    split = digits(training=True, encoding="repeat", crop=2, flip=True)
    whole = digits(encoding="repeat").batch(torch.arange(20), CPU).x[0]
    torch.manual_seed(1)
    first = split.batch(torch.arange(20), CPU).x
    torch.manual_seed(1)
    assert torch.equal(first, split.batch(torch.arange(20), CPU).x)
    assert not torch.equal(first, split.batch(torch.arange(20), CPU).x)
    assert torch.equal(first[0], first[-1])
    padded = torch.nn.functional.pad(whole, (2, 2, 2, 2))
    windows = [padded[..., row : row + 8, column : column + 8] for row in range(5) for column in range(5)]
    for number in range(20):
        seen = [(first[0, number] == turned[number]).all() for each in windows for turned in (each, each.flip(-1))]
        assert any(seen), number


def test_a_data_set_of_whole_images_says_so() -> None:
    config = DigitsConfig.model_validate({"images": {"steps": 8}})
    shape = registry.shape(config)
    assert shape is not None
    assert (shape.steps, shape.inputs, shape.size, shape.family) == (8, 1, 8, "convolutional")
    splits = load_digits(config, Source())
    assert (splits.inputs, splits.size, splits.family) == (1, 8, "convolutional")
    assert len(splits.train) + len(splits.valid) + len(splits.test) == 1797
    assert isinstance(splits.train, ImageSplit)
    assert (splits.train.training, getattr(splits.test, "training", None)) == (True, False)
    assert counts_events(config)
    assert not counts_events(DigitsConfig.model_validate({"images": {"steps": 8, "encoding": "repeat"}}))
    assert preprocessing(config).model_dump() == {
        **{"kind": "images", "height": 8, "width": 8, "colours": 1, "white": 16, "steps": 8, "encoding": "poisson"},
        **{"mean": [0.0], "std": [1.0], "seed": 0},
    }
    assert "images" not in DigitsConfig().model_dump()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("data.images.steps=0", "data.images.steps is 0"),
        ("data.images.mean=[0.1,0.2]", "mean must be one number, or one for each of three colours"),
        ("data.images.std=[0]", "std must be above 0"),
        ("data.images.encoding=rate", "data.images.encoding is 'rate'"),
    ],
)
def test_wrong_options_are_refused(change: str, said: str) -> None:
    with pytest.raises(RecipeError, match="images") as refused:
        load_recipe("rram-digits", [change])
    assert said in refused.value.message


def test_the_recipes_are_those_of_the_papers() -> None:
    vgg9, vgg11 = load_recipe("bntt-vgg9"), load_recipe("bntt-vgg11")
    assert [(each.batch, each.adapt.lr, each.adapt.epochs) for each in (vgg9, vgg11)] == [
        (256, 0.3, 100),
        (128, 0.3, 100),
    ]
    tiny, dvs = load_recipe("bntt-vgg11-tiny"), load_recipe("bntt-vgg9-dvs")
    for recipe, step, steps, classes in ((tiny, (3, 64, 64), 30, 200), (dvs, (2, 64, 64), 20, 10)):
        shape = registry.shape(recipe.data)
        assert shape is not None
        assert (shape.step, shape.steps, shape.classes, recipe.published) == (step, steps, classes, None)
    assert vgg9.published is not None
    assert (vgg9.published.of("plain", 0.5), vgg9.published.protocol) == (90.5, "test")
