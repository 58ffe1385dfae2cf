/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What is: the present state of every TCP socket that a descriptor holds, and who holds it, in one pass over all
 * descriptors (task_file_seq_ops, kernel/bpf/task_iter.c), in every network namespace. A BPF iterator, read like a file.
 * A descriptor yields a row of MET; a socket that has moved since the last pass also a record in the ring ``states``,
 * which the reader empties after each read(). No lock is taken on the socket.
 * An iterator's context is an array of 8-byte words; the first is a struct bpf_iter_meta, which begins with its seq_file.
 */
#if defined(TCO_HAVE_BTF_SOCKET) && defined(TCO_HAVE_ITERATORS)

#define IPPROTO_MPTCP 262
#define RECORDS_REMEMBERED 16384

BPF_ARRAY(walk, struct walk, 1);
BPF_RINGBUF_OUTPUT(states, TCO_STATE_PAGES);
/* In which pass a socket had its last record: many descriptors may lead to one socket. */
BPF_TABLE("lru_hash", __u64, __u32, recorded, RECORDS_REMEMBERED);

#define TOUCH(type, base, offset)                                                                                      \
	do {                                                                                                           \
		if (HAS(offset))                                                                                       \
			READ(type, base, offset);                                                                      \
	} while (0)

/*
 * A socket's cache lines, all asked for at once: one after the other, waiting for memory is most of what a record costs.
 * A pointer can't be read in part.
 */
static __always_inline void touch(void *tp)
{
	TOUCH(__u8, tp, TCO_SK_DROPS);
	TOUCH(__u8, tp, TCO_SK_UID);
	TOUCH(__u8, tp, TCO_SK_ACK_BACKLOG);
	TOUCH(__u64, tp, TCO_SK_CGROUP);
	TOUCH(__u8, tp, TCO_ICSK_TIMEOUT);
	TOUCH(__u8, tp, TCO_ICSK_RTO);
	TOUCH(__u8, tp, TCO_TP_REORDERING);
	TOUCH(__u8, tp, TCO_TP_RETRANS_OUT);
	TOUCH(__u8, tp, TCO_TP_ECN_FLAGS);
	TOUCH(__u8, tp, TCO_TP_BYTES_ACKED);
	TOUCH(__u8, tp, TCO_TP_DSACK_DUPS);
	TOUCH(__u8, tp, TCO_TP_REORD_SEEN);
	TOUCH(__u8, tp, TCO_TP_TOTAL_RETRANS);
}

/* What tells whether a socket is at rest, and what its row tells: asked for at once, too. */
static __always_inline void touch_at_rest(void *tp)
{
	TOUCH(__u64, tp, TCO_KEEPALIVE_PPREV);
	TOUCH(__u8, tp, TCO_ICSK_PENDING);
	TOUCH(__u8, tp, TCO_ICSK_LRCVTIME);
	TOUCH(__u8, tp, TCO_TP_LSNDTIME);
	TOUCH(__u8, tp, TCO_TP_SND_NXT);
	TOUCH(__u8, tp, TCO_TP_SEGS_IN);
	TOUCH(__u8, tp, TCO_TP_COPIED_SEQ);
	TOUCH(__u8, tp, TCO_TP_WRITE_SEQ);
	TOUCH(__u8, tp, TCO_TP_RCV_TSTAMP);
	TOUCH(__u8, tp, TCO_TP_PACKETS_OUT);
	TOUCH(__u8, tp, TCO_TP_CB_FLAGS);
}

static __always_inline bool is_since(__u32 stamp, __u32 since)
{
	return (__s32)(stamp - since) >= 0;
}

/* Nothing was sent, received or acknowledged since then, and nothing waits: to be sent, to be read, to be answered. */
static __always_inline bool is_at_rest(void *tp, __u8 state, __u32 since)
{
	if (state != BPF_TCP_ESTABLISHED && state != BPF_TCP_CLOSE_WAIT)
		return false;
	if (!HAS(TCO_TP_PACKETS_OUT) || !HAS(TCO_TP_RCV_NXT) || !HAS(TCO_TP_COPIED_SEQ) || !HAS(TCO_TP_WRITE_SEQ) ||
	    !HAS(TCO_TP_SND_UNA) || !HAS(TCO_TP_LSNDTIME) || !HAS(TCO_ICSK_LRCVTIME) || !HAS(TCO_TP_RCV_TSTAMP))
		return false;
	if (READ(__u32, tp, TCO_TP_PACKETS_OUT) || READ_OR(__u8, tp, TCO_ICSK_PROBES_OUT, 0) ||
	    READ(__u32, tp, TCO_TP_RCV_NXT) != READ(__u32, tp, TCO_TP_COPIED_SEQ) ||
	    READ(__u32, tp, TCO_TP_WRITE_SEQ) != READ(__u32, tp, TCO_TP_SND_UNA))
		return false;
	return !is_since(READ(__u32, tp, TCO_TP_LSNDTIME), since) &&
	       !is_since(READ(__u32, tp, TCO_ICSK_LRCVTIME), since) &&
	       !is_since(READ(__u32, tp, TCO_TP_RCV_TSTAMP), since);
}

static __always_inline __u8 write_record(void *tp, __u64 cookie, __u32 number)
{
	__u32 *before = recorded.lookup(&cookie);
	if (before && *before == number)
		return RECORD_BEFORE;
	struct socket *r = states.ringbuf_reserve(sizeof(struct socket));
	if (!r)
		return RECORD_NO_ROOM;
	touch(tp);
	__builtin_memset(r, 0, sizeof(*r));
	fill_socket(r, tp);
	r->cookie = cookie;
	states.ringbuf_submit(r, BPF_RB_NO_WAKEUP);
	recorded.update(&cookie, &number);
	return RECORD_WRITTEN;
}

