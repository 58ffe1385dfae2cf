"""Group connections by process, remote address or network, local port, cgroup, or state. Pure.

What the connections of a group have in common, its key, is a row of uint64 words that sort in the key's order. Rows are
grouped by a hash of their words; the result is checked, so that keys with equal hashes remain separate groups. The hash
is also the group's identity: a negative number (cookies never are), equal from tick to tick.

How a group's value is computed from those of its connections is the column's rule: ``columns.Rule``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from tcptop_ops import text
from tcptop_ops.columns import Column, Rule, find
from tcptop_ops.diagnosis import CAUSES
from tcptop_ops.fate import BAD_SCORE
from tcptop_ops.model.addresses import are_link_local, are_mapped, halves, is_link_local, is_mapped
from tcptop_ops.model.arrays import bound_to, device_keys, distinct, find_sorted
from tcptop_ops.model.enums import Direction, State
from tcptop_ops.model.flows import Flows, Rows, row_of
from tcptop_ops.model.records import Records
from tcptop_ops.model.services import service_of
from tcptop_ops.readers import Reader, Values, cgroup_ids

Words = NDArray[np.uint64]
"""The keys of rows: uint64, shape (rows, words per key)."""


NOT_KNOWN = "(not known)"


LISTENERS = "(listeners)"


LABEL_WORDS = 4
"""Words of a cgroup's label that keys are sorted by: 32 bytes."""


@dataclass(frozen=True)
class Key:
    """A way to group rows.

    ``words`` returns the keys of rows. ``title`` and ``condition`` take one row of the group (Rows of length 1):
    ``condition`` is a filter of column ``narrows`` that selects the group. ``narrows`` is "" if no filter can.
    """

    what: str
    words: Callable[[Rows, Flows], Words]
    title: Callable[[Rows, Flows], str]
    narrows: str = ""
    condition: Callable[[Rows, Flows], str] = lambda _rows, _flows: ""
    ends_tell: bool = False  # shorten titles in the middle: their ends tell them apart


# By the name of the process, so that the workers of a server are one group


def _process_words(rows: Rows, _: Flows) -> Words:
    names = np.ascontiguousarray(rows.owners["name"], "S32")
    return names.view(">u8").astype("u8").reshape(len(rows), 4)


def _process_title(rows: Rows, _: Flows) -> str:
    return text.printable(bytes(rows.owners["name"][0])) or NOT_KNOWN


def _process_condition(rows: Rows, _: Flows) -> str:
    name = bytes(rows.owners["name"][0]).decode("utf-8", "surrogateescape")
    return f"process = {_quoted(name)}" if name else "not process ~ ."


def _quoted(name: str) -> str:
    """Quote a name for the filter language, if it needs quotes."""
    if name.replace("-", "").replace("_", "").isalnum() and name.lower() not in ("and", "or", "not"):
        return name
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


# By remote address; a link-local one is unique only within a device and namespace. Listeners are a group of their own


def _remote_words(rows: Rows, _: Flows) -> Words:
    sockets = rows.sockets
    high, low = halves(sockets["raddr"])
    scope = np.where(are_link_local(high), device_keys(sockets), np.uint64(0))
    words = np.column_stack([np.ones(len(rows), "u8"), high, low, scope])
    words[_without_remote(sockets) | (high | low == 0)] = 0
    return words


def _net_words(rows: Rows, flows: Flows) -> Words:
    words = _remote_words(rows, flows)
    high, low = words[:, 1], words[:, 2]
    words[:, 2] = np.where(are_mapped(high, low), low & ~np.uint64(0xFF), np.uint64(0))
    return words


def _without_remote(sockets: Records) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = (sockets["state"] == State.LISTEN) | (sockets["rport"] == 0)
    return found


def _remote_title(rows: Rows, flows: Flows) -> str:
    if not _remote_words(rows, flows).any():
        return LISTENERS
    column = find("raddr")
    return column.show(column.read(rows, flows).tolist()[0])


