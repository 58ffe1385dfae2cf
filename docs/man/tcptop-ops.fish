# fish completion for tcptop-ops. Made by python -m tcptop_ops.cli.manual fish; changes belong there.

function __tcptop_ops_columns
    set -l value (commandline -ct | string replace -r -- '^--columns=' '')
    set -l first (string match -r -- '^(?:.*,)?[+-]?' $value)
    test -n "$first"; or echo all
    for column in cookie netns inode family laddr lport raddr rport local peer state direction origin pid process command owner holders partner partner_cookie user service cgroup uid score cause blame limit stall_ms end connect_ms srtt_us rttvar_us min_rtt_us last_rtt_us rto_us backoff timer age_s idle_s closed_s retrans_segs retrans_win retrans_per_s retrans_pct rto_events rto_win lost sacked dsack_dups reord_seen ooo_in ecn_mode ce_pct ce_in_pct cwnd ssthresh mss snd_wnd rcv_wnd pacing_bytes_per_s unacked notsent recv_q send_q cc backlog backlog_max syn_recv drops bytes_acked bytes_received tx_bytes_per_s rx_bytes_per_s delivery_bytes_per_s busy_pct rwnd_limited_pct sndbuf_limited_pct mark_retrans mark_rto mark_sent mark_received mark_srtt_us connections cmd srtt rtt age idle retr retr% rto pacing tx rx delivery
        echo "$first$column"
    end
end

function __tcptop_ops_sort
    for column in cookie netns inode family laddr lport raddr rport local peer state direction origin pid process command owner holders partner partner_cookie user service cgroup uid score cause blame limit stall_ms end connect_ms srtt_us rttvar_us min_rtt_us last_rtt_us rto_us backoff timer age_s idle_s closed_s retrans_segs retrans_win retrans_per_s retrans_pct rto_events rto_win lost sacked dsack_dups reord_seen ooo_in ecn_mode ce_pct ce_in_pct cwnd ssthresh mss snd_wnd rcv_wnd pacing_bytes_per_s unacked notsent recv_q send_q cc backlog backlog_max syn_recv drops bytes_acked bytes_received tx_bytes_per_s rx_bytes_per_s delivery_bytes_per_s busy_pct rwnd_limited_pct sndbuf_limited_pct mark_retrans mark_rto mark_sent mark_received mark_srtt_us connections cmd srtt rtt age idle retr retr% rto pacing tx rx delivery
        printf '%s\n' $column $column:asc $column:desc
    end
end

