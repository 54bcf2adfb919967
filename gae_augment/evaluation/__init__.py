r"""Evaluates synthetic images.

The input is real and synthetic images, as tensors. The results are metrics, trained classifiers, and the best fraction
of synthetic images in training batches. :func:`advise` says whether synthetic images help on a training set.
:func:`recalibrate` corrects a classifier's probabilities.
"""

from .advice import Advice, AdviceRow, Posterior, advise
from .calibration import Recalibration, Reliability, recalibrate
from .classifier import Classifier, train_classifier
from .features import (
    ClassifierFeatures,
    FeatureExtractor,
    InceptionFeatures,
    check_extractor,
    epochs_of_a_thousand_steps,
    inception_weights,
)
from .fidelity import NEIGHBOURS, as_many_of_each, fidelity
from .fraction import FractionChoice, choose_synthetic_fraction
from .gain import ClassifierGain, PairedDifference, classifier_gain, imbalance_metrics
from .images import Labelled, checked_images
from .lipschitz import local_lipschitz
from .membership import Membership, membership
from .memorisation import Memorisation, memorisation, nearest

__all__ = [
    "NEIGHBOURS",
    "Advice",
    "AdviceRow",
    "Classifier",
    "ClassifierFeatures",
    "ClassifierGain",
    "FeatureExtractor",
    "FractionChoice",
    "InceptionFeatures",
    "Labelled",
    "Membership",
    "Memorisation",
    "PairedDifference",
    "Posterior",
    "Recalibration",
    "Reliability",
    "advise",
    "as_many_of_each",
    "check_extractor",
    "checked_images",
    "choose_synthetic_fraction",
    "classifier_gain",
    "epochs_of_a_thousand_steps",
    "fidelity",
    "imbalance_metrics",
    "inception_weights",
    "local_lipschitz",
    "membership",
    "memorisation",
    "nearest",
    "recalibrate",
    "train_classifier",
]
