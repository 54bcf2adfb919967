r"""The classes that a fit learns models of, and from how many images."""

__all__ = ["MOTION_CLASSES", "MOTION_IMAGES", "images_to_learn_from"]

from collections.abc import Collection, Mapping

from ..data import Label
from .plan import MIN_IMAGES

MOTION_IMAGES = 300
"""The maximum number of images of a class that motions are learned from."""

MOTION_CLASSES = 40
"""The maximum number of classes that motions are learned from.

Their 100 motions each fill the bank of 4000, a normal distribution of 128 values that all classes share.
"""


def images_to_learn_from(
    counts: Mapping[Label, int], scarce: Collection[Label], deformed: Collection[Label], *, each: bool = False
) -> dict[Label, int]:
    r"""Returns the number of images that the model of each class learns from, by label, in the order of ``counts``.

    A class whose new images are decoded or residual gets a model if it is scarce, from all its images. Deformed images
    need no model of their own class: motions are learned from at most 300 images of each of at most 40 classes, scarce
    ones first, then the largest.

    Args:
        counts: The number of images of each class, by label.
        scarce: The labels of the classes that need images.
        deformed: The labels of the classes whose new images are deformed real ones.
        each: Whether each scarce class gets a model, whatever the number of classes.
    """
    teachers = [label for label, n in counts.items() if n >= MIN_IMAGES and label in deformed]
    # Stable: of equal classes, the first ones.
    teachers.sort(key=lambda label: (label not in scarce, -counts[label]))
    chosen = {*teachers[:MOTION_CLASSES], *(label for label in scarce if each or label not in deformed)}
    return {
        label: min(n, MOTION_IMAGES) if label in deformed else n
        for label, n in counts.items()
        if n >= MIN_IMAGES and label in chosen
    }
