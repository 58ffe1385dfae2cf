/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What is: every TCP socket's present state, and who holds each. BPF iterators, read like files
 * (tcp_seq_ops, net/ipv4/tcp_ipv4.c; task_file_seq_ops, kernel/bpf/task_iter.c).
 * An iterator's context is an array of 8-byte words; the first is a struct bpf_iter_meta, which begins with its
 * seq_file.
 */
#if defined(TCO_HAVE_BTF_SOCKET) && defined(TCO_HAVE_ITERATORS)

#define IPPROTO_TCP 6
#define IPPROTO_MPTCP 262
#define MAX_CGROUP_LEVELS 32

BPF_PERCPU_ARRAY(row, struct socket, 1);

/* The verifier does not follow a flexible array: it is read as bytes. */
static __always_inline __u64 ancestor_id(void *cgroup, __u32 level)
{
	__u64 id = 0;
	if (HAS(TCO_CGROUP_ANCESTORS)) {
		void *ancestor = NULL, *node = NULL;
		bpf_probe_read_kernel(&ancestor, sizeof(ancestor), cgroup + TCO_CGROUP_ANCESTORS + 8 * level);
		bpf_probe_read_kernel(&node, sizeof(node), ancestor + TCO_CGROUP_KN);
		bpf_probe_read_kernel(&id, sizeof(id), node + TCO_KN_ID);
	} else {
		bpf_probe_read_kernel(&id, sizeof(id), cgroup + TCO_CGROUP_ANCESTOR_IDS + 8 * level);
	}
	return id;
}

#ifdef TCO_OUR_CGROUP_ID
/* Our cgroup as it was at the start, or as one of the directories that were made again in its place. */
static __always_inline bool is_ours(__u64 id, struct control *now)
{
	if (id == TCO_OUR_CGROUP_ID)
		return true;
#pragma unroll
	for (int at = 0; at < FOLLOWED; at++)
		if (id && id == now->cgroups[at])
			return true;
	return false;
}
#endif

static __always_inline bool in_our_cgroup(void *sk, struct control *now)
{
#if defined(TCO_OUR_CGROUP_ID) && defined(TCO_OUR_CGROUP_LEVEL)
	void *cgroup = READ_POINTER(sk, TCO_SK_CGROUP);
	return cgroup && READ(__u32, cgroup, TCO_CGROUP_LEVEL) >= TCO_OUR_CGROUP_LEVEL &&
	       is_ours(ancestor_id(cgroup, TCO_OUR_CGROUP_LEVEL), now);
#elif defined(TCO_OUR_CGROUP_ID)
	/* Below the root of a cgroup namespace: how deep that lies is not told to those inside. */
	void *cgroup = READ_POINTER(sk, TCO_SK_CGROUP);
	__u32 level = cgroup ? READ(__u32, cgroup, TCO_CGROUP_LEVEL) : 0;
	for (__u32 at = 0; cgroup && at < MAX_CGROUP_LEVELS && at <= level; at++)
		if (is_ours(ancestor_id(cgroup, at), now))
			return true;
	return false;
#else
	return true;
#endif
}

/* The number of TCP_BPF_SOCK_OPS_CB_FLAGS, under a name of our own: later bcc's bpf.h has that one as an enumerator. */
#if defined(TCO_HAVE_ADOPTION) && defined(TCO_CB_FLAGS_OPTION)
#define CAN_SET_FLAGS

/* The row remembers which flags it found: they are not ours to take away. */
static __always_inline void adopt(void *tp, __u64 cookie, struct socket *r, struct counters *c, __u32 wanted)
{
	int flags;
	struct events *e = conns.lookup(&cookie);
	flags = r->cb_flags | wanted;
	if (e) {
		if (flags != r->cb_flags)
			bpf_setsockopt(tp, IPPROTO_TCP, TCO_CB_FLAGS_OPTION, &flags, sizeof(flags));
		return;
	}
	struct events mine = {};
	mine.first_ns = bpf_ktime_get_ns();
	mine.direction = r->state == BPF_TCP_LISTEN ? DIRECTION_LISTEN : DIRECTION_UNKNOWN;
	mine.origin = ORIGIN_ADOPTED;
	mine.found = r->cb_flags;
	mine.states = 1 << (r->state & 15);
	if (conns.update(&cookie, &mine)) {
		add(&c->untracked);
		return;
	}
	if (flags != r->cb_flags &&
	    bpf_setsockopt(tp, IPPROTO_TCP, TCO_CB_FLAGS_OPTION, &flags, sizeof(flags)))
		conns.delete(&cookie);
	else
		add(&c->adopted);
}

