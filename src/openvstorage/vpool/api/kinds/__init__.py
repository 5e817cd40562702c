"""What each resource shows, and how it is worked out."""
