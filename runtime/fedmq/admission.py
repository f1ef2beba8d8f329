"""Admission: what an update is answered, and when. Steps 8 and 9 of the walk of a delta.

Each is judged once, and its verdict sent when that is durable. One that comes again is sent the verdict that it has,
and while there is no room for another, whoever brings one is told when to try again. What was wrong is returned: what
that costs its sender is not decided here.
"""

from fedmq.collecting import Collecting
from fedmq.journal import Journal, Traffic, UpdateEntry
from fedmq.messages import Code, Update, Verdict
from fedmq.plan import Settings
from fedmq.post import LONGEST, Post
from fedmq.roster import Member, Roster
from fedmq.session import Receipt
from fedmq.stall import Stall

FAULTS = frozenset(Code) - {Code.ACCEPTED, Code.TOO_STALE, Code.FINISHED, Code.BUSY, Code.FORGOTTEN}


class Admission:
    """Answers the updates of all nodes."""

    def __init__(
        self,
        settings: Settings,
        roster: Roster,
        collector: Collecting,
        stall: Stall,
        journal: Journal,
        post: Post,
        traffic: Traffic,
    ) -> None:
        self._settings, self._roster, self._collector, self._stall = settings, roster, collector, stall
        self._journal, self._post, self._traffic = journal, post, traffic

    def take(self, member: Member, update: Update, size: int, now: float) -> tuple[str, str] | None:
        """Judge the update if it is new and there is room for it; `size` is that of its frame, in bytes.

        returns    the fault, if the node is to blame for a refusal
        raises     Unexpected if no update may come now
        """
        if (why := self._no_room(update)) and member.session.is_new(update):
            self._put_off(member, update, why, now)
            return None
        receipt = member.session.receive(update, now)
        if receipt is Receipt.FRESH:
            return self._judge(member, update, size, now)
        if receipt is Receipt.DUPLICATE and member.verdict is not None and member.verdict.seq == update.seq:
            self._post.send([member.peer], member.verdict)
        return None

    def acknowledge(self, entry: UpdateEntry) -> None:
        """Send the verdict on an update that is durable, unless the node has sent a later one."""
        member = self._roster.members[entry.node]
        if member.session.seq != entry.update.seq:
            return
        member.verdict = Verdict(
            session=member.session.number,
            seq=entry.update.seq,
            code=entry.code,
            text=entry.text,
            staleness=entry.staleness,
            weight=entry.taken,
        )
        if member.connected:
            self._post.send([member.peer], member.verdict)

    def _no_room(self, update: Update) -> str:
        """Return why no update can be taken now; a first one always fits."""
        if self._stall.problem:
            return self._stall.problem
        waiting, size, limit = self._journal.waiting_bytes, len(update.payload), self._settings.backlog_bytes
        if waiting > 0 and waiting + size > limit:
            return f"{waiting} bytes wait for the ledger, with these {size} over {limit} (backlog_bytes)"
        return ""

    def _put_off(self, member: Member, update: Update, why: str, now: float) -> None:
        member.session.heard_at = now
        verdict = Verdict(update.session, update.seq, Code.BUSY, why[:LONGEST], retry_after_s=self._stall.wait_s(now))
        self._post.send([member.peer], verdict)
        called = {"node": member.peer, "update": f"{member.name}/{update.seq}", "seq": update.seq}
        self._post.log("debug", "update.put_off", now, **called, text=why)

    def _judge(self, member: Member, update: Update, size: int, now: float) -> tuple[str, str] | None:
        newest = self._collector.versions.number
        member.task, member.verdict = None, None
        if self._settings.stop.is_last(newest):
            text = f"the federation has finished with version {newest}"
            entry = UpdateEntry(now, member.peer, update, size, Code.FINISHED, text)
        else:
            entry = self._collector.judge(member.peer, update, size, now)
        member.staleness = entry.staleness
        self._journal.add(entry)
        facts = {
            "node": member.peer,
            "update": f"{member.name}/{update.seq}",
            "seq": update.seq,
            "round": self._collector.round.number,
            "base_version": update.base_version,
            "version": newest,
            "staleness": entry.staleness,
            "examples": update.examples,
            "size_bytes": size,
        }
        if entry.code is Code.ACCEPTED:
            member.trained = max(member.trained, update.base_version)
            member.counted = member.session.number
            self._traffic.up_goodput += len(update.payload)
            self._roster.update_free(member, newest)
            self._post.log("debug", "update.admitted", now, **facts, weight=entry.taken)
            return None
        # Refused from the newest version, a node is asked again; its strikes see to it that this ends.
        self._roster.update_free(member, newest)
        self._collector.round.lose(member.peer, now)
        self._post.log("warning", "update.refused", now, **facts, code=entry.code.value, text=entry.text)
        return (entry.code, entry.text) if entry.code in FAULTS else None