complete -c tcptop-ops -f
complete -c tcptop-ops -s h -l help -d 'show this help message and exit'
complete -c tcptop-ops -s f -l filter -x -d 'show only matching connections, such as: srtt > 20ms and not :443'
complete -c tcptop-ops -s p -l pid -x -d 'show only those of these processes'
complete -c tcptop-ops -l cgroup -x -a '(__fish_complete_directories)' -d 'attach to this cgroup only: one service, one container'
complete -c tcptop-ops -l source -x -a 'auto sockops sockdiag' -d 'where figures come from (default: auto)'
complete -c tcptop-ops -l callbacks -x -a 'all every events' -d 'all: seven flags at a connection\'s birth; every: seven throughout; events: RTO, RETRANS, STATE'
complete -c tcptop-ops -l map-size -x -d 'rows in the kernel\'s map'
complete -c tcptop-ops -l no-adopt -d 'leave sockets alone that were open before the start'
complete -c tcptop-ops -l no-helper -d 'no privileged helper after the start: no new namespaces, no tidying after SIGKILL'
complete -c tcptop-ops -s d -l delay -x -d 'between refreshes (default: 1)'
complete -c tcptop-ops -s w -l window -x -d 'what is "recent" (default: 20)'
complete -c tcptop-ops -s s -l sort -x -a '(__tcptop_ops_sort)' -d '(default: score)'
complete -c tcptop-ops -s c -l columns -x -a '(__tcptop_ops_columns)' -d 'ids or aliases; "all"; "+id,-id": the default set changed'
complete -c tcptop-ops -s g -l group -x -a 'none process command remote remote-net local-port cgroup state' -d 'put connections together: none, process, command, remote, remote-net, local-port, cgroup, state (default: none; --json never does)'
complete -c tcptop-ops -l closed -x -d 'how long a closed connection stays listed (default: 5)'
complete -c tcptop-ops -l names -d 'names of hosts and services, or their numbers (default)'
complete -c tcptop-ops -l no-names -d 'names of hosts and services, or their numbers (default)'
complete -c tcptop-ops -l theme -x -a 'auto dark light terminal' -d 'the colours: auto, dark, light, terminal (default: auto)'
complete -c tcptop-ops -l mouse -d 'the mouse is the program\'s, or left to the terminal'
complete -c tcptop-ops -l no-mouse -d 'the mouse is the program\'s, or left to the terminal'
complete -c tcptop-ops -l allow-close -d 'let the key K close connections, after a question'
complete -c tcptop-ops -s b -l batch -d 'a plain text table a tick'
complete -c tcptop-ops -l json -d 'a JSON object a tick, one a line'
complete -c tcptop-ops -l csv -d 'a header, then a line a connection a tick (RFC 4180)'
complete -c tcptop-ops -s n -l iterations -x -d 'stop after N ticks, with the screen too'
complete -c tcptop-ops -l once -d 'the same as -n 1'
complete -c tcptop-ops -l fail-if -x -d 'exit 4 after the first tick in which a connection matches: a check for scripts'
complete -c tcptop-ops -l metrics -x -d 'serve OpenMetrics, with or without a screen; to this host alone, unless an address is given'
complete -c tcptop-ops -l record -r -F -d 'write every tick to FILE (SQLite), with or without a screen'
complete -c tcptop-ops -l record-for -x -d 'stop recording after this long: 90s, 10m, 2h'
complete -c tcptop-ops -l record-size -x -d 'the file stays below this, the oldest ticks go: 50M (least: 1M)'
complete -c tcptop-ops -l record-if -x -d 'start to record when a connection matches, such as: rto > 3; without --record: save the minutes before'
complete -c tcptop-ops -l replay -r -F -d 'play a recording in place of a kernel'
complete -c tcptop-ops -l demo -d 'play the recording that comes with the program'
complete -c tcptop-ops -l speed -x -d 'how many times as fast; max: without waiting (default: 1)'
complete -c tcptop-ops -l doctor -d 'what this host supports, what is missing, what to do about it; with --json too'
complete -c tcptop-ops -l print-config -d 'the settings file with its defaults, explained'
complete -c tcptop-ops -l no-config -d 'leave the settings file unread (as TCPTOP_NO_CONFIG=1 in the environment)'
complete -c tcptop-ops -l explain -x -a 'unknown accept-queue syn-queue reset refused rejected unreachable syn-unanswered local-drop receive-buffer peer-not-reading mtu dead-peer rto-stall reordering spurious tail-loss loss inbound-loss bufferbloat not-closed not-reading syn-lost idle healthy ports-used-up tcp-memory too-many-orphans conntrack-full time-wait-full files-used-up backlog-drop cookie netns inode family laddr lport raddr rport local peer state direction origin pid process command owner holders partner partner_cookie user service cgroup uid score cause blame limit stall_ms end connect_ms srtt_us rttvar_us min_rtt_us last_rtt_us rto_us backoff timer age_s idle_s closed_s retrans_segs retrans_win retrans_per_s retrans_pct rto_events rto_win lost sacked dsack_dups reord_seen ooo_in ecn_mode ce_pct ce_in_pct cwnd ssthresh mss snd_wnd rcv_wnd pacing_bytes_per_s unacked notsent recv_q send_q cc backlog backlog_max syn_recv drops bytes_acked bytes_received tx_bytes_per_s rx_bytes_per_s delivery_bytes_per_s busy_pct rwnd_limited_pct sndbuf_limited_pct mark_retrans mark_rto mark_sent mark_received mark_srtt_us connections TIMEOUT_INIT RWND_INIT TCP_CONNECT_CB ACTIVE_ESTABLISHED_CB PASSIVE_ESTABLISHED_CB NEEDS_ECN BASE_RTT RTO_CB RETRANS_CB STATE_CB TCP_LISTEN_CB RTT_CB PARSE_HDR_OPT_CB HDR_OPT_LEN_CB WRITE_HDR_OPT_CB tcp_mem_pages memory_pressures aborts_on_memory receive_queues_pruned tcp_sockets orphans time_wait time_wait_overflows tracked_connections tracking_drops local_ports open_files accept_overflows syn_queue_drops cookies_sent listen_drops segs_sent segs_retransmitted retransmits_failed packets_discarded backlog_drops resets_sent segs_malformed cmd srtt rtt age retr retr% rto pacing tx rx delivery' -d 'a page about a column, a cause or an operator'
complete -c tcptop-ops -l version -d 'show the version and exit'
