/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What happened in a socket's life. Compiled together with iterators.c; structs and enums are written by c_structs.py.
 * Never writes ctx->reply (shared by all attached programs, and a union with args), never reserves header space.
 *
 * Defined by the loader, all with the prefix TCO_, which no header uses: HZ, MAP_SIZE, RING_PAGES, BIRTH_FLAGS,
 * RETIRE_AFTER, the offsets of kernel_offsets.py, and what the kernel accepts (HAVE_*).
 */

#define AF_INET 2

#define EVENT_FLAGS                                                                                                    \
	(BPF_SOCK_OPS_RTO_CB_FLAG | BPF_SOCK_OPS_RETRANS_CB_FLAG | BPF_SOCK_OPS_STATE_CB_FLAG)
#define PACKET_FLAGS                                                                                                   \
	(BPF_SOCK_OPS_RTT_CB_FLAG | BPF_SOCK_OPS_PARSE_ALL_HDR_OPT_CB_FLAG |                                           \
	 BPF_SOCK_OPS_PARSE_UNKNOWN_HDR_OPT_CB_FLAG | BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG)

#define UNKNOWN 0xFFFFFFFFu
#define UNKNOWN_LONG (~0ull)
#define JIFFIES_US(j) ((__u32)((__u64)(j) * 1000000 / TCO_HZ))

BPF_F_TABLE("hash", __u64, struct events, conns, TCO_MAP_SIZE, BPF_F_NO_PREALLOC);
BPF_RINGBUF_OUTPUT(done, TCO_RING_PAGES);
BPF_PERCPU_ARRAY(counters, struct cpu, 1);
BPF_ARRAY(control, struct control, 1);
BPF_PERCPU_ARRAY(seen, struct seen, 1);

/* clang merges neighbouring loads from the context into one of 64 bits, which the verifier refuses. */
#define CTX(field) (*(volatile typeof(ctx->field) *)&ctx->field)

#include "socket.h"
#include "story.h"

BPF_TABLE("lru_hash", __u64, struct story, stories, STORIES);
BPF_PERCPU_ARRAY(blank, struct story, 1);

static __always_inline struct counters *our_counters(void)
{
	int zero = 0;
	struct cpu *here = counters.lookup(&zero);
	return here ? &here->counters : NULL;
}

/* Per CPU, and still atomic: a softirq may interrupt the addition to add to the same counter. */
static __always_inline void add(__u64 *counter)
{
	__sync_fetch_and_add(counter, 1);
}

/* clang drops a mask that it can prove needless; older verifiers (6.1) can't, and need it. ``size``: a power of two. */
static __always_inline __u32 below(__u32 index, __u32 size)
{
	asm volatile("" : "+r"(index));
	return index & (size - 1);
}

static __always_inline void set_flags(struct bpf_sock_ops *ctx, __u32 flags)
{
	if (flags != CTX(bpf_sock_ops_cb_flags))
		bpf_sock_ops_cb_flags_set(ctx, flags);
}

static __always_inline bool is_beside_others(struct control *now)
{
	return TCO_BIRTH_FLAGS == EVENT_FLAGS || now->beside;
}

/*
 * Whether a newborn is asked for its packets, too: the first of a second, on each CPU, and a sample of those that come
 * after them. Two births at once, one of them in a softirq, may count as one.
 */
static __always_inline bool is_of_sample(struct cpu *here, __u64 cookie)
{
	__u64 second = bpf_jiffies64() / TCO_HZ;
	if (!TCO_ASKED_A_SECOND)
		return true;
	if (here->second != second) {
		here->second = second;
		here->births = 0;
	}
	if (here->births < TCO_ASKED_A_SECOND) {
		here->births++;
		return true;
	}
	return cookie * 0x9E3779B97F4A7C15ull >> 60 == 0; /* 1 of 16; cookies alone alternate between both ends */
}

