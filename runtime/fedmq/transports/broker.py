"""A broker: where it is, who we are to it, and one connection to it, over MQTT 5 with aiomqtt.

A client object serves one connection. It acknowledges a message only when that was taken, so that the broker never has
more on its way to us than the receive maximum: aiomqtt acknowledges what it has read, and drops what does not fit.
Messages are heard as they come: its queue, waited for message by message, takes longer than all the rest.
"""

import asyncio
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiomqtt
from paho.mqtt.client import MQTT_ERR_SUCCESS, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.client import Client as Paho
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from fedmq.errors import AddressUnusable, ConfigInvalid
from fedmq.login import Login

PORTS = {"mqtt": 1883, "mqtts": 8883}
WITHIN_S = 10.0
KEEP_ALIVE_S = 15
SESSION_S = 300  # for so long the broker keeps what came for us while we are away
WILL_DELAY_S = 1  # an end that is back within it was never gone
UNSUPPORTED, BAD_LOGIN, NOT_AUTHORISED = 0x84, 0x86, 0x87
# What is in a TLS alert (RFC 8446, 6.2) of an end that wants a certificate of us, or another one.
OURS = ("CERTIFICATE", "UNKNOWN_CA", "ACCESS_DENIED")


@dataclass(frozen=True)
class Terms:
    """How we connect.

    identifier    under which the broker knows our session; one that nobody can guess, or they could throw us out
    receive       messages that it may have on their way to us
    packet_bytes  the largest that it may send
    will          (topic, what it says there when we are gone), if anyone wants to know
    """

    identifier: str
    receive: int
    packet_bytes: int
    will: tuple[str, bytes] | None = None


Hear = Callable[["Client", str, bytes, int], None]


