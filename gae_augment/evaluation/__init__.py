r"""Measures of synthetic images: fidelity, originality and gain of a classifier. Works on tensors alone."""

from .classifier import Classifier, train_classifier
from .features import ClassifierFeatures, FeatureExtractor, InceptionFeatures, inception_weights
from .fidelity import fidelity
from .fraction import FractionChoice, choose_synthetic_fraction
from .gain import ClassifierGain, PairedDifference, classifier_gain, imbalance_metrics
from .lipschitz import local_lipschitz
from .membership import Membership, membership
from .memorisation import Memorisation, memorisation

__all__ = [
    "Classifier",
    "ClassifierFeatures",
    "ClassifierGain",
    "FeatureExtractor",
    "FractionChoice",
    "InceptionFeatures",
    "Membership",
    "Memorisation",
    "PairedDifference",
    "choose_synthetic_fraction",
    "classifier_gain",
    "fidelity",
    "imbalance_metrics",
    "inception_weights",
    "local_lipschitz",
    "membership",
    "memorisation",
    "train_classifier",
]
