/* SPDX-License-Identifier: GPL-2.0-only OR Apache-2.0 */
/*
 * The story of a connection: its last events, stamped where they happen. It opens at the first bad event, so that healthy
 * connections pay nothing, and is read only for the connection that is looked at. (bcc sees to maps in the main file alone:
 * they are not here.)
 */

#define STORIES 4096
#define BURST_NS 1000000000ull
#define JUMP_US 20000

static __always_inline struct happening *tell(struct story *s, __u64 ns, __u8 kind, __u32 a, __u32 b)
{
	struct happening *h = &s->happenings[s->told & (HAPPENINGS - 1)];
	h->first_ns = h->last_ns = ns;
	h->a = a;
	h->b = b;
	h->kind = kind;
	h->detail = 0;
	h->times = 1;
	s->told++;
	return h;
}

/* What came before the first bad event is known from the connection's row. */
static __always_inline void tell_the_past(struct story *s, struct events *e)
{
	if (e->origin == ORIGIN_ADOPTED) {
		tell(s, e->first_ns, HAPPENING_ADOPTED, e->states, 0);
		return;
	}
	if (e->direction == DIRECTION_OUT)
		tell(s, e->first_ns, HAPPENING_CONNECT, 0, 0);
	if (e->direction == DIRECTION_IN || e->connect_us)
		tell(s, e->first_ns + e->connect_us * 1000ull, HAPPENING_ESTABLISHED, 0, 0);
}

/* A burst is told as one: of one class, with less than a second between two. */
static __always_inline void tell_retrans(struct story *s, __u64 ns, __u32 segments, __u8 class)
{
	struct happening *last = &s->happenings[(s->told - 1) & (HAPPENINGS - 1)];
	if (s->told && last->kind == HAPPENING_RETRANS && last->detail == class && ns - last->last_ns < BURST_NS) {
		last->last_ns = ns;
		last->a += segments;
		last->times++;
		return;
	}
	tell(s, ns, HAPPENING_RETRANS, segments, 0)->detail = class;
}

/* Half as much again, or a third less: and not the jitter of a short way. */
static __always_inline void tell_srtt(struct story *s, __u32 srtt_us)
{
	__u64 before = s->srtt_us, low = before < srtt_us ? before : srtt_us, high = before ^ srtt_us ^ low;
	if (before && (high - low < JUMP_US || high * 2 < low * 3))
		return;
	s->srtt_us = srtt_us;
	if (before)
		tell(s, bpf_ktime_get_ns(), HAPPENING_SRTT, before, srtt_us);
}
