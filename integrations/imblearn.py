r"""An over-sampler for imbalanced-learn's pipelines."""

__all__ = ["GAESampler"]

from typing import Any, ClassVar

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import validate_data

from gae_augment import GAEAugmenter
from gae_augment.data import count_labels

try:
    from imblearn.over_sampling.base import BaseOverSampler
    from imblearn.utils import check_target_type
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "gae_augment.integrations.imblearn needs imbalanced-learn: pip install 'gae-augment[imblearn]'"
    ) from error


class GAESampler(BaseOverSampler):
    r"""Over-samples with a generative model for each scarce class, as SMOTE does with lines between neighbours.

    It takes tables, arrays of vectors and arrays of images, all of numbers and without gaps, and gives back what it
    was given: lists, arrays of the same type, or a data frame, whose columns of whole numbers keep them.

    Args:
        sampling_strategy: Which classes get how many samples, as for every over-sampler of imbalanced-learn.
        random_state: The seed of everything.
        augmenter: A :class:`gae_augment.GAEAugmenter` with the settings of the models; a copy of it is fitted, whose
            own ``sampling_strategy`` and ``random_state`` count for nothing. ``None`` is one with the defaults that
            shows no progress.

    Attributes:
        sampling_strategy_: The samples to add to each class.
        augmenter_: The fitted augmenter, which can make more samples, and be saved.
        is_synthetic_: Whether each row of the result is synthetic, with shape :math:`(N',)`; the originals come first.
        whole_numbers_: Which columns of a data frame hold whole numbers or Booleans; of none for other data.
        n_features_in_: The features, or the channels or rows of an image.
        feature_names_in_: The names of a table's columns, where all of them are text.

    Example:
        >>> from sklearn.datasets import make_classification
        >>> X, y = make_classification(100, weights=[0.8], random_state=0)
        >>> augmenter = GAEAugmenter(epochs=2, delta=10.0, progress=False)
        >>> X_resampled, y_resampled = GAESampler(augmenter=augmenter, random_state=0).fit_resample(X, y)
        >>> np.bincount(y_resampled).tolist()
        [81, 81]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseOverSampler._parameter_constraints,
        "augmenter": [GAEAugmenter, None],
    }

    def __init__(
        self,
        *,
        sampling_strategy: Any = "auto",
        random_state: int | np.random.RandomState | None = None,
        augmenter: GAEAugmenter | None = None,
    ) -> None:
        super().__init__(sampling_strategy=sampling_strategy)
        self.random_state = random_state
        self.augmenter = augmenter

    def _check_X_y(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, bool]:  # noqa: N802
        y, one_hot = check_target_type(y, indicate_one_vs_all=True)
        # A data frame with sparse columns is one with columns; a sparse matrix is refused.
        types = getattr(X, "dtypes", ())
        if categories := [
            str(name) for name, kind in zip(getattr(X, "columns", ()), types, strict=False) if kind == "category"
        ]:
            raise ValueError(
                f"GAESampler learns numbers, and there are categories in {', '.join(categories)}. Encode them, as with "
                f"scikit-learn's OneHotEncoder, or leave them out."
            )
        X = X.sparse.to_dense() if hasattr(X, "sparse") else X
        X, y = validate_data(self, X, y, allow_nd=True)
        self.whole_numbers_ = np.array([getattr(column, "kind", "O") in "biu" for column in types], dtype=bool)
        return X, y, one_hot

    def _fit_resample(self, X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        augmenter = GAEAugmenter(progress=False) if self.augmenter is None else clone(self.augmenter)
        counts = count_labels(y)
        totals = {label: counts[label] + number for label, number in self.sampling_strategy_.items()}
        augmenter.set_params(sampling_strategy=totals, random_state=self.random_state)
        # Of a fit that fails for some classes the others are kept.
        self.augmenter_ = augmenter
        X_resampled, y_resampled = augmenter.fit_resample(X, y)
        if self.whole_numbers_.any() and len(X_resampled) > len(X):
            # Data frames cut off what is behind the point.
            new = X_resampled[len(X) :]
            new[:, self.whole_numbers_] = new[:, self.whole_numbers_].round()
        self.is_synthetic_ = np.arange(len(X_resampled)) >= len(X)
        return X_resampled, y_resampled

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.input_tags.three_d_array = True
        return tags
