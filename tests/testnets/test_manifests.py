"""What a manifest may say, and what follows from databases that were read."""

from pathlib import Path

import pytest

from tests.testnets.checks import (
    Chain,
    History,
    disagreement,
    longest_gap,
    without_quorum,
)
from tests.testnets.manifest import Action, Manifest, ManifestError, named, names
from tests.testnets.network import Away


@pytest.mark.parametrize("name", names())
def test_every_manifest_is_well_formed(name: str) -> None:
    assert named(name).steps


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("seconds = 1", "validators"),
        ("validators = 4\nseconds = 1\nspeed = 2", "speed"),
        ("validators = ", "Invalid value"),
        (
            'validators = 4\nseconds = 1\n[[steps]]\nat = 0\naction = "kill"\nnode = 1',
            "last some seconds",
        ),
        (
            'validators=4\nseconds=1\nsteps = [{at=0, action="leave", node=4}]',
            "there is no node 4",
        ),
        (
            'validators = 4\nseconds = 1\n[[steps]]\nat = 0\naction = "join"\nnode = 5',
            "new nodes are numbered from 4",
        ),
    ],
)
def test_a_wrong_manifest_is_refused(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(ManifestError, match=complaint):
        Manifest.load(path)


def test_a_manifest_that_is_not_there_is_refused() -> None:
    with pytest.raises(ManifestError, match="nowhere"):
        named("nowhere")


def test_databases_are_compared_as_far_as_all_go() -> None:
    long = Chain(Path("a"), (b"0", b"1", b"2"))
    assert disagreement([long, Chain(Path("b"), (b"0", b"1"))]) is None
    late = Chain(Path("c"), (b"0", b"", b"2"))
    assert disagreement([long, late]) is None
    assert disagreement([long, Chain(Path("c"), (b"0", b"", b"9"))]) is not None
    found = disagreement([long, Chain(Path("b"), (b"0", b"9"))])
    assert found is not None
    assert found.startswith("height 1")


def test_a_gap_counts_only_while_few_are_away() -> None:
    history = History(commits={1: 10.0, 2: 11.0, 3: 31.0, 4: 34.0})
    both = [Away(0, "paused", 12.0, 30.0), Away(1, "paused", 12.0, 30.0)]
    assert longest_gap(history, [], 1) == 20.0
    assert longest_gap(history, both[:1], 1) == 20.0
    assert longest_gap(history, both, 1) == 3.0


def test_a_block_that_came_without_a_quorum_is_found() -> None:
    history = History(commits={1: 10.0, 2: 12.5, 3: 14.0, 4: 31.0})
    both = [Away(0, "cut", 11.0, 30.0), Away(1, "cut", 12.0, 30.0)]
    assert without_quorum(history, both, 1) == [3]
    assert not without_quorum(history, both, 2)
    assert not without_quorum(history, both[:1], 1)


def test_the_first_vote_after_a_moment_is_found() -> None:
    history = History()
    history.votes[b"v"] = [5.0, 9.0, 7.5]
    assert history.voted_after(b"v", 7.0) == 0.5
    assert history.voted_after(b"v", 9.5) is None


def test_copies_are_counted_and_found() -> None:
    step = {"at": 0, "seconds": 5}
    manifest = Manifest.model_validate(
        {
            "name": "n",
            "validators": 4,
            "seconds": 1,
            "steps": [
                {**step, "action": "double", "node": 1},
                {"at": 0, "action": "restore", "node": 4},
            ],
        }
    )
    assert (manifest.nodes, manifest.copies) == (5, 1)
    assert manifest.who(Action.DOUBLE, Action.TWIN) == {1}
    assert not manifest.cuts
