"""Fleet files and the options of a node: what a person writes, and what comes of it."""

from pathlib import Path

import pytest

from fedmq.errors import ConfigInvalid
from fedmq_nodes import fleetfile, up
from fedmq_nodes.options import NodeOptions, default_name

FLEET = """
[federation]
federation = "pacs"
run = "runs/pacs"
[federation.rounds]
preset = "quorum"
[federation.stop]
versions = 5

[defaults]
test_share = 0.3
cache = "cache"

[[nodes]]
name = "photo"
data = "pacs/photo"
[[nodes]]
name = "sketch"
features = "f.npz"
where = { domain = "sketch" }
test_share = 0.5
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "fleet.toml"
    path.write_text(FLEET)
    return path


def test_paths_are_relative_to_the_file_and_a_nodes_own_options_win(file: Path) -> None:
    folder = file.parent
    fleet = fleetfile.read(file, [])
    photo, sketch = fleet.nodes
    assert fleet.federation.run == folder / "runs/pacs"
    assert (photo.data, photo.cache, photo.test_share) == (folder / "pacs/photo", folder / "cache", 0.3)
    assert (sketch.features, sketch.where, sketch.test_share) == (folder / "f.npz", {"domain": "sketch"}, 0.5)


def test_a_fleet_waits_for_all_its_nodes_and_takes_any_free_port_unless_told(file: Path) -> None:
    fleet = fleetfile.read(file, [])
    told = fleetfile.read(file, ["start_nodes=1", "link.address=tcp://127.0.0.1:5000"])
    assert (fleet.federation.start_nodes, fleet.federation.link.address) == (2, "tcp://127.0.0.1:*")
    assert (told.federation.start_nodes, told.federation.link.address) == (1, "tcp://127.0.0.1:5000")


def test_serve_reads_the_same_federation_from_a_fleet_file_or_from_its_own(file: Path) -> None:
    own = file.with_name("federation.toml")
    own.write_text('federation = "pacs"\nrun = "runs/pacs"\n[rounds]\npreset = "quorum"\n[stop]\nversions = 5\n')
    file.write_text(FLEET[FLEET.index("[defaults]") :])
    file.write_text('federation = "federation.toml"\n' + file.read_text())
    assert fleetfile.federation(own, []).rounds == fleetfile.federation(file, []).rounds
    assert fleetfile.read(file, []).federation.stop.versions == 5


def test_the_options_of_a_node_survive_the_way_over_its_command_line(file: Path) -> None:
    photo, sketch = fleetfile.read(file, []).nodes
    folder = file.parent
    assert photo.arguments() == [
        "--name", "photo", "--data", str(folder / "pacs/photo"),
        "--cache", str(folder / "cache"), "--test-share", "0.3",
    ]  # fmt: skip
    assert sketch.arguments()[2:6] == ["--features", str(folder / "f.npz"), "--where", "domain=sketch"]
    assert "--no-train" in NodeOptions("n", data=Path("d"), train=False).arguments()


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (('name = "photo"', 'nmae = "photo"'), r"nodes\[0\]: unknown key nmae; did you mean name\?"),
        (('name = "photo"', ""), r"nodes\[0\]: name is missing"),
        (('name = "photo"', 'name = "0x/../up"'), r"nodes\[0\]: name is '0x/../up'"),
        (('name = "sketch"', 'name = "photo"'), "2 nodes are named 'photo'; a name is an identity"),
        (('data = "pacs/photo"', ""), "node photo has neither of data and features"),
        (('data = "pacs/photo"', 'data = "d"\nfeatures = "f"'), "node photo has both of data and features"),
        (("test_share = 0.5", "test_share = 1.5"), r"nodes\[1\]: test_share is 1.5"),
        (('preset = "quorum"', 'preset = "quorom"'), "rounds.preset is 'quorom'; there are sync, deadline, quorum"),
        (("[defaults]", "[default]"), "unknown key default; a fleet file has"),
        (("versions = 5", "version = 5"), "unknown key stop.version; did you mean stop.versions?"),
    ],
)
def test_a_mistake_is_named_with_what_it_should_be(file: Path, change: tuple[str, str], sentence: str) -> None:
    file.write_text(FLEET.replace(*change))
    with pytest.raises(ConfigInvalid, match=sentence):
        fleetfile.read(file, [])


def test_a_file_that_is_no_toml_is_a_sentence_with_the_line(file: Path) -> None:
    file.write_text("[federation\n")
    with pytest.raises(ConfigInvalid, match=r"is not TOML: .*line 1"):
        fleetfile.read(file, [])


def test_a_node_that_is_held_out_only_evaluates_in_a_run_folder_of_its_own(file: Path) -> None:
    fleet = fleetfile.read(file, [])
    chosen, overrides = up.held_out(fleet, "sketch")
    assert [node.train for node in chosen.nodes] == [True, False]
    started = fleetfile.federation(file, overrides)
    assert started.run == chosen.federation.run == file.parent / "runs/pacs/without-sketch"
    assert started.start_nodes == chosen.federation.start_nodes == 1
    with pytest.raises(ConfigInvalid, match="no node named 'moon' to hold out; there are photo, sketch, or each"):
        up.held_out(fleet, "moon")


def test_a_plain_link_that_leaves_this_machine_has_to_be_asked_for() -> None:
    options = NodeOptions("n", data=Path("d"))
    assert options.keys("tcp://127.0.0.1:5600") is None
    assert options.keys("tcp://10.0.0.5:5600", insecure=True) is None
    with pytest.raises(ConfigInvalid, match="is not on this machine: give --key and --aggregator-key"):
        options.keys("tcp://10.0.0.5:5600")
    with pytest.raises(ConfigInvalid, match="needs both --key and --aggregator-key"):
        NodeOptions("n", data=Path("d"), key=Path("k")).keys("tcp://127.0.0.1:5600")


def test_a_default_name_tells_the_device_and_the_data_in_letters_that_every_link_takes() -> None:
    name = default_name(Path("/data/My Photos!"))
    assert name.endswith("-My-Photos-")
    assert NodeOptions(name, data=Path("d")).name == name