static __always_inline void give_back(void *tp, __u64 cookie, struct socket *r)
{
	struct events *e = conns.lookup(&cookie);
	if (!e)
		return;
	int flags = r->cb_flags & (e->found | ~(EVENT_FLAGS | PACKET_FLAGS));
	if (flags != r->cb_flags)
		bpf_setsockopt(tp, IPPROTO_TCP, TCO_CB_FLAGS_OPTION, &flags, sizeof(flags));
	conns.delete(&cookie);
}

/* The per-packet flags that are ours, off: another program would be called for them. */
static __always_inline void strip(void *tp, __u64 cookie, struct socket *r, struct control *now)
{
	struct events *e = conns.lookup(&cookie);
	if (!e || e->first_ns >= now->born_before_ns)
		return;
	int flags = r->cb_flags & (e->found | ~PACKET_FLAGS);
	if (flags != r->cb_flags)
		bpf_setsockopt(tp, IPPROTO_TCP, TCO_CB_FLAGS_OPTION, &flags, sizeof(flags));
}
#endif

#ifdef TCO_WALKS /* what is not used costs time to compile */
#define TOUCH(type, base, offset)                                                                                      \
	do {                                                                                                           \
		if (HAS(offset))                                                                                       \
			READ(type, base, offset);                                                                      \
	} while (0)

/*
 * A socket's cache lines, all asked for at once: one after the other, waiting for memory is most of what a pass costs.
 * A pointer can't be read in part.
 */
static __always_inline void touch(void *tp)
{
	TOUCH(__u8, tp, TCO_SK_DROPS);
	TOUCH(__u64, tp, TCO_KEEPALIVE_PPREV);
	TOUCH(__u8, tp, TCO_SK_UID);
	TOUCH(__u8, tp, TCO_SK_ACK_BACKLOG);
	TOUCH(__u64, tp, TCO_SK_CGROUP);
	TOUCH(__u8, tp, TCO_ICSK_TIMEOUT);
	TOUCH(__u8, tp, TCO_ICSK_RTO);
	TOUCH(__u8, tp, TCO_ICSK_PENDING);
	TOUCH(__u8, tp, TCO_TP_REORDERING);
	TOUCH(__u8, tp, TCO_TP_RETRANS_OUT);
	TOUCH(__u8, tp, TCO_TP_LSNDTIME);
	TOUCH(__u8, tp, TCO_TP_ECN_FLAGS);
	TOUCH(__u8, tp, TCO_TP_SND_NXT);
	TOUCH(__u8, tp, TCO_TP_SEGS_IN);
	TOUCH(__u8, tp, TCO_TP_BYTES_ACKED);
	TOUCH(__u8, tp, TCO_TP_DSACK_DUPS);
	TOUCH(__u8, tp, TCO_TP_REORD_SEEN);
	TOUCH(__u8, tp, TCO_TP_TOTAL_RETRANS);
}

int bpf_iter__tcp(__u64 *ctx)
{
	int zero = 0;
	void *meta = (void *)ctx[0], *sk = (void *)ctx[1];
	struct counters *c = our_counters();
	struct socket *r = row.lookup(&zero);
	struct control *now = control.lookup(&zero);
	if (!sk || !c || !r || !now)
		return 0;
	void *tp = bpf_skc_to_tcp_sock(sk);
	if (!tp) {
		if (READ(__u8, sk, TCO_SKC_STATE) == 6)
			add(&c->time_wait);
		else
			add(&c->syn_recv);
		return 0;
	}
	if (!in_our_cgroup(tp, now))
		return 0;
	touch(tp);
	__builtin_memset(r, 0, sizeof(*r));
	fill_socket(r, tp);
	r->cookie = bpf_get_socket_cookie(tp);
#ifdef CAN_SET_FLAGS
	__u32 wanted = r->cookie == now->watched && r->state != BPF_TCP_LISTEN ? birth_flags() : EVENT_FLAGS;
	bool lacks = (r->cb_flags & wanted) != wanted;
	if (r->state != BPF_TCP_CLOSE && (now->pass == PASS_SURVEY || (now->pass == PASS_ADOPT && lacks)))
		adopt(tp, r->cookie, r, c, wanted);
	else if (now->pass == PASS_CLEAR)
		give_back(tp, r->cookie, r);
	else if (now->pass == PASS_STRIP)
		strip(tp, r->cookie, r, now);
#endif
	if (now->pass != PASS_CLEAR)
		bpf_seq_write(READ_POINTER(meta, 0), r, sizeof(*r));
	return 0;
}
#endif

