"""The text of metrics: what a reader makes of it, and what the docs name."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tcptop_ops.model.records import COUNTERS
from tcptop_ops.outputs import metrics_server
from tcptop_ops.outputs.metric_family import Family, count_series
from tcptop_ops.outputs.metric_groups import DIMENSIONS, OTHER
from tests.support.fakes import flow
from tests.support.metrics import Watched


def parsed(families: tuple[Family, ...], open_metrics: bool) -> dict[str, Any]:
    """What prometheus_client's own reader finds in it, by family."""
    pytest.importorskip("prometheus_client")
    from prometheus_client import parser
    from prometheus_client.openmetrics import parser as open_parser

    kind, text = metrics_server.exposition(families, open_metrics)
    assert ("openmetrics" in kind) == open_metrics
    read: Any = open_parser if open_metrics else parser
    return {family.name: family for family in read.text_string_to_metric_families(text.decode())}


@pytest.mark.parametrize("open_metrics", [True, False])
def test_a_reader_finds_what_was_counted(open_metrics: bool) -> None:
    counters = np.zeros((), COUNTERS)
    counters["calls"][3] = 12
    watched = Watched()
    for sent in (1, 2):
        watched.tick([flow(1, bytes_acked=sent * 100, name=b'a"\\\n')], counters=counters)
    found = parsed(watched.families, open_metrics)
    names = {family.name for family in watched.families}
    assert set(found) == (names if open_metrics else names - {"tcptop_monitor"} | {"tcptop_monitor_info"})
    assert {sample.labels["process"] for sample in found["tcptop_process_connections"].samples} == {'a"\\\\x0a', OTHER}
    samples = {(s.name, *sorted(s.labels.values())): s.value for family in found.values() for s in family.samples}
    assert samples["tcptop_callbacks_total", "TCP_CONNECT_CB"] == 12
    assert samples["tcptop_self_cpu_seconds_total",] == 1.5
    assert samples["tcptop_monitor_info", "all", "fake"] == 1
    assert len(samples) == count_series(watched.families)


DOCS = Path(__file__).parents[2] / "docs"


def named_in(name: str) -> set[str]:
    """Metrics; those of which the docs say ``tcptop_process_*`` apart."""
    return set(re.findall(r"\btcptop_\w*[a-z]\b(?!_)", (DOCS / name).read_text()))


@pytest.mark.parametrize("name", ["metrics.md", "alerts.yml"])
def test_the_docs_name_nothing_else_than_there_is(name: str) -> None:
    pytest.importorskip("prometheus_client")
    watched = Watched().tick([flow(1, bytes_acked=1)])
    _, text = metrics_server.exposition(watched.families, True)
    served = set(re.findall(r"^(\w+)", text.decode(), re.MULTILINE)) | {family.name for family in watched.families}
    assert len(named_in(name)) > 8
    assert named_in(name) - served == set()


def test_the_docs_name_all_that_is_told_of_the_host() -> None:
    endings = {"counter": "_total", "info": "_info"}
    told = {family.name + endings.get(family.kind, "") for family in Watched().families}
    of_groups = tuple(f"tcptop_{dimension}_" for dimension in DIMENSIONS)
    assert {name for name in told if not name.startswith(of_groups)} - named_in("metrics.md") == set()
