"""The real source: events from the sock_ops program, present state and owners from passes over all descriptors."""

from __future__ import annotations

import os
import time
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from tcptop_ops.bpf import cgroup, kernel_offsets, syscall
from tcptop_ops.bpf.attach import EVENT_FLAGS, FILE_ITERATOR, MODES, RING_BYTES, Attached, Options, Pending, attach
from tcptop_ops.bpf.connection_map import ConnectionMap
from tcptop_ops.bpf.cpu_counters import CpuCounters
from tcptop_ops.bpf.descriptor_walk import DescriptorWalk
from tcptop_ops.bpf.helper import ProgramWatch, take_back_flags
from tcptop_ops.bpf.load_shedding import LIGHT, LoadShedding
from tcptop_ops.bpf.other_programs import OtherPrograms
from tcptop_ops.bpf.ring_buffer import RingBuffer
from tcptop_ops.bpf.story_map import SamplesMap, StoryMap
from tcptop_ops.errors import Failed, Unsupported
from tcptop_ops.host.activities import Activities
from tcptop_ops.host.descriptors import DescriptorSweep
from tcptop_ops.host.host_counters import HostCounters
from tcptop_ops.host.namespace_addresses import NamespaceAddresses
from tcptop_ops.host.namespace_counters import NamespaceCounters
from tcptop_ops.host.namespace_names import NamespaceNames
from tcptop_ops.host.namespaces import InProcessAccess, NamespaceAccess, of_child
from tcptop_ops.host.owners import Owners
from tcptop_ops.host.processes import Commands, Users, full_name, is_kernel_thread
from tcptop_ops.model.arrays import distinct, gather
from tcptop_ops.model.enums import State
from tcptop_ops.model.records import CONTROL, COUNTERS, FINAL, HAPPENING, Records
from tcptop_ops.model.snapshot import Snapshot
from tcptop_ops.sources.adoption import Adoption, Wish
from tcptop_ops.sources.cgroup_follow import CgroupMembers, FollowedCgroup
from tcptop_ops.sources.changed_rows import changed_rows
from tcptop_ops.sources.cheaper_reader import CheaperReader
from tcptop_ops.sources.join_by_cookie import LostSockets, RowMatcher, births, last_known, still_open, without_record
from tcptop_ops.sources.sock_diag import close_connection
from tcptop_ops.sources.socket_state import SocketState, StateReader
from tcptop_ops.sources.state_descriptors import DescriptorReader
from tcptop_ops.sources.state_sock_diag import SockDiagReader
from tcptop_ops.sources.unheld import UnheldReader
from tcptop_ops.sources.used_ports import UsedPorts

DESCRIPTOR_SWEEP_S = 10.0


