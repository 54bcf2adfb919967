r"""Tools for all other sub-packages: seeds, devices, threads, parallel jobs, memory for images, and files.

Import each module by its full name: some modules need libraries that the others do not. Imports no other sub-package.
"""

__all__: list[str] = []
