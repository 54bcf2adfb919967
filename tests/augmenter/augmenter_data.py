r"""The dataset that the tests of the augmenter share."""

from torch.utils.data import Dataset


class Pairs(Dataset):
    r"""A dataset of unchanged (image, label) pairs."""

    def __init__(self, images, labels):
        self.images, self.labels = images, labels

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index], self.labels[index]
