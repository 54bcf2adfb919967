import warnings

import imblearn.utils.estimator_checks
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import sklearn.utils.estimator_checks
from imblearn.over_sampling import SMOTE
from imblearn.pipeline import make_pipeline
from sklearn.base import clone
from sklearn.datasets import load_digits, make_classification
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from gae_augment import GAEAugmenter, GenerativeModel
from gae_augment.integrations.imblearn import GAESampler

QUICK = GAEAugmenter(GenerativeModel(epochs=2, delta=1000.0, n_init=1), progress=False)


def checks(*libraries):
    # The libraries' own parametrize_with_checks returns no list.
    for library in libraries:
        for estimator, check in library.utils.estimator_checks.estimator_checks_generator(
            GAESampler(random_state=0, augmenter=QUICK)
        ):
            yield pytest.param(estimator, check, id=f"{library.__name__}-{check.func.__name__}")


@pytest.mark.parametrize(("estimator", "check"), list(checks(imblearn, sklearn)))
def test_estimator_checks_of_imbalanced_learn_and_scikit_learn(estimator, check):
    check(estimator)


@pytest.fixture
def table():
    X, y = make_classification(120, 6, weights=[0.7], random_state=0)
    return X, y


def sampler(**options):
    return GAESampler(random_state=0, augmenter=QUICK, **options)


@pytest.mark.parametrize("sampling_strategy", ["auto", "all", "minority", 0.75, {0: 90, 1: 50}])
def test_counts_equal_those_of_smote(table, sampling_strategy):
    resampler, smote = sampler(sampling_strategy=sampling_strategy), SMOTE(sampling_strategy=sampling_strategy)
    _, y = resampler.fit_resample(*table)
    _, y_expected = smote.fit_resample(*table)
    assert np.array_equal(np.bincount(y), np.bincount(y_expected))
    assert resampler.sampling_strategy_ == smote.sampling_strategy_


def test_originals_come_first_and_synthetic_rows_are_marked(table):
    X, y = table
    resampler = sampler()
    X_resampled, y_resampled = resampler.fit_resample(X, y)
    assert np.array_equal(X_resampled[~resampler.is_synthetic_], X)
    assert np.array_equal(y_resampled[~resampler.is_synthetic_], y)
    assert set(y_resampled[resampler.is_synthetic_]) == {1}
    assert len(resampler.augmenter_.sample(1, 3)) == 3


def test_given_augmenter_is_not_changed(table):
    augmenter = GAEAugmenter(
        GenerativeModel(epochs=2, delta=1000.0, n_init=1), progress=False, sampling_strategy="all", random_state=5
    )
    GAESampler(random_state=0, augmenter=augmenter).fit_resample(*table)
    assert not hasattr(augmenter, "models_")
    assert (augmenter.sampling_strategy, augmenter.random_state) == ("all", 5)


def test_synthetic_rows_equal_those_of_the_augmenter(table):
    X, y = table
    X_resampled, _ = sampler().fit_resample(X, y)
    totals = dict(enumerate([max(np.bincount(y))] * 2))
    augmenter = clone(QUICK).set_params(random_state=0, sampling_strategy=totals)
    assert np.array_equal(X_resampled, augmenter.fit_resample(X, y)[0])


def test_data_frames_keep_their_columns_and_types(table):
    X, y = table
    frame = pd.DataFrame(X, columns=list("abcdef")).assign(
        count=lambda table: (table.a * 10).round().astype("int16"),
        flag=lambda table: table.b > 0,
        short=lambda table: table.c.astype("float32"),
    )
    labels = pd.Series(np.where(y, "rare", "common"), name="kind")
    resampler = sampler()
    X_resampled, y_resampled = resampler.fit_resample(frame, labels)
    assert X_resampled.dtypes.equals(frame.dtypes)
    assert X_resampled.iloc[: len(frame)].equals(frame)
    assert (y_resampled.name, y_resampled.value_counts().nunique()) == ("kind", 1)
    # Truncated values would be biased towards zero by half a unit.
    synthetic = resampler.augmenter_.fit_resample(frame.to_numpy(dtype=float), labels.to_numpy())[0][len(frame) :]
    assert np.array_equal(X_resampled["count"].to_numpy()[len(frame) :], synthetic[:, 6].round())
    assert set(X_resampled["flag"][len(frame) :]) == {True, False}