static __always_inline __u32 birth_flags(struct cpu *here, struct control *now, __u64 cookie)
{
	if (TCO_BIRTH_FLAGS == EVENT_FLAGS || now->beside | now->light)
		return EVENT_FLAGS;
	return is_of_sample(here, cookie) ? TCO_BIRTH_FLAGS : EVENT_FLAGS;
}

/*
 * Who called: by the helpers for it, or read from the current task (TCO_PID_OF_TASK, TCO_COMM_OF_TASK) where this kernel
 * refuses those to sock_ops. bpf_get_current_comm() tells the name of the thread, which a program, and Python since 3.14,
 * may set: the name of the process is its first thread's.
 */
static __always_inline void believe_caller(struct events *e, __u8 how)
{
#if defined(TCO_HAVE_BTF_SOCKET) && (defined(TCO_PID_OF_TASK) || defined(TCO_COMM_OF_TASK))
	void *task = bpf_get_current_task_btf();
#endif
#if defined(TCO_HAVE_PID) && defined(TCO_PID_OF_TASK)
	e->pid = READ(__u32, task, TCO_TASK_TGID);
#elif defined(TCO_HAVE_PID)
	e->pid = bpf_get_current_pid_tgid() >> 32;
#endif
#if defined(TCO_HAVE_COMM) && defined(TCO_COMM_OF_TASK) && defined(TCO_HAVE_BTF_SOCKET)
	void *first = HAS(TCO_TASK_GROUP_LEADER) ? READ_POINTER(task, TCO_TASK_GROUP_LEADER) : task;
	__u64 comm[2] = {READ(__u64, first, TCO_TASK_COMM), READ(__u64, first, TCO_TASK_COMM + 8)};
	__builtin_memcpy(e->comm, comm, sizeof(e->comm));
#elif defined(TCO_HAVE_COMM)
	bpf_get_current_comm(e->comm, sizeof(e->comm));
#endif
#ifdef TCO_HAVE_CGROUP
	e->cgroup_id = bpf_get_current_cgroup_id();
#endif
	e->owner = how;
}

/*
 * Our own processes may be the last to let go of a socket that its owner closes meanwhile: by a duplicate of the
 * descriptor, or by a pass over all. Then it is not known who closed it.
 */
static __always_inline void believe_closer(struct events *e)
{
	int zero = 0;
	struct control *now = control.lookup(&zero);
	believe_caller(e, OWNER_CLOSER);
	if (!now || !e->pid || (e->pid != now->reader && e->pid != now->setter))
		return;
	e->pid = e->owner = 0;
	e->cgroup_id = 0;
	__builtin_memset(e->comm, 0, sizeof(e->comm));
}

/* On the stack: a per-CPU scratch row could be taken over by a softirq in the middle of a connect(). */
static __always_inline struct events newborn(struct bpf_sock_ops *ctx, __u8 direction, __u8 state)
{
	struct events e = {};
	e.first_ns = bpf_ktime_get_ns();
	e.direction = direction;
	e.origin = ORIGIN_NEW;
	e.found = CTX(bpf_sock_ops_cb_flags);
	e.states = 1 << state;
	return e;
}

/* A refused socket that connects again keeps its cookie: the birth overwrites. */
static __always_inline void born(struct bpf_sock_ops *ctx, struct cpu *here, struct control *now, struct events *e,
				 __u64 cookie)
{
	__u32 flags = CTX(bpf_sock_ops_cb_flags);
	if (conns.update(&cookie, e)) {
		add(&here->counters.untracked);
		return;
	}
	/* Children inherit a listener's flags: it never gets the per-packet ones. */
	set_flags(ctx, flags | (e->direction == DIRECTION_LISTEN ? EVENT_FLAGS : birth_flags(here, now, cookie)));
}

/* connect() and listen() */
static __always_inline void on_call(struct bpf_sock_ops *ctx, struct cpu *here, struct control *now, __u8 direction)
{
	struct events e = newborn(ctx, direction, direction == DIRECTION_OUT ? BPF_TCP_SYN_SENT : BPF_TCP_LISTEN);
	believe_caller(&e, OWNER_CALLER);
	born(ctx, here, now, &e, bpf_get_socket_cookie(ctx));
}

