/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A socket's present state, as tcp_get_info() (net/ipv4/tcp.c) and inet_diag tell it.
 * The offsets come from the running kernel's BTF (layout.py); a member that it lacks is not defined.
 */

#ifdef HAVE_BTF_SOCKET
#define READ(type, base, offset) (*(volatile type *)((void *)(base) + (offset)))
#define READ_POINTER(base, offset) (*(void *volatile *)((void *)(base) + (offset)))

/* struct sock_common has begun with these since 3.13; skc_family behind them is where BTF says. */
#if SKC_FAMILY != 16
#error "an unknown layout of struct sock_common"
#endif
#define SKC_DADDR 0
#define SKC_RCV_SADDR 4
#define SKC_DPORT 12
#define SKC_NUM 14

enum { CHRONO_BUSY = 1, CHRONO_RWND_LIMITED, CHRONO_SNDBUF_LIMITED };

static __always_inline __u16 swap16(__u16 v)
{
	return __builtin_bswap16(v);
}

static __always_inline __u32 positive(__u32 v)
{
	return (__s32)v > 0 ? v : 0;
}

/* 32 bits of microseconds are 71 minutes: whatever is longer stays at the end, one below "unknown". */
static __always_inline __u32 saturated_us(__u64 jiffies)
{
	__u64 us = jiffies * 1000000 / HZ;
	return us < UNKNOWN ? us : UNKNOWN - 1;
}

static __always_inline void fill_addresses(struct socket *r, void *sk)
{
	r->family = READ(__u16, sk, SKC_FAMILY);
	r->lport = READ(__u16, sk, SKC_NUM);
	r->rport = swap16(READ(__u16, sk, SKC_DPORT));
	__u64 *laddr = (__u64 *)r->laddr, *raddr = (__u64 *)r->raddr;
	if (r->family == AF_INET) {
		laddr[0] = raddr[0] = 0;
		laddr[1] = (__u64)READ(__u32, sk, SKC_RCV_SADDR) << 32 | 0xFFFF0000u;
		raddr[1] = (__u64)READ(__u32, sk, SKC_DADDR) << 32 | 0xFFFF0000u;
		return;
	}
#ifdef SKC_V6_DADDR
	laddr[0] = READ(__u64, sk, SKC_V6_RCV_SADDR);
	laddr[1] = READ(__u64, sk, SKC_V6_RCV_SADDR + 8);
	raddr[0] = READ(__u64, sk, SKC_V6_DADDR);
	raddr[1] = READ(__u64, sk, SKC_V6_DADDR + 8);
#endif
}

static __always_inline void fill_identity(struct socket *r, void *sk)
{
	r->uid = READ(__u32, sk, SK_UID);
	r->ifindex = READ(__u32, sk, SKC_BOUND_DEV_IF);
	void *net = READ_POINTER(sk, SKC_NET);
	r->netns = net ? READ(__u32, net, NET_INUM) : 0;
#ifdef SK_CGROUP
	void *cgroup = READ_POINTER(sk, SK_CGROUP);
	void *node = cgroup ? READ_POINTER(cgroup, CGROUP_KN) : NULL;
	r->cgroup_id = node ? READ(__u64, node, KN_ID) : 0;
#endif
#ifdef SK_INO
	r->inode = READ(__u64, sk, SK_INO);
#else
	void *socket = READ_POINTER(sk, SK_SOCKET);
	void *file = socket ? READ_POINTER(socket, SOCKET_FILE) : NULL;
	void *inode = file ? READ_POINTER(file, FILE_INODE) : NULL;
	r->inode = inode ? READ(__u64, inode, INODE_INO) : 0;
#endif
}

/* A listener's queues stand where a connection's bytes do, as in inet_diag and ss. */
static __always_inline void fill_queues(struct socket *r, void *tp)
{
	if (r->state == BPF_TCP_LISTEN) {
		r->recv_q = READ(__u32, tp, SK_ACK_BACKLOG);
		r->send_q = READ(__u32, tp, SK_MAX_ACK_BACKLOG);
		r->unacked = r->recv_q;
		return;
	}
	__u32 write_seq = READ(__u32, tp, TP_WRITE_SEQ);
	r->recv_q = positive(READ(__u32, tp, TP_RCV_NXT) - READ(__u32, tp, TP_COPIED_SEQ));
	r->send_q = write_seq - READ(__u32, tp, TP_SND_UNA);
	r->notsent = positive(write_seq - READ(__u32, tp, TP_SND_NXT));
	r->unacked = READ(__u32, tp, TP_PACKETS_OUT);
}