#define QUEUE_FOLLOWED 256

/*
 * Which of several listeners at one address (SO_REUSEPORT) a connection waits at is told by their queues alone. They are
 * followed without a lock: what is accepted meanwhile may be missed, or lead into another queue, so that a row can name
 * a connection that no longer waits, which nobody looks for.
 */
static __always_inline void tell_queue(void *seq, void *sk, struct owner *o)
{
	if (!HAS(TCO_ACCEPT_HEAD) || !HAS(TCO_REQUEST_NEXT) || !HAS(TCO_REQUEST_SK) || !HAS(TCO_SKC_COOKIE) ||
	    !HAS(TCO_SKC_REUSEPORT) || !READ_BITS(sk, TCO_SKC_REUSEPORT))
		return;
	void *request = READ_POINTER(sk, TCO_ACCEPT_HEAD);
	o->inode = o->cookie;
	o->fd = UNKNOWN;
	for (int i = 0; i < QUEUE_FOLLOWED && request; i++) {
		void *child = READ_POINTER(request, TCO_REQUEST_SK);
		o->cookie = child ? READ(__u64, child, TCO_SKC_COOKIE) : 0;
		if (o->cookie)
			bpf_seq_write(seq, o, sizeof(*o));
		request = READ_POINTER(request, TCO_REQUEST_NEXT);
	}
}

int bpf_iter__task_file(__u64 *ctx)
{
	void *meta = (void *)ctx[0], *task = (void *)ctx[1], *file = (void *)ctx[3];
	if (!task || !file)
		return 0;
	void *socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	void *sk = READ_POINTER(socket, TCO_SOCKET_SK);
	if (!sk)
		return 0;
	struct owner o = {};
	void *tp = bpf_skc_to_tcp_sock(sk);
	if (tp)
		o.cookie = bpf_get_socket_cookie(tp);
	else if (READ_OR(__u16, sk, TCO_SK_PROTOCOL, 0) != IPPROTO_MPTCP)
		return 0; /* an MPTCP socket is no TCP socket, but its subflows have its inode */
	void *inode = POINTER_OR_NULL(file, TCO_FILE_INODE);
	o.inode = inode ? READ_OR(__u64, inode, TCO_INODE_INO, 0) : 0;
	o.pid = READ(__u32, task, TCO_TASK_TGID);
	o.fd = ctx[2];
	/* A thread that has files of its own is met by itself: the name and the start are those of the first. */
	void *first = HAS(TCO_TASK_GROUP_LEADER) ? READ_POINTER(task, TCO_TASK_GROUP_LEADER) : task;
	if (!first)
		return 0;
	o.start_ns = READ_OR(__u64, first, TCO_TASK_START_BOOTTIME, 0);
	if (HAS(TCO_TASK_COMM)) {
		((__u64 *)o.comm)[0] = READ(__u64, first, TCO_TASK_COMM);
		((__u64 *)o.comm)[1] = READ(__u64, first, TCO_TASK_COMM + 8);
	}
	void *mm = POINTER_OR_NULL(task, TCO_TASK_MM);
	o.image = mm ? READ_OR(__u64, mm, TCO_MM_START_STACK, 0) : 0;
	bpf_seq_write(READ_POINTER(meta, 0), &o, sizeof(o));
	if (tp && READ(__u8, sk, TCO_SKC_STATE) == BPF_TCP_LISTEN)
		tell_queue(READ_POINTER(meta, 0), tp, &o);
	return 0;
}
#endif