def test_grid_search_over_hyper_parameters_of_images_in_a_pipeline():
    digits = load_digits()
    chosen = np.flatnonzero((digits.target < 3) & ((digits.target < 2) | (np.arange(len(digits.target)) % 5 == 0)))
    X, y = (digits.images[chosen, None] * 15).astype(np.uint8), digits.target[chosen]
    flat = FunctionTransformer(lambda images: images.reshape(len(images), -1) / 255)
    pipeline = make_pipeline(sampler(), flat, LogisticRegression(max_iter=1000))
    search = GridSearchCV(
        pipeline,
        {"gaesampler__augmenter__model__latent_dim": [2, 4]},
        cv=2,
        scoring="balanced_accuracy",
        error_score="raise",
    ).fit(X, y)
    assert search.best_score_ > 0.9
    fitted = search.best_estimator_.named_steps["gaesampler"].augmenter_
    assert fitted.models_[2].density.latent_dim == search.best_params_["gaesampler__augmenter__model__latent_dim"]
    assert fitted.sample(2, 4).shape == (4, 1, 8, 8)


@pytest.mark.parametrize("augmenter", [None, GAEAugmenter("vae"), GAEAugmenter(GenerativeModel("vae"))], ids=repr)
def test_hyper_parameters_of_any_augmenter_can_be_set(augmenter):
    resampler = GAESampler(augmenter=augmenter and clone(augmenter))
    resampler.set_params(augmenter__model__latent_dim=8, augmenter__model__epochs=2, sampling_strategy="all")
    model = resampler.augmenter.model
    assert (model.definition, model.latent_dim, model.epochs) == ("vae" if augmenter else "gae", 8, 2)
    assert resampler.sampling_strategy == "all"
    assert resampler.get_params()["augmenter__model__latent_dim"] == 8
    # The default augmenter shows no progress bar, with hyper-parameters or without.
    assert resampler.augmenter.progress == bool(augmenter)


def test_augmenter_and_hyper_parameters_can_be_set_together():
    resampler = GAESampler().set_params(augmenter__model__latent_dim=8, augmenter=GAEAugmenter("wae"))
    assert (resampler.augmenter.model.definition, resampler.augmenter.model.latent_dim) == ("wae", 8)
    resampler.set_params(augmenter=None)
    assert resampler.augmenter is None
    with pytest.raises(ValueError, match="Invalid parameter 'latent_dims'"):
        resampler.set_params(augmenter__model__latent_dims=8)


@pytest.mark.parametrize("augmenter", [None, GAEAugmenter("vae", progress=False)], ids=repr)
def test_grid_search_over_hyper_parameters_without_a_model(table, augmenter):
    pipeline = make_pipeline(GAESampler(random_state=0, augmenter=augmenter), LogisticRegression())
    pipeline.set_params(gaesampler__augmenter__model__epochs=2)
    grid = {"gaesampler__augmenter__model__latent_dim": [2, 3]}
    with warnings.catch_warnings():
        # Two epochs are too few for the stopping rule.
        warnings.simplefilter("ignore", ConvergenceWarning)
        search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(*table)
    plan = search.best_estimator_.named_steps["gaesampler"].augmenter_.report_[1].plan
    assert plan.latent_dim == search.best_params_["gaesampler__augmenter__model__latent_dim"]
    assert (plan.model, plan.epochs) == ("vae" if augmenter else "gae", 2)