def _net_title(rows: Rows, flows: Flows) -> str:
    if not _remote_words(rows, flows).any():
        return LISTENERS
    _, scoped, device = _remote_title(rows, flows).partition("%")
    return _net(rows, scoped + device)


def _net(rows: Rows, scope: str) -> str:
    """Return the /24 or the /64 of the remote address. ``scope``: "%" and the interface, or ""."""
    packed = rows.sockets["raddr"][0].tobytes()
    if is_mapped(packed):
        return f"{ipaddress.IPv4Address(packed[12:15] + bytes(1))}/24"
    return f"{ipaddress.IPv6Address(packed[:8] + bytes(8))}{scope}/64"


def _remote_condition(rows: Rows, flows: Flows) -> str:
    if not _remote_words(rows, flows).any():
        return ""
    packed = rows.sockets["raddr"][0].tobytes()
    if is_mapped(packed):
        return f"raddr = {ipaddress.IPv4Address(packed[12:])}"
    return f"raddr = {ipaddress.IPv6Address(packed)}{_scope(packed, rows.sockets)}"


def _net_condition(rows: Rows, flows: Flows) -> str:
    if not _remote_words(rows, flows).any():
        return ""
    return f"raddr = {_net(rows, _scope(rows.sockets['raddr'][0].tobytes(), rows.sockets))}"


def _scope(packed: bytes, sockets: Records) -> str:
    return f"%{sockets['ifindex'][0]}" if is_link_local(packed) and sockets["ifindex"][0] else ""


# By the port of the service: the local port of incoming connections, the remote port of outgoing ones


def _goes_out(rows: Rows, flows: Flows) -> NDArray[np.bool_]:
    """Return whether each connection was opened by this host, as ``NDArray[np.bool_]``.

    A connection adopted in the middle of its life counts as outgoing if nothing listens on its local port.
    """
    sockets, direction = rows.sockets, rows.events["direction"]
    live = flows.live.sockets
    doors = np.unique(bound_to(live[live["state"] == State.LISTEN]))
    found: NDArray[np.bool_] = direction == Direction.OUT
    unsure = np.flatnonzero((direction == Direction.UNKNOWN) & ~_without_remote(sockets))
    found[unsure] = ~find_sorted(doors, bound_to(sockets)[unsure])[1]
    return found & ~_without_remote(sockets)


def _port_words(rows: Rows, flows: Flows) -> Words:
    out = _goes_out(rows, flows)
    ports = np.where(out, rows.sockets["rport"], rows.sockets["lport"])
    return np.column_stack([out, ports]).astype("u8")


def _port_title(rows: Rows, flows: Flows) -> str:
    out, port = _port_words(rows, flows)[0].tolist()
    return f"-> :{port}" if out else f":{port}"


# By the service or container of the cgroup; if it stands for none, by its path


def _cgroup_label(number: int, flows: Flows) -> bytes:
    path = flows.snapshot.cgroups.get(number, "")
    return (service_of(path) or path).encode("utf-8", "surrogateescape")


def _cgroup_words(rows: Rows, flows: Flows) -> Words:
    """Return the beginning of each row's label, which sorts it, and a digest of the whole label."""
    ids = cgroup_ids(rows)
    occurring = distinct(ids)
    table = np.zeros((len(occurring), LABEL_WORDS + 1), "u8")
    for place, number in enumerate(occurring.tolist()):
        label = _cgroup_label(number, flows)
        if label:
            digest = blake2b(label, digest_size=8).digest()
            table[place] = np.frombuffer(label[: 8 * LABEL_WORDS].ljust(8 * LABEL_WORDS, b"\0") + digest, ">u8")
    return table[np.searchsorted(occurring, ids)]


def _cgroup_title(rows: Rows, flows: Flows) -> str:
    return text.printable(_cgroup_label(int(cgroup_ids(rows)[0]), flows)) or NOT_KNOWN


