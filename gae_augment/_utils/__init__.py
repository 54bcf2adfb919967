r"""Tools for all other rooms: seeds, devices, threads, parallel jobs, memory for images, and files.

Each module is imported by its own name, since some need libraries that others do without. Imports no other room.
"""

__all__: list[str] = []
