"""What a node measures, for a Prometheus that asks it. A scrape reads what the core says of itself."""

from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

from fedmq import codec
from fedmq.codec import Frame
from fedmq.effects import Log
from fedmq.messages import Code
from fedmq.transports import Link
from fedmq.transports.tally import Tally
from fedmq_nodes.ear import Ear, Facts
from fedmq_nodes.sources import Data

ACTIVITIES = ("encoding", "idle", "training", "sending")
SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 900, 3600, 4 * 3600)
Seen = tuple[Facts, Tally]
Look = Callable[[], Seen]


class Meter(Ear):
    """The metrics of one node.

    hop     makes a question that can be asked from another thread; a scrape comes from one
    """

    def __init__(self, hop: Callable[[Look], Callable[[], Seen | None]]) -> None:
        self._hop = hop
        self._look: Callable[[], Seen | None] = lambda: None
        self._tally: Callable[[], Tally] = Tally
        registry = self.registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        Info("fedmq_build", "The fedmq that answers.", registry=registry).info({"version": version("fedmq")})
        self._verdicts = Counter("fedmq_node_updates", "Updates judged, by verdict.", ("verdict",), registry=registry)
        for code in Code:
            if code is not Code.BUSY:
                self._verdicts.labels(code.value)
        self._bytes = Counter(
            "fedmq_node_bytes", "Bytes of frames, envelopes included.", ("direction",), registry=registry
        )
        self._images = Counter("fedmq_node_images_encoded", "Images that the encoder has seen.", registry=registry)
        self._encoding = Counter(
            "fedmq_node_encoding_seconds", "Spent on them, reading and decoding included.", registry=registry
        )
        self._skipped = Gauge("fedmq_node_images_skipped", "Images that cannot be read.", registry=registry)
        self._examples = Gauge("fedmq_node_examples", "Examples, by what they are for.", ("split",), registry=registry)
        self._training = Histogram(
            "fedmq_node_training_seconds", "How long a local run took.", buckets=SECONDS, registry=registry
        )
        self._evaluation = Histogram(
            "fedmq_node_evaluation_seconds", "How long measuring a version took.", buckets=SECONDS, registry=registry
        )
        self._done = 0
        registry.register(self)

    def begin(self, look: Callable[[], Facts]) -> None:
        """Ask how this node, and its link, stand from now on."""
        self._look = self._hop(lambda: (look(), self._tally()))

    def logged(self, log: Log) -> None:
        """Count verdicts."""
        if log.event == "update.judged":
            self._verdicts.labels(log.fields["code"]).inc()

    def encoding(self, done: int) -> None:
        """Count images as they come, so that a rate can be seen while it lasts."""
        self._images.inc(max(0, done - self._done))
        self._done = done

    def prepared(self, data: Data, took_s: float) -> None:
        """Count examples, and what encoding cost."""
        self._examples.labels("train").set(len(data.train))
        self._examples.labels("test").set(len(data.test))
        self._skipped.set(len(data.skipped))
        if data.encoded:
            self._encoding.inc(took_s)

    def trained(self, took_s: float) -> None:
        """Measure a local run."""
        self._training.observe(took_s)

    def evaluated(self, took_s: float) -> None:
        """Measure an evaluation."""
        self._evaluation.observe(took_s)

    def counted(self, link: Link) -> Link:
        """Return this link, of whose frames the bytes are counted."""
        self._tally = link.tally
        return _Counted(link, self._bytes)

    def describe(self) -> Iterator[Metric]:
        """Say nothing beforehand."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the gauges, as things stand now."""
        if (seen := self._look()) is None:
            return
        facts, tally = seen
        yield GaugeMetricFamily("fedmq_node_version", "The newest version held, -1 none.", facts.version)
        yield GaugeMetricFamily("fedmq_node_connected", "1 while the aggregator answers.", int(facts.connected))
        yield GaugeMetricFamily("fedmq_node_updates_waiting", "Updates without a verdict: 0 or 1.", int(facts.waiting))
        states = GaugeMetricFamily("fedmq_node_activity", "1 for what it is at.", labels=("activity",))
        for one in ACTIVITIES:
            states.add_metric((one,), int(one == facts.activity))
        yield states
        carried = CounterMetricFamily(
            "fedmq_node_transport_bytes", "Bytes of frames with the framing of the link.", labels=("direction",)
        )
        carried.add_metric(("up",), tally.sent_bytes)
        carried.add_metric(("down",), tally.received_bytes)
        yield carried
        yield GaugeMetricFamily("fedmq_node_link_waiting_frames", "Frames that have not left.", tally.waiting)


class _Counted:
    """A node's end of a link, whose frames are counted as they pass."""

    def __init__(self, link: Link, count: Counter) -> None:
        self._link, self._up, self._down = link, count.labels("up"), count.labels("down")

    async def recv(self) -> list[tuple[str, Frame]]:
        """Wait for frames."""
        frames = await self._link.recv()
        self._down.inc(sum(codec.size_bytes(frame) for _, frame in frames))
        return frames

    async def send(self, peers: Sequence[str], frame: Frame) -> list[str]:
        """Hand over a frame."""
        lost = await self._link.send(peers, frame)
        self._up.inc(codec.size_bytes(frame) * (len(peers) - len(lost)))
        return lost

    async def close(self) -> None:
        """Let go."""
        await self._link.close()

    def tally(self) -> Tally:
        """Say what the link says."""
        return self._link.tally()
