"""Sides of a benchmark row that take no time, for child processes to find by name."""

from __future__ import annotations

import os

from benchmarks.row import Measured, Probe, Settings

BIG = 200 * 2**20


def light(settings: Settings, probe: Probe) -> Measured:
    probe.imported()
    probe.curve([(0.0, 2e6), (0.5, 3e6)])
    return {"items": float(settings["items"]), "pid": float(os.getpid())}


def heavy(settings: Settings, probe: Probe) -> Measured:
    probe.imported()
    held = b"x" * BIG  # written, so that it is resident
    return {"items": 3.0 * float(settings["items"]), "pid": float(os.getpid()), "bytes": float(len(held))}


def failing(settings: Settings, probe: Probe) -> Measured:
    raise RuntimeError(f"nothing to do with {settings['items']} items")
