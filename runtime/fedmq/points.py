"""Points: where a federation stood, from its record. Resuming, replaying and forgetting go on from one."""

import json
import math
from dataclasses import replace

import numpy as np

from fedmq.compress import codec
from fedmq.delta import Arrays, Delta, Params, Schema, Vector
from fedmq.errors import LedgerUnusable, PayloadGone
from fedmq.guards import REMEMBERED
from fedmq.journal import Traffic, UpdateEntry
from fedmq.messages import Code, Update, Verdict
from fedmq.past import Known, Past, Point
from fedmq.record import BROADCAST, CACHED, EXACT, Record, Row, vector
from fedmq.rules.rule import Contribution
from fedmq.segments import Place, read


class Points:
    """The points of one record."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def past(self) -> Past:
        """Return what an aggregator needs in order to go on."""
        (last,) = self._record.rows("select * from versions order by version desc limit 1")
        point = self.point(last["version"])
        if point is None:
            raise LedgerUnusable(f"the params of the newest version, {last['version']}, are not in the ledger")
        traffic = Traffic(**{name: last[name] for name in Traffic.__dataclass_fields__})
        nodes = tuple(map(_known, self._last_updates()))
        return Past(point, self.folded(last["folded"]), nodes, traffic, self._record.meta().get("run", ""))

    def point(self, version: int) -> Point | None:
        """Return where the federation stood at this version, or None if its params were not kept.

        raises     PayloadGone if a delta that its rule goes on from was not kept, LedgerUnusable if one is damaged
        """
        values = self._record.array(version, EXACT)
        if values is None:
            return None
        (row,) = self._record.rows("select folded from versions where version = ?", (version,))
        norms = self._record.rows(
            "select norm from updates where number < ? and norm > 0 order by number desc limit ?",
            (row["folded"], REMEMBERED),
        )
        exact, broadcast = Params(Arrays(self._record.schema(), values)), self._record.array(version, BROADCAST)
        return Point(
            version=version,
            exact=exact,
            broadcast=exact if broadcast is None else Params(Arrays(exact.schema, broadcast)),
            states=self._states(version),
            cached=self._cached(version),
            folded=row["folded"],
            norms=tuple(row["norm"] for row in reversed(norms)),
            beginning=self._beginning(version, exact),
            live=self.live(row["folded"]),
            forgotten=self._record.forgotten(),
        )

    def cached(self, version: int) -> list[int]:
        """Return the numbers of the updates that the rule went on from after this version."""
        rows = self._record.rows("select data from arrays where version = ? and kind = ?", (version, CACHED))
        return [int(number) for row in rows for number in np.frombuffer(row["data"], "<i8")]

    def before_forgetting(self, version: int) -> Point | None:
        """Return where the federation stood at this version, but for what was then forgotten; None if unknown.

        The params of the version are gone, because what was forgotten is in them; a head is solved without them.
        """
        values = self._record.array(0, EXACT)
        if values is None:
            return None
        (row,) = self._record.rows("select folded from versions where version = ?", (version,))
        start = Params(Arrays(self._record.schema(), values))
        return Point(version, start, start, folded=row["folded"], live=self.live(row["folded"]))

    def live(self, folded: int) -> tuple[UpdateEntry, ...]:
        """Return of each node the newest statistics numbered below `folded`, in the order of folding.

        raises     LedgerUnusable if a payload is damaged
        """
        if self._record.meta()["format"] == "1":
            return ()
        rows = self._record.rows(
            "select * from updates join payloads using (number) where number in (select max(number) from updates"
            " where codec glob 'stats-*' and number < ? group by node) order by number",
            (folded,),
        )
        return tuple(self._accepted(row) for row in rows)

    def folded(self, first: int, end: int | None = None) -> tuple[UpdateEntry, ...]:
        """Return the accepted updates numbered from `first` to before `end` whose payloads are kept, in order.

        raises     LedgerUnusable if a payload is damaged, naming the update
        """
        if self._record.meta()["format"] == "1":
            return ()
        rows = self._record.rows(
            "select * from updates join payloads using (number) where number >= ? and number < ? order by number",
            (first, 2**63 - 1 if end is None else end),
        )
        return tuple(self._accepted(row) for row in rows)

    def _cached(self, version: int) -> tuple[Contribution, ...]:
        wanted, schema = self.cached(version), self._record.schema()
        if not wanted:
            return ()
        rows = self._record.rows(
            "select * from updates join payloads using (number) where number in (select value from json_each(?))"
            " order by node",
            (json.dumps(wanted),),
        )
        if len(rows) < len(wanted):
            raise PayloadGone(
                f"version {version} goes on from the newest deltas of {len(wanted)} nodes, {len(rows)} of them are kept"
            )
        return tuple(contribution(self._accepted(row), schema) for row in rows)

    def _beginning(self, version: int, exact: Params) -> Params | None:
        if version == 0 or not self._record.rows("select 1 from updates where codec glob 'stats-*' limit 1"):
            return None
        values = self._record.array(0, EXACT)
        return None if values is None else Params(Arrays(exact.schema, values))

    def _accepted(self, row: Row) -> UpdateEntry:
        place = Place(row["segment"], row["start"], row["size"], row["crc"])
        try:
            return update_entry(row, read(self._record.path, place))
        except LedgerUnusable as error:
            raise type(error)(f"update {row['number']}, seq {row['seq']} of {row['node']}: {error}") from error

    def _last_updates(self) -> list[Row]:
        return self._record.rows(
            "select n.*, u.seq, u.code, u.text, u.staleness,"
            " u.weight * u.damping * u.scale as weight,"
            " (select max(base_version) from updates where node = n.node and code = ?) as trained"
            " from nodes n left join updates u"
            " on u.node = n.node and u.seq = (select max(seq) from updates where node = n.node)",
            (Code.ACCEPTED.value,),
        )

    def _states(self, version: int) -> dict[str, Vector]:
        rows = self._record.rows(
            "select kind, data from arrays where version = ? and kind not in (?, ?, ?)",
            (version, EXACT, BROADCAST, CACHED),
        )
        return {row["kind"]: vector(row) for row in rows}


def update_entry(row: Row, payload: bytes = b"") -> UpdateEntry:
    """Return an update as it was judged; the session that sent it is over."""
    update = Update(
        session=0,
        seq=row["seq"],
        base_version=row["base_version"],
        codec=row["codec"],
        examples=row["examples"],
        steps=row["steps"],
        loss=math.nan if row["loss"] is None else row["loss"],
        train_s=row["train_s"],
        payload=payload,
    )
    return UpdateEntry(
        at=row["at"],
        node=row["node"],
        update=update,
        frame_bytes=row["frame_bytes"],
        code=Code(row["code"]),
        text=row["text"],
        number=row["number"],
        staleness=row["staleness"],
        weight=row["weight"],
        damping=row["damping"],
        scale=row["scale"],
        norm=row["norm"],
    )


def contribution(entry: UpdateEntry, schema: Schema) -> Contribution:
    """Return what a rule has of an accepted update."""
    assert entry.number is not None
    update = entry.update
    return Contribution(
        node=entry.node,
        number=entry.number,
        version=update.base_version + entry.staleness,
        delta=Delta(codec(update.codec).unpack(update.payload, schema)),
        weight=entry.weight,
        damping=entry.damping,
        scale=entry.scale,
    )


def _known(row: Row) -> Known:
    active = row["state"] not in ("gone", "finished")
    known = Known(
        node=row["node"],
        name=row["name"],
        active=active,
        examples=row["examples"],
        bytes_up=row["bytes_up"],
        bytes_down=row["bytes_down"],
        strikes=row["strikes"],
    )
    if row["seq"] is None:
        return known
    verdict = Verdict(0, row["seq"], Code(row["code"]), row["text"], row["staleness"], row["weight"])
    trained = -1 if row["trained"] is None else row["trained"]
    return replace(known, seq=row["seq"], verdict=verdict, trained=trained)
