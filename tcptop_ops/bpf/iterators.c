/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * What is: every TCP socket's present state, and who holds each. BPF iterators, read like files
 * (tcp_seq_ops, net/ipv4/tcp_ipv4.c; task_file_seq_ops, kernel/bpf/task_iter.c).
 * An iterator's context is an array of 8-byte words; the first is a struct bpf_iter_meta, which begins with its
 * seq_file.
 */
#if defined(HAVE_BTF_SOCKET) && defined(HAVE_ITERATORS)

/* PASS_SURVEY adopts what has no row too, though its flags are all there: somebody else's, or a monitor's before us. */
enum { PASS_READ, PASS_ADOPT, PASS_CLEAR, PASS_SURVEY, PASS_STRIP };

#define IPPROTO_TCP 6
#define IPPROTO_MPTCP 262
#define MAX_CGROUP_LEVELS 32

BPF_PERCPU_ARRAY(row, struct socket, 1);

/* The verifier does not follow a flexible array: it is read as bytes. */
static __always_inline __u64 ancestor_id(void *cgroup, __u32 level)
{
	__u64 id = 0;
#ifdef CGROUP_ANCESTORS
	void *ancestor = NULL, *node = NULL;
	bpf_probe_read_kernel(&ancestor, sizeof(ancestor), cgroup + CGROUP_ANCESTORS + 8 * level);
	bpf_probe_read_kernel(&node, sizeof(node), ancestor + CGROUP_KN);
	bpf_probe_read_kernel(&id, sizeof(id), node + KN_ID);
#else
	bpf_probe_read_kernel(&id, sizeof(id), cgroup + CGROUP_ANCESTOR_IDS + 8 * level);
#endif
	return id;
}

static __always_inline bool in_our_cgroup(void *sk)
{
#if defined(OUR_CGROUP_ID) && defined(OUR_CGROUP_LEVEL)
	void *cgroup = READ_POINTER(sk, SK_CGROUP);
	return cgroup && READ(__u32, cgroup, CGROUP_LEVEL) >= OUR_CGROUP_LEVEL &&
	       ancestor_id(cgroup, OUR_CGROUP_LEVEL) == OUR_CGROUP_ID;
#elif defined(OUR_CGROUP_ID)
	/* Below the root of a cgroup namespace: how deep that lies is not told to those inside. */
	void *cgroup = READ_POINTER(sk, SK_CGROUP);
	__u32 level = cgroup ? READ(__u32, cgroup, CGROUP_LEVEL) : 0;
	for (__u32 at = 0; cgroup && at < MAX_CGROUP_LEVELS && at <= level; at++)
		if (ancestor_id(cgroup, at) == OUR_CGROUP_ID)
			return true;
	return false;
#else
	return true;
#endif
}

/* TCP_BPF_SOCK_OPS_CB_FLAGS is defined where the kernel has the option. */
#if defined(HAVE_ADOPTION) && defined(TCP_BPF_SOCK_OPS_CB_FLAGS)
#define CAN_SET_FLAGS

/* The row remembers which flags it found: they are not ours to take away. */
static __always_inline void adopt(void *tp, __u64 cookie, struct socket *r, struct counters *c, __u32 wanted)
{
	int flags;
	struct events *e = conns.lookup(&cookie);
	flags = r->cb_flags | wanted;
	if (e) {
		if (flags != r->cb_flags)
			bpf_setsockopt(tp, IPPROTO_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags));
		return;
	}
	struct events mine = {};
	mine.first_ns = bpf_ktime_get_ns();
	mine.direction = r->state == BPF_TCP_LISTEN ? LISTEN : 0;
	mine.origin = ADOPTED;
	mine.found = r->cb_flags;
	mine.states = 1 << (r->state & 15);
	if (conns.update(&cookie, &mine)) {
		add(&c->untracked);
		return;
	}
	if (flags != r->cb_flags &&
	    bpf_setsockopt(tp, IPPROTO_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags)))
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
		bpf_setsockopt(tp, IPPROTO_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags));
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
		bpf_setsockopt(tp, IPPROTO_TCP, TCP_BPF_SOCK_OPS_CB_FLAGS, &flags, sizeof(flags));
}
#endif

#ifdef WALKS /* what is not used costs time to compile */
/*
 * A socket's cache lines, all asked for at once: one after the other, waiting for memory is most of what a pass costs.
 * A pointer can't be read in part.
 */
static __always_inline void touch(void *tp)
{
	READ(__u8, tp, SK_DROPS);
	READ(__u64, tp, SK_TIMER_PPREV);
	READ(__u8, tp, SK_UID);
	READ(__u8, tp, SK_ACK_BACKLOG);
#ifdef SK_CGROUP
	READ(__u64, tp, SK_CGROUP);
#endif
	READ(__u8, tp, ICSK_TIMEOUT);
	READ(__u8, tp, ICSK_RTO);
	READ(__u8, tp, ICSK_PENDING);
	READ(__u8, tp, TP_REORDERING);
	READ(__u8, tp, TP_RETRANS_OUT);
	READ(__u8, tp, TP_LSNDTIME);
	READ(__u8, tp, TP_ECN_FLAGS);
	READ(__u8, tp, TP_SND_NXT);
	READ(__u8, tp, TP_SEGS_IN);
	READ(__u8, tp, TP_BYTES_ACKED);
	READ(__u8, tp, TP_DSACK_DUPS);
	READ(__u8, tp, TP_REORD_SEEN);
	READ(__u8, tp, TP_TOTAL_RETRANS);
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
		if (READ(__u8, sk, SKC_STATE) == 6)
			add(&c->time_wait);
		else
			add(&c->syn_recv);
		return 0;
	}
	if (!in_our_cgroup(tp))
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

int bpf_iter__task_file(__u64 *ctx)
{
	void *meta = (void *)ctx[0], *task = (void *)ctx[1], *file = (void *)ctx[3];
	if (!task || !file)
		return 0;
	void *socket = bpf_sock_from_file(file);
	if (!socket)
		return 0;
	void *sk = READ_POINTER(socket, SOCKET_SK);
	if (!sk)
		return 0;
	struct owner o = {};
	void *tp = bpf_skc_to_tcp_sock(sk);
	if (tp)
		o.cookie = bpf_get_socket_cookie(tp);
	else if (READ(__u16, sk, SK_PROTOCOL) != IPPROTO_MPTCP)
		return 0; /* an MPTCP socket is no TCP socket, but its subflows have its inode */
	void *inode = READ_POINTER(file, FILE_INODE);
	o.inode = inode ? READ(__u64, inode, INODE_INO) : 0;
	o.start_ns = READ(__u64, task, TASK_START_BOOTTIME);
	o.pid = READ(__u32, task, TASK_TGID);
	o.fd = ctx[2];
	((__u64 *)o.comm)[0] = READ(__u64, task, TASK_COMM);
	((__u64 *)o.comm)[1] = READ(__u64, task, TASK_COMM + 8);
	bpf_seq_write(READ_POINTER(meta, 0), &o, sizeof(o));
	return 0;
}
#endif