static __always_inline struct story *story_of(__u64 cookie, struct events *e)
{
	int zero = 0;
	struct story *s = stories.lookup(&cookie);
	if (s && e->told)
		return s;
	struct story *none = blank.lookup(&zero);
	if (!none || stories.update(&cookie, none))
		return NULL;
	s = stories.lookup(&cookie);
	if (!s)
		return NULL;
	e->told = 1;
	tell_the_past(s, e);
	return s;
}

static __always_inline void on_dialled(struct events *e, struct story *s)
{
	if (e->connect_us)
		return;
	__u64 now = bpf_ktime_get_ns();
	e->connect_us = (now - e->first_ns) / 1000;
	if (s)
		tell(s, now, HAPPENING_ESTABLISHED, 0, 0);
}

/* Right after the change of the state (tcp_finish_connect()), which is taken note of here, too. */
static __always_inline void on_active(__u64 cookie)
{
	struct events *e = conns.lookup(&cookie);
	if (!e)
		return;
	e->state_changes++;
	e->states |= 1 << BPF_TCP_ESTABLISHED;
	struct story *s = e->told ? stories.lookup(&cookie) : NULL;
	if (s)
		tell(s, bpf_ktime_get_ns(), HAPPENING_STATE, BPF_TCP_SYN_SENT, BPF_TCP_ESTABLISHED);
	if (e->direction == DIRECTION_OUT)
		on_dialled(e, s);
}

/*
 * In softirq: "current" is whoever was interrupted. The event flags found are ours, inherited from the listener.
 * A simultaneous open, and a socket that is connected to itself, get here too: they were dialled, and have a row.
 */
static __always_inline void on_passive(struct bpf_sock_ops *ctx, struct cpu *here, struct control *now)
{
	struct events e = newborn(ctx, DIRECTION_IN, BPF_TCP_SYN_RECV);
	__u64 cookie = bpf_get_socket_cookie(ctx);
	__u32 flags = CTX(bpf_sock_ops_cb_flags);
	e.found &= ~EVENT_FLAGS;
	if (!conns.insert(&cookie, &e)) {
		set_flags(ctx, flags | birth_flags(here, now, cookie));
		return;
	}
	struct events *there = conns.lookup(&cookie);
	if (there && there->direction == DIRECTION_OUT)
		on_dialled(there, there->told ? stories.lookup(&cookie) : NULL);
	else
		born(ctx, here, now, &e, cookie);
}

/*
 * An ICMP message that comes while the socket is locked, as one of this very host does in connect(), is kept in
 * sk_err_soft (tcp_v4_err(), tcp_v6_err()): the application gets it if it asks, and a later ACK takes it away.
 */
static __always_inline __u32 soft_error(struct bpf_sock_ops *ctx)
{
#ifdef TCO_HAVE_BTF_SOCKET
	void *sk = ctx->sk;
	void *tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	return tp ? READ_OR(__u32, tp, TCO_SK_ERR_SOFT, 0) : 0;
#else
	return 0;
#endif
}

static __always_inline void on_rto(struct bpf_sock_ops *ctx, struct control *now)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct events *e = conns.lookup(&cookie);
	if (!e)
		return;
	e->rto_events++;
	e->rto_us = JIFFIES_US(CTX(args[1]));
	e->rto_wait_us += e->rto_us;
	e->backoff = CTX(args[0]);
	e->gave_up |= CTX(args[2]);
	if (CTX(state) == BPF_TCP_SYN_SENT) {
		e->syn_wait_us += e->rto_us;
		if (!e->error)
			e->error = soft_error(ctx);
	} else {
		e->soft_error = soft_error(ctx);
	}
	struct story *s = story_of(cookie, e);
	if (s)
		tell(s, bpf_ktime_get_ns(), HAPPENING_RTO, e->backoff + 1, e->rto_us);
	if (CTX(state) == BPF_TCP_SYN_SENT || is_beside_others(now))
		return;
	e->waiting = 1; /* the next sample of the round trip tells that it is over */
	set_flags(ctx, CTX(bpf_sock_ops_cb_flags) | BPF_SOCK_OPS_RTT_CB_FLAG);
}

