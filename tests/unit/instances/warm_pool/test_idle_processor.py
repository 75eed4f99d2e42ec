"""When the machine counts as idle."""

from __future__ import annotations

import psutil
import pytest

from chowder_local.instances.warm_pool import pool


@pytest.mark.parametrize(
    ("percents", "is_idle"), [((0.0, 90.0, 20.0), True), ((0.0, *[90.0] * 6), False)], ids=str
)
async def test_a_machine_is_idle_if_it_gets_idle_soon(
    monkeypatch: pytest.MonkeyPatch, percents: tuple[float, ...], *, is_idle: bool
) -> None:
    monkeypatch.setattr(pool, "IDLE_SAMPLE_S", 0.0)
    monkeypatch.setattr(psutil, "cpu_percent", iter(percents).__next__)
    assert await pool.has_idle_processor() is is_idle
