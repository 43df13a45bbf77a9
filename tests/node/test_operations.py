"""Files for operators: they name only what exists."""

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from node.config import ENVIRONMENT_PREFIX, NodeConfig
from node.metrics import Metrics
from node.p2p.counters import Counters

OPS = Path(__file__).resolve().parents[2] / "ops"
UNIT = OPS / "systemd" / "lockstep.service"
DASHBOARD: dict[str, Any] = json.loads((OPS / "grafana" / "lockstep.json").read_text())
_NAME = re.compile(r"\blockstep_[a-z0-9_]+")
_SUFFIXES = ("", "_bucket", "_count", "_sum")


def known() -> set[str]:
    """Names in the exposition of a node, histograms with their parts."""
    metrics = Metrics()
    metrics.watch_peers(Counters(), list)
    text = metrics.exposition()[0].decode()
    families = re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE)
    return {name + suffix for name in families for suffix in _SUFFIXES}


def panels() -> list[dict[str, Any]]:
    return [each for each in DASHBOARD["panels"] if each["type"] != "row"]


def test_each_query_of_the_dashboard_is_about_a_metric_that_exists() -> None:
    exists = known()
    queries = [target["expr"] for each in panels() for target in each["targets"]]
    assert len(queries) > 25
    for query in queries:
        names = _NAME.findall(query)
        assert names, query
        assert set(names) <= exists, query
        assert query.count("(") == query.count(")"), query


def test_no_two_panels_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for each in DASHBOARD["panels"]:
        place = each["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, each["title"]
        taken |= cells
    numbers = [each["id"] for each in DASHBOARD["panels"]]
    assert len(set(numbers)) == len(numbers)


@pytest.mark.parametrize(
    "path",
    ["docker/Dockerfile", "docker/compose.yaml", "systemd/lockstep.service"],
)
def test_each_setting_that_is_named_exists(path: str) -> None:
    text = (OPS / path).read_text()
    named = re.findall(r"\bLOCKSTEP_([A-Z0-9_]+)", text)
    assert named
    settings = {each.upper() for each in NodeConfig.model_fields} | {"CONFIG"}
    assert set(named) <= settings
    assert ENVIRONMENT_PREFIX == "LOCKSTEP_"


def test_the_operators_page_names_metrics_that_exist() -> None:
    page = (OPS.parent / "docs" / "operations.md").read_text()
    assert set(re.findall(r"`(lockstep_[a-z0-9_]+)[`{]", page)) <= known()


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)
def test_the_unit_is_one(tmp_path: Path) -> None:
    text = UNIT.read_text()
    unit = tmp_path / UNIT.name
    unit.write_text(text.replace("/opt/lockstep/bin/lockstep", "/bin/true"))
    command = ["systemd-analyze", "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - of this machine
    assert (done.returncode, done.stderr) == (0, "")
