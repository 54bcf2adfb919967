r"""The format of a dataset's images (PIL image, array or tensor), and conversion of images to tensors and back."""

__all__ = ["ItemFormat"]

from dataclasses import dataclass
from typing import Any, Literal, Self

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import tv_tensors


@dataclass(frozen=True)
class ItemFormat:
    r"""The format of an image in a dataset, and conversion between this format and tensors.

    Attributes:
        container: The Python type: a PIL image, a NumPy array, a tensor, or torchvision's ``tv_tensors.Image``.
        shape: The shape of the image as a tensor: :math:`(C, H, W)` for :math:`C` channels, height :math:`H` and width
            :math:`W`; :math:`(H, W)`; or :math:`(F,)` for a vector of :math:`F` features.
        dtype: The data type of the image as a tensor.
        mode: The Pillow mode of a PIL image, such as ``"RGB"``; ``None`` for other containers.
        channels_last: Whether the image is a NumPy array of shape :math:`(H, W, C)`.
    """

    container: Literal["PIL image", "array", "tensor", "tv_tensor"]
    shape: tuple[int, ...]
    dtype: torch.dtype
    mode: str | None = None
    channels_last: bool = False

    @classmethod
    def of(cls, image: Any) -> Self:
        r"""Returns the format of a PIL image, a NumPy array or a tensor.

        A 3-dimensional NumPy array counts as channels-last if its last axis, but not its first axis, has size 1 to 4.

        Raises:
            ValueError: If the object is not an image or vector of real numbers, or its Pillow mode or data type is not
                supported.
        """
        container: Literal["PIL image", "array", "tensor", "tv_tensor"]
        shape: tuple[int, ...]
        mode, channels_last = None, False
        if isinstance(image, Image.Image):
            if image.mode in ("P", "PA"):
                raise ValueError(
                    f"An image has mode {image.mode!r}, whose values are palette indices, not colours. "
                    f"Convert the images: image.convert('RGB')."
                )
            if image.mode.startswith("I;16") and image.mode != "I;16":
                raise ValueError(
                    f"An image has mode {image.mode!r}, but 16-bit images must have mode 'I;16', in this machine's "
                    f"byte order. Convert the images: image.convert('I')."
                )
            # One pixel has the data type and the channels of all, and is read at once.
            tensor = torch.from_numpy(np.array(Image.new(image.mode, (1, 1))))
            shape = (1 if tensor.ndim == 2 else tensor.shape[2], image.height, image.width)
            container, mode = "PIL image", image.mode
        elif isinstance(image, np.ndarray):
            try:
                tensor = torch.from_numpy(np.array(image))
            except (TypeError, ValueError) as error:
                raise ValueError(
                    f"An image is an array of type {image.dtype}, which torch does not support. "
                    f"Convert it: image.astype('float32')."
                ) from error
            channels_last = image.ndim == 3 and image.shape[2] in (1, 2, 3, 4) and image.shape[0] not in (1, 2, 3, 4)
            shape = (image.shape[2], *image.shape[:2]) if channels_last else image.shape
            container = "array"
        elif isinstance(image, Tensor) and image.layout is not torch.strided:
            raise ValueError(f"An image is a tensor of layout {image.layout}, but must be dense: to_dense().")
        elif isinstance(image, Tensor):
            tensor, shape = image, tuple(image.shape)
            container = "tv_tensor" if isinstance(image, tv_tensors.Image) else "tensor"
        else:
            raise ValueError(
                f"An image is a {type(image).__name__}, but must be a PIL image, an array or a tensor. "
                f"Wrap the dataset in one that returns such images."
            )
        if tensor.dtype.is_complex or not 1 <= len(shape) <= 3 or 0 in shape:
            raise ValueError(
                f"An image has shape {tuple(shape)} and type {tensor.dtype}, but must hold real numbers with shape "
                f"(C, H, W), (H, W) or (F,). Reshape or convert it."
            )
        return cls(container, tuple(shape), tensor.dtype, mode=mode, channels_last=channels_last)

    def to_tensor(self, image: Any) -> Tensor:
        r"""Converts an image of this format to a CPU tensor whose shape is the attribute ``shape``."""
        if isinstance(image, Tensor):
            return image.detach().cpu().as_subclass(Tensor)
        tensor = torch.from_numpy(np.array(image))
        if self.container == "PIL image" and tensor.ndim == 2:
            return tensor[None]
        return tensor.permute(2, 0, 1) if self.container == "PIL image" or self.channels_last else tensor

    def from_tensor(self, tensor: Tensor) -> Any:
        r"""Converts a CPU tensor of shape ``self.shape`` to a new image of this format."""
        if self.container == "tensor":
            return tensor.clone()
        if self.container == "tv_tensor":
            return tv_tensors.Image(tensor.clone())
        if self.container == "array":
            return (tensor.permute(1, 2, 0) if self.channels_last else tensor).contiguous().numpy().copy()
        pixels = tensor[0] if tensor.shape[0] == 1 else tensor.permute(1, 2, 0)
        array = np.ascontiguousarray(pixels.numpy())
        if self.mode == "1":
            return Image.fromarray(array)
        return Image.frombytes(str(self.mode), (array.shape[1], array.shape[0]), array.tobytes())
