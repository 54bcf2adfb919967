r"""What an image and a label are to the evaluation, checked at the door."""

__all__ = ["Labelled", "checked_images", "checked_labels", "checked_pair", "to_unit"]

import torch
from torch import Tensor

Labelled = tuple[Tensor, Tensor]
"""Images, with shape (N, C, H, W), and their labels, with shape (N,)."""


def checked_images(images: Tensor, name: str, *, like: Tensor | None = None, at_least: int = 1) -> Tensor:
    r"""Returns images with shape :math:`(N, C, H, W)`, in the type that they came in.

    Args:
        images: Images of type uint8, in 0 to 255, or of floating point, in [0, 1], with shape :math:`(N, C, H, W)`,
            or :math:`(N, H, W)` for one channel.
        name: What an error calls them.
        like: Checked images that these are compared with, and so must match in shape.
        at_least: The fewest images.

    Raises:
        ValueError: If they are no such images, have another shape than ``like``, or are too few.
    """
    if not isinstance(images, Tensor):
        raise ValueError(f"'{name}' is a tensor of images, and it is a {type(images).__name__}. Use torch.as_tensor.")
    if images.ndim not in (3, 4) or 0 in images.shape[1:]:
        raise ValueError(
            f"'{name}' has the shape (N, C, H, W), or (N, H, W) for one channel, and its shape is "
            f"{tuple(images.shape)}. Reshape it, or add the missing axis with unsqueeze."
        )
    if len(images) < at_least:
        raise ValueError(f"'{name}' holds at least {at_least} images here, and it holds {len(images)}. Pass more.")
    images = images.detach()
    images = images.unsqueeze(1) if images.ndim == 3 else images
    if like is not None and images.shape[1:] != like.shape[1:]:
        raise ValueError(
            f"Images that are compared have one shape, and those of '{name}' are {tuple(images.shape[1:])} where the "
            f"others are {tuple(like.shape[1:])}. Resize them, or convert their colours."
        )
    if images.dtype not in (torch.uint8, torch.bool) and not images.is_floating_point():
        raise ValueError(
            f"'{name}' is of type uint8, in 0 to 255, or of floating point, in [0, 1], and it is {images.dtype}. "
            f"Convert it with images.to(torch.uint8)."
        )
    if images.is_floating_point() and len(images):
        low, high = (bound.item() for bound in images.aminmax())
        # A NaN among the values is both their minimum and their maximum, and fails every comparison.
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"Floating-point images lie in [0, 1] without NaN, and those of '{name}' lie in [{low:g}, {high:g}]. "
                f"Undo their normalisation, or divide by 255."
            )
    return images


def checked_labels(labels: Tensor, name: str, *, images: int, classes: int | None = None) -> Tensor:
    r"""Returns labels as int64, with shape :math:`(N,)`.

    Args:
        labels: Integers from 0 on, one per image.
        name: What an error calls them.
        images: The images :math:`N` that they belong to.
        classes: The number of classes, where it is known, which is above every label.

    Raises:
        ValueError: If they are no such labels.
    """
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        found = labels.dtype if isinstance(labels, Tensor) else f"a {type(labels).__name__}"
        raise ValueError(f"'{name}' is a tensor of integers, and it is {found}. Use torch.as_tensor, or .long().")
    if labels.shape != (images,):
        raise ValueError(
            f"'{name}' holds one label per image, with shape ({images},), and its shape is {tuple(labels.shape)}. "
            f"Pass the labels of just these images."
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < (torch.inf if classes is None else classes):
        bound = "on" if classes is None else f"to {classes - 1}, for {classes} classes"
        raise ValueError(
            f"'{name}' lies in 0 {bound}, and goes from {labels.min()} to {labels.max()}. "
            f"Number the classes from 0 without a gap, and let 'classes' count them."
        )
    return labels.detach().long()


def checked_pair(
    pair: Labelled, name: str, classes: int | None = None, *, like: Tensor | None = None, at_least: int = 1
) -> Labelled:
    r"""Returns images and labels, checked with :func:`checked_images` and :func:`checked_labels`.

    Raises:
        ValueError: If they are not a pair of images and their labels.
    """
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(f"'{name}' is a pair (images, labels), and it is a {type(pair).__name__}. Pass both tensors.")
    images = checked_images(pair[0], f"{name} images", like=like, at_least=at_least)
    return images, checked_labels(pair[1], f"{name} labels", images=len(images), classes=classes)


def to_unit(images: Tensor) -> Tensor:
    r"""Returns checked images as float32 in [0, 1]."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
