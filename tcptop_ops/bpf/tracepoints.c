/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What no callback of sock_ops tells: errors that an application is told of while its socket lives on, and resets. Raw
 * tracepoints, all of them rare, for sockets that have a row of events; those of UDP call the first one, too.
 * An unsigned long of the context is an argument of the tracepoint (TP_PROTO in include/trace/events/tcp.h, sock.h).
 */
#if defined(TCO_HAVE_BTF_SOCKET) && defined(TCO_TRACES)

#define PROBE(type, base, offset)                                                                                      \
	({                                                                                                             \
		type read_ = 0;                                                                                        \
		bpf_probe_read_kernel(&read_, sizeof(read_), (void *)(base) + (offset));                               \
		read_;                                                                                                 \
	})

#define SO_EE_ORIGIN_ICMP  2 /* include/uapi/linux/errqueue.h */
#define SO_EE_ORIGIN_ICMP6 3

/*
 * A request socket and one in TIME-WAIT are no whole struct sock, and a listener is reset by segments that are nobody's. A
 * socket without a cookie was born before the program.
 */
static __always_inline struct events *events_of(void *sk)
{
	if (!sk)
		return NULL;
	__u8 state = PROBE(__u8, sk, TCO_SKC_STATE);
	if (state == BPF_TCP_TIME_WAIT || state == BPF_TCP_LISTEN || state == BPF_TCP_NEW_SYN_RECV)
		return NULL;
	__u64 cookie = PROBE(__u64, sk, TCO_SKC_COOKIE);
	return cookie ? conns.lookup(&cookie) : NULL;
}

/*
 * ip_icmp_error() puts the message into the queue of errors, and reports, before tcp_v4_err() sets sk_err_soft. Time stamps
 * and the ends of zero-copy sends are in that queue, too: their "errno" is no error.
 */
static __always_inline __u32 queued_error(void *sk)
{
	if (!HAS(TCO_SK_ERROR_QUEUE) || !HAS(TCO_SK_ERROR_QUEUE_PREV) || !HAS(TCO_SKB_CB) || !HAS(TCO_EXTERR_EE))
		return 0;
	void *newest = PROBE(void *, sk, TCO_SK_ERROR_QUEUE_PREV);
	if (!newest || newest == sk + TCO_SK_ERROR_QUEUE)
		return 0;
	__u8 origin = PROBE(__u8, newest, TCO_SKB_CB + TCO_EXTERR_EE + 4);
	return origin == SO_EE_ORIGIN_ICMP || origin == SO_EE_ORIGIN_ICMP6 ?
		       PROBE(__u32, newest, TCO_SKB_CB + TCO_EXTERR_EE) :
		       0;
}

/* inet_sk_error_report(sk) */
int trace_inet_sk_error_report(__u64 *ctx)
{
	void *sk = (void *)ctx[0];
	struct events *e = events_of(sk);
	if (!e)
		return 0;
	__u32 error = HAS(TCO_SK_ERR) ? PROBE(__u32, sk, TCO_SK_ERR) : 0;
	if (!error)
		error = queued_error(sk);
	if (!error && HAS(TCO_SK_ERR_SOFT))
		error = PROBE(__u32, sk, TCO_SK_ERR_SOFT);
	if (!error)
		return 0;
	__u8 state = PROBE(__u8, sk, TCO_SKC_STATE);
	if (!e->error || (state != BPF_TCP_SYN_SENT && state != BPF_TCP_SYN_RECV))
		e->error = error;
	return 0;
}

/* tcp_receive_reset(sk), the first that tcp_reset() does */
int trace_tcp_receive_reset(__u64 *ctx)
{
	struct events *e = events_of((void *)ctx[0]);
	if (e)
		e->resets |= RESET_RECEIVED;
	return 0;
}

/* tcp_send_reset(sk, skb[, reason]): sk may be NULL. After a close() the row is gone: see is_aborted(). */
int trace_tcp_send_reset(__u64 *ctx)
{
	struct events *e = events_of((void *)ctx[0]);
	if (e)
		e->resets |= RESET_SENT;
	return 0;
}
#endif