/*
 * icsk_retransmits counts from the timer to the next ACK (tcp_retransmit_timer, tcp_ack); a tail-loss probe goes out
 * before anything is known to be lost (tcp_send_loss_probe).
 */
static __always_inline __u8 retrans_class(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct bpf_tcp_sock *tp = sk ? bpf_tcp_sock(sk) : NULL;

	if (tp && tp->icsk_retransmits)
		return CLASS_RTO;
	if (CTX(sacked_out) || CTX(lost_out))
		return CLASS_RECOVERY;
	return CTX(state) == BPF_TCP_ESTABLISHED || CTX(state) == BPF_TCP_CLOSE_WAIT ||
			       CTX(state) == BPF_TCP_FIN_WAIT1 || CTX(state) == BPF_TCP_LAST_ACK ||
			       CTX(state) == BPF_TCP_CLOSING ?
		       CLASS_PROBE :
		       CLASS_OTHER;
}

static __always_inline void on_retrans(struct bpf_sock_ops *ctx)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct events *e = conns.lookup(&cookie);
	if (!e)
		return;
	if (CTX(args[2])) {
		e->retrans_failed++;
		return;
	}
	__u8 class = retrans_class(ctx) & 3;
	__u32 segments = CTX(args[1]);
	e->retrans_calls++;
	e->retrans[class] += segments;
	if (CTX(state) == BPF_TCP_SYN_SENT && e->syn_retrans < 255)
		e->syn_retrans++;
	struct story *s = story_of(cookie, e);
	if (s)
		tell_retrans(s, bpf_ktime_get_ns(), segments, class);
}

static __always_inline void on_rtt(struct bpf_sock_ops *ctx, struct control *now, __u64 cookie)
{
	struct events *e = conns.lookup(&cookie);
	if (!e)
		return;
	e->last_rtt_us = CTX(args[0]);
	if (!e->told && now->watched != cookie)
		return;
	struct story *s = story_of(cookie, e);
	__u32 srtt_us = CTX(srtt_us) >> 3;
	if (!s)
		return;
	if (e->waiting)
		tell(s, bpf_ktime_get_ns(), HAPPENING_RECOVERED, srtt_us, 0);
	e->waiting = 0;
	tell_srtt(s, srtt_us);
}

/* The first packets tell what the per-packet calls have to tell; then they would only cost. */
static __always_inline void retire(struct bpf_sock_ops *ctx, struct control *now, __u64 cookie)
{
	if (!TCO_RETIRE_AFTER || CTX(segs_in) + CTX(segs_out) <= TCO_RETIRE_AFTER || now->watched == cookie ||
	    is_beside_others(now))
		return;
	struct events *e = conns.lookup(&cookie);
	if (!e)
		return;
	__u32 kept = e->found & PACKET_FLAGS;
	if (e->waiting)
		kept |= BPF_SOCK_OPS_RTT_CB_FLAG;
	set_flags(ctx, (CTX(bpf_sock_ops_cb_flags) & ~PACKET_FLAGS) | kept);
}

#ifdef TCO_HAVE_BTF_SOCKET
#define SOCK_DONE   1 /* enum sock_flags, include/net/sock.h */
#define SOCK_LINGER 4

/*
 * Whether this close sends a reset, by what comes before it: tcp_close() with unread data, and tcp_disconnect(), which
 * SO_LINGER of 0 s and a listener's close lead to, take the state first (tcp_need_reset(), net/ipv4/tcp.c). Without an
 * error these states have no other way to CLOSE, but for FIN-WAIT, from where the peer's FIN (SOCK_DONE), or a close
 * with nothing unread and without that SO_LINGER, leads to TIME-WAIT.
 */
