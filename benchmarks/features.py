r"""The features that FID is measured by, of a classifier that is trained once for all runs."""

__all__ = ["classifier_features"]

from pathlib import Path

from filelock import FileLock

from gae_augment.evaluation import ClassifierFeatures
from gae_augment.evaluation.classifier import Classifier
from gae_augment.evaluation.images import Labelled
from gae_augment.persistence import read_file, write_file
from gae_augment.seeding import make_generator


def classifier_features(name: str, train: Labelled, cache: Path, *, epochs: int) -> ClassifierFeatures:
    r"""Returns the features of a classifier trained on a whole, balanced training set, which ``cache`` keeps.

    Args:
        name: The name of the data set.
        train: The training images and their labels.
        cache: The folder of the file.
        epochs: The epochs of its training.
    """
    images, labels = train
    path = cache / f"classifier-{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        if not path.is_file():
            features = ClassifierFeatures.train(images, labels, dataset_name=name, epochs=epochs)
            write_file(path, {"dataset": name, "epochs": epochs}, features.classifier.state_dict())
            return features
    classifier = Classifier(tuple(images.shape[1:]), int(labels.max()) + 1, generator=make_generator(0))
    classifier.load_state_dict(read_file(path)[1])
    return ClassifierFeatures(classifier, name)
