"""What Prometheus and Grafana are given in `deploy/`, held to what the monitor and Flower serve."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import yaml
from healthy_bot import HEALTHY
from prometheus_client import REGISTRY, CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from app.config import BudgetConfig
from app.monitor.metrics import Metrics
from workers.metrics import ProcessMetrics

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
RULES = DEPLOY / "prometheus/alerts.yml"
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana/dashboards/explorer.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
OF_PROMETHEUS = {"up", "ALERTS"}
OPERATORS = {"and", "or", "unless", "offset", "bool"}
COLUMNS = 24

promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian's package `prometheus` has it)"
)


def of_the_monitor() -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(Metrics(BudgetConfig(), lambda: HEALTHY, list))
    return registry


def served() -> dict[str, set[str]]:
    """Every metric of the monitor, and its labels."""
    families = text_string_to_metric_families(generate_latest(of_the_monitor()).decode())
    return {family.name: {label for sample in family.samples for label in sample.labels} for family in families}


def of_flower() -> dict[str, set[str]]:
    """Every metric of Flower, as Flower itself registers them, and its labels."""
    from flower.events import get_prometheus_metrics

    get_prometheus_metrics()
    found = [(family.name, family.type) for family in REGISTRY.collect() if family.name.startswith("flower_")]
    names = [f"{name}_total" if kind == "counter" else name for name, kind in found]
    return {name: set(REGISTRY._names_to_collectors[name]._labelnames) for name in names}


def of_processes() -> dict[str, set[str]]:
    """Every metric that a service tells of its processes, and its labels."""
    registry = CollectorRegistry()
    registry.register(ProcessMetrics("io"))
    samples = [sample for family in registry.collect() for sample in family.samples]
    return {sample.name: set(sample.labels) for sample in samples}


def queried(expression: str) -> set[str]:
    """The metrics that a PromQL expression names."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|\b(?:by|without|on|ignoring)\s*\([^)]*\)', " ", expression)
    return set(re.findall(r"\b[a-zA-Z_:][\w:]*\b(?!\s*\()", bare)) - OPERATORS


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def known() -> set[str]:
    of_histogram = {"flower_task_runtime_seconds_" + part for part in ("bucket", "sum", "count")}
    return set(served()) | set(of_flower()) | set(of_processes()) | of_histogram | OF_PROMETHEUS


def documented(heading: str) -> dict[str, set[str]]:
    """Names and labels of a table in `docs/operating.md`."""
    section = (ROOT / "docs/operating.md").read_text().split(f"### {heading}\n")[1].split("\n#")[0]
    rows = re.findall(r"^\| `(\w+)` \| (.*?) ?\| ", section, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows}


def test_every_metric_is_documented_with_its_labels() -> None:
    # `explorer_x_barred` has a row for what is barred only, and a healthy bot is barred from nothing.
    assert documented("Of the monitor") == served() | {"explorer_x_barred": {"ability"}}
    assert documented("Of Flower") == of_flower()
    assert documented("Of processes") == of_processes()


def test_a_metric_in_an_expression_is_found_and_nothing_else() -> None:
    expression = 'sum by (a) (rate(b_sum{c="d"}[1m])) / on (a) e offset 5m or vector(0) unless up{job="explorer"} > 1e3'
    assert queried(expression) == {"b_sum", "e", "up"}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_asks_for_what_is_served_and_explains_itself(panel: dict[str, Any]) -> None:
    assert panel["title"]
    assert len(panel["description"]) > 20
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["targets"]
    for target in panel["targets"]:
        assert queried(target["expr"])
        assert queried(target["expr"]) <= known()


def test_annotations_and_alerts_ask_for_what_is_served() -> None:
    for rule in rules():
        assert queried(rule["expr"])
        assert queried(rule["expr"]) <= known()
        assert rule["annotations"].keys() == {"summary", "description"}
    for annotation in DASHBOARD["annotations"]["list"]:
        assert queried(annotation["expr"]) <= known()


def test_the_dashboard_shows_every_metric_of_the_monitor() -> None:
    shown = set().union(*(queried(target["expr"]) for panel in PANELS for target in panel["targets"]))
    assert set(served()) - shown == set()


