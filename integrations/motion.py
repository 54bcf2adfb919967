r"""Chooses whether training images are moved."""

__all__ = ["choose_motion"]

from typing import Literal

from gae_augment import AugmentedDataset, GAEAugmenter
from gae_augment.data import geometric_transform
from gae_augment.evaluation import Advice
from gae_augment.motion import Motion


def choose_motion(
    fitted: GAEAugmenter,
    augmented: AugmentedDataset,
    motion: float | Literal["auto"] | None,
    advice: Advice | None = None,
) -> tuple[Motion | None, str]:
    r"""Returns the transform that moves training images, or ``None``, and the reason in one sentence.

    Args:
        fitted: The fitted augmenter.
        augmented: The training set.
        motion: The strength of the motions. ``None`` moves no images. ``"auto"`` moves images with strength 1 if
            neither a transform nor the dataset itself moves their pixels, unless there is advice.
        advice: The advice that decides in place of ``"auto"``.

    Raises:
        ValueError: If ``motion`` is a number, and no model of images was fitted.
    """
    if motion is None:
        return None, "Training images are not moved: 'motion' is None."
    if motion != "auto":
        return fitted.motion(motion), f"Training images of all classes are moved with strength {motion:g}."
    if advice is not None:
        return fitted.motion(advice.strength) if advice.use and advice.ours == "motions" else None, advice.sentence
    name = geometric_transform(augmented.transform_functions)
    if name is not None:
        return None, f"Training images are not moved: their transforms hold {name}, which may move pixels itself."
    if not augmented.raw_images_repeat:
        return None, "Training images are not moved: their dataset changes them at random, and may move pixels itself."
    try:
        transform = fitted.motion()
    except ValueError:
        return None, "Training images are not moved: no class has a model of images."
    return transform, "Training images of all classes are moved, because their transforms move no pixels."
