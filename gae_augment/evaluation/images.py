r"""Checks images and labels that users pass to ``gae_augment.evaluation``."""

__all__ = ["Labelled", "checked_images", "checked_labels", "checked_pair", "to_unit"]

import torch
from torch import Tensor

Labelled = tuple[Tensor, Tensor]
"""Images, with shape (N, C, H, W), and their labels, with shape (N,)."""


def checked_images(images: Tensor, name: str, *, like: Tensor | None = None, at_least: int = 1) -> Tensor:
    r"""Checks images, and returns them with shape :math:`(N, C, H, W)`.

    Args:
        images: Images of type uint8 or bool, or floating-point images in [0, 1], with shape :math:`(N, C, H, W)` or
            :math:`(N, H, W)`. Images of type uint16 are divided by 65535.
        name: The name of the images in error messages.
        like: Images with the required :math:`(C, H, W)`. By default any shape is allowed.
        at_least: The minimum number of images.

    Raises:
        ValueError: If the images have an invalid type, shape or value, or there are too few.
    """
    if not isinstance(images, Tensor):
        raise ValueError(f"'{name}' is of type {type(images).__name__}, but must be a tensor. Use torch.as_tensor.")
    if images.ndim not in (3, 4) or 0 in images.shape[1:]:
        raise ValueError(
            f"'{name}' has shape {tuple(images.shape)}, but needs shape (N, C, H, W), or (N, H, W) for one channel. "
            f"Reshape it, or add the missing axis with unsqueeze."
        )
    if len(images) < at_least:
        raise ValueError(f"'{name}' holds {len(images)} images, but needs at least {at_least}. Pass more.")
    images = images.detach()
    images = images.unsqueeze(1) if images.ndim == 3 else images
    if images.dtype == torch.uint16:
        images = images.float() / 65535
    if like is not None and images.shape[1:] != like.shape[1:]:
        raise ValueError(
            f"The images of '{name}' have shape {tuple(images.shape[1:])}, but must have shape "
            f"{tuple(like.shape[1:])}. Resize them, or convert their colours."
        )
    if images.dtype not in (torch.uint8, torch.bool) and not images.is_floating_point():
        raise ValueError(
            f"'{name}' has dtype {images.dtype}, but must be uint8, uint16, or floating point, in [0, 1]. Divide it by "
            f"the largest possible value."
        )
    if images.is_floating_point() and len(images):
        low, high = (bound.item() for bound in images.aminmax())
        # With a NaN, both bounds are NaN and fail every comparison.
        if not (low >= 0 and high <= 1):
            raise ValueError(
                f"Values outside [0, 1], or NaN: those of '{name}' lie in [{low:g}, {high:g}]. "
                f"Undo the normalisation, or divide by 255."
            )
    return images


def checked_labels(labels: Tensor, name: str, *, images: int, classes: int | None = None) -> Tensor:
    r"""Checks labels, and returns them as int64, with shape :math:`(N,)`.

    Args:
        labels: Integers of at least 0, one per image.
        name: The name of the labels in error messages.
        images: The number of images :math:`N`.
        classes: The number of classes. Every label must be below this number. ``None`` sets no limit.

    Raises:
        ValueError: If the labels are not integers or are out of range, or their number is not ``images``.
    """
    if not isinstance(labels, Tensor) or labels.is_floating_point() or labels.is_complex():
        kind = labels.dtype if isinstance(labels, Tensor) else type(labels).__name__
        raise ValueError(
            f"'{name}' is of type {kind}, but must be a tensor of integers. Use torch.as_tensor, or .long()."
        )
    if labels.shape != (images,):
        raise ValueError(
            f"'{name}' has shape {tuple(labels.shape)}, but needs shape ({images},), one label per image. "
            f"Pass the labels of exactly these images."
        )
    if len(labels) and not 0 <= labels.min() <= labels.max() < (torch.inf if classes is None else classes):
        bounds = "be at least 0" if classes is None else f"lie in 0 to {classes - 1}, for {classes} classes"
        raise ValueError(
            f"'{name}' ranges from {labels.min()} to {labels.max()}, but must {bounds}. "
            f"Number the classes from 0 without gaps, and pass their number as 'classes'."
        )
    return labels.detach().long()


def checked_pair(
    pair: Labelled, name: str, classes: int | None = None, *, like: Tensor | None = None, at_least: int = 1
) -> Labelled:
    r"""Checks a pair of images and labels, and returns it.

    Args:
        pair: The images, uint8 or in [0, 1], and their labels, integers from 0.
        name: The name of the pair in error messages.
        classes: The number of classes. Every label must be below this number. ``None`` sets no limit.
        like: Images with the required :math:`(C, H, W)`. By default any shape is allowed.
        at_least: The minimum number of images.

    Returns:
        The images, with shape :math:`(N, C, H, W)`, and the labels as int64, with shape :math:`(N,)`.

    Raises:
        ValueError: If ``pair`` is not a pair, or its images or labels are invalid.
    """
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise ValueError(
            f"'{name}' is of type {type(pair).__name__}, but must be a pair (images, labels). Pass both tensors."
        )
    images = checked_images(pair[0], f"{name} images", like=like, at_least=at_least)
    return images, checked_labels(pair[1], f"{name} labels", images=len(images), classes=classes)


def to_unit(images: Tensor) -> Tensor:
    r"""Converts images to float32, and divides uint8 images by 255."""
    return images.float() / 255 if images.dtype == torch.uint8 else images.float()
