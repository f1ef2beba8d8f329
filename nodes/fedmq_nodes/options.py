"""A node's options: the same whether they come from the command line or from a fleet file."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from fedmq.config import is_loopback, require_private
from fedmq.errors import ConfigInvalid
from fedmq.keys import NodeKeys, load, load_public
from fedmq.login import Login
from fedmq.quantities import Amount, Count, Positive, Share, Word
from fedmq.see import place
from fedmq_models import bundle as bundles
from fedmq_nodes import images
from fedmq_nodes.errors import DataUnusable
from fedmq_nodes.files import Choice
from fedmq_nodes.permit import Permit, permit
from fedmq_nodes.sources import FeatureFile, Images, Source, Split

NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


@dataclass(frozen=True)
class NodeOptions:
    """One node.

    name               unique in its federation
    data               folder with a folder of images per class; or
    features           file of features of the bundle's encoder, of which only
    where, part        rows with these values, and of these the k-th of n equal parts ("k/n"), are this node's
    bundle             an embedded bundle's name, or a folder
    cache              folder of encoded features, which nodes of one device may share
    state              folder of what the node must not lose: its unsent update, its residual, its seq
    device, threads    what the encoder runs on, and how many cores it and the training may use
    test_share         of the examples held back for evaluation
    train              False makes a node that only evaluates, on all of its examples
    examples_per_s     pretend to be a device that trains no faster than this; 0 is as fast as it can
    key                this node's .key_secret, and aggregator_key the aggregator's .key, for an encrypted link
    user, password     of a broker: who this node is to it (its name, if there is a password), and the password's file
    ca                 file of the certificates that the broker's must descend from
    cert, cert_key     this node's certificate and its key, for a broker that asks for one
    metrics            [host:]port of a Prometheus endpoint
    cache_bytes        the most that encoded features may take on the disk; 0 is without a bound
    batch              images that the encoder takes at once; fewer need less memory
    arrivals_s         look for new data before a local run, at most so often; 0 never
    hours              HH:MM-HH:MM, this device's time: train only then
    when               a command that permits training with exit code 0
    nice               how far everything else on this device comes first, up to 19
    """

    name: Annotated[str, Field(pattern=NAME)]
    data: Path | None = None
    features: Path | None = None
    where: Mapping[str, str] = field(default_factory=dict)
    part: Annotated[str, Field(pattern=r"^[1-9]\d*/[1-9]\d*$")] = "1/1"
    bundle: Word = "tiny"
    cache: Path | None = None
    state: Path | None = None
    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    threads: Positive | None = None
    test_share: Share = 0.2
    train: bool = True
    examples_per_s: Amount = 0.0
    key: Path | None = None
    aggregator_key: Path | None = None
    user: Word | None = None
    password: Path | None = None
    ca: Path | None = None
    cert: Path | None = None
    cert_key: Path | None = None
    metrics: Word | None = None
    cache_bytes: Count = 0
    batch: Positive | None = None
    arrivals_s: Amount = 0.0
    hours: Word | None = None
    when: Word | None = None
    nice: Annotated[int, Field(strict=True, ge=0, le=19)] = 0

    def __post_init__(self) -> None:
        if self.metrics is not None:
            place("metrics", self.metrics)
        self.permit()
        if (self.data is None) == (self.features is None):
            both = "both" if self.data else "neither"
            raise ConfigInvalid(
                f"node {self.name} has {both} of data and features; give it one: images, or their features"
            )

    def source(self, bundle: bundles.Bundle) -> Source:
        """Return where this node's features come from."""
        if self.features is not None:
            k, _, n = self.part.partition("/")
            return FeatureFile(self.features, bundle, Choice(self.where, (int(k), int(n))))
        assert self.data is not None
        return Images(
            self.data,
            bundle,
            self.cache or user_cache() / "features",
            self.device,
            self.threads,
            self.batch,
            self.cache_bytes,
        )

    def require_data(self) -> None:
        """Raise DataUnusable if there is nothing to work on, before anyone waits for this node."""
        if self.data is not None:
            images.require_some(self.data)
        elif self.features is not None and not self.features.is_file():
            raise DataUnusable(f"{self.features} is not a file; --features takes an .npz or .safetensors file")

    def permit(self) -> Permit:
        """Return when this node may train.

        raises     ConfigInvalid
        """
        return permit(self.hours, self.when)

    def split(self) -> Split:
        """Return what is trained on and what is held back."""
        return Split(self.test_share, self.train)

    def pair(self) -> NodeKeys | None:
        """Return the keys that this node has, or None.

        raises     ConfigInvalid if it has one half of what it needs
        """
        if self.key is not None and self.aggregator_key is not None:
            return NodeKeys(load(self.key), load_public(self.aggregator_key))
        if self.key is not None or self.aggregator_key is not None:
            raise ConfigInvalid("an encrypted link needs both --key and --aggregator-key")
        return None

    def keys(self, address: str, insecure: bool = False) -> NodeKeys | None:
        """Return the keys of an encrypted link, or None for a plain one.

        raises     ConfigInvalid for a plain link that leaves this machine, unless that was asked for
        """
        if (pair := self.pair()) is not None:
            return pair
        if not is_loopback(address) and not insecure:
            raise ConfigInvalid(
                f"{address} is not on this machine: give --key and --aggregator-key (fedmq keys new makes them), "
                "or --insecure to send everything in the clear"
            )
        return None

    def login(self, address: str, insecure: bool = False) -> Login:
        """Return who this node is to the broker at this address.

        raises     ConfigInvalid for a plain link that leaves this machine, unless that was asked for
        """
        user = self.user or (self.name if self.password is not None else None)
        login = Login(user, self.password, self.ca, self.cert, self.cert_key, insecure)
        require_private(address, login)
        return login

    def arguments(self) -> list[str]:
        """Return these options as `fedmq join` takes them."""
        words: list[str] = []
        for f in fields(self):
            value = getattr(self, f.name)
            flag = "--" + f.name.replace("_", "-")
            if f.name == "where":
                words += [word for column, wanted in value.items() for word in (flag, f"{column}={wanted}")]
            elif f.name == "train":
                words += [] if value else ["--no-train"]
            elif value is not None and value != f.default:
                words += [flag, str(value)]
        return words


def user_cache() -> Path:
    """Return this user's folder for what can be made again: encoded features, drawn images."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "fedmq"


def default_name(path: Path) -> str:
    """Return a name that tells this device, and what it works on."""
    raw = f"{socket.gethostname()}-{path.stem}"
    return "".join(c if c.isalnum() and c.isascii() else "-" for c in raw)[:64]
