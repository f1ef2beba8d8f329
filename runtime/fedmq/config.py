"""Settings from TOML: every key is checked, and a mistake is answered with the key and what it should be.

    federation = "pacs"         its name
    bundle = "tiny"             an embedded bundle, or a folder, relative to the file
    run = "runs/pacs"           the folder of its ledger, relative to the file
    start_from = "runs/one"    a run whose newest version this one begins with
    [link] [keeping] [task] [rounds] [combine] [weight] [guard] [outer] [statistics] [codec] [pulse] [limits] [stop]
    [see]

`[rounds] preset = "quorum"` takes that preset's values, any of which may be set beside it. `--set rounds.goal=4` on the
command line has the last word.
"""

import difflib
import ipaddress
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError

from fedmq.errors import ConfigInvalid, FedmqError
from fedmq.ledger import Keeping
from fedmq.login import Login
from fedmq.plan import Settings
from fedmq.quantities import Word
from fedmq.rounds import PRESETS
from fedmq.rules import CACHING, RULES, fewest
from fedmq.see import See

Form = TypeVar("Form")
Table = dict[str, Any]


@dataclass(frozen=True)
class Endpoint:
    """Where the aggregator listens, or the broker that it connects to, and who may come.

    curve        auto: encrypted and authenticated unless the address is loopback
    key          the aggregator's .key_secret file
    enrolled     folder with the public keys of the nodes that may come
    broker       who we are to a broker
    """

    address: Word = "tcp://127.0.0.1:5600"
    curve: Literal["auto", "on", "off"] = "auto"
    key: Path = Path("keys/aggregator.key_secret")
    enrolled: Path = Path("keys/enrolled")
    broker: Login = Login()

    @property
    def secure(self) -> bool:
        """Whether our keys encrypt and authenticate: the connection, or with a broker in between, each frame."""
        return self.curve == "on" or (self.curve == "auto" and not is_loopback(self.address))


@dataclass(frozen=True)
class Federation(Settings):
    """Everything that federation.toml says. `task` is the method's to check."""

    bundle: Word = "tiny"
    run: Path = Path("run")
    start_from: Path | None = None
    link: Endpoint = Endpoint()
    keeping: Keeping = Keeping()
    see: See = See()
    task: Mapping[str, Any] = field(default_factory=dict)


def is_broker(address: str) -> bool:
    """Whether an address is that of an MQTT broker."""
    return address.startswith(("mqtt://", "mqtts://"))


def require_private(address: str, login: Login) -> None:
    """Raise ConfigInvalid if what goes to this broker could be read on the way, unless that was asked for."""
    if address.startswith("mqtt://") and not is_loopback(address) and not login.insecure:
        raise ConfigInvalid(
            f"{address} is not on this machine: use mqtts:// (fedmq broker-config writes what the broker needs), or "
            "say insecure to send everything in the clear, the password too"
        )


def is_loopback(address: str) -> bool:
    """Whether an address can only be reached from this machine."""
    scheme, _, rest = address.partition("://")
    host = (rest.rpartition(":")[0] or rest).strip("[]")
    if scheme in ("ipc", "inproc") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False  # some other name, which may resolve to anything