# By TCP state


def _state_words(rows: Rows, _: Flows) -> Words:
    words: Words = rows.sockets["state"].astype("u8")[:, None]
    return words


def _state_title(rows: Rows, flows: Flows) -> str:
    name = find("state").read(rows, flows).tolist()[0]
    return str(name.decode()) or NOT_KNOWN


KEYS: dict[str, Key] = {
    "process": Key("processes of one name", _process_words, _process_title, "process", _process_condition),
    "remote": Key("remote address", _remote_words, _remote_title, "raddr", _remote_condition, True),
    "remote-net": Key("network of the remote address: /24, /64", _net_words, _net_title, "raddr", _net_condition, True),
    "local-port": Key("port of the service: the local one, or -> the remote", _port_words, _port_title),
    "cgroup": Key("service, container or control group", _cgroup_words, _cgroup_title, ends_tell=True),
    "state": Key("TCP state", _state_words, _state_title),
}
"""The ways to group, by name. With ``none``, which means no grouping, the names are those of ``settings.GROUPS``."""


# Grouping, and the values of groups


@dataclass(frozen=True)
class Groups:
    """The groups of some rows.

    Rows are indices into all rows of the flows, the live ones first. Group g has the rows ``members[starts[g]:starts[g
    + 1]]``. ``identities`` are negative, one per group; ``by_key`` lists the groups in the order of their keys.
    """

    flows: Flows
    key: str
    members: NDArray[np.intp]
    starts: NDArray[np.intp]
    identities: NDArray[np.int64]
    by_key: NDArray[np.intp]
    _made: dict[str, Values] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self.starts)

    @cached_property
    def counts(self) -> NDArray[np.intp]:
        """The number of rows of each group."""
        return np.diff(np.append(self.starts, len(self.members)))

    def rows(self, group: int) -> NDArray[np.intp]:
        """Return the rows of a group, as indices into all rows."""
        stop = self.starts[group + 1] if group + 1 < len(self) else len(self.members)
        return self.members[self.starts[group] : stop]

    def with_identity(self, identity: int) -> int | None:
        """Return the group with this identity, or None."""
        found = np.flatnonzero(self.identities == identity)
        return int(found[0]) if len(found) else None

    def holding(self, row: int) -> int | None:
        """Return the group that contains this row; None for a row that the view hides."""
        at = np.flatnonzero(self.members == row)
        return int(np.searchsorted(self.starts, at[0], "right")) - 1 if len(at) else None

    def title(self, group: int) -> str:
        """Return what the rows of a group have in common, in printable ASCII."""
        return KEYS[self.key].title(self._one(group), self.flows)

    def condition(self, group: int, column: str) -> str:
        """Return a filter of this column that selects the group's rows; "" if there is none."""
        key = KEYS[self.key]
        return key.condition(self._one(group), self.flows) if key.narrows == column else ""

    def _one(self, group: int) -> Rows:
        return row_of(self.flows, int(self.members[self.starts[group]]))

    def is_closed(self, group: int) -> bool:
        """Return whether all connections of a group have ended."""
        return bool((self.rows(group) >= len(self.flows.live)).all())

    def column(self, column: Column) -> Values:
        """Return a column's value for each group, computed by its rule.

        Cached: a view is drawn more than once per tick.
        """
        if column.id not in self._made:
            self._made[column.id] = _RULES[column.group.how](self, column, column.group)
        return self._made[column.id]

    def _values(self, read: Reader) -> Values:
        """Read one value per row, aligned with ``members``."""
        return np.take(self.flows.column(read), self.members)

    # One method per ``Rule.how``; NaN (null) is left out

    def _sum(self, column: Column, rule: Rule) -> Values:
        total = self._summed(self._values(rule.part or column.read))
        return total if rule.part is None else np.where(np.isnan(total), self._summed(self._values(column.read)), total)

    def _summed(self, values: Values) -> Values:
        known = ~np.isnan(values)
        total = np.add.reduceat(np.where(known, values, 0.0), self.starts)
        return np.where(np.logical_or.reduceat(known, self.starts), total, np.nan)

    def _mean(self, column: Column, _: Rule) -> Values:
        values = self._values(column.read)
        known = np.add.reduceat(~np.isnan(values), self.starts, dtype=np.intp)
        return self._summed(values) / np.maximum(known, 1)

    def _share(self, _: Column, rule: Rule) -> Values:
        assert rule.part is not None
        assert rule.whole is not None
        part, whole = self._values(rule.part), self._values(rule.whole)
        unknown = np.isnan(part) | np.isnan(whole)
        part[unknown] = whole[unknown] = np.nan
        total = self._summed(whole)
        total[~(total >= rule.enough) | (total <= 0)] = np.nan
        shares: Values = np.minimum(100.0 * self._summed(part) / total, rule.most)
        return shares

    def _least(self, column: Column, _: Rule) -> Values:
        return np.fmin.reduceat(self._values(column.read), self.starts)

    def _greatest(self, column: Column, _: Rule) -> Values:
        return np.fmax.reduceat(self._values(column.read), self.starts)

    def _same(self, column: Column, rule: Rule) -> Values:
        values = self._values(rule.part or column.read)
        first = values[self.starts]
        of_group = np.repeat(first, self.counts)
        equal = values == of_group
        if values.dtype.kind == "f":
            equal |= np.isnan(values) & np.isnan(of_group)
        same = np.logical_and.reduceat(equal, self.starts)
        null = np.nan if values.dtype.kind == "f" else values.dtype.type()
        return np.where(same, first, null)

    def _worst(self, column: Column, _: Rule) -> Values:
        found = self.flows.column(column.read)
        return found[self.worst_rows]

    @cached_property
    def worst_rows(self) -> NDArray[np.intp]:
        """The row with the highest score of each group, as an index into all rows.

        Of several with that score it is the one whose cause has the highest precedence: see ``_TELLING``.
        """
        badness = self._values(_badness)
        greatest = np.repeat(np.maximum.reduceat(badness, self.starts), self.counts)
        at = np.flatnonzero(badness == greatest)
        of_group = np.searchsorted(self.starts, at, "right") - 1
        _, first = np.unique(of_group, return_index=True)
        return self.members[at[first]]


