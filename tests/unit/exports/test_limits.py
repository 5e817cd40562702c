from __future__ import annotations

import dataclasses

import pytest

from openvstorage.vpool.exports.limits import Limits


def test_every_limit_is_sent_the_unlimited_ones_too():
    assert Limits(iops_total=5).as_qmp() == {
        "iops-total": 5,
        "iops-read": 0,
        "iops-write": 0,
        "bps-total": 0,
        "bps-read": 0,
        "bps-write": 0,
    }


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(Limits)])
@pytest.mark.parametrize("value", [-1, 1.5, True, "7", None, 10**16])
def test_what_qemu_refuses_is_refused(name, value):
    with pytest.raises(ValueError, match=name):
        Limits(**{name: value})


@pytest.mark.parametrize(("total", "part"), [("iops", "read"), ("iops", "write"), ("bps", "read"), ("bps", "write")])
def test_a_total_excludes_its_parts(total, part):
    with pytest.raises(ValueError, match=f"{total}_total"):
        Limits(**{f"{total}_total": 1, f"{total}_{part}": 1})


def test_kinds_do_not_exclude_each_other():
    assert Limits(iops_total=1, bps_read=2, bps_write=3).as_qmp()["bps-write"] == 3
