"""``/metrics``: figures for Prometheus, about the pool and about this API. Names and addresses are not among them.

Prometheus logs in by itself: with ``oauth2`` in its scrape configuration, the guid and secret of an OAuth2 client, and
``/api/oauth2/token/`` as ``token_url``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

from fastapi import APIRouter, Request
from fastapi.responses import Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from openvstorage.vpool.api.caller import READS
from openvstorage.vpool.api.context import ApiContext, context_of
from openvstorage.vpool.model.export import Export, Grant
from openvstorage.vpool.model.task import Task, TaskStatus

__all__ = ["RequestMetrics", "router"]

router = APIRouter(tags=["metrics"])
#: Upper bounds in seconds; most answers take milliseconds, blocking ones up to a minute.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class RequestMetrics:
    """ASGI layer: counts and times requests by their endpoint.

    :param template: gives the endpoint of a path, of which there are few; None for a path that has none.
    :param registry: where the figures are kept.
    """

    def __init__(self, app: ASGIApp, template: Callable[[str], str | None], registry: CollectorRegistry) -> None:
        self.app = app
        self._template = template
        labels = ("method", "endpoint")
        self._requests = Counter(
            "openvstorage_api_requests", "Requests answered", (*labels, "status"), registry=registry
        )
        self._seconds = Histogram(
            "openvstorage_api_request_seconds", "Time to answer", labels, buckets=BUCKETS, registry=registry
        )
        self._in_progress = Gauge("openvstorage_api_requests_in_progress", "Requests to answer", registry=registry)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI entry point."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        endpoint, started = self._template(scope["path"]), time.perf_counter()

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                # What a client makes up, a method or a path, would be a new series each time.
                method = scope["method"] if endpoint is not None else "other"
                self._requests.labels(method, endpoint or "other", message["status"]).inc()
                self._seconds.labels(method, endpoint or "other").observe(time.perf_counter() - started)
            await send(message)

        with self._in_progress.track_inprogress():
            await self.app(scope, receive, watch)


@router.get(
    "/metrics",
    dependencies=[READS],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "Figures as text"}},
)
async def show_metrics(request: Request) -> Response:
    """Tell Prometheus how the pool and the API are doing."""
    pool = CollectorRegistry()
    pool.register(_Gathered(await _pool_metrics(context_of(request))))
    counted: CollectorRegistry = request.app.state.metrics
    return Response(generate_latest(counted) + generate_latest(pool), media_type=CONTENT_TYPE_LATEST)


class _Gathered(Collector):
    """Figures gathered before: a collector itself can not wait."""

    def __init__(self, metrics: list[Metric]) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[Metric]:
        yield from self._metrics


async def _pool_metrics(context: ApiContext) -> list[Metric]:
    stats = await context.operations.pool_stats()
    unfinished = Task.status.in_([TaskStatus.PENDING, TaskStatus.STARTED])
    async with context.db.read() as session:
        grants = await session.scalar(select(func.count()).select_from(Grant))
        exports = await session.scalar(select(func.count()).select_from(Export))
        tasks = await session.scalar(select(func.count()).select_from(Task).where(unfinished))
    values = {
        "pool_total_bytes": ("Size of the pool", stats.total_bytes),
        "pool_free_bytes": ("Free bytes of the pool", stats.free_bytes),
        "pool_used_bytes": ("Bytes that vDisks and snapshots use", stats.used_bytes),
        "pool_provisioned_bytes": ("Sum of the sizes of all vDisks", stats.provisioned_bytes),
        "pool_measured_timestamp_seconds": ("When the pool was measured", stats.measured_at),
        "vdisks": ("vDisks", stats.vdisk_count),
        "exports": ("vDisks being served", exports or 0),
        "grants": ("Grants", grants or 0),
        "tasks_unfinished": ("Tasks waiting or under way", tasks or 0),
    }
    return [GaugeMetricFamily(f"openvstorage_{name}", text, value) for name, (text, value) in values.items()]
