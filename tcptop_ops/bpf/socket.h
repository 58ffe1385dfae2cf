/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * A socket's present state, as tcp_get_info() (net/ipv4/tcp.c) and inet_diag tell it.
 * The offsets come from the running kernel's BTF (kernel_offsets.py): -1 where it lacks a member. What is read then in its place
 * is what says "unknown", or what no diagnosis takes for a fault; the monitor knows which columns it must not believe.
 */

#ifdef TCO_HAVE_BTF_SOCKET
#define READ(type, base, offset) (*(volatile type *)((void *)(base) + (offset)))
#define READ_POINTER(base, offset) (*(void *volatile *)((void *)(base) + (offset)))
#define HAS(offset) ((offset) >= 0)
#define READ_OR(type, base, offset, otherwise) (HAS(offset) ? READ(type, base, offset) : (otherwise))
#define POINTER_OR_NULL(base, offset) ((base) && HAS(offset) ? READ_POINTER(base, offset) : NULL)
/* A byte of which a member may be a part: where it is, is told beside its offset. */
#define READ_BITS(base, member) (HAS(member) ? READ(__u8, base, member) >> member##_SHIFT & member##_MASK : 0)

enum { CHRONO_BUSY = 1, CHRONO_RWND_LIMITED, CHRONO_SNDBUF_LIMITED };
enum { ICSK_ACK_TIMER = 2 };

static __always_inline __u16 swap16(__u16 v)
{
	return __builtin_bswap16(v);
}

static __always_inline __u32 positive(__u32 v)
{
	return (__s32)v > 0 ? v : 0;
}

/* Of a stamp that was never set, as in SYN-SENT, the kernel tells the time since the boot, or nearly. */
static __always_inline __u64 since_us(__u32 now, __u32 stamp)
{
	return stamp ? (__u64)(__u32)(now - stamp) * 1000000 / TCO_HZ : UNKNOWN_LONG;
}

static __always_inline void fill_addresses(struct socket *r, void *sk)
{
	r->family = READ(__u16, sk, TCO_SKC_FAMILY);
	r->lport = READ(__u16, sk, TCO_SKC_NUM);
	r->rport = swap16(READ(__u16, sk, TCO_SKC_DPORT));
	__u64 *laddr = (__u64 *)r->laddr, *raddr = (__u64 *)r->raddr;
	if (r->family == AF_INET) {
		laddr[0] = raddr[0] = 0;
		laddr[1] = (__u64)READ(__u32, sk, TCO_SKC_RCV_SADDR) << 32 | 0xFFFF0000u;
		raddr[1] = (__u64)READ(__u32, sk, TCO_SKC_DADDR) << 32 | 0xFFFF0000u;
		return;
	}
	if (!HAS(TCO_SKC_V6_DADDR) || !HAS(TCO_SKC_V6_RCV_SADDR))
		return; /* a kernel without IPv6 */
	laddr[0] = READ(__u64, sk, TCO_SKC_V6_RCV_SADDR);
	laddr[1] = READ(__u64, sk, TCO_SKC_V6_RCV_SADDR + 8);
	raddr[0] = READ(__u64, sk, TCO_SKC_V6_DADDR);
	raddr[1] = READ(__u64, sk, TCO_SKC_V6_DADDR + 8);
}

static __always_inline void fill_identity(struct socket *r, void *sk)
{
	r->uid = READ_OR(__u32, sk, TCO_SK_UID, UNKNOWN);
	r->ifindex = READ_OR(__u32, sk, TCO_SKC_BOUND_DEV_IF, 0);
	void *net = POINTER_OR_NULL(sk, TCO_SKC_NET);
	r->netns = net ? READ_OR(__u32, net, TCO_NET_INUM, 0) : 0;
	void *cgroup = POINTER_OR_NULL(sk, TCO_SK_CGROUP);
	void *node = POINTER_OR_NULL(cgroup, TCO_CGROUP_KN);
	r->cgroup_id = node ? READ_OR(__u64, node, TCO_KN_ID, 0) : 0;
	if (HAS(TCO_SK_INO)) {
		r->inode = READ(__u64, sk, TCO_SK_INO);
		return;
	}
	void *socket = POINTER_OR_NULL(sk, TCO_SK_SOCKET);
	void *file = POINTER_OR_NULL(socket, TCO_SOCKET_FILE);
	void *inode = POINTER_OR_NULL(file, TCO_FILE_INODE);
	r->inode = inode ? READ_OR(__u64, inode, TCO_INODE_INO, 0) : 0;
}

