"""Terms: the settings that shape a commit, as a ledger keeps them, so that a version can be computed again without them
being told.
"""

import json
from dataclasses import asdict, fields

from fedmq.config import parse
from fedmq.plan import Settings

# Who may come, for how long and how much: nothing of it changes what a version is, given the updates in it.
_OTHERS = {
    "start_nodes",
    "evaluate_every",
    "most_nodes",
    "backlog_bytes",
    "strikes",
    "mute_s",
    "pulse",
    "limits",
    "stop",
}


def written(settings: Settings) -> str:
    """Return the terms as JSON; equal terms give equal text."""
    values = asdict(settings)
    return json.dumps({f.name: values[f.name] for f in fields(Settings) if f.name not in _OTHERS}, sort_keys=True)


def read(text: str) -> Settings:
    """Return settings with these terms, all others at their defaults.

    raises     ConfigInvalid, naming the key, if this fedmq does not know one
    """
    return parse(Settings, json.loads(text), "the settings in the ledger")
