"""What happens to vDisks: tasks, the journal, operations and recovery.

:class:`Operations` is all that the API sees of it.
"""

from openvstorage.vpool.operations.facade import Operations
from openvstorage.vpool.operations.tasks import Idempotency

__all__ = ["Idempotency", "Operations"]
