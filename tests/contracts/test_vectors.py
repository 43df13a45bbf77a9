"""Vectors of everything that people hash before they send it to a contract."""

from tests.contracts.chain import GENESIS_HASH, Chain
from tests.contracts.conftest import STEPS
from tests.contracts.play import WITHHELD, Game, seal
from tests.contracts.test_verification import DIGEST, SALT, sealed
from tests.contracts.toy import honest
from tests.support.vectors import Vectors


def test_vectors(chain: Chain, alice: bytes, vectors: Vectors) -> None:
    game = Game(chain, honest(STEPS)).start()
    trial, root = game.trial, game.trajectory.tree.root
    facts: dict[str, tuple[str, str, tuple[object, ...]]] = {
        "node": ("Evidence", "node_fact", (trial, 4, 0, root)),
        "segment": ("Evidence", "segment_fact", (trial, 3, 9)),
        "record": ("Demands", "record_fact", (trial, 2)),
        "tile": ("Demands", "tile_fact", (trial, 10, 1, 2)),
    }
    vectors.check(
        "contracts",
        {
            "genesis_hash": GENESIS_HASH.hex(),
            "job_id": game.job_id,
            "commitment_root": root.hex(),
            "trial": trial.hex(),
            "challenger": alice.hex(),
            "salt": SALT.hex(),
            "challenge_of_step_4": seal(trial, alice, 4, SALT).hex(),
            "challenge_withheld": seal(trial, alice, WITHHELD, SALT).hex(),
            "digest": DIGEST.hex(),
            "digest_commitment_steps_2_to_5": sealed(game, alice, 2, 5).hex(),
            "facts": {
                name: {
                    "arguments": [
                        a.hex() if isinstance(a, bytes) else a for a in given
                    ],
                    "key": chain.call(contract, function, *given).hex(),
                }
                for name, (contract, function, given) in facts.items()
            },
        },
    )
