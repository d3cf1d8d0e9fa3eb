"""What is installed is pinned, the bill of materials has every pin, and an audit that was not made says so."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[2]
LINES = (ROOT / "constraints.txt").read_text().splitlines()
PINS = {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in LINES) if version}
# Installed on demand (`make test-browser`, `make sbom`), so that what they need may not be here to ask.
ON_DEMAND = {"audit", "browser"}
PIN = {"name": "idna", "version": "3.20", "vulns": []}
ADVISORY = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["3.21"]}


def needed(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> Iterator[str]:
    """Every distribution that a requirement brings along on this machine, by canonical name."""
    for line in metadata.distribution(name).requires or []:
        wanted = Requirement(line)
        key = (canonicalize_name(wanted.name), frozenset(wanted.extras))
        applies = wanted.marker is None or any(wanted.marker.evaluate({"extra": extra}) for extra in {"", *extras})
        if applies and key not in seen:
            seen.add(key)
            yield key[0]
            yield from needed(wanted.name, key[1], seen)


def test_whatever_the_project_brings_along_is_pinned() -> None:
    extras = set(metadata.metadata("explorer-bot").get_all("Provides-Extra") or []) - ON_DEMAND
    found = set(needed("explorer-bot", frozenset(extras), set()))
    assert len(found) > 100
    assert not found - PINS.keys()
    assert not {name: metadata.version(name) for name in found if Version(metadata.version(name)).public != PINS[name]}


@pytest.fixture
def audit(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT / "scripts")
    import audit

    return audit


def test_an_advisory_that_nobody_judged_is_a_finding(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    found = [PIN, {**PIN, "vulns": [ADVISORY]}]
    assert audit.report(found, {}) == audit.VULNERABLE
    assert "VULNERABLE  idna 3.20: CVE-1 PYSEC-1\n    mended in 3.21" in capsys.readouterr().out
    assert audit.report(found, {"CVE-1": "2026-11-26: we never call it"}) == 0
    assert "2026-11-26: we never call it" in capsys.readouterr().out
    assert audit.report([PIN], {"CVE-1": "2026-11-26: we never call it"}) == 0
    assert "CVE-1 is no longer found; remove it" in capsys.readouterr().out


def test_a_pin_that_was_not_looked_up_is_a_finding(audit: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    assert audit.report([PIN, {"name": "ours", "skip_reason": "not found"}], {}) == audit.VULNERABLE
    assert "NOT AUDITED  ours: not found" in capsys.readouterr().out


def test_an_index_that_knows_nothing_is_no_good_news(audit: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def ask(pins: list[str], service: str) -> list[dict[str, object]]:
        asked.append(pins)
        return [{"name": pin, "skip_reason": "not found on PyPI"} for pin in pins]

    monkeypatch.setattr(audit, "ask", ask)
    monkeypatch.setattr(sys, "argv", ["audit.py"])
    assert audit.main() == audit.NOT_MADE
    assert [len(pins) for pins in asked] == [1]


@pytest.mark.parametrize("entry", ['id = "CVE-1"', 'id = "CVE-1"\nreason = "none"', 'reason = "?"\ndate = 2026-01-31'])
def test_a_judgement_needs_a_reason_and_a_date(audit: ModuleType, tmp_path: Path, entry: str) -> None:
    file = tmp_path / "advisories.toml"
    file.write_text(f"[[judged]]\n{entry}\n")
    with pytest.raises(SystemExit, match=r"judged\[0\]\.(id|reason|date): got None; give each advisory"):
        audit.judged(file)


def test_the_judged_ones_can_be_read(audit: ModuleType) -> None:
    assert all(audit.judged(audit.JUDGED).values())


@pytest.mark.audit
def test_the_bill_of_materials_has_every_pin(tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    subprocess.run([sys.executable, str(ROOT / "scripts/sbom.py"), str(file)], check=True)
    bill = json.loads(file.read_text())
    parts = {canonicalize_name(part["name"]): part for part in bill["components"]}
    assert {name: Version(part["version"]).public for name, part in parts.items()} == PINS
    licensed = {name for name, part in parts.items() if part.get("licenses")}
    declared = {
        canonicalize_name(found.name)
        for found in metadata.distributions()
        if found.metadata.get("License-Expression") or found.metadata.get("License")
    }
    assert declared & PINS.keys() <= licensed
    assert len(licensed) > 0.9 * len(parts)
    edges = {edge["ref"]: edge.get("dependsOn", []) for edge in bill["dependencies"]}
    assert parts["kombu"]["bom-ref"] in edges[parts["celery"]["bom-ref"]]
