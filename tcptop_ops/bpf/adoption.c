/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * Callback flags of sockets that are open: set, or taken back, through an option that does not exist. flag_setter.py
 * sets it on a duplicate of the descriptor, and attaches this program only meanwhile (BPF_CGROUP_SETSOCKOPT, 6.12).
 *
 * The socket is locked while the program runs (__cgroup_bpf_run_filter_setsockopt(), kernel/bpf/cgroup.c), so that no
 * sock_ops call of it comes in between. Of every other call, level, name, length and buffer stay as they are: that tells
 * the kernel, and programs that are called next, nothing. Where the buffer is longer than a page, the kernel takes the
 * caller's own (since 6.5; EFAULT before).
 */
#if defined(TCO_HAVE_ADOPTION) && defined(TCO_CB_FLAGS_OPTION) && defined(TCO_HAVE_BTF_SOCKET)

#define LEVEL_TCP 6 /* IPPROTO_TCP */
#define PAST_THE_KERNEL -1
#define NOTHING_TO_DO 2 /* ENOENT */
#define NO_ROOM 28 /* ENOSPC */
#define NOT_MEANT 116 /* ESTALE */

BPF_ARRAY(setter, struct flag_setter, 1);

/*
 * This type of program has no helper for it, and the verifier lets no offset be added to the pointer: only to the number
 * that comes back from a map. None but the one process that knows the token uses that place.
 */
static __always_inline __u64 cookie_of(struct flag_setter *s, void *sk)
{
	__u64 cookie = 0;
	*(volatile __u64 *)&s->sk = (__u64)sk;
	__u64 at = *(volatile __u64 *)&s->sk;
	*(volatile __u64 *)&s->sk = 0;
	bpf_probe_read_kernel(&cookie, sizeof(cookie), (void *)(at + TCO_SKC_COOKIE));
	return cookie;
}

static __always_inline int set_to(struct bpf_sockopt *ctx, __u32 before, __u32 flags)
{
	int value = flags;
	if (flags == before)
		return 0;
	return -bpf_setsockopt(ctx->sk, LEVEL_TCP, TCO_CB_FLAGS_OPTION, &value, sizeof(value));
}

/* The row remembers which flags it found: they are not ours to take away. */
static __always_inline int adopt(struct bpf_sockopt *ctx, struct flag_request *asked, __u32 before)
{
	struct counters *c = our_counters();
	__u32 state = ctx->sk->state, flags = before | (asked->flags & (EVENT_FLAGS | PACKET_FLAGS));
	if (!c || state == BPF_TCP_CLOSE)
		return NOTHING_TO_DO;
	if (conns.lookup(&asked->cookie))
		return set_to(ctx, before, flags);
	struct events mine = {};
	mine.first_ns = bpf_ktime_get_ns();
	mine.direction = state == BPF_TCP_LISTEN ? DIRECTION_LISTEN : DIRECTION_UNKNOWN;
	mine.origin = ORIGIN_ADOPTED;
	mine.found = before;
	mine.states = 1 << (state & 15);
	if (conns.update(&asked->cookie, &mine)) {
		add(&c->untracked);
		return NO_ROOM;
	}
	int error = set_to(ctx, before, flags);
	if (error)
		conns.delete(&asked->cookie);
	else
		add(&c->adopted);
	return error;
}

static __always_inline int give_back(struct bpf_sockopt *ctx, struct flag_request *asked, __u32 before)
{
	struct events *e = conns.lookup(&asked->cookie);
	if (!e)
		return NOTHING_TO_DO;
	__u32 kept = e->found | ~(EVENT_FLAGS | PACKET_FLAGS);
	conns.delete(&asked->cookie);
	return set_to(ctx, before, before & kept);
}

/* The per-packet flags that are ours, off: another program would be called for them. */
static __always_inline int strip(struct bpf_sockopt *ctx, struct flag_request *asked, __u32 before)
{
	struct events *e = conns.lookup(&asked->cookie);
	if (!e || e->first_ns >= asked->before_ns)
		return NOTHING_TO_DO;
	return set_to(ctx, before, before & (e->found | ~PACKET_FLAGS));
}

static __always_inline int obey(struct bpf_sockopt *ctx, struct flag_request *asked)
{
	int before = 0;
	int error = -bpf_getsockopt(ctx->sk, LEVEL_TCP, TCO_CB_FLAGS_OPTION, &before, sizeof(before));
	if (error)
		return error;
	if (asked->what == FLAGS_ADOPT)
		return adopt(ctx, asked, before);
	return asked->what == FLAGS_GIVE_BACK ? give_back(ctx, asked, before) : strip(ctx, asked, before);
}

int adoption(struct bpf_sockopt *ctx)
{
	int zero = 0;
	struct flag_request asked;
	if (CTX(level) != OUR_LEVEL || CTX(optname) != OUR_OPTION || CTX(optlen) != sizeof(asked))
		return 1;
	void *told = ctx->optval, *end = ctx->optval_end;
	struct flag_setter *s = setter.lookup(&zero);
	struct control *now = control.lookup(&zero);
	if (!s || !now || told + sizeof(asked) > end)
		return 1;
	__builtin_memcpy(&asked, told, sizeof(asked));
	if (!s->token || asked.token != s->token)
		return 1;
	now->setter = bpf_get_current_pid_tgid() >> 32;
	int error = cookie_of(s, ctx->sk) == asked.cookie ? obey(ctx, &asked) : NOT_MEANT;
	ctx->optlen = PAST_THE_KERNEL;
	if (error)
		bpf_set_retval(-error);
	return 1;
}
#endif
