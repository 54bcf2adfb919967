import pytest
from sklearn.base import clone

from gae_augment import GAEAugmenter


@pytest.fixture
def augmenter():
    from lightning_examples import QUICK

    return GAEAugmenter(clone(QUICK), device="cpu", progress=False)


@pytest.fixture
def make(augmenter, tmp_path):
    """Returns a data module with an empty cache for this test."""
    from lightning_examples import Digits

    from gae_augment.integrations.lightning import GAEDataModule

    def make(data=None, **parameters):
        # Tests of motions set it.
        parameters = {"augmenter": augmenter, "cache_dir": tmp_path / "cache", "motion": None} | parameters
        return GAEDataModule(Digits() if data is None else data, **parameters)

    return make
