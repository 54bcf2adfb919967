r"""How time and memory grow with images, classes, the size of an image and components."""

import pytest

PROGRAM = """
import resource, time, warnings
import torch, torchvision, sklearn.mixture
from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.fitting import fit_model
from gae_augment._utils.seeding import make_generator

warnings.simplefilter("ignore")

def noise(*shape):
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=make_generator(0))

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000

# What is loaded at the first fit counts for none.
fit_model(noise(10, 1, 8, 8), GenerativeModel(epochs=1, delta=10.0), seed=0)
before, start = megabytes(), time.perf_counter()
{work}
print(time.perf_counter() - start, megabytes() - before)
"""

FIT = """
fit_model(images, GenerativeModel(epochs=1, delta=1e-9, n_components=1, synthesis='decoded'), seed=0)
"""


def fit_of(shape):
    return PROGRAM.replace("{work}", f"images = noise{shape}{FIT}")


@pytest.mark.slow
@pytest.mark.parametrize(("smaller", "images"), [(1000, 4000), (4000, 15_000), (15_000, 60_000)])
def test_images(compare_growth, smaller, images):
    compare_growth(
        lambda n: fit_of((n, 1, 28, 28)),
        smaller,
        images,
        of="an epoch of one class, by the number of its images of 28x28",
        work=images / smaller,
        megabytes=images * 784 / 1e6,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("smaller", "classes"), [(1, 10), (10, 100)])
def test_classes(compare_growth, smaller, classes):
    def program(n):
        work = f"""
labels = torch.arange({n} * 100 + 101) // 100
labels[-1] = {n}
images = noise(len(labels), 1, 28, 28)
GAEAugmenter(GenerativeModel(epochs=5, delta=1e-9), progress=False, random_state=0).fit(images, labels)
"""
        return PROGRAM.replace("{work}", work)

    compare_growth(
        program,
        smaller,
        classes,
        of="five epochs of classes of 100 images of 28x28, by their number",
        work=classes / smaller,
        megabytes=classes * 100 * 784 / 1e6,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("smaller", "size"), [(32, 64), (64, 128)])
def test_size(compare_growth, smaller, size):
    compare_growth(
        lambda n: fit_of((500, 3, n, n)),
        smaller,
        size,
        of="an epoch of 500 images in colour, by their height and width",
        work=(size / smaller) ** 2,
        megabytes=500 * 3 * size * size / 1e6,
    )


@pytest.mark.slow
@pytest.mark.parametrize(("smaller", "components"), [(10, 20), (20, 40), (40, 80)])
def test_components(compare_growth, smaller, components):
    def program(n):
        work = f"""
from gae_augment.models import GaussianMixture
codes = torch.randn(20_000, 10, generator=make_generator(0))
codes += 4 * torch.randn(80, 10, generator=make_generator(1)).repeat(250, 1)
GaussianMixture({n}, min_components={n}).fit(codes)
"""
        return PROGRAM.replace("{work}", work)

    # Each of the steps of expectation and maximisation costs in proportion; their number is the data's.
    compare_growth(
        program,
        smaller,
        components,
        of="a mixture fitted to 20 000 codes, by its components",
        work=components / smaller,
        megabytes=20_000 * 10 * 4 / 1e6,
    )
