"""Throws what the OpenAPI document allows, and what it does not, at a running service.

    python -m tests.fuzz --cases 20000 [--seed N]

No answer may be a 5xx, every answer has to be as the document says, and no task may fail for a reason that nobody
thought of. Identifiers are often replaced by real ones, else nearly every call would only find out that nothing is
there.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from tests.support.vpool_service import VpoolService

MODES = (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE)
CHECKS = [content_type_conformance, response_schema_conformance, status_code_conformance]
#: How often an identifier is replaced by a real one.
REAL = 0.7
ENOUGH_FAILURES = 20


@dataclass
class Report:
    """What happened.

    :ivar statuses: how many answers had which status; ``failures``: what must not be, with how to repeat it.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        return sum(self.statuses.values())


class World:
    """The service and the real objects in it, which the cases use up."""

    def __init__(self, service: VpoolService) -> None:
        status = service.status
        self.database = service.data / "model.sqlite3"
        self.url = f"https://{status['management_ips'][0]}:{status['port']}"
        self.session = requests.Session()
        self.session.verify = str(status["ca_file"])
        self.session.trust_env = False  # else REQUESTS_CA_BUNDLE, where set, wins over verify
        password = Path(status["password_file"]).read_text().strip()
        form = {"grant_type": "password", "username": status["username"], "password": password}
        token = self.session.post(f"{self.url}/api/oauth2/token/", data=form, timeout=30).json()["access_token"]
        self.headers = {"Accept": "application/json; version=*", "Authorization": f"Bearer {token}"}
        self.known: dict[str, list[str]] = {}
        self.made = 0

    def refresh(self) -> None:
        """Have a few vDisks, snapshots and grants, and know their names."""
        for resource in ("vpools", "storagerouters", "storagedrivers"):
            self.known[resource.removesuffix("s")] = self._get(f"{resource}/")["data"]
        pool = self.known["vpool"][0]
        while len(self._get("vdisks/")["data"]) < 3:
            self.made += 1
            body = {"name": f"fuzz-{self.made}", "size": 1 << 30, "vpool_guid": pool}
            vdisk = self._task("vdisks/", body)
            self._task(f"vdisks/{vdisk}/create_snapshot/", {"name": "s"})
        vdisks = self._get("vdisks/?contents=snapshot_ids")["data"]
        self.known["vdisk"] = [item["guid"] for item in vdisks]
        self.known["snapshot"] = [guid for item in vdisks for guid in item["snapshot_ids"]]
        if not self._get("grants/")["data"]:
            body = {"vdisk_guid": vdisks[0]["guid"], "client": "h", "consumer": "c", "mode": "ro"}
            self._task("grants/", body)
        self.known["grant"] = self._get("grants/")["data"]

    def make_real(self, case: schemathesis.Case, chance: random.Random) -> None:
        """Put real identifiers into a case, often; credentials always, and a key that others had before seldom."""
        for name in list(case.headers or {}):
            other = name.lower() == "idempotency-key" and chance.random() > REAL
            if name.lower() in ("authorization", "accept") or (name.lower() == "idempotency-key" and not other):
                del case.headers[name]
        for container in (case.path_parameters, case.query, case.body):
            if isinstance(container, dict):
                for name in container:
                    pool = self._pool(name)
                    if pool and chance.random() < REAL:
                        real = chance.choice(pool)
                        container[name] = [real] if name.endswith("_guids") else real

    def internal_errors(self) -> list[str]:
        """:returns: what tasks failed of that nobody thought of; waits until all are ready."""
        with sqlite3.connect(self.database) as connection:
            deadline = time.monotonic() + 120
            unfinished = "select count(*) from task where status in ('PENDING', 'STARTED')"
            while connection.execute(unfinished).fetchone()[0]:
                if time.monotonic() > deadline:
                    return ["tasks are still under way after two minutes"]
                time.sleep(0.1)
            query = "select kind, args, result from task where status = 'FAILURE' and result like '%internal error%'"
            return [f"task {kind} {args}: {result}" for kind, args, result in connection.execute(query)]

    def _pool(self, name: str) -> list[str]:
        if name == "snapshot_id":
            return self.known["snapshot"]
        for ending in ("_guid", "_guids", "guid"):
            kind = name.removesuffix(ending).removeprefix("target_")
            if name.endswith(ending) and kind in self.known:
                return self.known[kind]
        return []

    def _get(self, path: str) -> Any:
        answer = self.session.get(f"{self.url}/api/{path}", headers=self.headers, timeout=90)
        answer.raise_for_status()
        return answer.json()

    def _task(self, path: str, body: dict[str, Any]) -> Any:
        answer = self.session.post(f"{self.url}/api/{path}", headers=self.headers, json=body, timeout=90)
        answer.raise_for_status()
        task = self._get(f"tasks/{answer.json()}/?wait=60")
        if not task["successful"]:
            raise RuntimeError(f"{path} {body}: {task}")
        return task["result"]


def fuzz(service: VpoolService, cases: int, first_seed: int = 1) -> Report:
    """Send about so many cases, spread over all operations.

    :param first_seed: repeats a run, as far as the service's own identifiers allow.
    """
    world, report = World(service), Report()
    operations = [result.ok() for result in schemathesis.openapi.from_dict(_document(world)).get_all_operations()]
    round_number = 0
    while report.cases < cases and len(report.failures) < ENOUGH_FAILURES:
        before = report.cases
        share = max(1, (cases - before) // (len(operations) * len(MODES)))
        for operation in operations:
            world.refresh()
            for mode in MODES:
                _fuzz_operation(world, report, operation, mode, share, first_seed + round_number)
        round_number += 1
        if report.cases == before:
            break
    report.failures += world.internal_errors()
    return report


def _document(world: World) -> dict[str, Any]:
    """The OpenAPI document without its security: half of the cases would only be about a missing token."""
    document: dict[str, Any] = world.session.get(f"{world.url}/api/openapi.json", timeout=30).json()
    document["components"].pop("securitySchemes")
    for operations in document["paths"].values():
        for operation in operations.values():
            operation.pop("security", None)
    return document


def _fuzz_operation(world: World, report: Report, operation: Any, mode: Any, share: int, number: int) -> None:
    @seed(number)
    @settings(
        max_examples=share,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), chance=st.randoms(use_true_random=True))
    def send(case: schemathesis.Case, chance: random.Random) -> None:
        world.make_real(case, chance)
        response = case.call(
            world.url, session=world.session, headers=world.headers, timeout=90, verify=world.session.verify
        )
        report.statuses[response.status_code] += 1
        if response.status_code >= 500:
            report.failures.append(f"{response.status_code}: {case.as_curl_command()}\n{response.text}")
            return
        try:
            case.validate_response(response, checks=CHECKS)
        except BaseExceptionGroup as problems:
            report.failures.append(f"{problems.exceptions}\n{case.as_curl_command()}\n{response.text}")

    # A call without parameters can not be made wrong.
    with contextlib.suppress(Unsatisfiable):
        send()


def main() -> int:
    """The command.

    :returns: 0 if nothing was found.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.partition("\n")[0])
    parser.add_argument("--cases", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="fuzz-") as directory,
        VpoolService(Path(directory) / "data") as service,
    ):
        started = time.monotonic()
        report = fuzz(service, chosen.cases, chosen.seed)
    for failure in report.failures:
        print(failure, end="\n\n")
    statuses = ", ".join(f"{count} x {status}" for status, count in sorted(report.statuses.items()))
    print(f"{report.cases} cases in {time.monotonic() - started:.0f} s: {statuses}; {len(report.failures)} failures")
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