def read(path: Path) -> Table:
    """Return the table in a TOML file.

    raises     ConfigInvalid if it cannot be read or is not TOML
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigInvalid(f"{path} cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"{path} is not TOML: {error}") from error


def override(table: Table, overrides: Sequence[str]) -> None:
    """Set what each `key=value` says, in place; a value is read as TOML, or else as text.

    raises     ConfigInvalid if one is not key=value
    """
    for text in overrides:
        _set(table, text)


def counts(option: str, text: str, example: str) -> list[int]:
    """Return the whole numbers above 0 that an option of the command line lists, as its example does.

    raises     ConfigInvalid
    """
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise ConfigInvalid(f"{option} is {text!r}; it takes whole numbers above 0, such as {example}")
    return [int(word) for word in words]


def federation(table: Table, where: str, folder: Path) -> Federation:
    """Return the federation that a table describes.

    where      what to call the table in an error
    folder     that its paths are relative to
    raises     ConfigInvalid, naming the key
    """
    rounds = _with_preset(table.get("rounds", {}), where)
    found = parse(Federation, {**table, "rounds": rounds}, where, also=("rounds.preset",))
    if found.rule not in RULES:
        raise ConfigInvalid(f"{where}: rule is {found.rule!r}; there are {', '.join(RULES)}")
    if 0 < found.rounds.goal < (needed := fewest(found.rule, found.combine)):
        raise ConfigInvalid(
            f"{where}: rounds.goal is {found.rounds.goal}, and the rule {found.rule} needs {needed} updates to "
            "see which of them is odd; raise the goal"
        )
    if found.rule in CACHING and not found.keeping.durable:
        raise ConfigInvalid(
            f"{where}: the rule {found.rule} needs keeping.durable: it goes on from deltas in the ledger"
        )
    if found.rule in CACHING and found.weight.steps == "normalised":
        raise ConfigInvalid(f'{where}: the rule {found.rule} caches whole deltas; weight.steps must be "ignored"')
    link = replace(
        found.link,
        key=folder / found.link.key,
        enrolled=folder / found.link.enrolled,
        broker=found.link.broker.located(folder),
    )
    is_path = "/" in found.bundle or (folder / found.bundle).is_dir()
    bundle = str(folder / found.bundle) if is_path else found.bundle
    start_from = found.start_from and folder / found.start_from
    return replace(found, run=folder / found.run, start_from=start_from, link=link, bundle=bundle)


def parse(form: type[Form], table: Mapping[str, Any], where: str, prefix: str = "", also: Sequence[str] = ()) -> Form:
    """Return a table as a dataclass.

    prefix     what stands before its keys in an error, such as "task."
    also       keys that were dealt with before, and may still be what was meant
    raises     ConfigInvalid, naming the key that is unknown or has a value that it cannot have
    """
    known = [prefix + key for key in keys(form)]
    for key in _used(table, form, prefix):
        if key not in known:
            near = difflib.get_close_matches(key, [*known, *also], 1, 0.5)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(_leaves([*known, *also]))}"
            raise ConfigInvalid(f"{where}: unknown key {key}; {hint}")
    try:
        return TypeAdapter(form).validate_python(table)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        key = prefix + ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise ConfigInvalid(f"{where}: {key} is missing") from error
        why = first["msg"].removeprefix("Value error, ").lower()
        raise ConfigInvalid(f"{where}: {key} is {first['input']!r}: {why}") from error
    except FedmqError as error:
        raise ConfigInvalid(f"{where}: {error}") from error


def keys(form: Any) -> Iterator[str]:
    """Yield every dotted key that a dataclass has, tables included."""
    for name, kind in _fields(form):
        yield name
        if is_dataclass(kind):
            yield from (f"{name}.{key}" for key in keys(kind))


def _fields(form: Any) -> list[tuple[str, Any]]:
    hints = get_type_hints(form)
    return [(f.name, hints[f.name]) for f in fields(form)]


def _used(table: Mapping[str, Any], form: Any, prefix: str) -> Iterator[str]:
    """Yield the dotted keys of a table, as deep as the form has tables of its own."""
    kinds = dict(_fields(form))
    for name, value in table.items():
        yield prefix + name
        if isinstance(value, Mapping) and is_dataclass(kinds.get(name)):
            yield from _used(value, kinds[name], f"{prefix}{name}.")


def _leaves(known: Sequence[str]) -> list[str]:
    return [key for key in known if not any(other.startswith(key + ".") for other in known)]


def _with_preset(rounds: object, where: str) -> object:
    """Return the table of a preset, with what stands beside it; what is no table is left for `parse` to name."""
    if not isinstance(rounds, Mapping):
        return rounds
    rest = dict(rounds)
    name = rest.pop("preset", "sync")
    if not isinstance(name, str) or name not in PRESETS:
        raise ConfigInvalid(f"{where}: rounds.preset is {name!r}; there are {', '.join(PRESETS)}")
    return asdict(PRESETS[name]) | rest


def _set(table: Table, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals or not key.strip():
        raise ConfigInvalid(f"--set {override}: write key=value, such as rounds.goal=4")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *parents, last = key.strip().split(".")
    for parent in parents:
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigInvalid(f"--set {override}: {parent} is a value, not a table")
    table[last] = value
