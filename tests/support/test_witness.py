"""The witnesses read what the tools print."""

from __future__ import annotations

from tests.support.witness import parse_retransmit, parse_ss

SENDER = (
    "ESTAB 0 12 10.7.0.1:34885 10.7.0.2:443 timer:(on,204ms,1) uid:33 ino:9072 sk:1a01 cgroup:/web.slice <-> "
    "skmem:(r0,rb131072,t0) ts sack bbr wscale:10,7 rto:204 rtt:0.089/0.112 mss:1448 cwnd:11 bytes_acked:10000002 "
    "bbr:(bw:1.3Gbps,mrtt:0.05,pacing_gain:2.88) send 1431730337bps lastsnd:512 pacing_rate 1713263864bps app_limited "
    "busy:36ms rwnd_limited:4ms(11.1%) unacked:3 retrans:1/217 lost:2 minrtt:0.004 snd_wnd:1053696"
)
LISTENER = "LISTEN 0 128 [::ffff:10.7.0.1]%eth0:80 *:* ino:9068 sk:2 cgroup:/ v6only:0 <-> skmem:(r0) cubic cwnd:10"
CLOSED = "TIME-WAIT 0 0 [fd00::1]:5000 [fd00::2]:80 timer:(timewait,59sec,0) ino:0 sk:3"
EVENT = (
    "          <idle>-0       [001] ..s3.  1201.045606: tcp_retransmit_skb: skbaddr=000000005f skaddr=00000000ac "
    "family=AF_INET{six} sport=38315 dport=42249 saddr=10.7.0.1 daddr=10.7.0.2 saddrv6={source} daddrv6={target} "
    "state=TCP_SYN_SENT{err}"
)


def test_a_sender() -> None:
    seen = parse_ss(SENDER)
    assert (seen.state, seen.local, seen.local_port, seen.peer, seen.peer_port) == (
        "ESTAB",
        "10.7.0.1",
        34885,
        "10.7.0.2",
        443,
    )
    assert (seen.recv_q, seen.send_q, seen.uid, seen.inode, seen.cookie) == (0, 12, 33, 9072, 0x1A01)
    assert (seen.cgroup, seen.timer, seen.congestion) == ("/web.slice", "on,204ms,1", "bbr")
    assert seen.flags == {"ts", "sack", "app_limited"}
    assert not seen.quiet
    names = ("rtt", "rttvar", "retrans_now", "retrans_total", "snd_wscale", "rcv_wscale", "rwnd_limited", "busy")
    assert [seen.value(name) for name in names] == [0.089, 0.112, 1, 217, 10, 7, 4, 36]
    names = ("send", "pacing_rate", "unacked", "lost", "minrtt", "snd_wnd", "bytes_acked", "dsack_dups")
    assert [seen.value(name) for name in names] == [1431730337, 1713263864, 3, 2, 0.004, 1053696, 10000002, 0]


def test_a_listener() -> None:
    seen = parse_ss(LISTENER)
    assert (seen.local, seen.local_port, seen.peer, seen.peer_port) == ("::ffff:10.7.0.1", 80, "*", 0)
    assert (seen.congestion, seen.cookie, seen.uid) == ("cubic", 2, 0)


def test_a_socket_without_an_inside() -> None:
    seen = parse_ss(CLOSED)
    assert (seen.state, seen.local, seen.peer_port, seen.congestion) == ("TIME-WAIT", "fd00::1", 80, "")
    assert seen.quiet
    assert seen.value("rtt") == 0


def test_a_retransmit_of_each_family() -> None:
    four = parse_retransmit(EVENT.format(six="", source="::ffff:10.7.0.1", target="::ffff:10.7.0.2", err=" err=0"))
    mapped = parse_retransmit(EVENT.format(six="6", source="::ffff:10.7.0.1", target="::ffff:10.7.0.2", err=" err=0"))
    six = parse_retransmit(EVENT.format(six="6", source="fd00::1", target="fd00::2", err=" err=-16"))
    old = parse_retransmit(EVENT.format(six="", source="::", target="::", err=""))
    assert four == mapped == old
    assert (four.at, four.source, four.sport, four.target, four.dport) == (
        1201.045606,
        "10.7.0.1",
        38315,
        "10.7.0.2",
        42249,
    )
    assert (six.source, six.target, six.err, six.state) == ("fd00::1", "fd00::2", -16, "TCP_SYN_SENT")