static __always_inline bool is_aborted(struct final *f, void *tp, __u32 from)
{
	if (f->ending.error || f->events.resets)
		return false;
	if (from == BPF_TCP_ESTABLISHED || from == BPF_TCP_CLOSE_WAIT)
		return true;
	if ((from != BPF_TCP_FIN_WAIT1 && from != BPF_TCP_FIN_WAIT2) || !HAS(TCO_SKC_FLAGS) || !HAS(TCO_SK_LINGERTIME))
		return false;
	__u64 flags = READ(__u64, tp, TCO_SKC_FLAGS);
	bool lingers = flags & 1 << SOCK_LINGER && !READ(__u64, tp, TCO_SK_LINGERTIME);
	return !(flags & 1 << SOCK_DONE) && (lingers || f->socket.recv_q);
}
#endif

static __always_inline void fill_ending(struct bpf_sock_ops *ctx, struct final *f, __u32 from)
{
	f->ending.end_ns = bpf_ktime_get_ns();
	f->ending.error = UNKNOWN;
	f->ending.from_state = from;
	__builtin_memset(&f->socket, 0, sizeof(f->socket));
#ifdef TCO_HAVE_BTF_SOCKET
	void *sk = ctx->sk;
	void *tp = sk ? bpf_skc_to_tcp_sock(sk) : NULL;
	if (tp) {
		fill_socket(&f->socket, tp);
		f->ending.error = READ_OR(__u32, tp, TCO_SK_ERR, UNKNOWN);
		if (!f->events.error && f->ending.error != UNKNOWN)
			f->events.error = f->ending.error ? f->ending.error : READ_OR(__u32, tp, TCO_SK_ERR_SOFT, 0);
		if (is_aborted(f, tp, from)) {
			f->events.resets |= RESET_SENT;
			if (!f->events.pid)
				believe_closer(&f->events);
		}
	}
#else
	fill_from_context(&f->socket, ctx);
#endif
	f->socket.cookie = bpf_get_socket_cookie(ctx);
	f->socket.state = BPF_TCP_CLOSE;
}

static __always_inline void on_close(struct bpf_sock_ops *ctx, struct counters *c, __u64 cookie, struct events *e,
				     __u32 from)
{
	if (from == BPF_TCP_SYN_SENT && !e->connect_us)
		e->connect_us = (bpf_ktime_get_ns() - e->first_ns) / 1000;
	struct final *f = done.ringbuf_reserve(sizeof(struct final));
	if (!f) {
		e->closed = 1;
		add(&c->ring_full);
		return;
	}
	f->events = *e;
	fill_ending(ctx, f, from);
	struct story *s = e->told ? stories.lookup(&cookie) : NULL;
	if (s)
		tell(s, f->ending.end_ns, HAPPENING_CLOSE, f->ending.error, from);
	done.ringbuf_submit(f, BPF_RB_NO_WAKEUP);
	conns.delete(&cookie);
}

/*
 * ESTABLISHED -> FIN_WAIT1 and CLOSE_WAIT -> LAST_ACK are taken in close() or shutdown(), by the side that owns the
 * socket: for an accepted one that is its owner, where at PASSIVE_ESTABLISHED nobody could be believed.
 */
static __always_inline bool closed_by_caller(__u32 from, __u32 to)
{
	return (from == BPF_TCP_ESTABLISHED && to == BPF_TCP_FIN_WAIT1) ||
	       (from == BPF_TCP_CLOSE_WAIT && to == BPF_TCP_LAST_ACK);
}

static __always_inline void on_state(struct bpf_sock_ops *ctx, struct counters *c)
{
	__u32 from = CTX(args[0]), to = CTX(args[1]);
	if (from == BPF_TCP_SYN_SENT && to == BPF_TCP_ESTABLISHED)
		return; /* on_active() follows */
	__u64 cookie = bpf_get_socket_cookie(ctx);
	struct events *e = conns.lookup(&cookie);
	if (!e)
		return;
	e->state_changes++;
	e->states |= 1 << (to & 15);
	if (!e->pid && closed_by_caller(from, to))
		believe_closer(e);
	struct story *s = e->told && to != BPF_TCP_CLOSE ? stories.lookup(&cookie) : NULL;
	if (s)
		tell(s, bpf_ktime_get_ns(), HAPPENING_STATE, from, to);
	if (to == BPF_TCP_CLOSE)
		on_close(ctx, c, cookie, e, from);
}

