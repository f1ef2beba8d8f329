"""What an aggregator measures: counted from what has become durable, and read from the status when somebody asks.

No label has a node's name in it, nor anything else of which there may be as many as nodes: who wants to know about one
node asks `fedmq status`, or the node. A counter begins at 0 with the process, as Prometheus expects.
"""

import math
from collections import Counter as Count
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import chain

from prometheus_client import CollectorRegistry, Counter, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from fedmq.journal import Entry, EventEntry, UpdateEntry, VersionEntry
from fedmq.messages import Code
from fedmq.status import Status
from fedmq.transports.tally import Tally
from fedmq.watching import Look

STATES = ("preparing", "encoding", "idle", "training", "gone", "finished")
OTHER = "other"  # a word that a node said of itself and that is none of ours
STALENESS = (0, 1, 2, 3, 5, 8, 13, 20, 50, 100)
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600)
WRITES_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)
Seen = tuple[Status, Tally]
ENTRIES = (1, 2, 5, 10, 20, 50, 100, 500, 1000, 10000)


class Meter:
    """The metrics of one aggregator; a watcher.

    hop     makes a question that can be asked from another thread; a scrape comes from one
    tally   says how the link stands
    """

    def __init__(
        self, hop: Callable[[Callable[[], Seen]], Callable[[], Seen | None]], tally: Callable[[], Tally]
    ) -> None:
        self._hop, self._tally = hop, tally
        self._look: Callable[[], Seen | None] = lambda: None
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("fedmq_build", "The fedmq that answers.", registry=registry).info({"version": version("fedmq")})
        self._updates = Counter("fedmq_updates", "Updates judged, by verdict.", ("verdict",), registry=registry)
        for code in Code:
            if code is not Code.BUSY:  # it is no judgement: the update comes again
                self._updates.labels(code.value)
        self._staleness = Histogram(
            "fedmq_update_staleness",
            "Versions that accepted updates were behind.",
            buckets=STALENESS,
            registry=registry,
        )
        self._training = Histogram(
            "fedmq_update_training_seconds",
            "How long accepted updates were trained, as their nodes say.",
            buckets=SECONDS,
            registry=registry,
        )
        self._rounds = Histogram(
            "fedmq_round_seconds", "From a round's first invitation to its close.", ("cause",), buckets=SECONDS,
            registry=registry,
        )  # fmt: skip
        self._writes = Histogram(
            "fedmq_ledger_write_seconds",
            "Until a batch of the ledger was durable.",
            buckets=WRITES_S,
            registry=registry,
        )
        self._batches = Histogram(
            "fedmq_ledger_batch_entries", "Entries that shared one write: the longer the queue, the more.",
            buckets=ENTRIES, registry=registry,
        )  # fmt: skip
        self._refusals = Counter("fedmq_nodes_refused", "Greetings refused, by reason.", ("reason",), registry=registry)
        self._strikes = Counter("fedmq_strikes", "Faults of peers, by reason.", ("reason",), registry=registry)
        registry.register(self)

    def begin(self, look: Look) -> None:
        """Ask the status of this aggregator from now on."""
        self._look = self._hop(lambda: (look(), self._tally()))

    def happened(self) -> None:
        """Nothing: a gauge is read when it is asked for."""

    def kept(self, entries: Sequence[Entry], took_s: float) -> None:
        """Count what is durable."""
        self._writes.observe(took_s)
        self._batches.observe(len(entries))
        for entry in entries:
            match entry:
                case UpdateEntry():
                    self._judged(entry)
                case VersionEntry():
                    self._rounds.labels(entry.cause).observe(entry.closed_at - entry.opened_at)
                case EventEntry(event="node.refused", fields=fields):
                    self._refusals.labels(fields["reason"]).inc()
                case EventEntry(event="peer.struck", fields=fields):
                    self._strikes.labels(fields["reason"]).inc()

    def end(self) -> None:
        """Have no gauges any more."""
        self._look = lambda: None

    def describe(self) -> Iterator[Metric]:
        """Say nothing beforehand: what there is, is known when there is a status."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges, as things stand now."""
        seen = self._look()
        return iter(()) if seen is None else chain(gauges(*seen), link(seen[1]))

    def _judged(self, entry: UpdateEntry) -> None:
        self._updates.labels(entry.code.value).inc()
        if entry.code is Code.ACCEPTED:
            self._staleness.observe(entry.staleness)
            if 0 <= entry.update.train_s < math.inf:  # a node's word, which may be any float
                self._training.observe(entry.update.train_s)


def gauges(status: Status, tally: Tally) -> Iterator[Metric]:
    """Yield what a status says, as metrics; bytes are those of the link as well."""
    round_, ledger, accuracy = status["round"], status["ledger"], status["accuracy"]
    for name, text, value in (
        ("fedmq_version", "The newest version.", status["version"]),
        ("fedmq_round_updates", "Updates that the open round has.", round_["have"]),
        ("fedmq_round_goal", "Updates that close it at once.", round_["goal"]),
        ("fedmq_round_quorum", "The fewest that may close it.", round_["quorum"]),
        ("fedmq_round_waiting_nodes", "Nodes that it waits for.", len(round_["waiting_for"])),
        ("fedmq_round_open_seconds", "How long it has been open.", round_["open_s"] or 0.0),
        ("fedmq_quarantined_peers", "Peers that are not listened to for a while.", len(status["muted"])),
        ("fedmq_ledger_waiting_bytes", "Payload of updates that wait for the ledger.", ledger["waiting_bytes"]),
        ("fedmq_ledger_stalled", "1 while the disk takes nothing.", int(ledger["problem"] is not None)),
    ):
        yield GaugeMetricFamily(name, text, value)
    states = Count(node["state"] if node["state"] in STATES else OTHER for node in status["nodes"])
    nodes = GaugeMetricFamily("fedmq_nodes", "Nodes that are known, by state.", labels=("state",))
    for state in (*STATES, OTHER):
        nodes.add_metric((state,), states[state])
    yield nodes
    traffic = CounterMetricFamily("fedmq_bytes", "Bytes, by direction and layer.", labels=("direction", "layer"))
    layers = {**status["bytes"], "up_transport": tally.received_bytes, "down_transport": tally.sent_bytes}
    for key, count in layers.items():
        traffic.add_metric(key.split("_"), count)
    yield traffic
    right = GaugeMetricFamily("fedmq_accuracy", "Mean over nodes of what each last reported.", labels=("model",))
    for model in ("zero_shot", "federated", "personal"):
        if accuracy[model] is not None:
            right.add_metric((model,), accuracy[model])
    yield right


def link(tally: Tally) -> Iterator[Metric]:
    """Yield what waits in a link, as metrics."""
    yield GaugeMetricFamily("fedmq_link_waiting_frames", "Frames that wait to leave, over all nodes.", tally.waiting)
    if tally.most is not None:
        yield GaugeMetricFamily("fedmq_link_waiting_frames_most", "Of one node, the most.", tally.most)
    untaken = CounterMetricFamily("fedmq_link_untaken_frames", "Frames that could not wait.", labels=("reason",))
    untaken.add_metric(("full",), tally.full)
    untaken.add_metric(("gone",), tally.gone)
    yield untaken
