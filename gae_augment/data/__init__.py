r"""Reads the labels and images of datasets, arrays and image folders, and counts the images to add to each class.

A :class:`ValueScale` converts image values to network inputs and back. This sub-package imports no other sub-package
than ``_utils``.

Workers that fit models do not need torchvision, whose import takes nearly a third of their start. So what reads images
is imported at its first use.
"""

from typing import TYPE_CHECKING

from .._utils.lazy import lazy_names
from .groups import FEW_OBJECTS, count_known_objects, groups_of
from .long_tail import choose_images, profile_counts
from .strategy import (
    Label,
    SamplingStrategy,
    checked_label,
    count_labels,
    moderate_strategy,
    resolve_strategy,
)
from .values import ValueScale
from .working_size import WorkingSize, check_working_size, resize_images

if TYPE_CHECKING:
    from .encoding import encode, saving_options
    from .file_loaders import upright
    from .folders import as_pictures, check_output, open_folder, upright_bytes
    from .formats import ItemFormat
    from .geometry import geometric_transform, image_views
    from .image_dataset import ImageDataset
    from .images import append_samples, check_images, check_unmasked, image_array, read_images
    from .labels import class_names, label_array, read_labels
    from .source import READ_AT_ONCE, ImageReader, load_source, read_classes, read_in_batches
    from .statistics import ImageStatistics, image_statistics
    from .transforms import read_attribute, source_datasets
    from .views import DatasetView

__all__ = [
    "FEW_OBJECTS",
    "READ_AT_ONCE",
    "DatasetView",
    "ImageDataset",
    "ImageReader",
    "ImageStatistics",
    "ItemFormat",
    "Label",
    "SamplingStrategy",
    "ValueScale",
    "WorkingSize",
    "append_samples",
    "as_pictures",
    "check_images",
    "check_output",
    "check_unmasked",
    "check_working_size",
    "checked_label",
    "choose_images",
    "class_names",
    "count_known_objects",
    "count_labels",
    "encode",
    "geometric_transform",
    "groups_of",
    "image_array",
    "image_statistics",
    "image_views",
    "label_array",
    "load_source",
    "moderate_strategy",
    "open_folder",
    "profile_counts",
    "read_attribute",
    "read_classes",
    "read_images",
    "read_in_batches",
    "read_labels",
    "resize_images",
    "resolve_strategy",
    "saving_options",
    "source_datasets",
    "upright",
    "upright_bytes",
]

_HOMES = {
    "DatasetView": "views",
    "ImageDataset": "image_dataset",
    "ImageReader": "source",
    "ImageStatistics": "statistics",
    "ItemFormat": "formats",
    "READ_AT_ONCE": "source",
    "append_samples": "images",
    "as_pictures": "folders",
    "check_images": "images",
    "check_output": "folders",
    "check_unmasked": "images",
    "class_names": "labels",
    "encode": "encoding",
    "geometric_transform": "geometry",
    "image_array": "images",
    "image_statistics": "statistics",
    "image_views": "geometry",
    "label_array": "labels",
    "load_source": "source",
    "open_folder": "folders",
    "read_attribute": "transforms",
    "read_classes": "source",
    "read_images": "images",
    "read_in_batches": "source",
    "read_labels": "labels",
    "saving_options": "encoding",
    "source_datasets": "transforms",
    "upright": "file_loaders",
    "upright_bytes": "folders",
}


if not TYPE_CHECKING:
    __getattr__ = lazy_names(__name__, _HOMES)
