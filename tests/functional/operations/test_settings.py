"""Settings that are wrong, or that a storage daemon does not take."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.support.crash import until
from tests.support.engine import TaskFailed, connect, engine

from openvstorage.vpool.exports.errors import QmpError


@pytest.mark.parametrize("limit", [-1, 10**15 + 1, True, 1.5, "7"])
async def test_an_impossible_limit_is_refused_and_harms_nobody(tmp_path: Path, limit: object) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a")
        with pytest.raises(TaskFailed, match="whole number"):
            await vpool.do("vdisk.set_qos", vdisk, qos={"iops_total": limit})
        await vpool.do("vdisk.set_qos", vdisk, qos={"iops_total": 10**15})
        with connect(await vpool.grant(vdisk)) as nbd:
            nbd.write(0, b"1" * 4096)


async def test_a_daemon_that_does_not_take_a_limit_makes_way_for_one_that_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine(tmp_path) as vpool:
        vdisk = await vpool.create("a")
        await vpool.grant(vdisk)
        old = vpool.context.fleet.get(vdisk)

        async def refuses(_limits: object) -> None:
            raise QmpError(class_="GenericError", desc="no", command="qom-set")

        monkeypatch.setattr(old, "set_limits", refuses)
        await vpool.do("vdisk.set_qos", vdisk, qos={"iops_total": 7})

        async def replaced() -> bool:
            return vpool.context.fleet.get(vdisk) not in (None, old)

        await until(replaced, "a new daemon serves the vDisk")
        daemon = vpool.context.fleet.get(vdisk)
        limits = await daemon.execute("qom-get", path=f"/objects/{daemon.group}", property="limits")
        assert limits["iops-total"] == 7
