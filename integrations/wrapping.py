r"""A Lightning data module that can wrap another data module."""

__all__ = ["WrappingDataModule"]

from typing import Any

try:
    from lightning.pytorch import LightningDataModule
    from lightning.pytorch.utilities.model_helpers import is_overridden
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "gae_augment.integrations.lightning needs Lightning: pip install 'gae-augment[lightning]'"
    ) from error

OPTIONAL_HOOKS = (
    "val_dataloader",
    "test_dataloader",
    "predict_dataloader",
    "on_before_batch_transfer",
    "transfer_batch_to_device",
    "on_after_batch_transfer",
)


class _Forwarded:
    r"""Reads and sets an attribute of the wrapped data module. Without one, the wrapper holds the attribute."""

    def __set_name__(self, owner: type, name: str) -> None:
        self.name = name

    def __get__(self, module: Any, owner: type | None = None) -> Any:
        if module is None:
            return self
        inner = module.__dict__.get("_inner")
        return module.__dict__.get(self.name) if inner is None else getattr(inner, self.name)

    def __set__(self, module: Any, value: Any) -> None:
        inner = module.__dict__.get("_inner")
        if inner is None:
            module.__dict__[self.name] = value
        else:
            setattr(inner, self.name, value)


class WrappingDataModule(LightningDataModule):
    r"""A data module that can wrap another data module.

    After :meth:`wrap`, Lightning calls the optional hooks of the wrapped data module. The wrapper reads attributes that
    it does not define from the wrapped data module.
    """

    trainer = _Forwarded()
    prepare_data_per_node = _Forwarded()
    allow_zero_length_dataloader_with_multiple_devices = _Forwarded()
    # Lightning's batch size finder reads and sets this attribute.
    batch_size = _Forwarded()

    _inner: LightningDataModule | None = None

    def wrap(self, inner: LightningDataModule) -> None:
        r"""Wraps a data module.

        The optional hooks that the wrapped module overrides, for example ``val_dataloader``, become attributes of the
        wrapper.
        """
        self._inner = inner
        for name in OPTIONAL_HOOKS:
            if is_overridden(name, inner):
                setattr(self, name, getattr(inner, name))

    def __getattr__(self, name: str) -> Any:
        inner = self.__dict__.get("_inner")
        if inner is None or name.startswith("_"):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}.")
        return getattr(inner, name)

    def teardown(self, stage: str) -> None:
        r"""Tears down the wrapped data module, if there is one."""
        if self._inner is not None:
            self._inner.teardown(stage)

    def on_exception(self, exception: BaseException) -> None:
        r"""Passes an exception to the wrapped data module, if there is one."""
        if self._inner is not None:
            self._inner.on_exception(exception)
