r"""The memory that a fit takes beyond what importing takes."""

import pytest

PROGRAM = """
import threading
import numpy as np, torch
import torchvision, sklearn.mixture
from gae_augment import GAEAugmenter, GenerativeModel

path, n, cache_dir = {arguments}

SIZE = 3 * 64 * 64

def megabytes(kind):
    # Pages of mapped files are the system's to take back, the others are not.
    lines = open("/proc/self/status").read().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(kind)) / 1000

most, done = 0.0, threading.Event()

def watch():
    global most
    while not done.wait(0.01):
        most = max(most, megabytes("RssAnon") + megabytes("RssShmem"))

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

before = megabytes("RssAnon")
watcher = threading.Thread(target=watch, daemon=True)
watcher.start()
settings = {"random_state": 0, "progress": False, "cache_dir": cache_dir}
model = GenerativeModel(epochs=1, delta=10.0)
# Of one of the classes half as many synthetic images as there are real ones of all.
totals = {label: n // 18 + 2 for label in range(2, 10)} | {1: n // 2}
augmenter = GAEAugmenter(model, sampling_strategy=totals, **settings).fit(Stored())
assert len(augmenter.models_) == 9
augmented = augmenter.augment(Stored())
done.set()
watcher.join()
print(most - before)
"""


@pytest.mark.slow
@pytest.mark.parametrize("images", [10_000, 100_000])
@pytest.mark.parametrize("mapped", [False, True])
def test_memory_of_images_on_disk(compare_memory, tmp_path, images, mapped):
    path = tmp_path / "images"
    pixels = bytes(range(256)) * (3 * 64 * 64 // 256)
    with path.open("wb") as file:
        for _ in range(images):
            file.write(pixels)
    compare_memory(
        PROGRAM.replace("{arguments}", repr((str(path), images, str(tmp_path / "cache") if mapped else None))),
        2000,
        what=f"{images} images of 64x64x3 on disk, half of them learned from, and nearly half as many made, "
        f"{'with `cache_dir`' if mapped else 'in memory'}",
        beside="2 GB",
        aim=1.0,
    )
