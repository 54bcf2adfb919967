r"""The features for FID, from a classifier that is trained once for all runs."""

__all__ = ["classifier_features"]

from pathlib import Path

from gae_augment._utils.seeding import make_generator
from gae_augment.evaluation import Classifier, ClassifierFeatures
from gae_augment.evaluation.images import Labelled

from .kept import Content, kept


def classifier_features(name: str, train: Labelled, cache: Path, *, epochs: int) -> ClassifierFeatures:
    r"""Returns the features of a classifier that was trained on a whole, balanced training set, from a cache.

    Args:
        name: The name of the data set.
        train: The training images and their labels.
        cache: The folder of the file.
        epochs: The epochs of its training.
    """
    images, labels = train

    def make() -> Content:
        features = ClassifierFeatures.train(images, labels, dataset_name=name, epochs=epochs)
        return {"dataset": name, "epochs": epochs}, features.classifier.state_dict()

    weights = kept(cache / f"classifier-{name}.safetensors", make)[1]
    classifier = Classifier(tuple(images.shape[1:]), int(labels.max()) + 1, generator=make_generator(0))
    classifier.load_state_dict(weights)
    return ClassifierFeatures(classifier, name)