static __always_inline void on_packet(struct bpf_sock_ops *ctx, struct control *now, __u32 op)
{
	__u64 cookie = bpf_get_socket_cookie(ctx);
	if (op == BPF_SOCK_OPS_RTT_CB)
		on_rtt(ctx, now, cookie);
	retire(ctx, now, cookie);
}

static __always_inline void see(struct bpf_sock_ops *ctx, struct seen *s, __u32 op)
{
	s->last_ns[op] = bpf_ktime_get_coarse_ns();
	s->args[op][0] = CTX(args[0]);
	s->args[op][1] = CTX(args[1]);
	s->args[op][2] = CTX(args[2]);
}

static __always_inline void see_sample(struct bpf_sock_ops *ctx, struct seen *s)
{
	add(&s->rtt[below(bpf_log2(CTX(args[0])), RTT_BUCKETS)]);
}

/* The clock that stamps it moves once a jiffy: within one, nothing would change but the arguments. */
static __always_inline void see_everywhere(struct bpf_sock_ops *ctx, struct cpu *here, __u32 op)
{
	__u64 jiffies = bpf_jiffies64();
	if (op == BPF_SOCK_OPS_RTT_CB)
		see_sample(ctx, &here->seen);
	if (here->jiffies[op] == jiffies)
		return;
	here->jiffies[op] = jiffies;
	see(ctx, &here->seen, op);
}

static __always_inline void see_watched(struct bpf_sock_ops *ctx, struct control *now, __u32 op)
{
	int zero = 0;
	if (!now->watched || !CTX(is_fullsock) || now->watched != bpf_get_socket_cookie(ctx))
		return;
	struct seen *s = seen.lookup(&zero);
	if (!s)
		return;
	add(&s->calls[op]);
	if (op == BPF_SOCK_OPS_RTT_CB)
		see_sample(ctx, s);
	see(ctx, s, op);
}

int sockops(struct bpf_sock_ops *ctx)
{
	int zero = 0;
	__u32 op = CTX(op);
	__u32 known = op < LAST_OPERATOR ? op : LAST_OPERATOR;
	struct cpu *here = counters.lookup(&zero);
	struct control *now = control.lookup(&zero);
	if (!here || !now)
		return 1;
	struct counters *c = &here->counters;
	add(&c->calls[known]);
	see_everywhere(ctx, here, known);
	see_watched(ctx, now, known);
	if (!CTX(is_fullsock)) {
		add(&c->requests[known]);
		return 1;
	}
	switch (op) {
	case BPF_SOCK_OPS_TCP_CONNECT_CB:
		on_call(ctx, here, now, DIRECTION_OUT);
		break;
	case BPF_SOCK_OPS_TCP_LISTEN_CB:
		on_call(ctx, here, now, DIRECTION_LISTEN);
		break;
	case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
		on_passive(ctx, here, now);
		break;
	case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
		on_active(bpf_get_socket_cookie(ctx));
		break;
	case BPF_SOCK_OPS_RTO_CB:
		on_rto(ctx, now);
		break;
	case BPF_SOCK_OPS_RETRANS_CB:
		on_retrans(ctx);
		break;
	case BPF_SOCK_OPS_STATE_CB:
		on_state(ctx, c);
		break;
	case BPF_SOCK_OPS_RTT_CB:
	case BPF_SOCK_OPS_PARSE_HDR_OPT_CB:
	case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
	case BPF_SOCK_OPS_WRITE_HDR_OPT_CB:
		on_packet(ctx, now, op);
		break;
	}
	return 1;
}