_RULES: dict[str, Callable[[Groups, Column, Rule], Values]] = {
    "sum": Groups._sum,
    "mean": Groups._mean,
    "share": Groups._share,
    "least": Groups._least,
    "greatest": Groups._greatest,
    "same": Groups._same,
    "worst": Groups._worst,
}


_TELLING = np.array([len(CAUSES) * 2 - n if one.rule is not None else n for n, one in enumerate(CAUSES)])
"""Precedence of causes among rows with equal scores: rules in their order, then healthy, then idle, then unknown."""


def _badness(rows: Rows, _: Flows) -> Values:
    """Return the score as it is shown, with the precedence of the cause as the lesser digits."""
    scores = np.rint(np.nan_to_num(rows.rates["score"].astype("f8"), nan=-1.0))
    badness: Values = scores * 1000 + _TELLING[rows.rates["cause"]]
    return badness


def put_together(flows: Flows, key: str, which: NDArray[np.intp]) -> Groups:
    """Group rows. ``key``: a name of KEYS; ``which``: indices into all rows, the live ones first."""
    read = KEYS[key].words
    words = np.take(flows.column(read), which, axis=0)  # several times as fast as indexing
    order, starts = _arranged(words)
    firsts = words[order[starts]]
    identities = -1 - (_hashed(firsts) >> np.uint64(1)).astype(np.int64)
    return Groups(flows, key, which[order], starts, identities, np.lexsort(firsts.T[::-1]))


