"""The vPool service: management API, operations on vDisks, and the exports that serve them.

One process for each StorageRouter. Rooms, from top to bottom: ``api``, ``operations``, ``exports`` and ``backends``,
``model``; ``access`` is used by ``api`` and ``operations``.
"""