static __always_inline void fill_met(struct met *m, void *tp, struct walk *w)
{
	touch_at_rest(tp);
	m->cookie = bpf_get_socket_cookie(tp);
	m->state = READ(__u8, tp, TCO_SKC_STATE);
	m->cb_flags = READ_OR(__u8, tp, TCO_TP_CB_FLAGS, 0);
	m->segs_in = READ_OR(__u32, tp, TCO_TP_SEGS_IN, 0);
	m->segs_out = READ_OR(__u32, tp, TCO_TP_SEGS_OUT, 0);
	bool is_its_turn = (m->cookie & (TURNS - 1)) == (w->number & (TURNS - 1));
	if (w->since && !is_its_turn && is_at_rest(tp, m->state, w->since)) {
		__u64 left_us = 0;
		__u32 timer = timer_of(tp, bpf_jiffies64(), &left_us);
		__u64 left_ms = left_us / 1000;
		m->timer = timer << 28 | (left_ms > 0xFFFFFFF ? 0xFFFFFFF : (__u32)left_ms);
		return;
	}
	m->record = write_record(tp, m->cookie, w->number);
}

/*
 * A thread that has files of its own is met by itself: the name and the start are those of the first. Returns whether
 * there was room for the row.
 */
static __always_inline bool tell_process(void *seq, void *task, __u32 pid)
{
	struct met_process p = {};
	void *first = HAS(TCO_TASK_GROUP_LEADER) ? READ_POINTER(task, TCO_TASK_GROUP_LEADER) : task;
	if (!first)
		return true;
	p.kind = MET_PROCESS;
	p.pid = pid;
	p.start_ns = READ_OR(__u64, first, TCO_TASK_START_BOOTTIME, 0);
	if (HAS(TCO_TASK_COMM)) {
		__u64 comm[2] = {READ(__u64, first, TCO_TASK_COMM), READ(__u64, first, TCO_TASK_COMM + 8)};
		__builtin_memcpy(p.comm, comm, sizeof(p.comm));
	}
	void *mm = POINTER_OR_NULL(task, TCO_TASK_MM);
	p.image = mm ? READ_OR(__u64, mm, TCO_MM_START_STACK, 0) : 0;
	return !bpf_seq_write(seq, &p, sizeof(p));
}

#define QUEUE_FOLLOWED 256

/*
 * Which of several listeners at one address (SO_REUSEPORT) a connection waits at is told by their queues alone. They are
 * followed without a lock: what is accepted meanwhile may be missed, or lead into another queue, so that a row can name
 * a connection that no longer waits, which nobody looks for.
 */
static __always_inline bool tell_queue(void *seq, void *sk, struct met *m)
{
	if (!HAS(TCO_ACCEPT_HEAD) || !HAS(TCO_REQUEST_NEXT) || !HAS(TCO_REQUEST_SK) || !HAS(TCO_SKC_COOKIE) ||
	    !HAS(TCO_SKC_REUSEPORT) || !READ_BITS(sk, TCO_SKC_REUSEPORT))
		return true;
	void *request = READ_POINTER(sk, TCO_ACCEPT_HEAD);
	m->inode = m->cookie;
	m->fd = UNKNOWN;
	m->kind = MET_QUEUED;
	for (int i = 0; i < QUEUE_FOLLOWED && request; i++) {
		void *child = READ_POINTER(request, TCO_REQUEST_SK);
		m->cookie = child ? READ(__u64, child, TCO_SKC_COOKIE) : 0;
		if (m->cookie && bpf_seq_write(seq, m, sizeof(*m)))
			return false;
		request = READ_POINTER(request, TCO_REQUEST_NEXT);
	}
	return true;
}

/*
 * Where what a descriptor tells no longer fits into one read(), the kernel drops all of it, and calls the program for the
 * same descriptor at the next read() (bpf_seq_read(), kernel/bpf/bpf_iter.c): its process has to be told again.
 */

int bpf_iter__task_file(__u64 *ctx)
{
	int zero = 0;
	void *meta = (void *)ctx[0], *task = (void *)ctx[1], *file = (void *)ctx[3];
	if (!task || !file)
		return 0;
	void *socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	void *sk = READ_POINTER(socket, TCO_SOCKET_SK);
	struct walk *w = walk.lookup(&zero);
	if (!sk || !w)
		return 0;
	void *tp = bpf_skc_to_tcp_sock(sk);
	/* An MPTCP socket is no TCP socket, but its subflows have its inode. */
	if (tp ? READ(__u8, sk, TCO_SKC_STATE) == BPF_TCP_CLOSE :
		 READ_OR(__u16, sk, TCO_SK_PROTOCOL, 0) != IPPROTO_MPTCP)
		return 0;
	if (!w->began) {
		struct control *now = control.lookup(&zero);
		if (now)
			now->reader = bpf_get_current_pid_tgid() >> 32;
		w->began = bpf_jiffies64();
	}
	struct met m = {};
	m.pid = READ(__u32, task, TCO_TASK_TGID);
	m.fd = ctx[2];
	void *inode = POINTER_OR_NULL(file, TCO_FILE_INODE);
	m.inode = inode ? READ_OR(__u64, inode, TCO_INODE_INO, 0) : 0;
	void *seq = READ_POINTER(meta, 0);
	bool fits = m.pid == w->last_pid || tell_process(seq, task, m.pid);
	if (tp)
		fill_met(&m, tp, w);
	fits = !bpf_seq_write(seq, &m, sizeof(m)) && fits;
	if (fits && tp && m.state == BPF_TCP_LISTEN)
		fits = tell_queue(seq, tp, &m);
	w->last_pid = fits ? m.pid : 0;
	return 0;
}
#endif
