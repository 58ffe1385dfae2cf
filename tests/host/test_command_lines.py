"""Command lines, by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tcptop_ops.host.command_lines import LONGEST, telling


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("java -jar api.jar", "api.jar"),
        ("/usr/bin/java -Xmx2g -Dkey=value -jar /srv/api.jar --server.port=8080 prod", "api.jar"),
        ("java -cp /lib/* -Xss1m org.apache.zookeeper.QuorumPeerMain zoo.cfg", "org.apache.zookeeper.QuorumPeerMain"),
        ("java -m jdk.httpserver/sun.Main", "jdk.httpserver/sun.Main"),
        ("java", "java"),
        ("python3 -u app.py --port 8", "app.py"),
        ("python3.11 /srv/one/app.py 8080", "app.py"),
        ("/usr/bin/python3 -X dev -W error worker.py", "worker.py"),
        ("python -c print('secret')", "python -c"),
        ("python3 -u -c code more", "python3 -c"),
        ("python3 -m http.server 8000", "http.server 8000"),
        ("/usr/bin/python3 /usr/bin/gunicorn -b :80 shop:app", "gunicorn shop:app"),
        ("/usr/bin/python3 /usr/bin/gunicorn shop:app", "gunicorn shop:app"),
        ("python3", "python3"),
        ("pypy3.10 app.py", "app.py"),
        ("node server.js", "server.js"),
        ("node --max-old-space-size=4096 -r dotenv/config /srv/api/server.js", "server.js"),
        ("node -e require('http')", "node -e"),
        ("deno run --allow-net server.ts", "server.ts"),
        ("dotnet Shop.dll --urls http://*:80", "Shop.dll"),
        ("ruby -I lib bin/rails server", "rails server"),
        ("php-fpm: pool www", "php-fpm: pool www"),
        ("bash -c curl_-u_me:secret", "bash -c"),
        ("/bin/sh -ec something", "sh -c"),
        ("-bash", "bash"),
        ("bash /root/backup.sh nightly", "backup.sh"),
        ("sleep 600", "sleep 600"),
        ("/usr/sbin/sshd -D", "sshd"),
        ("mysql -u root -psecret shop", "mysql"),
        ("psql --password secret shop", "psql shop"),
        ("redis-cli PASSWORD=secret get", "redis-cli get"),
        ("curl https://me:secret@example.org/a?token=secret", "curl https://example.org/a"),
        ("/opt/redis/redis-server /etc/redis/6380.conf", "redis-server 6380.conf"),
        ("ssh me@host", "ssh me@host"),
        ("", ""),
    ],
)  # fmt: skip
def test_what_tells_programs_apart(line: str, told: str) -> None:
    if line.startswith("php-fpm:"):
        assert telling(line.encode()) == told
        return
    assert telling(line.replace(" ", "\0").encode() + b"\0") == told


@pytest.mark.parametrize("title", ["nginx: worker process", "postgres: shop shop 10.0.0.1(40000) idle"])
def test_a_title_that_a_process_gave_itself(title: str) -> None:
    assert telling(title.encode() + b"\0" * 40) == title


@given(st.binary(max_size=300))
def test_any_bytes(line: bytes) -> None:
    told = telling(line)
    assert len(told) <= LONGEST
    assert told == told.rstrip()
    told.encode("utf-8", "surrogateescape")


@given(st.lists(st.text("abc-/=.@:?", max_size=8), min_size=1, max_size=8))
def test_no_option_is_shown(words: list[str]) -> None:
    """But those that say that the program itself is in the command line."""
    told = telling("\0".join(["program", *words]).encode())
    assert all(not word.startswith("-") for word in told.split(" ")[1:])
