import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from gae_augment.data import image_statistics


@pytest.mark.parametrize("mode", ["L", "I;16", "1"])
def test_figures_of_grey_images_match_scipy(mode):
    random = np.random.default_rng(0)
    grey = random.integers(0, 2, (7, 12)) if mode == "1" else random.integers(0, 256, (7, 12))
    pixels = grey.astype(bool) if mode == "1" else (257 * grey).astype(np.uint16) if mode == "I;16" else grey
    image = Image.fromarray(pixels if mode != "L" else pixels.astype(np.uint8))
    assert image.mode == mode
    values = grey / (1 if mode == "1" else 255)
    found = image_statistics(image)
    assert found.brightness == pytest.approx(values.mean(), rel=1e-5)
    assert found.sharpness == pytest.approx(np.abs(ndimage.laplace(values, mode="nearest")).mean(), rel=1e-5)
    assert found.resolution == pytest.approx(84**0.5)


def test_colours_count_by_their_luma_and_opacity_does_not():
    image = Image.new("RGBA", (4, 4), (255, 0, 0, 9))
    assert image_statistics(image).brightness == pytest.approx(0.299, abs=0.002)
    assert image_statistics(image).sharpness == 0


def test_blur_lowers_the_sharpness_and_not_the_brightness():
    random = np.random.default_rng(0)
    noise = random.random((64, 64))
    sharp, blurred = (
        image_statistics(Image.fromarray((255 * values).astype(np.uint8)))
        for values in (noise, ndimage.gaussian_filter(noise, 2, mode="wrap"))
    )
    assert blurred.sharpness < 0.1 * sharp.sharpness
    assert blurred.brightness == pytest.approx(sharp.brightness, abs=0.01)


def test_single_pixel_has_no_edges():
    found = image_statistics(Image.new("L", (1, 1), 51))
    assert (found.brightness, found.sharpness, found.resolution) == (pytest.approx(0.2), 0, 1)
