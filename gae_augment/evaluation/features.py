r"""Feature extractors, which map images to feature vectors."""

__all__ = [
    "ClassifierFeatures",
    "FeatureExtractor",
    "InceptionFeatures",
    "check_extractor",
    "epochs_of_a_thousand_steps",
    "inception_weights",
]

import os
import pickle
from pathlib import Path
from typing import Protocol, Self

import torch
from torch import Tensor

from .._utils.devices import resolve_device
from .classifier import Classifier, train_classifier
from .images import checked_images, checked_labels, to_unit

INCEPTION_FILE = "weights-inception-2015-12-05-6726825d.pth"
"""The name of torch-fidelity's file with the Inception weights of the original FID (arXiv 1706.08500)."""

INCEPTION_LAYER = "2048"

INCEPTION_BATCH_SIZE = 32
"""The number of images in a batch, which is small because Inception enlarges each image to 299x299 pixels."""


class FeatureExtractor(Protocol):
    r"""Interface of a callable that maps images to feature vectors and has a ``name``."""

    @property
    def name(self) -> str:
        r"""The name of the extractor, which metric names include, as in ``"FID (inception-v3-compat)"``."""

    def __call__(self, images: Tensor) -> Tensor:
        r"""Maps :math:`N` images, with shape :math:`(N, C, H, W)`, to their features, with shape :math:`(N, D)`."""


def check_extractor(extractor: FeatureExtractor) -> None:
    r"""Raises a TypeError if ``extractor`` is not callable, or has no attribute ``name`` of type str."""
    if not callable(extractor) or not isinstance(getattr(extractor, "name", None), str):
        raise TypeError(
            f"The feature extractor is a {type(extractor).__name__}, but must be a callable with a 'name' of type str. "
            f"Write a class with '__call__' and 'name', or use ClassifierFeatures."
        )


class ClassifierFeatures:
    r"""Maps images to the 128 inputs of a trained classifier's last layer.

    Metrics from different classifiers are not comparable.

    Args:
        classifier: The trained classifier.
        dataset_name: The name of the training set, for example ``"mnist"``. The extractor's name includes it.

    Example:
        >>> images = torch.rand(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> extractor = ClassifierFeatures.train(images, torch.arange(20) % 2, dataset_name="noise", epochs=1)
        >>> extractor.name, extractor(images).shape
        ('classifier features, noise', torch.Size([20, 128]))
    """

    def __init__(self, classifier: Classifier, dataset_name: str) -> None:
        self.classifier = classifier
        self.name = f"classifier features, {dataset_name}"

    @classmethod
    def train(
        cls,
        images: Tensor,
        labels: Tensor,
        *,
        dataset_name: str,
        epochs: int = 3,
        seed: int = 0,
        device: torch.device | str = "auto",
    ) -> Self:
        r"""Trains a classifier on labelled images, and returns a feature extractor that uses it.

        Args:
            images: The full real training set, uint8 or in [0, 1], with shape :math:`(N, C, H, W)` or
                :math:`(N, H, W)`.
            labels: The labels, integers from 0, with shape :math:`(N,)`.
            dataset_name: The name of the training set, for example ``"mnist"``. The extractor's name includes it.
            epochs: The number of passes over the images.
            seed: The seed of the training.
            device: A torch device. ``"auto"`` is a CUDA GPU if there is one, else the CPU.

        Raises:
            ValueError: If an argument is invalid, or there are fewer than two classes.
        """
        classes = int(checked_labels(labels, "labels", images=len(images)).max()) + 1
        classifier = train_classifier(images, labels, classes=classes, epochs=epochs, seed=seed, device=device)
        return cls(classifier, dataset_name)

    def __call__(self, images: Tensor) -> Tensor:
        r"""Maps :math:`N` images, uint8 or in [0, 1], to their features, with shape :math:`(N, 128)`.

        Raises:
            ValueError: If the images are invalid, or differ in shape from the training images.
        """
        return self.classifier.extract(images)


def epochs_of_a_thousand_steps(images: int) -> int:
    r"""Returns how many epochs take about 1000 training steps with batches of 128 images.

    The result is clipped to the range from 3 to 60.

    Args:
        images: The number of training images.
    """
    return max(3, min(60, 128 * 1000 // images))


def inception_weights() -> Path | None:
    r"""Returns the path of torch-fidelity's Inception-v3 weights in the cache of :mod:`torch.hub`.

    If the file does not exist, the result is ``None``.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" / INCEPTION_FILE
    return path if path.is_file() else None


class InceptionFeatures:
    r"""Maps images to the 2048 features of torch-fidelity's Inception-v3, the usual network for FID.

    Args:
        weights_path: The path of the file with the weights. By default the file in the cache of :mod:`torch.hub` is
            used. Nothing is downloaded.
        device: A torch device. ``"auto"`` is a CUDA GPU if there is one, else the CPU.

    Raises:
        FileNotFoundError: If the file does not exist.
        ValueError: If the file does not hold the weights of torch-fidelity's Inception-v3.
    """

    name = "inception-v3-compat"

    def __init__(
        self, weights_path: str | os.PathLike[str] | None = None, *, device: torch.device | str = "auto"
    ) -> None:
        path = inception_weights() if weights_path is None else Path(weights_path)
        if path is None or not path.is_file():
            raise FileNotFoundError(
                f"InceptionFeatures found no weights at {path or Path(torch.hub.get_dir()) / 'checkpoints'}. "
                f"Download {INCEPTION_FILE} from torch-fidelity's release v0.2.0 and pass its path as "
                f"'weights_path', or use ClassifierFeatures."
            )
        from torch_fidelity import FeatureExtractorInceptionV3

        self.device = resolve_device(device)
        # torch-fidelity draws initial weights from the global generator, whose state is restored here. torch-fidelity
        # also unpickles any object, so a file that holds more than tensors must fail before.
        try:
            torch.load(path, map_location="cpu", weights_only=True)
            with torch.random.fork_rng(devices=[]):
                self.network = FeatureExtractorInceptionV3(
                    self.name, [INCEPTION_LAYER], feature_extractor_weights_path=os.fspath(path)
                ).to(self.device)
        except (RuntimeError, TypeError, EOFError, pickle.UnpicklingError) as error:
            raise ValueError(
                f"'weights_path' is {path}, which does not hold torch-fidelity's Inception weights. "
                f"Download {INCEPTION_FILE} from torch-fidelity's release v0.2.0."
            ) from error

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        r"""Maps :math:`N` images, uint8 or in [0, 1], to their features, with shape :math:`(N, 2048)`.

        The images have one or three channels.

        Raises:
            ValueError: If the images are invalid.
        """
        images = checked_images(images, "images")
        if images.shape[1] not in (1, 3):
            raise ValueError(
                f"The images have {images.shape[1]} channels, but Inception needs 1 or 3 channels. "
                f"Use ClassifierFeatures."
            )
        features = []
        for batch in images.split(INCEPTION_BATCH_SIZE):
            levels = (to_unit(batch) * 255).round().to(torch.uint8)
            features.append(self.network(levels.to(self.device).expand(-1, 3, -1, -1))[0].cpu())
        return torch.cat(features)