class SockOpsSource:
    """Attached to the kernel for as long as it is open. Used by one thread."""

    name = "sockops"

    def __init__(self, options: Options, pending: Pending | None = None) -> None:
        """Attach, unless ``pending`` does so already. Raises Unsupported, Usage or Failed."""
        self._attached = attach(options, pending)
        helper = self._attached.helper
        self._reach: NamespaceAccess = InProcessAccess() if helper is None else of_child(helper)
        self._adopt = options.adopt
        fds = self._attached.fds
        self._namespace_counters = NamespaceCounters(self._reach)
        self._host_counters = HostCounters()
        self._used_ports = UsedPorts(self._reach)
        self._addresses = NamespaceAddresses(self._reach)
        self._ring = RingBuffer(fds["done"], RING_BYTES, FINAL)
        self._counters = CpuCounters(fds["counters"])
        self._followed = self._cgroup_to_follow()
        members = CgroupMembers(self._followed.path) if self._followed else None
        self._present = self._reader(options.reader, members)
        self._owners = Owners(full_name, is_kernel_thread, follows_queues=FILE_ITERATOR in fds)
        self._met: Records | None = None  # the descriptors that the last read met
        self._sweep = DescriptorSweep(
            self._owners, self._all_descriptors, self._reach.hidden_descriptors, DESCRIPTOR_SWEEP_S
        )
        self._users, self._commands = Users(), Commands()
        self._namespace_names = NamespaceNames()
        self._paths = cgroup.Paths(self._attached.cgroup_root)
        self._activities = Activities(self._attached.cgroup_root)
        self._rows = ConnectionMap(fds["conns"])
        self._stories, self._seen = StoryMap(fds["stories"]), SamplesMap(fds["seen"], self._counters)
        self._pending: list[Records] = []
        self._last = np.zeros((), COUNTERS)
        self._passed_ns = self._passed_before_ns = 0
        self._join, self._unseen = RowMatcher(), LostSockets()
        self._is_whole = False
        self._watched = self._strip_before_ns = 0
        self._beside = OtherPrograms(self._reach.neighbours, self._attached.neighbours)
        self._told_how = options.callbacks is not None
        self._quiet = False
        self._light = LoadShedding()
        self._untold = False  # connections were opened in our cgroup, anywhere, that no event told of
        self._statistics: int | None = None
        self._adoption = self._adopter()
        self._control()

    def _reader(self, wanted: str, members: CgroupMembers | None) -> StateReader:
        """Return what reads the present state. ``wanted``: one of READERS, where one is to be had in any case."""
        fds = self._attached.fds
        self.walk: DescriptorWalk | None = None
        if FILE_ITERATOR not in fds:
            return SockDiagReader(self._reach, members)
        self.walk = DescriptorWalk(fds[FILE_ITERATOR], fds["walk"], fds["states"])
        if wanted == "sock_diag" or (members is not None and not self._attached.tells_cgroups):
            return SockDiagReader(self._reach, members)
        unheld = UnheldReader(self._reach, handshakes=lambda: int(self._counters.read()["requests"].sum()))
        passes = DescriptorReader(self.walk, unheld, members)
        if wanted == "descriptors":
            return passes
        return CheaperReader(passes, SockDiagReader(self._reach, members))

    def _cgroup_to_follow(self) -> FollowedCgroup | None:
        """None: all."""
        path, root = self._attached.cgroup, self._attached.cgroup_root
        if path == root and not cgroup.is_part(root):
            return None
        return FollowedCgroup(path, root, self._attached.directory, self._reach.attach_again)

    @property
    def attached(self) -> Attached:
        """What the kernel accepted."""
        return self._attached

    @property
    def reader(self) -> str:
        """Which reader reads the present state, and why: a line without a full stop."""
        if isinstance(self._present, CheaperReader):
            return self._present.why
        if isinstance(self._present, DescriptorReader):
            return "by descriptors"
        return "by sock_diag: a pass over descriptors tells too little here"

    def drain(self) -> None:
        """Take final records out of the ring before it is full; look after the cgroup, which may be a new one."""
        self._follow()
        final = self._ring.drain()
        if len(final):
            self._pending.append(final)

    def poll(self) -> Snapshot:
        """Return one instant. Raises Failed where the kernel no longer answers."""
        try:
            return self._poll(time.monotonic())
        except OSError as error:
            raise Failed(f"reading from the kernel failed: {error.strerror}") from error

    def _poll(self, started: float) -> Snapshot:
        """State first, then events, then ends: what ends meanwhile is taken out of the state again."""
        self._follow()
        self._mind_the_others()
        pass_ns = time.monotonic_ns()
        present = self._present.read()
        self._met = present.descriptors
        keys, values = self._rows.read(self._counters.read())
        events, lonely = self._join(present.sockets["cookie"], keys, values, is_same=self._rows.is_same)
        changed = self._changed(present)
        self._untold |= self._followed is not None and self._followed.is_refused
        if (self._untold or self._misses_some(values[lonely], pass_ns)) and (more := self._present.rest()) is not None:
            present = more
            keys, values = self._rows.read(self._counters.read())
            events, lonely = self._join(present.sockets["cookie"], keys, values)
            changed, self._is_whole = None, False
        if self._tend_flags(present, events):
            keys, values = self._rows.read(self._counters.read())
            events, lonely = self._join(present.sockets["cookie"], keys, values)
            changed = None
        self._passed_ns, self._untold = pass_ns, False
        self.drain()
        counters = self._counters.read()
        closed = self._closed(present, keys, values, lonely)
        still = still_open(present.sockets["cookie"], events, closed)
        all_still = bool(still.all())
        sockets = present.sockets if all_still else gather(present.sockets, still)
        events = events if all_still else gather(events, still)
        if not all_still:
            changed, self._is_whole = None, False
        opened = births(counters) - births(self._last)
        self._spare(opened, pass_ns)
        self._last = counters
        self._sweep.look(sockets)
        owners = self._owners.assign(sockets, events, changed)
        others = self._owners.changed
        changed = None if changed is None or others is None else np.union1d(changed, others)
        closed_owners = self._owners.assign_closed(closed["socket"], closed["events"])
        cost = (0, 0) if self._statistics is None else syscall.run_statistics(self._attached.fds["program"])
        counted = self._namespace_counters.read(sockets, present.half_open, closed["socket"])
        return Snapshot(
            time=time.time(),
            now_ns=time.monotonic_ns(),
            source=self.name,
            sockets=sockets,
            events=events,
            owners=owners,
            closed=closed,
            closed_owners=closed_owners,
            counters=counters,
            changed=changed,
            callbacks_mode="events" if self._quiet else LIGHT if self._light.on else self._attached.callbacks,
            opened=opened,
            time_wait=present.time_wait,
            syn_recv=present.syn_recv,
            half_open=present.half_open,
            namespace_counters=counted,
            host_counters=self._host_counters.read(),
            used_ports=self._used_ports.read(counted, sockets),
            addresses=self._addresses.read(sockets),
            namespaces=len(distinct(sockets["netns"])),
            missing=self._attached.missing,
            notes=self._notes(counters),
            users=self._users.learn(sockets["uid"] if changed is None else sockets["uid"][changed]),
            cgroups=self._paths.learn(set(distinct(sockets["cgroup_id"]).tolist())),
            devices=self._present.devices(sockets),
            namespace_names=self._namespace_names.read(),
            commands=self._commands.learn(owners, closed_owners),
            activities=self._activities.read(sockets, owners),
            watched=self._watched,
            story=self._stories.read(self._watched) if self._watched else np.zeros(0, HAPPENING),
            seen=self._seen.read(),
            poll_s=time.monotonic() - started,
            program_ns=cost[0],
            program_calls=cost[1],
        )

    def _changed(self, present: SocketState) -> NDArray[np.intp] | None:
        """Return the rows that changed in state or events; None where the last snapshot lacks some of the last pass."""
        is_known, self._is_whole = self._is_whole, True
        if not is_known:
            return None
        state = present.changed
        if state is None:
            state = changed_rows(present.sockets, present.before)
        return np.union1d(state, self._join.changed)

    def _follow(self) -> None:
        if self._followed is not None and self._followed.look():
            self._control()
            self._untold = True

    def _is_attached(self) -> bool:
        """Whether our program is called at all: not while the cgroup's directory is gone, or refuses it."""
        return self._followed is None or self._followed.attached

    def _mind_the_others(self) -> None:
        """Ask for less once a program has come that would be called for flags of ours, which costs it something.

        What was asked for on the command line stands. Raises Failed where ours must go.
        """
        if not self._is_attached():
            return
        came = self._beside.look()
        quiet = bool(self._beside.programs) and not self._told_how
        if quiet != self._quiet or (quiet and came):
            self._quiet = quiet
            self._strip_before_ns = min((program["loaded_ns"] for program in came), default=0)
            self._control()

    def _spare(self, opened: int, pass_ns: int) -> None:
        """Where very many connections come, less is asked of each: unless the command line said what to ask."""
        seconds = (pass_ns - self._passed_before_ns) / 1e9 if self._passed_before_ns else 0.0
        self._passed_before_ns = pass_ns
        if self._light.look(0 if self._told_how else opened, seconds, pass_ns / 1e9):
            self._control()

    def _misses_some(self, lonely: Records, pass_ns: int) -> bool:
        """Whether a row born since the last pass, and before this one, has no socket: it lives where nobody looked."""
        born = lonely["first_ns"]
        return bool(((born > self._passed_ns) & (born < pass_ns) & (lonely["closed"] == 0)).any())

    def _closed(
        self, present: SocketState, keys: NDArray[np.uint64], values: Records, lonely: NDArray[np.bool_]
    ) -> Records:
        """Return what ended since the last poll: from the ring; from the map where that was full, or nobody told."""
        pending, self._pending = self._pending, []
        now_ns = time.monotonic_ns()
        left = np.flatnonzero(values["closed"])
        late = without_record(last_known(present.before, keys[left]), values[left], now_ns, 0)
        gone, sockets = self._unseen.update(keys, lonely, present.before)
        gone, sockets = gone[values["closed"][gone] == 0], sockets[values["closed"][gone] == 0]
        unseen = without_record(sockets, values[gone], now_ns, State.UNSEEN)
        self._rows.delete(keys[np.concatenate([left, gone])])
        return np.concatenate([*pending, late, unseen])

    def _all_descriptors(self) -> Records:
        if self._met is not None:
            return self._met
        return self._reach.descriptors() if self.walk is None else self.walk.owners()

    def _notes(self, counters: Records) -> tuple[str, ...]:
        """Return the notes, the gravest first: where there is little room, it alone is shown."""
        notes = []
        if self._followed is not None and self._followed.note:
            notes.append(self._followed.note)
        if counters["untracked"]:
            notes.append(f"map full: {int(counters['untracked'])} connections not tracked; --map-size helps")
        if counters["ring_full"]:
            notes.append(f"ring full: {int(counters['ring_full'])} final records without figures")
        if self._reach.note:
            notes.append(self._reach.note)
        if self._sweep.note:
            notes.append(self._sweep.note)
        if self._adoption is not None and self._adoption.note:
            notes.append(self._adoption.note)
        if self._beside.programs:
            names = sorted({program["name"] for program in self._beside.programs})
            notes.append(f"beside other sock_ops programs: {', '.join(names)}")
        if self.walk is None:
            notes.append(_why_polled(self._attached))
        if part := cgroup.note(self._attached.cgroup_root):
            notes.append(part)
        if self._light.on:
            notes.append("light: so many connections come that new ones are asked for their events alone")
        return tuple(notes)

    def watch(self, cookie: int) -> None:
        """See Source. Its flags, all seven, do not retire, and its story opens with the next round trip."""
        if cookie != self._watched:
            self._watched = cookie
            self._control()
            self._seen.forget()

    def measure(self, on: bool) -> None:
        """See Source: the kernel's BPF statistics, which are on while a descriptor of them is open."""
        if on and self._statistics is None:
            try:
                self._statistics = self._reach.statistics()
            except (OSError, Unsupported):
                return
        elif not on and self._statistics is not None:
            os.close(self._statistics)
            self._statistics = None

    def close_connection(self, sock: Records) -> None:
        """See Source."""
        close_connection(self._reach, sock)

    def _adopter(self) -> Adoption | None:
        """Return what sets flags of open sockets: through the helper, or, without one, in this process."""
        self._here: ProgramWatch | None = None
        if "HAVE_ADOPTION" not in self._attached.features:
            return None
        if self._attached.helper is None:
            here = ProgramWatch(self._attached.fds, self._attached.cgroup, self._attached.cgroup_root)
            self._here = here
            return Adoption(lambda asked: np.frombuffer(here.set_flags(asked.tobytes()), np.int32))
        return Adoption(self._reach.set_flags)

    def _tend_flags(self, present: SocketState, events: Records) -> bool:
        """Adopt what was open before, mend what somebody overwrote; whether there may be new rows in the map.

        No flag is set while nothing of ours is called for it: that would only call others.
        """
        if self._adoption is None:
            return False
        if self._strip_before_ns:
            self._adoption.strip(present.sockets, events, self._strip_before_ns)
            self._strip_before_ns = 0
        birth = EVENT_FLAGS if self._quiet or self._light.on else MODES[self._attached.callbacks]["BIRTH_FLAGS"]
        wish = Wish(
            birth,
            self._watched,
            reads_flags=present.descriptors is not None,
            adopts=self._adopt and self._is_attached(),
        )
        return self._adoption.tend(present.sockets, events, wish, self._all_descriptors)

    def _control(self) -> None:
        value = np.zeros(1, CONTROL)
        value["watched"], value["beside"] = self._watched, self._quiet
        value["light"] = self._light.on
        syscall.update(self._attached.fds["control"], np.zeros(1, "u4"), value)

    def close(self) -> None:
        """Detach, take back the flags that we set, let go of everything.

        Another sock_ops program may live by a flag that we set too: flags are taken back only where there is none. The
        helper does it, when it finds itself alone.
        """
        if not self._attached.fds:
            return
        self.measure(False)
        for name in ("link", "program"):
            os.close(self._attached.fds.pop(name))
        if self._followed is not None:
            self._followed.close()
        try:
            if self._here is not None:
                with suppress(OSError):  # the privilege is given up: what is left calls nobody
                    take_back_flags(self._here)
        finally:
            self._namespace_counters.close()
            self._host_counters.close()
            self._reach.close()
            self._ring.close()
            self._namespace_names.close()
            self._present.close()
            self._close_fds()

    def _close_fds(self) -> None:
        while self._attached.fds:
            os.close(self._attached.fds.popitem()[1])


def _why_polled(attached: Attached) -> str:
    reason = attached.refused.get(FILE_ITERATOR, "")
    if reason.startswith(kernel_offsets.HAS_NO):
        return f"sockets are polled: {reason} (tcptop-ops --doctor)"
    return "no iterators, sockets are polled: it takes a kernel with BTF (tcptop-ops --doctor)"