/* A listener's queues stand where a connection's bytes do, as in inet_diag and ss. */
static __always_inline void fill_queues(struct socket *r, void *tp)
{
	if (r->state == BPF_TCP_LISTEN) {
		r->recv_q = READ_OR(__u32, tp, TCO_SK_ACK_BACKLOG, 0);
		r->send_q = READ_OR(__u32, tp, TCO_SK_MAX_ACK_BACKLOG, UNKNOWN);
		r->unacked = r->recv_q;
		return;
	}
	r->unacked = READ_OR(__u32, tp, TCO_TP_PACKETS_OUT, 0);
	if (HAS(TCO_TP_RCV_NXT) && HAS(TCO_TP_COPIED_SEQ))
		r->recv_q = positive(READ(__u32, tp, TCO_TP_RCV_NXT) - READ(__u32, tp, TCO_TP_COPIED_SEQ));
	if (r->state == BPF_TCP_SYN_SENT && !r->unacked)
		return; /* TCP_FASTOPEN_CONNECT before the first write: snd_una is set by tcp_connect(), write_seq before */
	__u32 write_seq = READ_OR(__u32, tp, TCO_TP_WRITE_SEQ, 0);
	if (HAS(TCO_TP_WRITE_SEQ) && HAS(TCO_TP_SND_UNA))
		r->send_q = write_seq - READ(__u32, tp, TCO_TP_SND_UNA);
	if (HAS(TCO_TP_WRITE_SEQ) && HAS(TCO_TP_SND_NXT))
		r->notsent = positive(write_seq - READ(__u32, tp, TCO_TP_SND_NXT));
}

