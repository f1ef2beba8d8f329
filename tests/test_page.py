"""The live page: what it is sent, to whom, and what it looks like in a browser."""

import copy
import json
import re
import socket
import urllib.error
import urllib.request
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chromium import PROGRAM, Browser
from fedmq.ledger import Keeping, Ledger
from fedmq.page.document import Rows, coarse, document, patch
from fedmq.page.server import ASSETS
from fedmq.plan import Settings, Stop
from fedmq.record import LEDGER
from fedmq.story import Story
from pair import Fleet, Worker, params
from running import Running, settle, wait
from shown import crowd, shown

META = {"federation": "test", "feature_space": "a" * 64, "method": "fedclip"}
LEAVES = st.one_of(st.integers(), st.text(max_size=3), st.lists(st.integers(), max_size=2))
TREES = st.recursive(LEAVES, lambda inner: st.dictionaries(st.text(max_size=2), inner, max_size=4), max_leaves=12)
DOCUMENTS = st.dictionaries(st.text(max_size=2), TREES, max_size=4)
needs_chromium = pytest.mark.skipif(PROGRAM is None, reason="there is no Chromium on this machine")


def merged(tree: Any, change: Any) -> Any:
    """Return a tree after a merge patch, as RFC 7396 has it."""
    if not isinstance(change, dict):
        return change
    found = dict(tree) if isinstance(tree, dict) else {}
    for key, value in change.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


def nulls(tree: Any) -> bool:
    return tree is None or (isinstance(tree, dict) and any(nulls(value) for value in tree.values()))


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """The ledger of twelve versions, with a node that is late."""
    kept = Ledger.open(tmp_path / LEDGER, META, {}, params(), Keeping(durable=False), 0.0, 0.0)
    workers = {"edge-0000": Worker(tests=8), "edge-0001": Worker(tests=8), "edge-0002": Worker(tests=8, train_s=1.6)}
    Fleet(Settings("test", stop=Stop(versions=12)), workers, ledger=kept).run()
    kept.close()
    return tmp_path / LEDGER


# What it is sent


@given(DOCUMENTS, DOCUMENTS)
def test_a_patch_makes_of_one_document_the_other_and_is_empty_where_they_are_equal(before: Any, after: Any) -> None:
    assert merged(before, patch(before, after)) == after
    assert patch(after, copy.deepcopy(after)) == {}


def test_a_document_of_a_thousand_nodes_has_no_null_and_a_change_is_told_in_a_fraction_of_it(ledger: Path) -> None:
    with Story(ledger) as story:
        story.advance()
        rows, before = Rows(), crowd(1000)
        after = copy.deepcopy(before)
        for node in after["nodes"][:30]:
            node["state"], node["bytes_up"], node["silent_s"] = "idle", node["bytes_up"] + 70_000, 0.0
        for node in after["nodes"]:
            node["bytes_down"] += 40  # everyone was answered
        whole = document(before, story, rows, 1000.0)
        change = patch(whole, document(after, story, rows, 1000.0))
        assert not nulls(whole)
        assert 0 < len(json.dumps(change)) < len(json.dumps(whole)) / 20
        assert len(change["nodes"]) <= 30 + 10
        assert merged(whole, change) == document(after, story, rows, 1000.0)


def test_figures_are_told_as_exactly_as_they_are_shown() -> None:
    assert [coarse(n) for n in (0, 7, 999, 1000, 123_456, 9_876_543_210)] == [0, 7, 999, 1000, 123_000, 9_880_000_000]


def test_of_very_many_nodes_those_that_need_somebody_are_sent(ledger: Path) -> None:
    with Story(ledger) as story:
        found = document(crowd(5000), story, Rows(), 1000.0)
    assert (len(found["nodes"]), found["head"]["known"]) == (2000, 5000)
    sent = list(found["nodes"].values())
    assert sum(row["state"] == "gone" for row in sent) == found["head"]["states"]["gone"]
    assert sum("strikes" in row for row in sent) == len([n for n in crowd(5000)["nodes"] if n["strikes"]])


# To whom


def ask(url: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str]]:
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method=method, headers=headers), timeout=30) as answer:
            return answer.status, dict(answer.headers)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, dict(error.headers)


def test_a_page_can_only_be_read_and_only_by_its_own_name(ledger: Path) -> None:
    with shown(ledger, lambda: crowd(3)) as (_, url, _):
        for path in ASSETS:
            code, headers = ask(url + path)
            assert code == 200
            assert headers["Content-Security-Policy"].startswith("default-src 'self'")
        assert ask(url + "/", Host="localhost:1")[0] == 200
        assert ask(url + "/events", Host="evil.example")[0] == 403
        assert [ask(url + "/", method)[0] for method in ("POST", "PUT", "DELETE")] == [405] * 3
        assert ask(url + "/../server.py")[0] == 404
        assert ask(url + "/nothing")[0] == 404


