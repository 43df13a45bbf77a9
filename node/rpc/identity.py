"""eth_chainId, net_*, web3_* and the chain's own namespace, lockstep_*."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from chain.addresses import SYSTEM_CONTRACTS
from chain.crypto import keccak
from chain.errors import NotFound
from chain.header import Header
from chain.sidecar import CommitCertificate
from consensus.validators import ValidatorSet
from node.mempool import Mempool
from node.p2p.interface import PeerStatus
from node.rpc.dispatch import Method, Params, inline
from node.rpc.reading import ChainReader
from node.rpc.values import data, quantity, read_data, read_quantity


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a node knows of the network around it.

    Attributes:
        peers: Connected nodes.
        listening: Whether others can connect.
        catching_up: Whether it fetches blocks that others have.
        best: The highest head that a peer tells, at least the own one.
        next_proposer: Address of who proposes next; None when that is not known.
    """

    peers: Sequence[PeerStatus] = ()
    listening: bool = False
    catching_up: bool = False
    best: int = 0
    next_proposer: bytes | None = None


Look = Callable[[], Surroundings]


@dataclass(frozen=True, slots=True)
class Identity:
    """What this node and its chain are.

    Attributes:
        client: Name and version, as web3_clientVersion shows them.
        specification: The chain specification, JSON.
        validators: The set of the chain specification.
        validator: Our address when we validate.
        block_time: Seconds between blocks.
        look: What is around the node now; None: it is alone.
    """

    client: str
    specification: bytes
    validators: ValidatorSet
    validator: bytes | None
    block_time: float
    look: Look | None = None


