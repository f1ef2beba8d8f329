"""Versions: what the aggregator knows, and what its nodes hold.

Two sets of params. `exact` is what commits move. `broadcast` is what every node that is up to date holds, to the bit.
With a lossless codec downwards they are the same, and each version is announced whole. With a lossy one, version v is
announced as C(exact_v - broadcast_{v-1}), and broadcast_v = broadcast_{v-1} + what that decodes to, computed in the
same way at both ends: what the codec lost stays in exact - broadcast and goes out with a later version (error feedback
on the downlink, as EF21-P, Gruntkowska et al. 2023, arXiv:2209.15218). There is one such chain for all nodes, so memory
does not grow with them.

A node that is behind gets the announcements that it missed, where they are smaller than the whole. No more of them are
kept than that: they never take more memory than one copy of the params.
"""

from collections import deque

from fedmq.compress import CODECS, Codec, codec
from fedmq.delta import Arrays, Delta, Params, Schema, add, digest_of, subtract
from fedmq.errors import BadPayload
from fedmq.messages import Model
from fedmq.seeds import seed

PROOF_BYTES = 16
EXACT = codec("fp32")


class Versions:
    """The newest version, and how to bring a node to it.

    number       of the newest
    announced    of the newest that nodes may know of; one behind while the newest is on its way to the ledger
    """

    def __init__(self, number: int, exact: Params, broadcast: Params, down: Codec) -> None:
        self.number, self.exact, self.broadcast = number, exact, broadcast
        self.announced = number
        self._down = down
        self._recent: deque[Model] = deque()
        self._proof = b""  # of `broadcast`, once somebody has asked

    def commit(self, params: Params) -> None:
        """Make these params the next version."""
        self.number += 1
        self.exact = params
        self._proof = b""
        if self._down.lossless:
            self.broadcast = params
            return
        payload = self._down.pack(subtract(params, self.broadcast), seed("down", self.number))
        self.broadcast = add(self.broadcast, Delta(self._down.unpack(payload, params.schema)))
        self._recent.append(Model(self.number, self.number - 1, self._down.name, self._own_proof(), payload))
        while sum(len(model.payload) for model in self._recent) >= EXACT.size_bytes(params.schema):
            self._recent.popleft()

    def has(self, held: int, shown: bytes) -> bool:
        """Whether version `held`, of which a node shows this proof, is one of ours.

        An older one needs no proof: with a lossy codec what follows is checked against its digest, and with a lossless
        one it is replaced whole. Of one that is on its way to the ledger nothing is known yet, which costs a node that
        greets just then a download.
        """
        if held < self.announced:
            return True
        return held == self.announced == self.number and shown == self._own_proof()

    def _own_proof(self) -> bytes:
        """Return the proof of what is broadcast: a fleet that comes back all at once asks for it at every hello."""
        self._proof = self._proof or proof(self.broadcast)
        return self._proof

    def news(self, held: int) -> list[Model]:
        """Return what brings a node from version `held` (-1: none) to the newest; nothing if it is there.

        Not to be asked while the newest must not be known yet.
        """
        if held == self.number:
            return []
        missed = [model for model in self._recent if model.version > held]
        if len(missed) == self.number - held:
            return missed
        return [self.whole]

    def latest(self) -> Model | None:
        """Return what brings a node from the version before to the newest, or None if it is only known whole."""
        return self._recent[-1] if self._recent else None

    @property
    def whole(self) -> Model:
        """The newest version, for a node that holds none."""
        return Model(self.number, -1, EXACT.name, b"", EXACT.pack(self.broadcast, 0))

    @property
    def lossless(self) -> bool:
        """Whether every version goes out whole."""
        return self._down.lossless


def adopt(model: Model, held: Params | None, version: int, schema: Schema) -> Params | None:
    """Return the params of this model for a node that holds `version` (-1: none), or None: it needs another first.

    raises     BadPayload if the result is not what the aggregator holds, or cannot be read
    """
    if model.codec not in CODECS:
        raise BadPayload(f"version {model.version} comes as {model.codec!r}; this end knows {', '.join(CODECS)}")
    values = codec(model.codec).unpack(model.payload, schema)
    if model.since < 0:
        return Params(values)
    if held is None or model.since != version:
        return None
    params = add(held, Delta(values))
    if proof(params) != model.digest:
        raise BadPayload(f"version {model.version} does not add up here; it is fetched whole")
    return params


def proof(params: Arrays) -> bytes:
    """Return what shows that two ends hold the same params, to the bit: the first 16 bytes of their sha256."""
    return bytes.fromhex(digest_of(params))[:PROOF_BYTES]
