"""Ask for known vulnerabilities of every pin of constraints.txt, by pip-audit and PyPI's advisories.

    python scripts/audit.py [--service pypi|osv]

Exit status: 0 where all pins were looked up and every advisory about one is judged in advisories.toml; 1 where one is
not, or a pin is unknown to the service; 3 where nothing could be asked, which is no good news and is never reported as
such: pip-audit itself says "no known vulnerabilities" of packages that it could not look up, and exits 0.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
JUDGED = Path(__file__).with_name("advisories.toml")
VULNERABLE, NOT_MADE = 1, 3
SECONDS = 30

Found = dict[str, Any]


class NotMade(Exception):
    """The advisories could not be asked for."""


def judged(file: Path) -> dict[str, str]:
    """The advisories that were judged, by id, each with the day and the reason.

    Raises:
        SystemExit: an entry lacks one of the three; the message says which.
    """
    entries: dict[str, str] = {}
    for number, entry in enumerate(tomllib.loads(file.read_text(encoding="utf-8")).get("judged", [])):
        for name, kind in (("id", str), ("reason", str), ("date", date)):
            if not isinstance(entry.get(name), kind) or not entry[name]:
                raise SystemExit(
                    f"{file.name}: judged[{number}].{name}: got {entry.get(name)!r}; give each advisory an id, a "
                    "reason and a date, such as 2026-01-31"
                )
        entries[entry["id"]] = f"{entry['date']}: {entry['reason']}"
    return entries


def ask(pins: list[str], service: str) -> list[Found]:
    """What the service knows of pins (`name==version`), one entry each, as pip-audit writes them.

    Raises:
        NotMade: it could not be asked.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
        file.write("\n".join(pins))
        file.flush()
        command = [
            sys.executable, "-m", "pip_audit", "--requirement", file.name, "--no-deps", "--disable-pip",
            "--format", "json", "--progress-spinner", "off",
            "--vulnerability-service", service, "--timeout", str(SECONDS),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        found: list[Found] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        raise NotMade(done.stderr.strip().splitlines()[-1] if done.stderr.strip() else "no answer") from None
    return found


def audit(pins: list[str], service: str) -> list[Found]:
    """What the service knows of all pins. It is asked for one first: an index without advisories knows none.

    Raises:
        NotMade: it could not be asked.
    """
    first = ask(pins[:1], service)
    if "skip_reason" in first[0]:
        raise NotMade(str(first[0]["skip_reason"]))
    return first + ask(pins[1:], service)


def report(found: list[Found], known: dict[str, str]) -> int:
    """Print what was found, and say by the exit status whether somebody must act."""
    unknown = [pin for pin in found if "skip_reason" in pin]
    for pin in unknown:
        print(f"NOT AUDITED  {pin['name']}: {pin['skip_reason']}")
    open_ones, seen = 0, set[str]()
    for pin in found:
        for advisory in pin.get("vulns", []):
            names = {advisory["id"], *advisory.get("aliases", [])}
            reasons = [known[name] for name in sorted(names & known.keys())]
            seen |= names
            open_ones += not reasons
            fixed = ", ".join(advisory.get("fix_versions", [])) or "no version"
            print(f"{'judged' if reasons else 'VULNERABLE'}  {pin['name']} {pin['version']}: {' '.join(sorted(names))}")
            print(f"    {reasons[0] if reasons else f'mended in {fixed}'}")
    for name in sorted(known.keys() - seen):
        print(f"{JUDGED.name}: {name} is no longer found; remove it")
    print(f"{len(found) - len(unknown)} of {len(found)} pins looked up, {open_ones} advisories that nobody has judged.")
    return VULNERABLE if open_ones or unknown else 0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python scripts/audit.py", description=__doc__.partition("\n")[0])
    parser.add_argument("--service", choices=("pypi", "osv"), default="pypi", help="whose advisories are asked for")
    service = parser.parse_args().service
    known = judged(JUDGED)
    lines = CONSTRAINTS.read_text(encoding="utf-8").splitlines()
    pins = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    try:
        found = audit(pins, service)
    except NotMade as why:
        print(f"THE AUDIT WAS NOT MADE: {service} does not tell advisories from here ({why}).", file=sys.stderr)
        print(f"Nothing is known of the {len(pins)} pins of constraints.txt. Run `make audit` where", file=sys.stderr)
        print(
            "https://pypi.org/pypi/NAME/VERSION/json is answered, or with --service osv where osv.dev is.",
            file=sys.stderr,
        )
        return NOT_MADE
    return report(found, known)


if __name__ == "__main__":
    sys.exit(main())