class IdentityMethods:
    """Facts that do not depend on accounts."""

    def __init__(
        self, reader: ChainReader, mempool: Mempool, identity: Identity
    ) -> None:
        self._reader = reader
        self._mempool = mempool
        self._identity = identity
        self._look: Look = identity.look or Surroundings
        self._specification: object = json.loads(identity.specification)

    def table(self) -> Mapping[str, Method]:
        """The methods by name."""
        return {
            "eth_chainId": inline(self.chain_id),
            "eth_accounts": inline(self.accounts),
            "eth_syncing": inline(self.syncing),
            "net_version": inline(self.network),
            "net_listening": inline(self.listening),
            "net_peerCount": inline(self.peers),
            "web3_clientVersion": inline(self.client),
            "web3_sha3": inline(self.sha3, 1, 1),
            "rpc_modules": inline(self.modules),
            "lockstep_chainSpec": inline(self.specification),
            "lockstep_genesisHash": inline(self.genesis_hash),
            "lockstep_contracts": inline(self.contracts),
            "lockstep_validators": inline(self.validators, 0, 1),
            "lockstep_sidecar": inline(self.sidecar, 1, 1),
            "lockstep_certificate": inline(self.certificate, 1, 1),
            "lockstep_status": inline(self.status),
        }

    def chain_id(self, _: Params) -> object:
        """eth_chainId."""
        return quantity(self._reader.chain_id)

    def accounts(self, _: Params) -> object:
        """eth_accounts: none, a node keeps no user keys."""
        return []

    def syncing(self, _: Params) -> object:
        """eth_syncing: false, or how far the node is while it fetches blocks."""
        around = self._look()
        if not around.catching_up:
            return False
        head = self._reader.head().number
        return {
            "startingBlock": quantity(self._reader.database.base()),
            "currentBlock": quantity(head),
            "highestBlock": quantity(max(head, around.best)),
        }

    def network(self, _: Params) -> object:
        """net_version: the chain id, decimal."""
        return str(self._reader.chain_id)

    def listening(self, _: Params) -> object:
        """net_listening."""
        return self._look().listening

    def peers(self, _: Params) -> object:
        """net_peerCount."""
        return quantity(len(self._look().peers))

    def client(self, _: Params) -> object:
        """web3_clientVersion."""
        return self._identity.client

    def sha3(self, params: Params) -> object:
        """web3_sha3: keccak-256 of data."""
        return data(keccak(read_data(params[0], "data")))

    def modules(self, _: Params) -> object:
        """rpc_modules: the namespaces and their versions."""
        names = ("debug", "eth", "lockstep", "net", "rpc", "web3")
        return dict.fromkeys(names, "1.0")

    def specification(self, _: Params) -> object:
        """lockstep_chainSpec: the JSON that defines this chain."""
        return self._specification

    def genesis_hash(self, _: Params) -> object:
        """lockstep_genesisHash."""
        return data(self._reader.database.genesis_hash())

    def contracts(self, _: Params) -> object:
        """lockstep_contracts: names of system contracts and their addresses."""
        return {name: data(address) for name, address in SYSTEM_CONTRACTS.items()}

    def validators(self, params: Params) -> object:
        """lockstep_validators(height): the set that votes at a height, and its hash.

        Without a height: the set that votes next. Null for a height that nobody
        votes at (0), whose voters are not known yet, or not known here.
        """
        if params[0] is None:
            header: Header | None = self._reader.head()
        else:
            height = read_quantity(params[0], "height", bits=64)
            header = self._reader.database.header_at(height - 1)
        if header is None:
            return None
        members = self._members(header.extra_data)
        if members is None:
            return None
        return {
            "hash": data(members.hash),
            "totalStake": quantity(members.total_stake),
            "members": [
                {
                    "address": data(member.address),
                    "publicKey": data(member.public_key),
                    "beaconKey": data(member.beacon_key),
                    "stake": quantity(member.stake),
                }
                for member in members.members
            ],
            "encoded": data(members.encode()),
        }

    def _members(self, digest: bytes) -> ValidatorSet | None:
        if digest == self._identity.validators.hash:
            return self._identity.validators
        try:
            return ValidatorSet.decode(self._reader.database.validators(digest))
        except NotFound:
            return None

    def sidecar(self, params: Params) -> object:
        """lockstep_sidecar(block): what parentBeaconBlockRoot commits to."""
        header = self._reader.find(params[0])
        if header is None:
            return None
        sidecar = self._reader.database.block(header.hash).sidecar
        parent = sidecar.parent_certificate
        return {
            "root": data(sidecar.root()),
            "parentCertificate": None if parent is None else _certificate(parent),
            "reveal": data(sidecar.reveal),
            "evidence": [data(piece) for piece in sidecar.evidence],
            "encoded": data(sidecar.encode()),
        }

    def certificate(self, params: Params) -> object:
        """lockstep_certificate(block): the votes that made this very block final."""
        header = self._reader.find(params[0])
        if header is None:
            return None
        certificate = self._reader.database.certificate(header.hash)
        return None if certificate is None else _certificate(certificate)

    def status(self, _: Params) -> object:
        """lockstep_status: everything a dashboard shows first."""
        head = self._reader.head()
        validator = self._identity.validator
        around = self._look()
        proposer = around.next_proposer
        return {
            "client": self._identity.client,
            "chainId": quantity(self._reader.chain_id),
            "genesisHash": self.genesis_hash(()),
            "head": {
                "number": quantity(head.number),
                "hash": data(head.hash),
                "timestamp": quantity(head.timestamp),
                "steps": quantity(self._reader.database.steps(head.hash)),
            },
            "firstBlock": quantity(self._reader.database.base()),
            "firstState": quantity(self._reader.database.state_base()),
            "blockTime": self._identity.block_time,
            "validator": None if validator is None else data(validator),
            "nextProposer": None if proposer is None else data(proposer),
            "catchingUp": around.catching_up,
            "bestKnown": quantity(max(head.number, around.best)),
            "peers": [_peer(each) for each in around.peers],
            "mempool": {
                "transactions": quantity(len(self._mempool)),
                "bytes": quantity(self._mempool.size),
            },
        }


def _peer(status: PeerStatus) -> dict[str, Any]:
    return {
        "id": status.id,
        "address": status.address,
        "outbound": status.outbound,
        "seconds": round(status.seconds, 1),
        "received": quantity(status.received),
        "sent": quantity(status.sent),
        "pending": quantity(status.pending),
        "score": round(status.score, 1),
        "software": status.software,
    }


def _certificate(certificate: CommitCertificate) -> dict[str, Any]:
    return {
        "height": quantity(certificate.height),
        "round": quantity(certificate.round),
        "blockHash": data(certificate.block_hash),
        "signatures": [
            {
                "validator": data(each.validator),
                "time": quantity(each.time),
                "signature": data(each.signature),
            }
            for each in certificate.signatures
        ],
        "encoded": data(certificate.encode()),
    }