/* tcp_get_info_chrono_stats(): the running one counts too, and the limited times are part of the busy time. */
static __always_inline void fill_limits(struct socket *r, void *tp, __u32 now)
{
	if (!HAS(TCO_TP_CHRONO_STAT) || !HAS(TCO_TP_CHRONO_START) || !HAS(TCO_TP_CHRONO_TYPE))
		return;
	__u32 busy = READ(__u32, tp, TCO_TP_CHRONO_STAT), rwnd = READ(__u32, tp, TCO_TP_CHRONO_STAT + 4),
	      sndbuf = READ(__u32, tp, TCO_TP_CHRONO_STAT + 8);
	__u32 running = now - READ(__u32, tp, TCO_TP_CHRONO_START);
	__u8 type = READ_BITS(tp, TCO_TP_CHRONO_TYPE);
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

static __always_inline bool is_pending(void *tp, int pprev)
{
	return READ(__u64, tp, pprev) != 0; /* timer_pending() */
}

/*
 * Which timer is pending, and how long it has left. inet_sk_diag_fill() (net/ipv4/inet_diag.c), which tells of delayed
 * ACKs from 7.1 on. icsk_pending: ICSK_TIME_RETRANS 1, PROBE0 3, LOSS_PROBE 5, REO_TIMEOUT 6
 * (include/net/inet_connection_sock.h).
 */
static __always_inline __u8 timer_of(void *tp, __u64 now, __u64 *left_us)
{
	__u8 pending = READ_OR(__u8, tp, TCO_ICSK_PENDING, 0), timer = 0;
	__u64 expires = 0;
	if (pending == 1 || pending == 3 || pending == 5 || pending == 6) {
		timer = pending == 3 ? TIMER_PERSIST : pending;
		expires = READ_OR(__u64, tp, TCO_ICSK_TIMEOUT, 0);
	} else if (HAS(TCO_KEEPALIVE_PPREV) && is_pending(tp, TCO_KEEPALIVE_PPREV)) {
		timer = TIMER_KEEPALIVE;
		expires = READ_OR(__u64, tp, TCO_KEEPALIVE_EXPIRES, 0);
	} else if (HAS(TCO_ICSK_ACK_PENDING) && HAS(TCO_DELACK_PPREV) &&
		   READ(__u8, tp, TCO_ICSK_ACK_PENDING) & ICSK_ACK_TIMER && is_pending(tp, TCO_DELACK_PPREV)) {
		timer = TIMER_DELACK;
		expires = READ_OR(__u64, tp, TCO_DELACK_EXPIRES, 0);
	}
	__s64 left = expires - now;
	*left_us = expires && left > 0 ? (__u64)left * 1000000 / TCO_HZ : 0;
	return timer;
}

static __always_inline void fill_times(struct socket *r, void *tp)
{
	__u64 now = bpf_jiffies64();
	r->srtt_us = READ_OR(__u32, tp, TCO_TP_SRTT_US, 0) >> 3;
	r->rttvar_us = READ_OR(__u32, tp, TCO_TP_MDEV_US, 0) >> 2;
	r->min_rtt_us = HAS(TCO_TP_RTT_MIN) ? READ(__u32, tp, TCO_TP_RTT_MIN + 4) : UNKNOWN;
	r->last_rtt_us = READ_OR(__u32, tp, TCO_TP_RACK_RTT, 0);
	r->rto_us = JIFFIES_US(READ_OR(__u32, tp, TCO_ICSK_RTO, 0));
	r->last_sent_us = r->last_received_us = r->last_ack_received_us = UNKNOWN_LONG;
	if (HAS(TCO_TP_LSNDTIME))
		r->last_sent_us = since_us(now, READ(__u32, tp, TCO_TP_LSNDTIME));
	if (HAS(TCO_ICSK_LRCVTIME))
		r->last_received_us = since_us(now, READ(__u32, tp, TCO_ICSK_LRCVTIME));
	if (HAS(TCO_TP_RCV_TSTAMP))
		r->last_ack_received_us = since_us(now, READ(__u32, tp, TCO_TP_RCV_TSTAMP));
	if (r->state != BPF_TCP_LISTEN)
		fill_limits(r, tp, now);
	r->timer = timer_of(tp, now, &r->timer_us);
}

static __always_inline void fill_loss(struct socket *r, void *tp)
{
	r->ca_state = READ_BITS(tp, TCO_ICSK_CA_STATE);
	r->retransmits = READ_OR(__u8, tp, TCO_ICSK_RETRANSMITS, 0);
	r->probes = READ_OR(__u8, tp, TCO_ICSK_PROBES_OUT, 0);
	r->backoff = READ_OR(__u8, tp, TCO_ICSK_BACKOFF, 0);
	r->retrans_segs = READ_OR(__u32, tp, TCO_TP_TOTAL_RETRANS, 0);
	r->retrans_out = READ_OR(__u32, tp, TCO_TP_RETRANS_OUT, 0);
	r->lost = READ_OR(__u32, tp, TCO_TP_LOST_OUT, 0);
	r->sacked = READ_OR(__u32, tp, TCO_TP_SACKED_OUT, 0);
	r->reordering = READ_OR(__u32, tp, TCO_TP_REORDERING, 0);
	r->dsack_dups = READ_OR(__u32, tp, TCO_TP_DSACK_DUPS, 0);
	r->reord_seen = READ_OR(__u32, tp, TCO_TP_REORD_SEEN, 0);
	r->ooo_in = READ_OR(__u32, tp, TCO_TP_RCV_OOOPACK, 0);
	r->drops = READ_OR(__u32, tp, TCO_SK_DROPS, UNKNOWN);
	r->total_rto = READ_OR(__u16, tp, TCO_TP_TOTAL_RTO, UNKNOWN);
	r->total_rto_ms = READ_OR(__u32, tp, TCO_TP_TOTAL_RTO_TIME, UNKNOWN);
	/* tcp_get_info() adds the recovery that goes on */
	__u32 since = HAS(TCO_TP_TOTAL_RTO_TIME) ? READ_OR(__u32, tp, TCO_TP_RTO_STAMP, 0) : 0;
	if (since)
		r->total_rto_ms += (__u32)(bpf_ktime_get_ns() / 1000000) - since;
}

static __always_inline void fill_window(struct socket *r, void *tp)
{
	r->cwnd = READ_OR(__u32, tp, TCO_TP_SND_CWND, 0);
	r->ssthresh = READ_OR(__u32, tp, TCO_TP_SND_SSTHRESH, 0);
	r->mss = READ_OR(__u32, tp, TCO_TP_MSS_CACHE, 0);
	r->rcv_mss = READ_OR(__u16, tp, TCO_ICSK_RCV_MSS, 0);
	r->snd_wnd = READ_OR(__u32, tp, TCO_TP_SND_WND, 0);
	r->rcv_wnd = READ_OR(__u32, tp, TCO_TP_RCV_WND, UNKNOWN);
	r->rcv_ssthresh = READ_OR(__u32, tp, TCO_TP_RCV_SSTHRESH, UNKNOWN);
	r->rcvbuf = READ_OR(__u32, tp, TCO_SK_RCVBUF, UNKNOWN);
	r->rmem = READ_OR(__u32, tp, TCO_SK_RMEM, UNKNOWN);
	r->pmtu = READ_OR(__u32, tp, TCO_ICSK_PMTU_COOKIE, UNKNOWN);
	r->pacing_rate = READ_OR(unsigned long, tp, TCO_SK_PACING_RATE, 0);
	r->pacing_capped = HAS(TCO_SK_MAX_PACING_RATE) && r->pacing_rate != ~0ULL &&
			   r->pacing_rate >= READ(unsigned long, tp, TCO_SK_MAX_PACING_RATE);
	r->nonagle = HAS(TCO_TP_NONAGLE) ? READ_BITS(tp, TCO_TP_NONAGLE) | 8 : 0;
	r->app_limited = READ_OR(__u32, tp, TCO_TP_APP_LIMITED, 0) != 0;
	void *ca = POINTER_OR_NULL(tp, TCO_ICSK_CA_OPS);
	if (!ca || !HAS(TCO_CA_NAME))
		return;
	__u64 *cc = (__u64 *)r->cc;
	cc[0] = READ(__u64, ca, TCO_CA_NAME);
	cc[1] = READ(__u64, ca, TCO_CA_NAME + 8);
}

static __always_inline void fill_traffic(struct socket *r, void *tp)
{
	r->bytes_sent = READ_OR(__u64, tp, TCO_TP_BYTES_SENT, 0);
	r->bytes_acked = READ_OR(__u64, tp, TCO_TP_BYTES_ACKED, 0);
	r->bytes_received = READ_OR(__u64, tp, TCO_TP_BYTES_RECEIVED, 0);
	r->segs_in = READ_OR(__u32, tp, TCO_TP_SEGS_IN, 0);
	r->segs_out = READ_OR(__u32, tp, TCO_TP_SEGS_OUT, 0);
	r->data_segs_in = READ_OR(__u32, tp, TCO_TP_DATA_SEGS_IN, 0);
	r->data_segs_out = READ_OR(__u32, tp, TCO_TP_DATA_SEGS_OUT, 0);
	r->delivered = READ_OR(__u32, tp, TCO_TP_DELIVERED, 0);
	r->delivered_ce = READ_OR(__u32, tp, TCO_TP_DELIVERED_CE, 0);
	r->received_ce = READ_OR(__u32, tp, TCO_TP_RECEIVED_CE, UNKNOWN);
	r->rate_delivered = READ_OR(__u32, tp, TCO_TP_RATE_DELIVERED, 0);
	r->rate_interval_us = READ_OR(__u32, tp, TCO_TP_RATE_INTERVAL_US, 0);
}

/*
 * tcpi_options: TIMESTAMPS 1, SACK 2, WSCALE 4, ECN 8, ECN_SEEN 16, SYN_DATA 32 (include/uapi/linux/tcp.h). ecn_flags:
 * TCP_ECN_MODE_RFC3168 1, TCP_ECN_SEEN 8, TCP_ECN_MODE_ACCECN 16, from 7.0 on (include/net/tcp.h); both modes while the
 * handshake asks for the latter, which tcp_get_info() calls ECN too.
 */
enum { TCPECN_RFC3168 = 1, TCPECN_SEEN = 8, TCPECN_ACCECN = 16 };

static __always_inline __u8 ecn_mode(__u8 state, __u8 flags)
{
	__u8 asked = flags & (TCPECN_RFC3168 | TCPECN_ACCECN);
	if (state == BPF_TCP_LISTEN)
		return ECN_UNKNOWN;
	if (asked == (TCPECN_RFC3168 | TCPECN_ACCECN) || (asked && state == BPF_TCP_SYN_SENT))
		return ECN_PENDING;
	return asked == TCPECN_ACCECN ? ECN_ACCURATE : asked ? ECN_CLASSIC : ECN_NONE;
}

static __always_inline void fill_options(struct socket *r, void *tp)
{
	__u16 bits = READ_OR(__u16, tp, TCO_TP_RX_OPT_BITS, 0);
	__u8 ecn = READ_OR(__u8, tp, TCO_TP_ECN_FLAGS, 0);
	bool wscale = bits & 8;
	r->options = (bits & 2 ? 1 : 0) | (bits & 0x70 ? 2 : 0) | (wscale ? 4 : 0) |
		     (ecn & (TCPECN_RFC3168 | TCPECN_ACCECN) ? 8 : 0) | (ecn & TCPECN_SEEN ? 16 : 0) | (READ_BITS(tp, TCO_TP_SYN_DATA_ACKED) ? 32 : 0);
	r->ecn_mode = HAS(TCO_TP_ECN_FLAGS) ? ecn_mode(r->state, ecn) : ECN_UNKNOWN;
	r->ecn_fail = READ_BITS(tp, TCO_TP_ACCECN_FAIL_MODE);
	r->wscale = wscale ? bits >> 8 : 0;
	r->cb_flags = READ_OR(__u8, tp, TCO_TP_CB_FLAGS, 0);
	r->mptcp = READ_BITS(tp, TCO_TP_IS_MPTCP);
}

/* ``tp``: a struct tcp_sock that the verifier knows as such. ``r`` must be zero. The cookie is the caller's business. */
static __always_inline void fill_socket(struct socket *r, void *tp)
{
	r->state = READ(__u8, tp, TCO_SKC_STATE);
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
	r->last_sent_us = r->last_received_us = r->last_ack_received_us = UNKNOWN_LONG;
	r->uid = r->drops = r->total_rto = r->total_rto_ms = r->rcv_wnd = r->received_ce = UNKNOWN;
	r->pmtu = r->rcv_ssthresh = r->rcvbuf = r->rmem = UNKNOWN;
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
