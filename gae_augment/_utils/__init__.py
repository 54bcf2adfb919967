r"""Tools for all other rooms: seeds, devices, threads, parallel jobs, memory for images, and files.

Import each module by its full name: some need libraries that the others do not. Imports no other room.
"""

__all__: list[str] = []
