"""How long tests wait for what has to happen: long, because the machine may be at something else, and no longer than
it takes where it does happen. What must *not* happen is looked for during a moment only."""

__all__ = ["PATIENCE"]

#: Seconds. Below pytest's own limit for a test, so that the failure says what was waited for.
PATIENCE = 180.0
