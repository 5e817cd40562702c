"""Figures for Prometheus."""

from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families
from tests.support.asgi import AsgiClient
from tests.unit.api.conftest import GIB, VPOOL, MakeClient


async def figures(client: AsgiClient) -> dict[tuple[str, tuple[str, ...]], float]:
    answer = await client("GET", "/metrics", headers={"accept": "text/plain"})
    assert (answer.status, answer.headers["content-type"].partition(";")[0]) == (200, "text/plain")
    return {
        (
            sample.name,
            tuple(sample.labels[name] for name in ("method", "endpoint", "status") if name in sample.labels),
        ): (sample.value)
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


async def test_pool_and_requests_are_counted(make_client: MakeClient) -> None:
    client = await make_client(cluster_id="metrics")
    for path in (f"/api/vpools/{VPOOL}/", "/api/vpools/x/", "/made/up", "/made/up/too"):
        await client("GET", path)
    await client("MADE-UP", "/made/up")
    told = await figures(client)
    assert told["openvstorage_pool_total_bytes", ()] == 100 * GIB
    assert told["openvstorage_pool_used_bytes", ()] == 40 * GIB
    assert told["openvstorage_vdisks", ()] == 7
    assert told["openvstorage_tasks_unfinished", ()] == 0
    of_pool = "/api/vpools/{vpool_guid}/"
    assert told["openvstorage_api_requests_total", ("GET", of_pool, "200")] == 1
    assert told["openvstorage_api_requests_total", ("GET", of_pool, "404")] == 1
    assert told["openvstorage_api_requests_total", ("other", "other", "404")] == 3
    assert told["openvstorage_api_request_seconds_count", ("GET", of_pool)] == 2
    await client("POST", f"/api/vpools/{VPOOL}/sync_with_reality/")
    assert (await figures(client))["openvstorage_tasks_unfinished", ()] == 1


async def test_figures_are_not_for_everybody(client: AsgiClient) -> None:
    client.token = None
    assert (await client("GET", "/metrics")).status == 403