def test_what_the_page_is_made_of_comes_with_the_package_and_asks_no_other_machine() -> None:
    for name in ASSETS.values():
        text = (files("fedmq.page") / "assets" / name).read_text()
        assert set(re.findall(r"https?://[\w.]+", text)) <= {"http://www.w3.org"}, name  # the name of SVG, not a place
        assert "eval(" not in text
        assert "innerHTML" not in text, name


def test_a_browser_that_does_not_keep_up_is_let_go(ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("LEAST_PAUSE_S", 0.0), ("SHARE", 0), ("QUEUED", 4)):
        monkeypatch.setattr(f"fedmq.page.server.{name}", value)
    found = crowd(400)
    with shown(ledger, lambda: found) as (page, url, happened):
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as deaf:
            deaf.sendall(f"GET /events HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
            wait(lambda: page._browsers, "the browser")

            def is_gone() -> bool:
                for node in found["nodes"]:
                    node["staleness"] += 1
                happened()
                return not page._browsers

            wait(is_gone, "its end")


# In a browser


@needs_chromium
def test_a_thousand_nodes_are_shown_and_searched_and_a_change_reaches_the_page(ledger: Path, tmp_path: Path) -> None:
    found = crowd(1000)
    with shown(ledger, lambda: found) as (_, url, happened), Browser(tmp_path / "profile") as browser:
        browser.open(f"{url}/", dark=True)
        browser.until("document.querySelectorAll('#rows tr').length === 60")
        assert "60 of 1,000 nodes" in browser.text()
        first = browser.evaluate("document.querySelector('#rows tr').innerText")
        assert "not_finite" in first
        browser.evaluate("Object.assign(document.getElementById('search'), {value: 'edge-0777'}).oninput()")
        browser.until("document.querySelectorAll('#rows tr').length === 1")
        found["nodes"][777]["state"], found["nodes"][777]["reason"] = "gone", "its key was revoked"
        happened()
        browser.until("document.querySelector('#rows tr').innerText.includes('its key was revoked')")
        browser.evaluate("document.querySelector('[data-state=encoding]').click()")
        browser.evaluate("Object.assign(document.getElementById('search'), {value: ''}).oninput()")
        browser.until("document.querySelector('#rows .c-state')?.innerText === 'encoding 300/1200'")
        browser.evaluate("document.getElementById('more').click()")
        browser.until("document.querySelectorAll('#rows tr').length > 60")
        assert browser.heard == []
        assert {address.split("/")[2] for address in browser.asked if address.startswith("http")} == {url.split("/")[2]}


@needs_chromium
@pytest.mark.parametrize(("width", "height"), [(1360, 900), (800, 900), (390, 844), (320, 640)])
def test_nothing_is_wider_than_the_window_and_every_chart_is_drawn(
    width: int, height: int, ledger: Path, tmp_path: Path
) -> None:
    with shown(ledger, lambda: crowd(40)) as (_, url, _), Browser(tmp_path / "profile") as browser:
        browser.open(f"{url}/", width, height, phone=width < 700)
        browser.until("document.querySelectorAll('.chart svg').length === 5")
        assert browser.evaluate("document.documentElement.scrollWidth") <= width
        inside = "[...document.querySelectorAll('.chart text')].every(t => t.getBoundingClientRect().left >= 0)"
        assert browser.evaluate(inside) is True
        reason = "[...document.querySelectorAll('td.c-note')].find(t => t.innerText.includes('not_finite'))"
        assert browser.evaluate(f"{reason}.getBoundingClientRect().right") <= width
        assert browser.heard == []


@needs_chromium
def test_the_page_of_a_running_fleet_shows_a_node_that_is_killed_and_an_aggregator_that_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settle(tmp_path, monkeypatch, "abc")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port, link = str(free.getsockname()[1]), 0
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        link = other.getsockname()[1]
    words = ("--dashboard", port, "--set", "start_nodes=3", "--set", f"link.address=tcp://127.0.0.1:{link}")
    with Running(*words) as running, Browser(tmp_path / "profile") as browser:
        assert running.told["page"] == f"http://127.0.0.1:{port}"
        browser.open(running.told["page"] + "/")
        browser.until("document.getElementById('reason').textContent.includes('0 of 3 ready')")
        for name in "abc":
            running.join(name, "--examples-per-s", "400")
        browser.until("Number(document.getElementById('version').textContent) >= 2")
        browser.until("document.querySelectorAll('#chart-accuracy path').length === 2")
        running.nodes["c"].kill()
        browser.until("[...document.querySelectorAll('#rows tr')].some(r => /^c\\s+gone/.test(r.innerText))")
        assert "silent for" in browser.text()
        running.aggregator.kill()
        browser.until("document.getElementById('link').innerText === 'no answer, trying again'")
        before = int(browser.evaluate("document.getElementById('version').textContent"))
        running.start()
        browser.until("document.getElementById('link').innerText === 'live'")
        browser.until(f"Number(document.getElementById('version').textContent) > {before}")
        rounds = browser.evaluate("document.querySelectorAll('#chart-rounds rect').length")
        assert rounds >= before  # what was before the restart is still there
        assert [text for text in browser.heard if "ERR_" not in text] == []