/* tcp_get_info_chrono_stats(): the running one counts too, and the limited times are part of the busy time. */
static __always_inline void fill_limits(struct socket *r, void *tp, __u32 now)
{
	__u32 busy = READ(__u32, tp, TP_CHRONO_STAT), rwnd = READ(__u32, tp, TP_CHRONO_STAT + 4),
	      sndbuf = READ(__u32, tp, TP_CHRONO_STAT + 8);
	__u32 running = now - READ(__u32, tp, TP_CHRONO_START);
#ifdef TP_CHRONO_TYPE_SHIFT
	__u8 type = READ(__u8, tp, TP_CHRONO_TYPE) >> TP_CHRONO_TYPE_SHIFT & 3;
#else
	__u8 type = READ(__u8, tp, TP_CHRONO_TYPE);
#endif
	if (type == CHRONO_BUSY)
		busy += running;
	else if (type == CHRONO_RWND_LIMITED)
		rwnd += running;
	else if (type == CHRONO_SNDBUF_LIMITED)
		sndbuf += running;
	r->busy_us = JIFFIES_US(busy + rwnd + sndbuf);
	r->rwnd_limited_us = JIFFIES_US(rwnd);
	r->sndbuf_limited_us = JIFFIES_US(sndbuf);
}

/* icsk_pending: ICSK_TIME_RETRANS 1, PROBE0 3, LOSS_PROBE 5, REO_TIMEOUT 6 (include/net/inet_connection_sock.h). */
static __always_inline void fill_timer(struct socket *r, void *tp, __u64 now)
{
	__u8 pending = READ(__u8, tp, ICSK_PENDING);
	__u64 expires = 0;
	if (pending == 1 || pending == 5 || pending == 6) {
		r->timer = pending;
		expires = READ(__u64, tp, ICSK_TIMEOUT);
	} else if (pending == 3) {
		r->timer = 4;
		expires = READ(__u64, tp, ICSK_TIMEOUT);
	} else if (READ(__u64, tp, SK_TIMER_PPREV)) {
		r->timer = 2;
		expires = READ(__u64, tp, SK_TIMER_EXPIRES);
	}
	__s64 left = expires - now;
	r->timer_us = r->timer && left > 0 ? saturated_us(left) : 0;
}

static __always_inline void fill_times(struct socket *r, void *tp)
{
	__u64 now = bpf_jiffies64();
	r->srtt_us = READ(__u32, tp, TP_SRTT_US) >> 3;
	r->rttvar_us = READ(__u32, tp, TP_MDEV_US) >> 2;
	r->min_rtt_us = READ(__u32, tp, TP_RTT_MIN + 4);
	r->last_rtt_us = READ(__u32, tp, TP_RACK_RTT);
	r->rto_us = JIFFIES_US(READ(__u32, tp, ICSK_RTO));
	r->last_sent_us = saturated_us((__u32)now - READ(__u32, tp, TP_LSNDTIME));
#ifdef ICSK_LRCVTIME
	r->last_received_us = saturated_us((__u32)now - READ(__u32, tp, ICSK_LRCVTIME));
#else
	r->last_received_us = UNKNOWN;
#endif
	if (r->state != BPF_TCP_LISTEN)
		fill_limits(r, tp, now);
	fill_timer(r, tp, now);
}

static __always_inline void fill_loss(struct socket *r, void *tp)
{
	r->ca_state = READ(__u8, tp, ICSK_CA_STATE) >> ICSK_CA_STATE_SHIFT & 31;
	r->retransmits = READ(__u8, tp, ICSK_RETRANSMITS);
	r->probes = READ(__u8, tp, ICSK_PROBES_OUT);
	r->backoff = READ(__u8, tp, ICSK_BACKOFF);
	r->retrans_segs = READ(__u32, tp, TP_TOTAL_RETRANS);
	r->retrans_out = READ(__u32, tp, TP_RETRANS_OUT);
	r->lost = READ(__u32, tp, TP_LOST_OUT);
	r->sacked = READ(__u32, tp, TP_SACKED_OUT);
	r->reordering = READ(__u32, tp, TP_REORDERING);
	r->dsack_dups = READ(__u32, tp, TP_DSACK_DUPS);
	r->reord_seen = READ(__u32, tp, TP_REORD_SEEN);
	r->ooo_in = READ(__u32, tp, TP_RCV_OOOPACK);
	r->drops = READ(__u32, tp, SK_DROPS);
#ifdef TP_TOTAL_RTO
	r->total_rto = READ(__u16, tp, TP_TOTAL_RTO);
	r->total_rto_ms = READ(__u32, tp, TP_TOTAL_RTO_TIME);
#else
	r->total_rto = r->total_rto_ms = UNKNOWN;
#endif
}

static __always_inline void fill_window(struct socket *r, void *tp)
{
	r->cwnd = READ(__u32, tp, TP_SND_CWND);
	r->ssthresh = READ(__u32, tp, TP_SND_SSTHRESH);
	r->mss = READ(__u32, tp, TP_MSS_CACHE);
	r->snd_wnd = READ(__u32, tp, TP_SND_WND);
	r->rcv_wnd = READ(__u32, tp, TP_RCV_WND);
	r->app_limited = READ(__u32, tp, TP_APP_LIMITED) != 0;
	void *ca = READ_POINTER(tp, ICSK_CA_OPS);
	if (!ca)
		return;
	__u64 *cc = (__u64 *)r->cc;
	cc[0] = READ(__u64, ca, CA_NAME);
	cc[1] = READ(__u64, ca, CA_NAME + 8);
}