def test_panels_lie_beside_each_other_in_the_grid() -> None:
    places = {panel["title"]: panel["gridPos"] for panel in DASHBOARD["panels"]}
    assert len(places) == len(DASHBOARD["panels"])
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    for place in places.values():
        assert 0 <= place["x"] < place["x"] + place["w"] <= COLUMNS
    for (one, a), (other, b) in combinations(places.items(), 2):
        apart = a["x"] + a["w"] <= b["x"] or b["x"] + b["w"] <= a["x"]
        above = a["y"] + a["h"] <= b["y"] or b["y"] + b["h"] <= a["y"]
        assert apart or above, f"{one} and {other} overlap"


def test_every_panel_uses_the_data_source_that_is_provisioned() -> None:
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    (variable,) = DASHBOARD["templating"]["list"]
    assert variable["current"]["value"] == source["uid"]
    assert (variable["type"], variable["query"]) == ("datasource", source["type"])
    wanted = {"type": source["type"], "uid": f"${{{variable['name']}}}"}
    parts = [*PANELS, *(target for panel in PANELS for target in panel["targets"]), *DASHBOARD["annotations"]["list"]]
    assert all(part["datasource"] == wanted for part in parts)


def test_prometheus_asks_where_compose_serves() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
    jobs = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    workers, *others = sorted(jobs, key=lambda job: "static_configs" in job)
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in others}
    assert targets == {"explorer": ["monitor:9464"], "flower": ["flower:5555"]}
    (found,) = workers["dns_sd_configs"]
    served = {name for name, service in compose.items() if "EXPLORER_METRICS" in (service.get("environment") or {})}
    assert set(found["names"]) == served
    assert {compose[name]["environment"]["EXPLORER_METRICS"] for name in served} == {f"0.0.0.0:{found['port']}"}
    assert compose["monitor"]["ports"][0].endswith(":9464")
    assert compose["flower"]["ports"][0].endswith(":5555")
    (password_file,) = {job["basic_auth"]["password_file"] for job in jobs if "basic_auth" in job}
    assert f"> {password_file}\n" in compose["prometheus"]["entrypoint"][-1]
    (source,) = yaml.safe_load((DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090"
    mounted = [volume.split(":")[0] for name in ("prometheus", "grafana") for volume in compose[name]["volumes"]]
    assert {(ROOT / place).is_dir() for place in mounted if place.startswith("./")} == {True}


@promtool
def test_promtool_finds_nothing_wrong_with_the_metrics() -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=generate_latest(of_the_monitor()), capture_output=True, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, b"")


@promtool
def test_promtool_finds_nothing_wrong_with_config_and_rules() -> None:
    done = subprocess.run(
        ["promtool", "check", "config", str(DEPLOY / "prometheus/prometheus.yml")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"SUCCESS: \d+ rules found", done.stdout)


CALM = {
    'up{job="explorer"}': "1x60",
    'up{job="flower"}': "1x60",
    "explorer_observation_age_seconds": "30x60",
    'explorer_alarm{alarm="lost"}': "0x60",
    'flower_events_total{type="task-succeeded", task="app.tasks.ppo"}': "0+9x60",
}
# Alerts: the series that shall raise it, its values minute by minute, and when it stands.
ALERTS = {
    "MonitorAway": ('up{job="explorer"}', "0x60", "3m"),
    "ObservationOld": ("explorer_observation_age_seconds", "301x60", "2m"),
    "AlarmStands": ('explorer_alarm{alarm="stuck"}', "1x60", "2m"),
    "FlowerAway": ('up{job="flower"}', "0x60", "6m"),
    "TasksFail": ('flower_events_total{type="task-failed", task="app.tasks.ppo"}', "0+1x60", "15m"),
}


def test_every_alert_is_tested() -> None:
    assert ALERTS.keys() == {rule["alert"] for rule in rules()}


@promtool
@pytest.mark.parametrize("alert", ALERTS)
def test_an_alert_fires_at_what_it_is_for_and_at_nothing_else(tmp_path: Path, alert: str) -> None:
    series, values, after = ALERTS[alert]
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    case = {
        "interval": "1m",
        "input_series": [{"series": name, "values": said} for name, said in (CALM | {series: values}).items()],
        "promql_expr_test": [
            {"expr": firing, "eval_time": "0m", "exp_samples": []},
            {
                "expr": firing,
                "eval_time": after,
                "exp_samples": [{"labels": f'{{alertname="{alert}"}}', "value": 1}],
            },
        ],
    }
    file = tmp_path / "case.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": [case]}))
    done = subprocess.run(["promtool", "test", "rules", str(file)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
