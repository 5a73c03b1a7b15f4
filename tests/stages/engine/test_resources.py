"""What a run takes of a machine or of a cluster, as it is and as it can become."""

from __future__ import annotations

import io
import os
from contextlib import redirect_stderr, suppress
from typing import Any

import pytest

from stages.engine import resources
from stages.engine.resources import Machines, Room, choose_resources, looking
from stages.storage.errors import BadInput

GIB = 2**30
CPU_NODE = {"CPU": 8, "memory": 32 * GIB}
GPU_NODE = {"CPU": 16, "GPU": 2, "memory": 64 * GIB}


def test_a_laptop_takes_what_it_has() -> None:
    chosen = choose_resources(on=Machines([{"CPU": 8, "GPU": 0, "memory": 5 * GIB}]))
    assert (chosen.actors, chosen.most, chosen.threads, chosen.device) == (2, 2, 2, "cpu")
    assert (chosen.readers, chosen.openers) == (2, 0)


def test_a_laptop_does_as_it_is_told_even_where_it_is_too_much() -> None:
    chosen = choose_resources(actors=5, threads=3, on=Machines([{"CPU": 2, "memory": 5 * GIB}]))
    assert (chosen.actors, chosen.most, chosen.threads) == (5, 5, 3)


@pytest.mark.parametrize(("units", "actors"), [(None, 4), (3, 3), (0, 1)])
def test_no_more_actors_than_units(units: int | None, actors: int) -> None:
    assert choose_resources(units=units, on=Machines([CPU_NODE])).actors == actors


def test_an_actor_does_not_fit_on_the_rests_of_two_nodes() -> None:
    three = {"CPU": 3, "memory": 32 * GIB}
    assert choose_resources(on=Machines([three, three], grows=True)).actors == 2


def test_a_cluster_of_nodes_of_one_cpu_gets_actors_of_one() -> None:
    one = {"CPU": 1, "memory": 4 * GIB}
    chosen = choose_resources(on=Machines([{}, one, one], grows=True))
    assert (chosen.threads, chosen.actors, chosen.most) == (1, 2, None)


def test_a_gpu_each_and_the_cpus_of_other_nodes_open_photos() -> None:
    chosen = choose_resources(on=Machines([GPU_NODE, GPU_NODE, CPU_NODE], grows=True))
    assert (chosen.device, chosen.actors, chosen.most, chosen.readers, chosen.openers) == ("cuda", 4, None, 8, 8)


def test_gpus_are_left_alone_where_the_user_says_so() -> None:
    chosen = choose_resources(device="cpu", on=Machines([GPU_NODE, CPU_NODE], grows=True))
    assert (chosen.device, chosen.actors, chosen.openers) == ("cpu", 12, 0)


def test_a_cluster_that_is_empty_is_chosen_for_as_it_can_become() -> None:
    chosen = choose_resources(on=Machines([{"memory": GIB}], [(GPU_NODE, 4), (CPU_NODE, 3)], grows=True))
    assert (chosen.device, chosen.actors, chosen.most, chosen.threads) == ("cuda", 1, None, 2)
    assert (chosen.readers, chosen.openers) == (8, 24)


def test_an_empty_cluster_whose_nodes_nobody_knows_takes_the_least() -> None:
    chosen = choose_resources(on=Machines([{}], grows=True))
    assert (chosen.device, chosen.actors, chosen.most, chosen.threads) == ("cpu", 1, None, 1)


def test_a_number_of_actors_is_the_most_that_a_cluster_grows_to() -> None:
    chosen = choose_resources(actors=9, on=Machines([CPU_NODE], grows=True))
    assert (chosen.actors, chosen.most) == (4, 9)


def _said_of(monkeypatch: pytest.MonkeyPatch, looks: list[list[dict[str, Any]]]) -> str:
    """What is said while looks at the nodes find these, one after the other."""
    left = [[{"Alive": True, "Resources": node} for node in nodes] for nodes in looks]
    monkeypatch.setattr(resources, "SECONDS_BETWEEN_LOOKS", 0.0)
    done = resources.threading.Event()

    def nodes() -> list[dict[str, Any]]:
        if len(left) == 1:
            done.set()
        return left.pop(0) if len(left) > 1 else left[0]

    monkeypatch.setattr(resources.ray, "nodes", nodes)
    with redirect_stderr(io.StringIO()) as said, looking(Room([(1, 0), (2, 1)]).look):
        assert done.wait(10)
    return said.getvalue()


def test_waiting_for_a_node_is_said_once_and_again_when_the_last_one_went(monkeypatch: pytest.MonkeyPatch) -> None:
    nothing: list[dict[str, Any]] = [{}]
    said = _said_of(monkeypatch, [nothing, nothing, [{"CPU": 1}], [GPU_NODE], [GPU_NODE], [CPU_NODE]])
    assert said.splitlines() == [
        "no node of the cluster has 1 CPU(s): waiting for one",
        "no node of the cluster has 2 CPU(s) and 1 GPU(s): waiting for one",
        "no node of the cluster has 2 CPU(s) and 1 GPU(s): waiting for one",
    ]


def test_nothing_is_said_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    assert _said_of(monkeypatch, [[GPU_NODE], [GPU_NODE, CPU_NODE]]) == ""


def test_a_gpu_that_is_asked_for_and_cannot_come_is_bad_input() -> None:
    laptop = Machines([{"CPU": 2, "memory": 2**34}])
    with pytest.raises(BadInput, match="--device cuda: there is no GPU"):
        choose_resources(device="cuda", on=laptop)
    assert choose_resources(device="cuda", on=Machines(laptop.nodes, grows=True)).device == "cuda"


@pytest.mark.parametrize("fails", [False, True])
def test_while_ray_starts_its_errors_are_kept_and_no_other_line(fails: bool, capfd: pytest.CaptureFixture[str]) -> None:
    said = b"""[2026-11-28 18:07:00,078 I 26684 26684] logging.cc:303: Set ray log level from environment variable
[2026-11-28 18:07:00,079 W 26684 26684] rpc_client.h:153: Failed to connect within 5 seconds.
[2026-11-28 18:07:00,080 E 26684 26684] raylet.cc:8: out of ports
/dev/shm has 2 bytes
"""
    with suppress(OSError), resources._quiet_logging():
        os.write(2, said)
        if fails:
            raise OSError
    os.write(2, b"later\n")
    assert capfd.readouterr().err.encode() == b"".join(said.splitlines(keepends=True)[2:]) + b"later\n"


def test_an_apple_gpu_is_asked_for_by_name_and_its_actors_share_it(monkeypatch: pytest.MonkeyPatch) -> None:
    laptop = Machines([{"CPU": 8, "memory": 2**34}])
    with pytest.raises(BadInput, match="--device mps: torch finds no Apple GPU here"):
        choose_resources(device="mps", on=laptop)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    chosen = choose_resources(device="mps", on=laptop)
    assert (chosen.device, chosen.actors, chosen.most, chosen.openers) == ("mps", 1, 1, 0)
    assert choose_resources(actors=2, device="mps", on=laptop).actors == 2
    assert choose_resources(on=laptop).device == "cpu"
    with pytest.raises(BadInput, match="--device mps: Ray's clusters know no Apple GPUs"):
        choose_resources(device="mps", on=Machines(laptop.nodes, grows=True))
