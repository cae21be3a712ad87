"""Every data set says how a foreign file becomes its input, as plain data."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from hstnn_deploy.data.preprocessing import Frames, Pixels, Values, Words, parse, preprocessing
from hstnn_deploy.data.readers.image_files import read_image
from hstnn_deploy.data.registry import DATA_SETS, shape


@pytest.mark.parametrize("name", DATA_SETS)
def test_every_data_set_has_one_that_fits_its_size_and_survives_json(name: str) -> None:
    config = DATA_SETS[name].config()
    how = preprocessing(config)
    assert parse(json.loads(json.dumps(how.model_dump(mode="json")))) == how
    size = shape(config)
    match how:
        case Pixels():
            assert size is not None
            assert (size.steps, size.inputs) == (how.width, how.height * how.colours)
        case Frames():
            assert size is not None
            assert (how.frame_time, how.steps) == (config.frame_time, config.steps)
            assert DATA_SETS[name].recordings, "raw recordings prove the preprocessing in a graph"
        case Words():
            assert size is None
            assert how.window == config.bptt
        case Values():
            pytest.fail(f"{name} does not say how its files are read: name it in data/preprocessing.py")


def test_a_colour_image_is_read_as_cifar_was() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    how = preprocessing(DATA_SETS["cifar10"].config())
    assert isinstance(how, Pixels)
    x = read_image(content.getvalue(), "picture", how, resize=False, say=print)
    # As the records hold it: [colour, row, column], step t is column t.
    record = pixels.transpose(2, 0, 1)
    expected = record.transpose(2, 0, 1).reshape(32, 96) / 255
    np.testing.assert_allclose(x, expected, atol=1e-7)
