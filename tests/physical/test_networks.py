"""Physical networks: properties that all have, and those of each kind."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubecast.errors import NetworkFileError, UsageError
from cubecast.overlay.delays import Delays, delay_ms
from cubecast.physical import transit_stub as ts
from cubecast.physical.backbone import backbone, topologies
from cubecast.physical.catalogue import load_network
from cubecast.physical.measured import measured, read_matrix
from cubecast.physical.network import PhysicalNetwork, Routes, Topology, routed
from cubecast.physical.saved import save_network

SMALL = ts.TransitStub(3, 2, 2, 4, 4, 4)
PLANETLAB = Path(__file__).parents[3] / "shared" / "data" / "latency"


def assert_network_holds(network: PhysicalNetwork, hosts: int) -> None:
    delay = network.matrix_ms()
    assert delay.shape == (hosts, hosts)
    assert np.allclose(delay, delay.T)
    assert (np.diag(delay) == 0).all()
    assert (delay[~np.eye(hosts, dtype=bool)] > 0).all()


def test_the_published_size_is_5050_connected_routers() -> None:
    topology = ts.topology(ts.TransitStub(), np.random.default_rng(1))
    assert topology.routers == 5050
    assert len(topology.access_routers) == 5000
    assert 8_000 < len(topology.edges) < 9_500
    network = ts.transit_stub(64, seed=1)
    assert_network_holds(network, 64)
    assert 40 < network.matrix_ms()[network.matrix_ms() > 0].mean() < 120


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_the_links_of_a_path_add_up_to_its_delay(seed: int) -> None:
    rng = np.random.default_rng(seed)
    topology = ts.topology(SMALL, rng)
    access = np.full(6, 0.25)
    network = routed(topology, rng.choice(topology.access_routers, 6), access)
    _, _, latency = topology.links()
    for a in range(6):
        for b in range(6):
            if a == b:
                continue
            between = network.path_links(a, b)
            total = sum(latency[link] for link in between)
            assert total + 0.5 == pytest.approx(delay_ms(network.delays, a, b))
            assert sorted(network.path_links(b, a)) == sorted(between)


def test_the_same_seed_gives_the_same_network() -> None:
    one, same, other = (ts.transit_stub(8, seed).matrix_ms() for seed in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_network_that_is_not_connected_is_refused() -> None:
    parts = Topology("two", 4, np.array([[0, 1], [2, 3]]), np.ones(2), np.arange(4))
    with pytest.raises(NetworkFileError, match="reach"):
        routed(parts, np.array([0, 3]), np.ones(2))


def test_backbones_have_plausible_delays() -> None:
    assert "sndlib/germany50" in topologies()
    assert "sndlib/france" not in topologies(), "its lengths are not in km"
    network = backbone("sndlib/germany50", 30, seed=1)
    assert_network_holds(network, 30)
    assert network.matrix_ms().max() < 12, "Germany is 900 km across"


@pytest.mark.parametrize("name", ["nowhere", "sndlib/france", "../../etc/passwd-", "gabriel/25/0"])
def test_an_unknown_network_gives_an_error_of_one_line(name: str) -> None:
    with pytest.raises((UsageError, NetworkFileError)) as caught:
        load_network(name, 4, 1)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "0 10 20\n10 0 30\n20 30 0\n",
        "0,10,20\n10,0,30\n20,30,0\n",
        "a,b,c\n0,10,20\n10,0,30\n20,30,0\n",
        ",a,b,c\na,0,10,20\nb,10,0,30\nc,20,30,0\n",
        ",0,1,2\n0,0,10,20\n1,10,0,30\n2,20,30,0\n",
        "a 0 10 20\nb 10 0 30\nc 20 30 0\n",
        "\n0\t10\t20\n\n10\t0\t30\n20\t30\t0\n\n",
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_matrices_with_and_without_names_are_read(tmp_path: Path, text: str, packed: bool) -> None:
    path = tmp_path / "rtt"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    assert read_matrix(path).tolist() == [[0, 10, 20], [10, 0, 30], [20, 30, 0]]
    network = measured(path, 3, seed=1)
    assert_network_holds(network, 3)
    assert sorted(set(network.matrix_ms().ravel())) == [0, 5, 10, 15], "half the round trip"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"0 1\n1 0 3\n", "line 2"),
        (b"0 1\n1 0\n2 2\n", "square"),
        (b"0 x 2\n1 0 3\n2 3 0\n", "'x'"),
        (b"0 1\x00\n1 0\n", "line 1"),
        (b"0;1\n1;0\n", "line 1: 1 values in a matrix of 2 rows"),
        (b"0 1\n-1 0\n", "line 2, value 1"),
        (b"0 nan\n1 0\n", "positive RTT"),
        (b"0 0\n1 0\n", "positive RTT"),
        (b"0 inf\n1 0\n", "positive RTT"),
        (b"0 1e308\n1e308 0\n", "positive RTT"),
        (b"\x1f\x8bbroken", "gzip"),
        (b"\xff\xfe\x00\x01\x80", "not text"),
    ],
)
def test_a_malformed_matrix_gives_an_error_of_one_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    with pytest.raises(NetworkFileError, match=message) as caught:
        read_matrix(path)
    assert "\n" not in str(caught.value)
    assert "bad.txt" in str(caught.value)


def test_a_missing_matrix_and_too_many_hosts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NetworkFileError, match="no such file"):
        load_network(str(tmp_path / "gone.txt"), 4, 1)
    path = tmp_path / "two.txt"
    path.write_text("0 1\n1 0\n")
    with pytest.raises(UsageError, match="contains 2 hosts"):
        load_network(str(path), 4, 1)


@given(st.text(max_size=200))
@settings(max_examples=200, deadline=None)
def test_any_text_is_a_square_matrix_or_gives_an_error_of_one_line(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.txt"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    line = ""
    try:
        rows, columns = read_matrix(path).shape
    except NetworkFileError as error:
        rows = columns = 0
        line = str(error)
    assert rows == columns
    assert len(line.splitlines()) <= 1


@pytest.mark.skipif(not PLANETLAB.exists(), reason="no measured matrices beside this checkout")
def test_measured_internet_delays_are_read() -> None:
    for path in sorted(PLANETLAB.glob("*.txt.gz")):
        assert read_matrix(path).shape == (490, 490)
        assert_network_holds(measured(path, 100, seed=2), 100)


def test_a_saved_network_is_loaded_whole_or_in_part(tmp_path: Path) -> None:
    made = load_network("transit-stub:2x2x2x4", 20, 3)
    save_network(made, tmp_path / "net.npz")
    again = load_network(str(tmp_path / "net.npz"), None, 0)
    assert again.name == made.name == "transit-stub:2x2x2x4"
    assert np.array_equal(again.matrix_ms(), made.matrix_ms())
    assert all(again.path_links(a, b) == made.path_links(a, b) for a in range(20) for b in range(20))
    part = load_network(str(tmp_path / "net.npz"), 7, 0)
    assert np.array_equal(part.matrix_ms(), made.matrix_ms()[:7, :7])
    with pytest.raises(UsageError, match="contains 20 hosts"):
        load_network(str(tmp_path / "net.npz"), 21, 0)


def test_a_saved_network_that_was_damaged_anywhere_is_refused_or_another_network(tmp_path: Path) -> None:
    path = tmp_path / "net.npz"
    save_network(load_network("transit-stub:2x2x2x4", 6, 3), path)
    whole = path.read_bytes()
    refused = 0
    for place in range(0, len(whole), max(1, len(whole) // 200)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            load_network(str(path), None, 0)
        except NetworkFileError:
            refused += 1
    assert refused > 20


def test_files_that_are_not_saved_networks_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.npz"
    path.write_bytes(b"PK nonsense")
    with pytest.raises(NetworkFileError, match="not a saved network"):
        load_network(str(path), None, 1)
    np.savez(path, format=np.array("something else"))
    with pytest.raises(NetworkFileError, match="another version"):
        load_network(str(path), None, 1)
    with pytest.raises(NetworkFileError, match=r"does not end in \.npz"):
        save_network(load_network("transit-stub:2x2x2x4", 4, 1), tmp_path / "net.txt")
    with pytest.raises(NetworkFileError, match="cannot write"):
        save_network(load_network("transit-stub:2x2x2x4", 4, 1), tmp_path / "gone" / "net.npz")


def test_networks_have_the_requested_size_and_access_latencies() -> None:
    small = load_network("transit-stub:2x3x2x4", 30, 1)
    assert_network_holds(small, 30)
    assert small.routes.previous.shape[1] == 2 * 3 + 2 * 3 * 2 * 4
    slow = load_network("transit-stub-high-access:2x3x2x4", 30, 1)
    assert slow.delays.access_ms.min() >= 5
    assert slow.matrix_ms().sum() > small.matrix_ms().sum()


@pytest.mark.parametrize(
    "name", ["transit-stub:0x1x1x1", "transit-stub:9x9", "transit-stubs", "transit-stub:99x99x99x99"]
)
def test_an_impossible_size_gives_an_error_of_one_line(name: str) -> None:
    with pytest.raises(UsageError) as caught:
        load_network(name, 4, 1)
    assert "\n" not in str(caught.value)


def test_a_generated_network_needs_a_number_of_hosts_and_a_full_matrix_has_a_limit() -> None:
    with pytest.raises(UsageError, match="say how many"):
        load_network("transit-stub", None, 1)
    with pytest.raises(UsageError, match="at most 8192"):
        PhysicalNetwork(
            "large",
            Delays(np.zeros((1, 1), np.float32), np.zeros(9000, np.int32), np.ones(9000, np.float32)),
            Routes(np.zeros((1, 1), np.int32), np.zeros((1, 1), np.int32), np.zeros(1, np.int32), 1),
        ).matrix_ms()


def test_the_delay_is_half_the_mean_of_both_round_trips(tmp_path: Path) -> None:
    path = tmp_path / "rtt.txt"
    path.write_text("0 10\n14 0\n")
    assert measured(path, None, 1).matrix_ms().tolist() == [[0, 6], [6, 0]], "half of the mean round trip"