static __always_inline void fill_traffic(struct socket *r, void *tp)
{
	r->bytes_sent = READ(__u64, tp, TP_BYTES_SENT);
	r->bytes_acked = READ(__u64, tp, TP_BYTES_ACKED);
	r->bytes_received = READ(__u64, tp, TP_BYTES_RECEIVED);
	r->segs_in = READ(__u32, tp, TP_SEGS_IN);
	r->segs_out = READ(__u32, tp, TP_SEGS_OUT);
	r->data_segs_in = READ(__u32, tp, TP_DATA_SEGS_IN);
	r->data_segs_out = READ(__u32, tp, TP_DATA_SEGS_OUT);
	r->delivered = READ(__u32, tp, TP_DELIVERED);
	r->delivered_ce = READ(__u32, tp, TP_DELIVERED_CE);
	r->rate_delivered = READ(__u32, tp, TP_RATE_DELIVERED);
	r->rate_interval_us = READ(__u32, tp, TP_RATE_INTERVAL_US);
}

/* tcpi_options: TIMESTAMPS 1, SACK 2, WSCALE 4, ECN 8, ECN_SEEN 16, SYN_DATA 32 (include/uapi/linux/tcp.h). */
static __always_inline void fill_options(struct socket *r, void *tp)
{
	__u16 bits = READ(__u16, tp, TP_RX_OPT_BITS);
	__u8 ecn = READ(__u8, tp, TP_ECN_FLAGS);
	bool wscale = bits & 8;
	r->options = (bits & 2 ? 1 : 0) | (bits & 0x70 ? 2 : 0) | (wscale ? 4 : 0) | (ecn & 1 ? 8 : 0) |
		     (ecn & 8 ? 16 : 0);
	r->wscale = wscale ? bits >> 8 : 0;
	r->cb_flags = READ(__u8, tp, TP_CB_FLAGS);
#ifdef TP_IS_MPTCP
	r->mptcp = READ(__u8, tp, TP_IS_MPTCP);
#endif
}

/* ``tp``: a struct tcp_sock that the verifier knows as such. ``r`` must be zero. The cookie is the caller's business. */
static __always_inline void fill_socket(struct socket *r, void *tp)
{
	r->state = READ(__u8, tp, SKC_STATE);
	fill_addresses(r, tp);
	fill_identity(r, tp);
	fill_queues(r, tp);
	fill_times(r, tp);
	fill_loss(r, tp);
	fill_window(r, tp);
	fill_traffic(r, tp);
	fill_options(r, tp);
}
#endif

/* What a sock_ops context tells by itself, where BTF is missing. */
static __always_inline void fill_from_context(struct socket *r, struct bpf_sock_ops *ctx)
{
	__u32 *laddr = (__u32 *)r->laddr, *raddr = (__u32 *)r->raddr;
	/* All are read before the branch: clang would turn two reads into one through a computed pointer. */
	__u32 local = CTX(local_ip4), remote = CTX(remote_ip4);
	laddr[0] = CTX(local_ip6[0]);
	laddr[1] = CTX(local_ip6[1]);
	laddr[2] = CTX(local_ip6[2]);
	laddr[3] = CTX(local_ip6[3]);
	raddr[0] = CTX(remote_ip6[0]);
	raddr[1] = CTX(remote_ip6[1]);
	raddr[2] = CTX(remote_ip6[2]);
	raddr[3] = CTX(remote_ip6[3]);
	r->family = CTX(family);
	r->lport = CTX(local_port);
	r->rport = __builtin_bswap32(CTX(remote_port));
	if (r->family == AF_INET) {
		laddr[0] = laddr[1] = raddr[0] = raddr[1] = 0;
		laddr[2] = raddr[2] = 0xFFFF0000u;
		laddr[3] = local;
		raddr[3] = remote;
	}
	r->srtt_us = CTX(srtt_us) >> 3;
	r->min_rtt_us = CTX(rtt_min);
	r->cwnd = CTX(snd_cwnd);
	r->ssthresh = CTX(snd_ssthresh);
	r->mss = CTX(mss_cache);
	r->retrans_segs = CTX(total_retrans);
	r->lost = CTX(lost_out);
	r->sacked = CTX(sacked_out);
	r->segs_in = CTX(segs_in);
	r->segs_out = CTX(segs_out);
	r->data_segs_in = CTX(data_segs_in);
	r->data_segs_out = CTX(data_segs_out);
	r->bytes_received = CTX(bytes_received);
	r->bytes_acked = CTX(bytes_acked);
}
