r"""The memory that a fit takes beyond what importing takes."""

import pytest

PROGRAM = """
import resource
import numpy as np, torch
import torchvision, sklearn.mixture
from gae_augment import GAEAugmenter

path, n = {arguments}

SIZE = 3 * 64 * 64

def megabytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1000

class Stored(torch.utils.data.Dataset):
    # Half of the images are of one class, the others of nine.
    targets = np.where(np.arange(n) % 2 == 0, 0, 1 + np.arange(n) // 2 % 9).tolist()

    def __len__(self):
        return n

    def __getitem__(self, index):
        with open(path, "rb") as file:
            file.seek(index * SIZE)
            image = np.frombuffer(file.read(SIZE), np.uint8).reshape(3, 64, 64)
        return torch.from_numpy(image.copy()), self.targets[index]

before = megabytes()
augmenter = GAEAugmenter(epochs=1, delta=10.0, random_state=0, progress=False).fit(Stored())
assert len(augmenter.generators_) == 9
print(megabytes() - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("images", [10_000, 100_000])
def test_memory_of_images_on_disk(compare_memory, tmp_path, images):
    path = tmp_path / "images"
    pixels = bytes(range(256)) * (3 * 64 * 64 // 256)
    with path.open("wb") as file:
        for _ in range(images):
            file.write(pixels)
    compare_memory(
        PROGRAM.replace("{arguments}", repr((str(path), images))),
        2000,
        what=f"a fit of nine of ten classes, {images} images of 64x64x3 on disk, half of them of scarce classes",
        beside="2 GB",
        aim=1.0,
    )
