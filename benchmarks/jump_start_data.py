"""How large, fast and flat the jump start's data set is gathered, from procedural posts.

    python benchmarks/jump_start_data.py --gigabytes 2 [--kill 20]     # writes jump_start_data.json and .png

Runs `explorer data-set` in a child on JSONL of so many GB (every line a post, none like another), samples its resident
memory once a second, kills it at random moments if asked to, and counts the posts of the files at the end with a JSON
parser. Needs a database in DATABASE_URL that is migrated, psutil, and matplotlib for the plot.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil
import yaml

WORDS = Path(__file__).read_text().split() + sorted({word for word in dir(os) if word.isalpha()})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--kill", type=int, default=0, help="times to kill it at a random moment")
    parser.add_argument("--out", type=Path, default=Path("jump_start_data.json"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        posts = write_posts(place / "posts.jsonl", int(options.gigabytes * 1e9))
        config = write_config(place)
        samples, seconds, killed = gather(config, options.kill)
        files = sorted((place / "data/jump_start_files/bench").glob("[0-9]*.json"), key=lambda file: int(file.stem))
        ids = [post["post_id"] for file in files for post in json.loads(file.read_bytes())]
    assert len(ids) == len(set(ids)), "a post stands twice"
    found: dict[str, Any] = {"posts": posts, "kept": len(ids), "seconds": seconds, "killed": killed}
    found |= {"peak_mb": max(mb for _, mb in samples), "memory_mb": samples}
    options.out.write_text(json.dumps(found) + "\n")
    print({name: value for name, value in found.items() if name != "memory_mb"})
    plot(samples, options.out.with_suffix(".png"))


def write_posts(path: Path, size: int) -> int:
    chance, written, count = random.Random(1), 0, 0
    with path.open("w", encoding="utf-8") as file:
        while written < size:
            text = " ".join([*chance.choices(WORDS, k=18), str(count)])
            line = json.dumps({"id": str(count), "author_id": str(count % 1000), "text": text}) + "\n"
            file.write(line)
            written, count = written + len(line), count + 1
    return count


def write_config(place: Path) -> Path:
    persona = {"name": "B", "description": "A bench.", "tone": "plain", "interests": ["x"]}
    sft = {"source": "jsonl", "path": str(place / "posts.jsonl")}
    settings = {"user_id": "1", "bot_id": "bench", "accounts_to_follow": ["a"], "persona": persona, "sft": sft}
    (place / "bench.yaml").write_text(yaml.safe_dump(settings | {"data_dir": str(place / "data")}))
    return place / "bench.yaml"


def gather(config: Path, kills: int) -> tuple[list[tuple[float, float]], float, int]:
    """Run it to its end; memory in MB by second, of whichever process was at it."""
    run = "from app.cli import main; main()"
    command = [sys.executable, "-c", run, "data-set", "--yes", "--config", str(config)]
    chance, began, killed = random.Random(2), time.monotonic(), 0
    samples: list[tuple[float, float]] = []
    while True:
        process = subprocess.Popen(command)
        until = time.monotonic() + (chance.uniform(3, 30) if killed < kills else float("inf"))
        while process.poll() is None and time.monotonic() < until:
            samples.append((time.monotonic() - began, psutil.Process(process.pid).memory_info().rss / 1e6))
            time.sleep(1)
        if process.poll() is not None:
            assert process.returncode == 0, f"it ended with {process.returncode}"
            return samples, time.monotonic() - began, killed
        process.kill()
        process.wait()
        killed += 1


def plot(samples: list[tuple[float, float]], path: Path) -> None:
    from matplotlib import pyplot  # only for the picture

    pyplot.plot([at for at, _ in samples], [mb for _, mb in samples])
    pyplot.xlabel("seconds")
    pyplot.ylabel("resident memory, MB")
    pyplot.ylim(bottom=0)
    pyplot.savefig(path)


if __name__ == "__main__":
    main()
