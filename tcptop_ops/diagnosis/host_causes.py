"""What may be wrong with the host itself: a finding tells it, and no row has it. Their words."""

from __future__ import annotations

from tcptop_ops.diagnosis.cause import Cause

TCP_MEMORY = Cause(
    name="tcp-memory",
    blame="host",
    means="the memory of all TCP sockets is near the limit from which on the kernel shrinks their buffers",
    told_by="a finding: 90 % of the second figure of net.ipv4.tcp_mem is in use, or pressure began within the window, "
    "or connections were reset for want of memory",
    remedy="look for the sockets that hold it (--sort recv_q, --sort send_q), and for processes that do not read; "
    "raise net.ipv4.tcp_mem where the host has memory to spare",
    source="tcp_enter_memory_pressure(), tcp_out_of_memory(), tcp_check_oom() of net/ipv4/tcp.c",
    related=("recv_q", "send_q"),
)

TOO_MANY_ORPHANS = Cause(
    name="too-many-orphans",
    blame="host",
    means="so many connections that no process holds any more are not done yet that the kernel resets them",
    told_by="a finding: 90 % of net.ipv4.tcp_max_orphans, or a quarter of it while connections are reset",
    remedy="look for peers that vanish or do not read while their connections are closed; lower "
    "net.ipv4.tcp_orphan_retries, set TCP_USER_TIMEOUT, or raise net.ipv4.tcp_max_orphans",
    source="tcp_too_many_orphans() of net/ipv4/tcp.c, tcp_out_of_resources() of net/ipv4/tcp_timer.c",
    related=("state", "inode"),
)

CONNTRACK_FULL = Cause(
    name="conntrack-full",
    blame="host",
    means="the table of connection tracking has no room left, so that packets of new connections are dropped",
    told_by="a finding: 90 % of net.netfilter.nf_conntrack_max, by network namespace",
    remedy="raise net.netfilter.nf_conntrack_max, shorten nf_conntrack_tcp_timeout_established, or exempt traffic that "
    "needs no tracking (notrack)",
    source="__nf_conntrack_alloc() of net/netfilter/nf_conntrack_core.c",
)

TIME_WAIT_FULL = Cause(
    name="time-wait-full",
    blame="host",
    means="connections are closed without TIME-WAIT, since as many as are allowed are in it",
    told_by="a finding: TCPTimeWaitOverflow grew within the window, by network namespace",
    remedy="keep connections open and use them again; raise net.ipv4.tcp_max_tw_buckets",
    source="tcp_time_wait() of net/ipv4/tcp_minisocks.c, inet_twsk_alloc(); RFC 9293 3.6, RFC 1337",
)

FILES_USED_UP = Cause(
    name="files-used-up",
    blame="host",
    means="nearly all files that the host may have open are open, so that accept() and socket() fail with ENFILE",
    told_by="a finding: 90 % of fs.file-max",
    remedy="look for the process that holds most (lsof, /proc/PID/fd); raise fs.file-max",
    source="alloc_empty_file() of fs/file_table.c",
    related=("inode", "process"),
)

BACKLOG_DROP = Cause(
    name="backlog-drop",
    blame="host",
    means="packets are dropped before TCP sees them: the input queue of a processor is full",
    told_by="a finding: 20 packets or more within the window, and one of 1,000 or more, by /proc/net/softnet_stat",
    remedy="look for the processor that is busy with interrupts (mpstat -P ALL); spread packets (RPS, more queues), or "
    "raise net.core.netdev_max_backlog",
    source="enqueue_to_backlog() of net/core/dev.c",
    related=("retrans_segs", "ooo_in"),
)

OF_HOST: tuple[Cause, ...] = (
    TCP_MEMORY,
    TOO_MANY_ORPHANS,
    CONNTRACK_FULL,
    TIME_WAIT_FULL,
    FILES_USED_UP,
    BACKLOG_DROP,
)
"""The causes of the host, in the order in which the pages list them."""
