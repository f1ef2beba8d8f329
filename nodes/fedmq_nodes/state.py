"""A node's memory on disk: one file in a folder of the node's own, replaced as a whole, for one process at a time.

    memory            a safetensors file: `update`, the frame of the unjudged update; `residual` and `personal`,
                      float32; and in its metadata who the node is, the run, the seq, the schemas of both, and a digest
                      of all of it
    memory.damaged    what could not be read, moved aside
    memory.RUN        what was still unsent, or the node's own, when it joined another run, moved aside
    lock              held while a process lives

What cannot be written is said in the log, and the node works on: it then protects nothing against its own death, and
nothing else is worse than without a disk.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from fedmq import codec
from fedmq.delta import Arrays, Delta, Params, Schema
from fedmq.effects import Log
from fedmq.errors import FedmqError, LedgerUnusable
from fedmq.folder import claim, sync
from fedmq.memory import Memory
from fedmq.messages import Update
from fedmq_nodes.errors import StateUnusable

FORMAT = "1"
FILE = "memory"


class State:
    """The file of one node, open for one process.

    memory     what the last process left, empty if there was none
    """

    def __init__(self, folder: Path, who: Mapping[str, str], log: Callable[[Log], None]) -> None:
        self.path = folder / FILE
        self._who, self._log = dict(who), log
        self._precious: str | None = None  # run of what lies in the file and is nowhere else
        self.memory = self._read()
        self._note(self.memory)

    def write(self, memory: Memory) -> None:
        """Replace the file; when this returns, the new one is on the disk, or the log says why not."""
        partial = self.path.with_suffix(".partial")
        try:
            if self._precious not in (None, memory.run):
                os.replace(self.path, self.path.with_suffix(f".{self._precious or 'unnamed'}"))
            with partial.open("wb") as file:
                file.write(pack(memory, self._who))
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, self.path)
            sync(self.path.parent)
        except OSError as error:
            partial.unlink(missing_ok=True)
            text = f"{error.strerror}; should this process die now, what it has not sent is lost with it"
            self._log(Log("error", "memory.unwritable", {"path": str(self.path), "seq": memory.used, "text": text}))
            return
        self._note(memory)

    def _note(self, memory: Memory) -> None:
        nothing = memory.update is None and memory.residual is None and memory.personal is None
        self._precious = None if nothing else memory.run

    def _read(self) -> Memory:
        try:
            if not self.path.exists():
                return Memory()
            found, who = unpack(self.path)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError, FedmqError) as error:
            return self._set_aside(str(error))
        if who != self._who:
            keys = [key for key in self._who if who.get(key) != self._who[key]]
            both = ", ".join(f"{key} {who.get(key)!r}, this node has {self._who[key]!r}" for key in keys)
            raise StateUnusable(f"{self.path} is another node's: {both}; give this node a state of its own")
        if found.used:
            unsent = None if found.update is None else found.update.seq
            facts: dict[str, object] = {"seq": found.seq, "unsent": unsent, "run": found.run}
            self._log(Log("info", "memory.recalled", facts))
        return found

    def _set_aside(self, why: str) -> Memory:
        aside = self.path.with_suffix(".damaged")
        try:
            os.replace(self.path, aside)
        except OSError as error:
            raise StateUnusable(f"{self.path} can neither be read ({why}) nor moved aside: {error.strerror}") from error
        self._log(Log("error", "memory.damaged", {"path": str(self.path), "kept_as": str(aside), "text": why}))
        return Memory()


@contextmanager
def opened(folder: Path, name: str, federation: str, feature_space: str, log: Callable[[Log], None]) -> Iterator[State]:
    """Hold the state of this node, in a folder of its own below `folder`.

    federation     as the node was told to join it; empty is whichever listens there
    raises         StateUnusable if it is another node's, or in use, or the folder cannot be made
    """
    who = {"name": name, "federation": federation, "feature_space": feature_space}
    tag = hashlib.sha256(json.dumps(who, sort_keys=True).encode()).hexdigest()[:12]
    own = folder / f"{name}-{tag}"
    try:
        with claim(own):
            yield State(own, who, log)
    except LedgerUnusable as error:
        raise StateUnusable(f"the state of node {name}: {error}") from error


def personal(folder: Path, run: str) -> Params:
    """Return what the node with its state in this folder has learned in a run, and keeps to itself.

    raises     StateUnusable if it has nothing, or of another run
    """
    try:
        memory, _ = unpack(folder / FILE)
    except (OSError, ValueError, KeyError, TypeError, SafetensorError, FedmqError) as error:
        raise StateUnusable(f"{folder / FILE} cannot be read as a node's state: {error}") from error
    if memory.personal is None:
        raise StateUnusable(f"{folder / FILE} has no part of a node's own; the task shared everything")
    if memory.run != run:
        raise StateUnusable(f"{folder / FILE} is of run {memory.run}, not of run {run}")
    return memory.personal


def pack(memory: Memory, who: Mapping[str, str]) -> bytes:
    """Return the file of this memory."""
    tensors: dict[str, NDArray[np.generic]] = {}
    schema = personal = None
    if memory.update is not None:
        tensors["update"] = np.frombuffer(b"".join(codec.encode(memory.update)), np.uint8)
    if memory.residual is not None:
        tensors["residual"], schema = memory.residual.flat, memory.residual.schema.entries
    if memory.personal is not None:
        tensors["personal"], personal = memory.personal.flat, memory.personal.schema.entries
    facts = json.dumps({"who": who, "run": memory.run, "seq": memory.seq, "schema": schema, "personal": personal})
    return bytes(save(tensors, {"format": FORMAT, "facts": facts, "digest": _digest(facts, tensors)}))


def unpack(path: Path) -> tuple[Memory, dict[str, str]]:
    """Return what a file holds, and of which node; raises what is wrong with it."""
    with safe_open(path, framework="np") as file:
        notes = file.metadata() or {}
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    if notes.get("format") != FORMAT:
        raise ValueError(f"it has format {notes.get('format')}, this fedmq reads {FORMAT}")
    if (found := _digest(notes["facts"], tensors)) != notes["digest"]:
        raise ValueError(f"its digest is {found[:16]}, written was {notes['digest'][:16]}")
    facts = json.loads(notes["facts"])
    update = residual = personal = None
    if "update" in tensors:
        message = codec.decode((tensors["update"].tobytes(),))
        if not isinstance(message, Update):
            raise ValueError(f"it holds a {type(message).__name__} in place of an update")
        update = message
    if "residual" in tensors:
        residual = Delta(Arrays(_schema(facts["schema"]), tensors["residual"]))
    if "personal" in tensors:
        personal = Params(Arrays(_schema(facts["personal"]), tensors["personal"]))
    return Memory(facts["run"], facts["seq"], update, residual, personal), facts["who"]


def _schema(entries: Sequence[tuple[str, Sequence[int]]]) -> Schema:
    return Schema(tuple((name, tuple(shape)) for name, shape in entries))


def _digest(facts: str, tensors: Mapping[str, NDArray[np.generic]]) -> str:
    sha = hashlib.sha256(facts.encode())
    for name in sorted(tensors):
        sha.update(name.encode() + np.ascontiguousarray(tensors[name]).tobytes())
    return sha.hexdigest()
