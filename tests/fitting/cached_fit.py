r"""A fit with a cache folder, for processes that are killed or interrupted, and for the tests themselves."""

import sys

import torch

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment._utils.seeding import make_generator


def fit(folder, n_jobs=None, classes=4):
    r"""Returns an augmenter that is fitted to noise. All classes but the first get a model."""
    sizes = {0: 60} | {label: 16 + 4 * label for label in range(1, classes + 1)}
    y = torch.repeat_interleave(torch.tensor(list(sizes)), torch.tensor(list(sizes.values())))
    X = torch.rand(len(y), 12, 12, generator=make_generator(0))
    augmenter = GAEAugmenter(
        GenerativeModel(epochs=40, delta=1e-9), random_state=0, progress=False, n_jobs=n_jobs, on_error="raise"
    )
    return augmenter.fit(X, y, checkpoint_dir=folder)


if __name__ == "__main__":
    folder, n_jobs, file, classes = sys.argv[1], eval(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    torch.set_num_threads(2)
    print("begins", flush=True)
    fit(folder, n_jobs, classes).save(file)
