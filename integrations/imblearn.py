r"""An over-sampler for imbalanced-learn pipelines."""

__all__ = ["GAESampler"]

from typing import Any, ClassVar, Self

import numpy as np
from sklearn.base import clone
from sklearn.utils.validation import validate_data

from gae_augment import GAEAugmenter
from gae_augment.data import check_unmasked, count_labels

try:
    from imblearn.over_sampling.base import BaseOverSampler
    from imblearn.utils import check_target_type
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "gae_augment.integrations.imblearn needs imbalanced-learn: pip install 'gae-augment[imblearn]'"
    ) from error


class GAESampler(BaseOverSampler):
    r"""Over-samples scarce classes with one generative model per class.

    The data are numeric tables, vectors or images, without missing values. The result has the type of the input.
    Integer columns of a data frame remain integer columns.

    Args:
        sampling_strategy: The class sizes after over-sampling, in any form that imbalanced-learn's over-samplers
            accept. ``"auto"`` makes all classes as large as the largest one.
        random_state: The seed of all random numbers. With ``None``, every call of ``fit_resample`` uses a new seed.
        augmenter: The augmenter, by default ``GAEAugmenter(progress=False)``. A copy is fitted, with the
            ``sampling_strategy`` and the ``random_state`` of this sampler.

    Attributes:
        sampling_strategy_: The number of samples to add to each class, by label.
        augmenter_: The fitted augmenter.
        is_synthetic_: One Boolean per row of the result, true for synthetic rows. The original rows come first.
        whole_numbers_: One Boolean per column of a data frame, true for integer and Boolean columns; empty for other
            data.
        n_features_in_: The length of the second axis of the data.
        feature_names_in_: The column names of a data frame; missing for other data, or if a name is not a string.

    Example:
        >>> from sklearn.datasets import make_classification
        >>> from gae_augment import GenerativeModel
        >>> X, y = make_classification(100, weights=[0.8], random_state=0)
        >>> augmenter = GAEAugmenter(GenerativeModel(epochs=2, delta=10.0), progress=False)
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

    def set_params(self, **params: Any) -> Self:
        r"""Sets parameters, including nested ones, for example ``augmenter__model__latent_dim``.

        If ``augmenter`` is ``None``, nested parameters are set on a new ``GAEAugmenter(progress=False)``.
        """
        if params.get("augmenter", self.augmenter) is None and any(name.startswith("augmenter__") for name in params):
            params["augmenter"] = GAEAugmenter(progress=False)
        return super().set_params(**params)

    def fit_resample(self, X: Any, y: Any, **params: Any) -> tuple[Any, Any]:
        r"""Returns the original rows, unchanged, followed by the synthetic rows, and the labels of both."""
        X_resampled, y_resampled = super().fit_resample(X, y, **params)
        if hasattr(X, "columns") and hasattr(X_resampled, "iloc"):
            rows = X_resampled.index[: len(X)]
            originals = X.set_axis(rows, axis=0)
            if not X_resampled.loc[rows].equals(originals) and (X.dtypes == X_resampled.dtypes).all():
                # Integers above 2 ** 53 were rounded when floating-point columns beside them were joined with them.
                import pandas as pd  # type: ignore[import-untyped]

                X_resampled = pd.concat([originals, X_resampled.iloc[len(X) :]])
        return X_resampled, y_resampled

    def _check_X_y(self, X: Any, y: Any) -> tuple[np.ndarray, np.ndarray, bool]:  # noqa: N802
        y, one_hot = check_target_type(y, indicate_one_vs_all=True)
        # Only data frames have dtypes.
        types = getattr(X, "dtypes", ())
        if categories := [
            str(name) for name, kind in zip(getattr(X, "columns", ()), types, strict=False) if kind == "category"
        ]:
            raise ValueError(
                f"The columns {', '.join(categories)} hold categories, but GAESampler needs numbers. Encode them, for "
                f"example with scikit-learn's OneHotEncoder, or remove them."
            )
        check_unmasked(X)
        _check_columns(X)
        # Sparse columns of a data frame become dense; a sparse matrix is an error.
        X = X.sparse.to_dense() if hasattr(X, "sparse") else X
        X, y = validate_data(self, X, y, allow_nd=True)
        self.whole_numbers_ = np.array([getattr(column, "kind", "O") in "biu" for column in types], dtype=bool)
        return X, y, one_hot

    def _fit_resample(self, X: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        augmenter = GAEAugmenter(progress=False) if self.augmenter is None else clone(self.augmenter)
        counts = count_labels(y)
        totals = {label: counts[label] + number for label, number in self.sampling_strategy_.items()}
        augmenter.set_params(sampling_strategy=totals, random_state=self.random_state)
        # Set before the fit, so that after an error the models of the other classes are still available.
        self.augmenter_ = augmenter
        X_resampled, y_resampled = augmenter.fit_resample(X, y)
        if self.whole_numbers_.any() and len(X_resampled) > len(X):
            # Rounded here, because the later conversion to integer columns would truncate.
            synthetic = X_resampled[len(X) :]
            synthetic[:, self.whole_numbers_] = synthetic[:, self.whole_numbers_].round()
        self.is_synthetic_ = np.arange(len(X_resampled)) >= len(X)
        return X_resampled, y_resampled

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = False
        tags.input_tags.three_d_array = True
        return tags


def _check_columns(X: Any) -> None:
    r"""Checks that no column of a data frame holds text or dates."""
    if not hasattr(X, "columns"):
        return
    for name in X.columns:
        column = X[name]
        kind = getattr(getattr(column, "dtype", None), "kind", "")
        if kind in "mM" or (kind in "OUT" and any(isinstance(value, str) for value in column)):
            raise ValueError(
                f"Column {name!r} holds {'dates or times' if kind in 'mM' else 'text'}, but GAESampler needs numbers. "
                f"Encode it, for example with scikit-learn's OrdinalEncoder, or remove it."
            )
