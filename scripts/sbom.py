"""Write the software bill of materials: a component for every pin of constraints.txt, as CycloneDX 1.6 in JSON.

What is installed comes with its licence and what it depends on, read from its own metadata; a pin that is not (the
browser's, say) comes with name and version alone. Nothing is asked of the network.

    python scripts/sbom.py [build/sbom.json]
"""

from __future__ import annotations

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
OUT = ROOT / "build/sbom.json"

Json = dict[str, Any]


def bill() -> Json:
    """The bill of materials.

    Raises:
        SystemExit: something is installed in another version than is pinned; the message names both and the remedy.
    """
    pinned = _cyclonedx("requirements", str(CONSTRAINTS))
    found = _cyclonedx("environment", sys.executable, "--pyproject", str(ROOT / "pyproject.toml"))
    installed = {canonicalize_name(part["name"]): part for part in found["components"]}
    parts = [_one_of(pin, installed.get(canonicalize_name(pin["name"]))) for pin in pinned["components"]]
    refs = {part["bom-ref"] for part in parts} | {found["metadata"]["component"]["bom-ref"]}
    edges = {edge["ref"]: edge.get("dependsOn", []) for edge in found["dependencies"] if edge["ref"] in refs}
    dependencies = [{"ref": ref, "dependsOn": [to for to in edges.get(ref, []) if to in refs]} for ref in sorted(refs)]
    return {**found, "components": parts, "dependencies": dependencies}


def _one_of(pin: Json, installed: Json | None) -> Json:
    if installed is None:
        return {name: pin[name] for name in ("bom-ref", "name", "purl", "type", "version")}
    if Version(installed["version"]).public != Version(pin["version"]).public:  # torch's says "+cpu" behind it
        raise SystemExit(
            f"{pin['name']}: {installed['version']} is installed, constraints.txt pins {pin['version']}; "
            "remove .venv and let make install what is pinned"
        )
    # cyclonedx-py takes what is no SPDX expression for a licence's text, and leaves it out.
    in_words = metadata.metadata(installed["name"]).get("License", "").partition("\n")[0].strip()
    if "licenses" in installed or not in_words:
        return installed
    return {**installed, "licenses": [{"license": {"acknowledgement": "declared", "name": in_words}}]}


def _cyclonedx(*arguments: str) -> Json:
    command = [sys.executable, "-m", "cyclonedx_py", *arguments, "--spec-version", "1.6", "--output-reproducible"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"cyclonedx-py {arguments[0]} failed: {done.stderr.strip()}")
    made: Json = json.loads(done.stdout)
    return made


def main(out: Path) -> None:
    text = json.dumps(bill(), indent=2, ensure_ascii=False) + "\n"
    problem = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if problem is not None:
        raise SystemExit(f"the bill of materials does not follow CycloneDX's schema: {problem}")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, encoding="utf-8")
    parts = json.loads(text)["components"]
    unlicensed = sorted(part["name"] for part in parts if not part.get("licenses"))
    print(f"{out}: {len(parts)} components; no licence is declared by {', '.join(unlicensed) or 'none'}")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else OUT)