class Client(aiomqtt.Client):
    """One connection.

    resumed          whether the broker still had our session
    receive_most     messages that it takes before it has acknowledged the first
    packet_bytes     the largest that it takes
    """

    def __init__(self, host: str, port: int, terms: Terms, fresh: bool, hear: Hear, **more: Any) -> None:
        connect = _properties(PacketTypes.CONNECT)
        connect.SessionExpiryInterval = SESSION_S
        connect.ReceiveMaximum = terms.receive
        connect.MaximumPacketSize = terms.packet_bytes
        super().__init__(
            host, port, identifier=terms.identifier, protocol=aiomqtt.ProtocolVersion.V5, clean_start=fresh,
            keepalive=KEEP_ALIVE_S, timeout=WITHIN_S, will=_will(terms.will), properties=connect, **more,
        )  # fmt: skip
        self._hear = hear
        self.resumed = False
        self.receive_most, self.packet_bytes = 65_535, 2**28 - 1
        self._posted: dict[int, asyncio.Future[ReasonCode]] = {}
        self._fault: ssl.SSLError | None = None
        self._client.manual_ack_set(True)
        self._client.max_inflight_messages_set(0)  # counted by who posts

    def post(self, topic: str, payload: bytes, lasting_s: int | None = None) -> asyncio.Future[ReasonCode]:
        """Publish, and return what will be the broker's answer.

        lasting_s      retain it for so long
        """
        properties = None  # to make an empty one takes as long as to send a small message
        if lasting_s is not None:
            properties = _properties(PacketTypes.PUBLISH)
            properties.MessageExpiryInterval = lasting_s
        info = self._client.publish(topic, payload, 1, lasting_s is not None, properties)
        if info.rc != MQTT_ERR_SUCCESS:
            raise aiomqtt.MqttCodeError(info.rc, "Could not publish message")
        answer = self._posted[info.mid] = asyncio.get_running_loop().create_future()
        return answer

    def take(self, number: int) -> None:
        """Acknowledge a message, so that another may come."""
        self._client.ack(number, 1)

    async def broken(self) -> None:
        """Wait until the connection breaks, which raises."""
        async for _ in self.messages:
            raise AssertionError("messages are heard elsewhere")

    def drop(self) -> None:
        """Let go of the socket that a connection which was broken off may have left."""
        if (socket := self._client.socket()) is not None:
            loop = asyncio.get_running_loop()
            loop.remove_reader(socket)
            loop.remove_writer(socket)
            socket.close()
        if self._misc_task is not None:
            self._misc_task.cancel()

    def _on_connect(
        self,
        client: Paho,
        userdata: Any,
        flags: ConnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        self.resumed = flags.session_present
        self.receive_most = getattr(properties, "ReceiveMaximum", self.receive_most)
        self.packet_bytes = getattr(properties, "MaximumPacketSize", self.packet_bytes)
        super()._on_connect(client, userdata, flags, reason_code, properties)

    def _on_disconnect(
        self,
        client: Paho,
        userdata: Any,
        flags: DisconnectFlags,
        reason_code: ReasonCode,
        properties: Properties | None = None,
    ) -> None:
        if self._connected.done():
            super()._on_disconnect(client, userdata, flags, reason_code, properties)
            return
        # aiomqtt would wait for its timeout. With TLS 1.3 this is how a broker says that it wants another certificate
        # of us: by then our side of the handshake is over.
        error = aiomqtt.MqttError(str(self._fault or reason_code))
        error.__cause__ = self._fault
        self._connected.set_exception(error)

    def _on_socket_close(self, client: Paho, userdata: Any, sock: Any) -> None:
        self._fault = getattr(sock, "fault", None)
        super()._on_socket_close(client, userdata, sock)

    def _on_message(self, client: Paho, userdata: Any, message: MQTTMessage) -> None:
        if message.qos:  # we send none without, and of those the receive maximum is no bound
            self._hear(self, message.topic, bytes(message.payload), message.mid)

    def _on_publish(
        self, client: Paho, userdata: Any, mid: int, reason_code: ReasonCode, properties: Properties
    ) -> None:
        answer = self._posted.pop(mid, None)
        if answer is not None and not answer.done():
            answer.set_result(reason_code)

    def _on_socket_register_write(self, client: Paho, userdata: Any, sock: Any) -> None:
        # aiomqtt notes the socket's number now and uses it later, when that may be nobody's, or another socket's.
        def register() -> None:
            if sock.fileno() >= 0:
                self._loop.add_writer(sock, client.loop_write)

        self._loop.call_soon_threadsafe(register)


class Broker:
    """A broker at an address such as mqtt://127.0.0.1:1883, or mqtts:// for TLS, which makes it private."""

    def __init__(self, address: str, login: Login) -> None:
        """Read the address and the files that the login names.

        raises     AddressUnusable if the address makes no sense, ConfigInvalid if a file cannot be used
        """
        self.address = address
        try:
            parts = urlsplit(address)
            scheme, host, port = parts.scheme, parts.hostname, parts.port
        except ValueError:
            scheme, host, port = "", None, None
        if scheme not in PORTS or not host or parts.path not in ("", "/") or parts.username:
            raise AddressUnusable(
                f"{address} cannot be used: the address of a broker looks like mqtt://127.0.0.1:1883 or mqtts://host"
            )
        self._host, self.port, self.is_private = host, port or PORTS[scheme], scheme == "mqtts"
        self._user, self._password = login.user, _password(login)
        self._tls = _tls(login) if self.is_private else None

    def client(self, terms: Terms, fresh: bool, hear: Hear) -> Client:
        """Return a connection to be entered.

        fresh      begin a new session
        hear       told of every message: the connection, its topic, its payload, and the number to take it by
        """
        return Client(
            self._host,
            self.port,
            terms,
            fresh,
            hear,
            username=self._user,
            password=self._password,
            tls_context=self._tls,
        )

    async def knock(self) -> int:
        """Connect once; return the largest packet that the broker takes.

        raises     AddressUnusable, with the reason
        """
        client = self.client(Terms("", receive=1, packet_bytes=1024), fresh=True, hear=lambda *_: None)
        try:
            async with client:
                return client.packet_bytes
        except aiomqtt.MqttError as error:
            raise self.sorry(error) from error
        finally:
            client.drop()

    def sorry(self, error: aiomqtt.MqttError) -> AddressUnusable:
        """Return the sentence that tells a person why there is no connection."""
        code, cause = reason_of(error), fault_of(error)
        if code in (BAD_LOGIN, NOT_AUTHORISED):
            who = f"user {self._user!r}" if self._user else "nobody in particular"
            text = f"does not let {who} in ({error}); give it the user and the password that it knows"
        elif isinstance(cause, ssl.SSLCertVerificationError):
            text = f"shows a certificate that is not trusted ({cause.verify_message}); name its authority as ca"
        elif cause is not None and _is_about_us(cause):
            text = f"wants a certificate of us that it trusts ({cause.reason}); name one as cert, its key as cert_key"
        elif cause is not None:
            text = f"does not speak TLS as we do ({cause.reason}); is it the port for mqtts?"
        elif code == UNSUPPORTED:
            text = "does not speak MQTT 5"
        else:
            text = f"cannot be reached ({error}); start it, or choose another address"
        return AddressUnusable(f"the broker at {self.address} {text}")


def reason_of(error: aiomqtt.MqttError) -> int | None:
    """Return the MQTT reason code behind an error, or None if it is not the broker who speaks."""
    for one in (error, error.__cause__):
        if isinstance(one, aiomqtt.MqttCodeError) and isinstance(one.rc, ReasonCode):
            return int(one.rc.value)
    return None


def fault_of(error: aiomqtt.MqttError) -> ssl.SSLError | None:
    """Return what was wrong with TLS, or None if it was something else."""
    return next((one for one in (error.__cause__, error.__context__) if isinstance(one, ssl.SSLError)), None)


def is_lasting(error: aiomqtt.MqttError) -> bool:
    """Whether trying again would not help: the broker refuses us, or we do not trust it."""
    fault = fault_of(error)
    if isinstance(fault, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return False  # it died while we shook hands
    return fault is not None or reason_of(error) in (UNSUPPORTED, BAD_LOGIN, NOT_AUTHORISED)


def _is_about_us(fault: ssl.SSLError) -> bool:
    return "_ALERT_" in (fault.reason or "") and any(word in fault.reason for word in OURS)


def _properties(kind: int) -> Properties:
    return Properties(kind)  # type: ignore[no-untyped-call]


def _will(will: tuple[str, bytes] | None) -> aiomqtt.Will | None:
    if will is None:
        return None
    properties = _properties(PacketTypes.WILLMESSAGE)
    properties.WillDelayInterval = WILL_DELAY_S
    return aiomqtt.Will(*will, qos=1, properties=properties)


def _password(login: Login) -> str | None:
    if login.password is None:
        return None
    try:
        return login.password.read_text(encoding="utf-8").partition("\n")[0]
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"the password file {login.password} cannot be read: {error}") from error


class _Socket(ssl.SSLSocket):
    """A socket that does not stay open when the other end is not to be trusted, as paho leaves it.

    fault     what was wrong with TLS, which paho only logs
    """

    fault: ssl.SSLError | None = None

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        try:
            return super().recv(buflen, flags)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise  # nothing is wrong, there is only nothing to read yet
        except ssl.SSLError as fault:
            self.fault = fault
            raise

    def do_handshake(self, block: bool = False) -> None:
        try:
            super().do_handshake(block)
        except OSError:
            self.close()
            raise


def _tls(login: Login) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=login.ca)
        context.sslsocket_class = _Socket
        if login.cert is not None:
            context.load_cert_chain(login.cert, login.cert_key)
    except OSError as error:
        files = ", ".join(str(path) for path in (login.ca, login.cert, login.cert_key) if path is not None)
        raise ConfigInvalid(f"certificates or keys cannot be read from {files}: {error}") from error
    return context
