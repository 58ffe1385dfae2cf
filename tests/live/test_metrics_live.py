"""Metrics of the real program over loopback; and a real Prometheus that scrapes it, where one is installed."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tcptop_ops.outputs.openmetrics import MOST_SERIES
from tests.live.started import ROOT, started, status
from tests.support.lab import Lab, Link
from tests.support.leftovers import wait_until
from tests.support.scraping import answers, fetch, free_port, samples, value

pytest.importorskip("prometheus_client")

ALERTS = ROOT / "docs" / "alerts.yml"
SENT = 2_000_000
PATIENCE_S = 30


@contextmanager
def serving(cgroup: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The program without a screen, and the URL that it told; after its first tick."""
    words = ["--cgroup", str(cgroup), "-d", "0.2", "--metrics", "0", *options]
    process = subprocess.Popen(
        [sys.executable, "-m", "tcptop_ops", *words],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("tcptop-ops: metrics at http://127.0.0.1:"), line
        url = line.split()[-1]
        wait_until(lambda: answers(url), PATIENCE_S, "the first tick")
        yield process, url
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def link(lab: Lab) -> Link:
    return lab.link("a", "b", loss_percent=3, offload=False)


def lossy_traffic(lab: Lab, link: Link, cgroup: Path) -> None:
    """A connection that sent SENT bytes over the link, and is still there."""
    server = lab.server(link.b.ns, "serve-sink", address=link.b.ipv4, cgroup=cgroup)
    client = lab.client(link.a.ns, "send", SENT, address=link.b.ipv4, port=server.port, cgroup=cgroup)
    client.expect("sent")


def moved(url: str) -> float:
    """Bytes of payload so far: of a connection that has both ends here, one end alone counts."""
    found = samples(url)
    return value(found, "sent_bytes_total") + value(found, "received_bytes_total")


def test_what_happened_is_served(lab: Lab, link: Link, cgroup: Path) -> None:
    with serving(cgroup) as (process, url):
        lossy_traffic(lab, link, cgroup)
        wait_until(lambda: moved(url) >= SENT, PATIENCE_S, "all being acknowledged")
        found = samples(url)
        assert value(found, "retransmitted_segments_total") > 0
        assert value(found, "opened_connections_total") >= 1
        network = link.b.ipv4.rpartition(".")[0] + ".0/24"
        assert value(found, "remote_sent_bytes_total", remote=network) >= SENT
        assert value(found, "remote_retransmitted_segments_total", remote=network) > 0
        assert value(found, "remote_srtt_seconds_count", remote=network) > 0
        assert value(found, "sockets", state="ESTAB") == 2
        [monitor] = [dict(labels) for name, labels in found if name == "tcptop_monitor_info"]
        assert monitor["source"] == "sockops"
        assert monitor["callbacks"]
        assert value(found, "self_cpu_seconds_total") > 0
        assert len(found) < MOST_SERIES
        assert "0" not in status(process.pid)["Uid"].split(), "served without root"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, out, err) == (0, "", "")
    with pytest.raises(OSError, match="refused"):
        fetch(url)


def test_beside_another_output(cgroup: Path) -> None:
    with serving(cgroup, "--json") as (process, url):
        assert process.stdout is not None
        ticks = [json.loads(process.stdout.readline()) for _ in range(3)]
        assert [tick["tick"] for tick in ticks] == [1, 2, 3]
        assert value(samples(url), "ticks_total") >= 4


def test_beside_the_screen(cgroup: Path) -> None:
    port = free_port()
    with started("--cgroup", str(cgroup), "--metrics", str(port)) as monitor:
        monitor.wait_for_picture()
        url = f"http://127.0.0.1:{port}/metrics"
        wait_until(lambda: answers(url), PATIENCE_S, "the first tick")
        first = value(samples(url), "ticks_total")
        wait_until(lambda: value(samples(url), "ticks_total") > first, PATIENCE_S, "another tick")
        monitor.press("q")
        assert monitor.process.wait(PATIENCE_S) == 0


def test_a_port_that_is_taken_leaves_nothing(cgroup: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        argv = ["--cgroup", str(cgroup), "--json", "--metrics", str(server.getsockname()[1])]
        done = subprocess.run(
            [sys.executable, "-m", "tcptop_ops", *argv],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stdout) == (1, "")
    assert "Address already in use" in done.stderr.splitlines()[0]
    assert done.stderr.splitlines()[1].startswith("hint: ")


# --- Prometheus


class Prometheus:
    """A server that scrapes one target every second, with the alert rules of docs/."""

    def __init__(self, work: Path, target: str, program: str = "prometheus") -> None:
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(ALERTS)],
            "scrape_configs": [{"job_name": "tcptop", "static_configs": [{"targets": [target]}]}],
        }
        (work / "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        self.port = free_port()
        words = [
            f"--config.file={work / 'prometheus.yml'}",
            f"--storage.tsdb.path={work / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
        ]
        self.log = (work / "log").open("w+")
        self._process = subprocess.Popen([program, *words], stdout=self.log, stderr=self.log)

    def api(self, path: str) -> Any:
        """What its HTTP API answers. Raises OSError."""
        return json.loads(fetch(f"http://127.0.0.1:{self.port}/api/v1/{path}"))["data"]

    def query(self, expression: str) -> list[float]:
        """The values of an instant vector; none before it answers."""
        with suppress(OSError):
            found = self.api("query?query=" + urllib.parse.quote(expression))["result"]
            return [float(each["value"][1]) for each in found]
        return []

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(PATIENCE_S)
        self.log.close()


needs_prometheus = pytest.mark.skipif(
    not (shutil.which("prometheus") and shutil.which("promtool")),
    reason="Prometheus is not installed (Debian: prometheus, 96 MB)",
)


@needs_prometheus
def test_the_alert_rules_are_rules() -> None:
    done = subprocess.run(["promtool", "check", "rules", str(ALERTS)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@needs_prometheus
def test_prometheus_scrapes_it(lab: Lab, link: Link, cgroup: Path, tmp_path: Path) -> None:
    with serving(cgroup) as (_, url):
        lossy_traffic(lab, link, cgroup)
        target = url.split("/")[2]
        checked = subprocess.run(
            ["promtool", "check", "metrics"], input=fetch(url, "*/*"), capture_output=True, text=True, check=False
        )
        assert "error while linting" not in checked.stderr, checked.stderr
        with closing(Prometheus(tmp_path, target)) as server:
            wait_until(lambda: server.query('count_over_time(up{job="tcptop"}[1m])') >= [5], PATIENCE_S, "five scrapes")
            assert server.query("min_over_time(up[1m])") == [1]
            sent, received = (server.query(f"tcptop_{what}_bytes_total")[0] for what in ("sent", "received"))
            assert sent + received >= SENT, "of a connection that has both ends here, one end alone counts"
            [scraped] = server.query("scrape_samples_scraped")
            assert 100 < scraped < MOST_SERIES
            groups = server.api("rules")["groups"]
            rules = [rule for group in groups for rule in group["rules"]]
            assert len(rules) > 5
            wait_until(
                lambda: all(r["health"] == "ok" for g in server.api("rules")["groups"] for r in g["rules"]),
                PATIENCE_S,
                "every rule evaluated",
            )
            histogram = "histogram_quantile(0.5, sum by (le) (tcptop_srtt_seconds_bucket))"
            assert 0 < server.query(histogram)[0] < 2.5