def test_default_augmenter_learns_a_table(table):
    X, y = table
    X = StandardScaler().fit_transform(X)
    resampler = GAESampler(random_state=0)
    X_resampled, _ = resampler.fit_resample(X, y)
    synthetic, real = X_resampled[resampler.is_synthetic_], X[y == 1]
    # Half a standard deviation is four standard errors of these means.
    assert np.abs(synthetic.mean(axis=0) - real.mean(axis=0)).max() < 0.5
    assert np.abs(np.corrcoef(synthetic.T) - np.corrcoef(real.T)).max() < 0.5


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda X: scipy.sparse.csr_matrix(X), TypeError, "(?i)sparse"),
        (lambda X: np.where(X[0, 0] == X, np.nan, X), ValueError, "contains NaN"),
        (
            lambda X: pd.DataFrame(X).add_prefix("x").assign(city="Daejeon"),
            ValueError,
            "Column 'city' holds text",
        ),
        (lambda X: X[:, 0], ValueError, "Expected 2D array"),
    ],
    ids=["sparse", "missing values", "text", "one axis"],
)
def test_unsuitable_data_are_an_error(table, change, error, message):
    X, y = table
    with pytest.raises(error, match=message):
        sampler().fit_resample(change(X), y)


def test_categories_are_an_error(table):
    X, y = table
    frame = pd.DataFrame(X).add_prefix("x").assign(kind=pd.Categorical(np.arange(len(X)) % 3))
    with pytest.raises(ValueError, match=r"The columns kind hold categories, .*Encode them"):
        sampler().fit_resample(frame, y)


@pytest.mark.parametrize(
    ("values", "kind"),
    [(["a", "b", "c"], "text"), (np.array(["2020-01-01"] * 3, dtype="datetime64[ns]"), "dates or times")],
    ids=["text", "dates"],
)
def test_column_of_text_or_dates_is_named(table, values, kind):
    X, y = table
    frame = pd.DataFrame(X).add_prefix("x").assign(when=np.resize(np.asarray(values), len(X)))
    with pytest.raises(ValueError, match=f"Column 'when' holds {kind}, .*Encode it"):
        sampler().fit_resample(frame, y)


def test_integers_that_floats_cannot_hold_are_kept(table):
    X, y = table
    numbers = np.arange(len(X), dtype=np.int64) + 2**60
    frame = pd.DataFrame(X).add_prefix("x").assign(number=numbers)
    X_resampled, _ = sampler().fit_resample(frame, y)
    assert X_resampled.dtypes.equals(frame.dtypes)
    assert X_resampled["number"].iloc[: len(X)].tolist() == numbers.tolist()
    assert X_resampled.index.is_unique
    assert X_resampled["number"].iloc[len(X) :].between(2**60 - 1000, 2**60 + 1000).all()


def test_masked_values_are_an_error(table):
    X, y = table
    masked = np.ma.masked_greater(X, 1.0)
    with pytest.raises(ValueError, match=rf"masked array with {masked.mask.sum()} masked values.*X.filled"):
        sampler().fit_resample(masked, y)


def test_models_of_other_classes_survive_a_failure(table, plant_a_fault):
    X, y = table
    y[:10] = 2
    plant_a_fault(10, "training diverged")
    resampler = sampler()
    with pytest.warns(RuntimeWarning, match=r"class 2: FloatingPointError: training diverged\. These classes get no"):
        _, resampled = resampler.fit_resample(X, y)
    assert list(resampler.augmenter_.models_) == [1]
    assert np.bincount(resampled)[2] == 10
    resampler = GAESampler(augmenter=clone(QUICK).set_params(on_error="raise"))
    with pytest.raises(RuntimeError, match=r"The models of the other classes, \[1\], are kept"):
        resampler.fit_resample(X, y)
    assert list(resampler.augmenter_.models_) == [1]


def test_class_of_one_row_is_an_error(table):
    X, y = table
    y[:-1] = 0
    y[-1] = 1
    with pytest.raises(ValueError, match="Class 1 has 1 image, but a model needs at least 2"):
        sampler().fit_resample(X, y)
