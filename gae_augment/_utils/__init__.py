r"""Tools for all other sub-packages: seeds, devices, threads, parallel jobs, memory for images, and files.

Import each module by its full name, such as ``gae_augment._utils.seeding``. The modules import no other sub-package.
"""

__all__: list[str] = []