def _arranged(words: Words) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return an order in which equal rows are adjacent, and the position in it at which each run of them begins."""
    hashes = _hashed(words)
    order = _sorting(hashes)
    starts = _begins(hashes[order][:, None])
    ordered = np.take(words, order, axis=0)
    if len(_begins(ordered)) > len(starts):  # hash collision
        order = np.lexsort(words.T)
        starts = _begins(words[order])
    return order, starts


def _sorting(numbers: Words) -> NDArray[np.intp]:
    """Return an order in which equal numbers are adjacent.

    Four passes over 16-bit digits, for which numpy uses a radix sort, take half the time of one sort of 64-bit numbers.
    """
    digits = numbers.view("u2").reshape(len(numbers), 4)
    order = np.argsort(digits[:, 0], kind="stable")
    for place in (1, 2, 3):
        order = order[np.argsort(digits[order, place], kind="stable")]
    return order


def _begins(ordered: Words) -> NDArray[np.intp]:
    """Return the positions at which a row differs from the one before it."""
    differs = np.zeros(len(ordered), np.bool_)
    differs[:1] = True
    for column in ordered.T:
        differs[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(differs)


def _hashed(words: Words) -> Words:
    """Return a 64-bit hash of each row of words: multiply by an odd constant, then fold high bits into low ones."""
    found = np.zeros(len(words), "u8")
    for column in words.T:
        found = (found ^ column) * np.uint64(0x9E3779B97F4A7C15)
        found ^= found >> np.uint64(32)
    return found


# Figures about one group


@dataclass(frozen=True)
class Census:
    """What is in a group: counts, and its bad connections.

    ``connections`` counts all rows, listeners and closed ones included. ``causes``: name and count of each cause of the
    bad rows, the most frequent first.
    """

    connections: int
    listeners: int
    closed: int
    bad: int
    causes: tuple[tuple[str, int], ...]
    processes: int  # distinct process names
    remotes: int  # distinct remote addresses
    worst: tuple[int, ...]  # indices of bad rows, the highest score first


def census(groups: Groups, group: int, most: int = 3) -> Census:
    """Count what is in a group. ``most``: maximum length of ``worst``."""
    flows, rows = groups.flows, np.sort(groups.rows(group))
    edge = len(flows.live)
    few = 4 * len(rows) < len(flows)
    which = (rows[rows < edge], rows[rows >= edge] - edge) if few else ()
    parts = [part.take(some) for part, some in zip((flows.live, flows.closed), which, strict=False)]

    def of_rows(read: Reader) -> Values:
        if few:
            return np.concatenate([read(part, flows) for part in parts])
        return np.take(flows.column(read), rows, axis=0)

    scores, causes = of_rows(lambda part, _: part.rates["score"]), of_rows(lambda part, _: part.rates["cause"])
    bad = np.flatnonzero(scores >= BAD_SCORE)
    counts = np.bincount(causes[bad], minlength=len(CAUSES))
    frequent = [n for n in np.argsort(-counts, kind="stable").tolist() if counts[n]]
    cookies = of_rows(lambda part, _: part.sockets["cookie"])[bad]
    ranked = bad[np.lexsort((cookies, -np.rint(scores[bad])))][:most]
    return Census(
        len(rows),
        int(of_rows(lambda part, _: part.sockets["state"] == State.LISTEN).sum()),
        int((rows >= edge).sum()),
        len(bad),
        tuple((CAUSES[n].name, int(counts[n])) for n in frequent),
        _how_many(of_rows(_process_words)),
        _how_many(of_rows(_remote_words)),
        tuple(rows[ranked].tolist()),
    )


def _how_many(words: Words) -> int:
    """Return the number of distinct keys; keys of zeros alone mean "not known" and are not counted."""
    hashes = _hashed(words[words.any(axis=1)])
    return len(_begins(hashes[_sorting(hashes)][:, None]))
