"""Validators under the staking contract: who contradicts itself is punished, once."""

from pathlib import Path

import pytest
import trio

from chain.store import Store
from consensus.evidence import Evidence
from consensus.messages import Ballot
from consensus.votes import NIL, Subject, VoteKind, sign_vote
from genesis import ChainSpec, open_chain
from genesis.accounts import validator, validator_entries
from node.accusations import EvidencePool
from node.author import Validator
from node.doppelganger import Guard
from node.evidence_file import EvidenceFile
from node.opening import encode_spec
from node.service import Chain, Node
from node.signer import LocalSigner
from node.validatorkey import ValidatorKey
from node.wal import WriteAheadLog
from tests.node.network import Network, run
from tests.node.tiny import config
from tests.support.clock import virtual_clock

EPOCH = 6
CULPRIT = 3


def spec() -> ChainSpec:
    base = ChainSpec.load("devnet").with_validators(validator_entries(4))
    consensus = base.consensus.model_copy(
        update={"epoch_blocks": EPOCH, "evidence_age_blocks": 20}
    )
    return base.model_copy(update={"consensus": consensus}).with_parameters(
        unbonding_blocks=100, jail_blocks=EPOCH
    )


def node(directory: Path, chain_spec: ChainSpec, index: int) -> Node:
    database = open_chain(chain_spec, Store.memory())
    secrets = validator(index)
    key = ValidatorKey.checked(secrets.secret, secrets.beacon_secret)
    directory.mkdir()
    chain = Chain(
        database,
        encode_spec(chain_spec),
        chain_spec.rules,
        chain_spec.validator_set,
        epoch_blocks=chain_spec.consensus.epoch_blocks,
        evidence_age=chain_spec.consensus.evidence_age_blocks,
    )
    signer = LocalSigner(directory, database.genesis_hash(), key)
    wal = WriteAheadLog(directory / "wal")
    return Node(config(), chain, Validator(signer, Guard(signer, 0, heights=0)), wal)


@pytest.fixture
def network(tmp_path: Path) -> Network:
    chosen = spec()
    return Network([node(tmp_path / str(i), chosen, i) for i in range(4)])


def test_who_contradicts_itself_is_punished_once_and_votes_no_more(
    network: Network, tmp_path: Path
) -> None:
    honest = [0, 1, 2]
    watcher = network.nodes[0]
    culprit = network.nodes[CULPRIT].engine
    address = culprit.address
    assert address is not None

    async def story() -> None:
        await network.reach(2, honest)
        height = watcher.engine.current
        while height is None or height.state.step < 1:
            await watcher.engine.changed.wait()
            height = watcher.engine.current
        index = height.validators.index_of(address)
        assert index is not None
        genesis = watcher.chain.database.genesis_hash()
        for block_hash in (b"\1" * 32, NIL):
            subject = Subject(
                VoteKind.PREVOTE, height.number, height.state.round, block_hash
            )
            vote = sign_vote(genesis, subject, index, validator(CULPRIT).secret)
            watcher.engine.receive(Ballot(vote))
        await network.reach(3 * EPOCH + 1, honest)

    async def main() -> None:
        with trio.fail_after(2_000):
            await run(network, story)

    trio.run(main, clock=virtual_clock())
    network.agree()
    database = watcher.chain.database
    headers = list(database.headers(1, 3 * EPOCH))
    carried = [
        header.number
        for header in headers
        if database.block(header.hash).sidecar.evidence
    ]
    assert len(carried) == 1
    block = database.block(headers[carried[0] - 1].hash)
    evidence = Evidence.decode(block.sidecar.evidence[0])
    file = EvidenceFile(tmp_path / "evidence")
    file.store([evidence])
    pool = EvidencePool(watcher.chain.ledger.epochs)
    assert not pool.check(database.head(), evidence)
    pool.keep_in(file, database.head())
    assert (len(pool), list(file.load())) == (0, [])
    epochs = watcher.chain.ledger.epochs
    assert epochs.is_punished(database.head(), address)
    assert epochs.voters(1).index_of(address) is not None
    assert epochs.voters(3 * EPOCH).index_of(address) is None
    assert len(epochs.voters(3 * EPOCH).members) == 3
