r"""How good synthetic images are: faithful, original, and useful to a classifier. Sees tensors, never an augmenter."""

from .classifier import Classifier, train_classifier
from .features import ClassifierFeatures, FeatureExtractor, InceptionFeatures, inception_weights
from .fidelity import fidelity
from .gain import ClassifierGain, Difference, classifier_gain, imbalance_metrics
from .lipschitz import local_lipschitz
from .memorisation import Memorisation, memorisation

__all__ = [
    "Classifier",
    "ClassifierFeatures",
    "ClassifierGain",
    "Difference",
    "FeatureExtractor",
    "InceptionFeatures",
    "Memorisation",
    "classifier_gain",
    "fidelity",
    "imbalance_metrics",
    "inception_weights",
    "local_lipschitz",
    "memorisation",
    "train_classifier",
]
