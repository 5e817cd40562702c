"""Open vStorage for OpenStack: block storage installed with one wheel."""

__version__ = "0.1.0.dev0"
