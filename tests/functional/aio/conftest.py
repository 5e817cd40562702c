"""State directories of these tests."""

from tests.support.run_directory import own_run_directory

__all__ = ["own_run_directory"]
