r"""Tools for all other sub-packages.

Import each module by its full name, for example ``gae_augment._utils.seeding``.
"""

__all__: list[str] = []
