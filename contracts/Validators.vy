# pragma version 0.4.3
"""
@title Validators
@license Apache-2.0
@notice Who makes blocks. Anybody registers a consensus key and stakes on it; the
        strongest vote, from the next epoch on. All of a validator's stake, also what
        unbonds, answers for what its key signed, until no evidence of it can come. A
        validator is named by the address of its consensus key; its operator, another
        account, moves the money. What the system does at a block's start is in no
        receipt, so it logs nothing; ask `validator` and `active_set`.
"""

from contracts.interfaces import IClock
from contracts.modules import beacon
from contracts.modules import ranking

initializes: ranking
initializes: beacon
exports: (
    ranking.stake_of,
    beacon.seed,
    beacon.fixed,
    beacon.total_power,
    beacon.set_number,
)

# EIP-4788's system address, which starts blocks.
SYSTEM: constant(address) = 0xffffFFFfFFffffffffffffffFfFFFfffFFFfFFfE
# No set is larger; begins with what a block start can afford.
MAX_SET: constant(uint256) = 128
# Jailings that one block start can afford; who is left is jailed when it misses again.
MAX_JAILED: constant(uint256) = 8
# Amounts are kept in 16 bytes.
MAX_STAKE: constant(uint256) = 2**128 - 1
CONSENT: constant(Bytes[21]) = b"lockstep/validator/v1"
LOW: constant(uint256) = 2**64 - 1

struct Member:
    public_key_x: bytes32
    public_key_y: bytes32
    beacon_key_head: bytes32
    beacon_key_tail: bytes16
    stake: uint256

struct BeaconKey:
    head: bytes32
    tail: bytes16

struct Validator:
    operator: address
    public_key_x: bytes32
    public_key_y: bytes32
    beacon_key_head: bytes32
    beacon_key_tail: bytes16
    stake: uint256
    power: uint256
    unbonding: uint256
    release_at: uint256
    jailed_until: uint256
    missed: uint256
    seated: bool
    evidence: bytes32

struct Parameters:
    epoch_blocks: uint256
    evidence_age_blocks: uint256
    unbonding_blocks: uint256
    minimum_validator_stake: uint256
    max_validators: uint256
    max_missed_percent: uint256
    jail_blocks: uint256
    slash_percent: uint256

event Registered:
    validator: indexed(address)
    operator: indexed(address)
    public_key: Bytes[64]
    beacon_key: Bytes[48]

event Staked:
    validator: indexed(address)
    amount: uint256
    stake: uint256

event Unbonding:
    validator: indexed(address)
    amount: uint256
    release_at: uint256

event Withdrawn:
    validator: indexed(address)
    amount: uint256

event Unjailed:
    validator: indexed(address)

CLOCK: immutable(IClock)
BLS_POSSESSION: immutable(address)
EPOCH_BLOCKS: immutable(uint256)
EVIDENCE_AGE_BLOCKS: immutable(uint256)
UNBONDING_BLOCKS: immutable(uint256)
MINIMUM_STAKE: immutable(uint256)
MAX_VALIDATORS: immutable(uint256)
MAX_MISSED_PERCENT: immutable(uint256)
JAIL_BLOCKS: immutable(uint256)
SLASH_PERCENT: immutable(uint256)

# @notice The account that moves a validator's money.
operator_of: public(HashMap[address, address])
# @notice Stake on its way out.
unbonding_of: public(HashMap[address, uint256])
release_at: HashMap[address, uint256]
beacon_key_of: HashMap[address, BeaconKey]
# By keccak of the key.
is_beacon_key_taken: HashMap[bytes32, bool]
# Block from which `unjail` is allowed; 0 for those who are not jailed.
jailed_until: HashMap[address, uint256]
# Epoch << 64 | blocks missed in it.
missed_of: HashMap[address, uint256]
# Hash of the evidence; a validator that has one never votes again.
evidence_of: HashMap[address, bytes32]
# The set that votes from the next border on, in no order.
members: address[MAX_SET]
member_count: uint256


@deploy
def __init__(
    clock: address,
    bls_possession: address,
    epoch_blocks: uint256,
    evidence_age_blocks: uint256,
    unbonding_blocks: uint256,
    minimum_validator_stake: uint256,
    max_validators: uint256,
    max_missed_percent: uint256,
    jail_blocks: uint256,
    slash_percent: uint256,
):
    """
    @param clock The Clock, which knows the genesis hash.
    @param bls_possession The precompile that checks proofs of possession.
    @param epoch_blocks Blocks between two elections.
    @param evidence_age_blocks How many blocks back evidence may reach.
    @param unbonding_blocks Blocks between `unbond` and `withdraw`.
    @param minimum_validator_stake wei; who has less does not vote.
    @param max_validators Of one set.
    @param max_missed_percent Of an epoch's blocks; who misses more is jailed.
    @param jail_blocks Blocks between a jailing and `unjail`.
    @param slash_percent Of all stake, burned for equivocation.
    """
    assert epoch_blocks > 0, "validators: no epoch"
    # Who leaves at the start of an epoch may vote until its end.
    assert (
        unbonding_blocks > evidence_age_blocks + epoch_blocks
    ), "validators: unbonding ends before evidence does"
    assert (
        0 < minimum_validator_stake and minimum_validator_stake <= MAX_STAKE
    ), "validators: minimum stake"
    assert 0 < max_validators and max_validators <= MAX_SET, "validators: set size"
    assert max_missed_percent <= 100, "validators: missed percent"
    # Shorter, and one who is jailed would be back before the next election.
    assert jail_blocks >= epoch_blocks, "validators: jail shorter than an epoch"
    assert 0 < slash_percent and slash_percent <= 100, "validators: slash percent"
    CLOCK = IClock(clock)
    BLS_POSSESSION = bls_possession
    EPOCH_BLOCKS = epoch_blocks
    EVIDENCE_AGE_BLOCKS = evidence_age_blocks
    UNBONDING_BLOCKS = unbonding_blocks
    MINIMUM_STAKE = minimum_validator_stake
    MAX_VALIDATORS = max_validators
    MAX_MISSED_PERCENT = max_missed_percent
    JAIL_BLOCKS = jail_blocks
    SLASH_PERCENT = slash_percent
    beacon._begin_set()


# -- what operators do -----------------------------------------------------------------


@external
@payable
def register(
    public_key: Bytes[64],
    beacon_key: Bytes[48],
    possession: Bytes[96],
    consent: Bytes[65],
) -> address:
    """
    @notice Become the operator of a new validator, with the value sent as its stake.
    @param public_key secp256k1, x and y.
    @param beacon_key Compressed BLS12-381 point of G1.
    @param possession The beacon key's proof that somebody has its secret.
    @param consent The consensus key's signature, r, s, y parity, over sha256 of
           "lockstep/validator/v1", genesis hash, operator and beacon key: nobody
           registers another's key.
    @return The validator's address.
    """
    assert len(public_key) == 64, "validators: public key"
    assert len(beacon_key) == 48, "validators: beacon key"
    assert len(possession) == 96 and self._is_possessed(
        beacon_key, possession
    ), "validators: possession"
    assert msg.value >= MINIMUM_STAKE, "validators: below the minimum stake"
    validator: address = self._address(public_key)
    assert (
        len(consent) == 65 and self._signer(msg.sender, beacon_key, consent) == validator
    ), "validators: consent"
    self._admit(validator, msg.sender, public_key, beacon_key)
    self._stake(validator, msg.value)
    return validator


@external
@payable
def add_stake(validator: address):
    """
    @notice Add the value sent to a validator's stake. Its operator only.
    """
    self._check_operator(validator)
    assert msg.value > 0, "validators: nothing sent"
    assert self.evidence_of[validator] == empty(bytes32), "validators: punished"
    self._stake(validator, msg.value)


@external
def unbond(validator: address, amount: uint256):
    """
    @notice Take stake out of service, at the next election. A second call delays what
            the first began. Its operator only.
    @param validator Whose stake.
    @param amount Part of it, or all.
    """
    self._check_operator(validator)
    stake: uint256 = ranking.stake_of[validator]
    assert amount > 0, "validators: nothing to unbond"
    assert stake >= amount, "validators: not enough stake"
    release: uint256 = block.number + UNBONDING_BLOCKS
    self.unbonding_of[validator] += amount
    self.release_at[validator] = release
    self._set_stake(validator, stake - amount)
    log Unbonding(validator=validator, amount=amount, release_at=release)


@external
@nonreentrant
def withdraw(validator: address) -> uint256:
    """
    @notice Pay out unbonding stake once its time has come. Its operator only.
    @return The amount paid.
    """
    self._check_operator(validator)
    amount: uint256 = self.unbonding_of[validator]
    assert amount > 0, "validators: nothing to withdraw"
    assert block.number >= self.release_at[validator], "validators: still unbonding"
    self.unbonding_of[validator] = 0
    log Withdrawn(validator=validator, amount=amount)
    raw_call(msg.sender, b"", value=amount)
    return amount


@external
def unjail(validator: address):
    """
    @notice Stand for election again after a jailing. Its operator only.
    """
    self._check_operator(validator)
    until: uint256 = self.jailed_until[validator]
    assert until > 0, "validators: not jailed"
    assert block.number >= until, "validators: still jailed"
    assert self.evidence_of[validator] == empty(bytes32), "validators: punished"
    self.jailed_until[validator] = 0
    self.missed_of[validator] = 0
    self._set_stake(validator, ranking.stake_of[validator])
    log Unjailed(validator=validator)


# -- what the chain does ---------------------------------------------------------------


@external
def place(operator: address, public_key: Bytes[64], beacon_key: Bytes[48], stake: uint256):
    """
    @notice Give a validator of the chain's specification its seat. Genesis only, which
            also gives this contract the money.
    """
    assert msg.sender == SYSTEM and block.number == 0, "validators: only at genesis"
    assert len(public_key) == 64, "validators: public key"
    assert len(beacon_key) == 48, "validators: beacon key"
    assert stake >= MINIMUM_STAKE, "validators: below the minimum stake"
    count: uint256 = self.member_count
    assert count < MAX_VALIDATORS, "validators: too many"
    validator: address = self._address(public_key)
    self._admit(validator, operator, public_key, beacon_key)
    self._stake(validator, stake)
    self.members[count] = validator
    self.member_count = count + 1
    beacon.total_power += stake
    beacon._add_member(validator, stake, beacon.set_number, 0)


@external
def begin_block(proposer: address, absent: DynArray[address, MAX_SET]):
    """
    @notice Start a block: count who missed the one before, elect at a border, count the
            proposer's reveal.
    @param proposer Consensus address of the block's proposer.
    @param absent Consensus addresses missing from the parent's certificate.
    """
    assert msg.sender == SYSTEM, "validators: only the system begins blocks"
    if len(absent) > 0:
        self._count_missed(absent)
    # The set of height h is read from the state of block h - 2.
    if (block.number + 2) % EPOCH_BLOCKS == 0:
        self._elect()
    beacon._reveal(proposer)


@external
def punish(validator: address, evidence: bytes32, height: uint256):
    """
    @notice Burn stake of a validator that contradicted itself, and bar it for ever.
            Once for each validator: a block that tries it again is invalid.
    @param validator Consensus address of the offender.
    @param evidence Hash of the evidence.
    @param height Where it happened.
    """
    assert msg.sender == SYSTEM, "validators: only the system punishes"
    assert self.operator_of[validator] != empty(address), "validators: unknown"
    assert self.evidence_of[validator] == empty(bytes32), "validators: punished already"
    assert evidence != empty(bytes32), "validators: no evidence"
    assert (
        height < block.number and block.number <= height + EVIDENCE_AGE_BLOCKS
    ), "validators: evidence of another age"
    self.evidence_of[validator] = evidence
    stake: uint256 = ranking.stake_of[validator]
    unbonding: uint256 = self.unbonding_of[validator]
    from_stake: uint256 = stake * SLASH_PERCENT // 100
    from_unbonding: uint256 = unbonding * SLASH_PERCENT // 100
    self._set_stake(validator, stake - from_stake)
    self.unbonding_of[validator] = unbonding - from_unbonding
    raw_call(empty(address), b"", value=from_stake + from_unbonding)


# -- what anybody may ask --------------------------------------------------------------


@external
@view
def active_set() -> DynArray[Member, MAX_SET]:
    """
    @notice The set elected last, in no order. In the state of block h - 2, with h a
            multiple of `epoch_blocks`, it is the set that votes from height h on.
    """
    found: DynArray[Member, MAX_SET] = []
    for i: uint256 in range(self.member_count, bound=MAX_SET):
        who: address = self.members[i]
        beacon_key: BeaconKey = self.beacon_key_of[who]
        found.append(
            Member(
                public_key_x=ranking.key_of[who][0],
                public_key_y=ranking.key_of[who][1],
                beacon_key_head=beacon_key.head,
                beacon_key_tail=beacon_key.tail,
                stake=beacon._power(who),
            )
        )
    return found


@external
@view
def validator(validator: address) -> Validator:
    """
    @notice Everything about one validator; its operator is zero if there is none.
    """
    place: uint256 = ranking.place_of[validator]
    missed: uint256 = self.missed_of[validator]
    if missed >> 64 != self._epoch():
        missed = 0
    beacon_key: BeaconKey = self.beacon_key_of[validator]
    return Validator(
        operator=self.operator_of[validator],
        public_key_x=ranking.key_of[validator][0],
        public_key_y=ranking.key_of[validator][1],
        beacon_key_head=beacon_key.head,
        beacon_key_tail=beacon_key.tail,
        stake=ranking.stake_of[validator],
        power=beacon._power(validator),
        unbonding=self.unbonding_of[validator],
        release_at=self.release_at[validator],
        jailed_until=self.jailed_until[validator],
        missed=missed & LOW,
        seated=place != 0 and place & 1 == ranking.SEATED,
        evidence=self.evidence_of[validator],
    )


@external
@view
def is_punished(validator: address) -> bool:
    """
    @notice Whether a validator was punished, or is none and never can be.
    """
    return (
        self.operator_of[validator] == empty(address)
        or self.evidence_of[validator] != empty(bytes32)
    )


@external
@view
def candidates() -> (uint256, uint256):
    """
    @notice How many are seated for the next election, and how many wait for a seat.
    """
    return ranking.sizes[ranking.SEATED], ranking.sizes[ranking.WAITING]


@external
@view
def parameters() -> Parameters:
    """
    @notice What the constructor was given.
    """
    return Parameters(
        epoch_blocks=EPOCH_BLOCKS,
        evidence_age_blocks=EVIDENCE_AGE_BLOCKS,
        unbonding_blocks=UNBONDING_BLOCKS,
        minimum_validator_stake=MINIMUM_STAKE,
        max_validators=MAX_VALIDATORS,
        max_missed_percent=MAX_MISSED_PERCENT,
        jail_blocks=JAIL_BLOCKS,
        slash_percent=SLASH_PERCENT,
    )


# -- inside ----------------------------------------------------------------------------


@internal
@view
def _check_operator(validator: address):
    """
    @notice Refuse anybody but the operator.
    """
    assert msg.sender == self.operator_of[validator], "validators: not its operator"


@internal
@pure
def _address(public_key: Bytes[64]) -> address:
    """
    @notice Ethereum's address of a public key.
    """
    return convert(convert(keccak256(public_key), uint256) & (2**160 - 1), address)


@internal
@view
def _is_possessed(beacon_key: Bytes[48], possession: Bytes[96]) -> bool:
    """
    @notice Ask the precompile whether a proof of possession is valid.
    """
    answer: Bytes[32] = raw_call(
        BLS_POSSESSION,
        concat(beacon_key, possession),
        max_outsize=32,
        is_static_call=True,
    )
    return len(answer) == 32 and convert(answer, uint256) == 1


@internal
@view
def _signer(operator: address, beacon_key: Bytes[48], consent: Bytes[65]) -> address:
    """
    @notice Whose signature a consent to be operated by `operator` is.
    """
    digest: bytes32 = sha256(
        concat(
            CONSENT,
            staticcall CLOCK.genesis_hash(),
            convert(operator, bytes20),
            beacon_key,
        )
    )
    parity: uint256 = convert(slice(consent, 64, 1), uint256)
    assert parity < 2, "validators: consent"
    return ecrecover(
        digest,
        27 + parity,
        convert(slice(consent, 0, 32), uint256),
        convert(slice(consent, 32, 32), uint256),
    )


@internal
def _admit(
    validator: address, operator: address, public_key: Bytes[64], beacon_key: Bytes[48]
):
    """
    @notice Write down a new validator.
    """
    assert operator != empty(address), "validators: no operator"
    assert self.operator_of[validator] == empty(address), "validators: known already"
    beacon_hash: bytes32 = keccak256(beacon_key)
    assert not self.is_beacon_key_taken[beacon_hash], "validators: beacon key taken"
    self.is_beacon_key_taken[beacon_hash] = True
    self.operator_of[validator] = operator
    ranking.key_of[validator] = [
        convert(slice(public_key, 0, 32), bytes32),
        convert(slice(public_key, 32, 32), bytes32),
    ]
    self.beacon_key_of[validator] = BeaconKey(
        head=convert(slice(beacon_key, 0, 32), bytes32),
        tail=convert(slice(beacon_key, 32, 16), bytes16),
    )
    log Registered(
        validator=validator,
        operator=operator,
        public_key=public_key,
        beacon_key=beacon_key,
    )


@internal
def _stake(validator: address, amount: uint256):
    """
    @notice Add to a validator's stake.
    """
    stake: uint256 = ranking.stake_of[validator] + amount
    assert stake <= MAX_STAKE, "validators: more stake than can be"
    self._set_stake(validator, stake)
    log Staked(validator=validator, amount=amount, stake=stake)


@internal
def _set_stake(validator: address, stake: uint256):
    """
    @notice Change a stake, and rank the validator if it may stand for election.
    """
    if ranking._is_ranked(validator):
        ranking._leave(validator)
    ranking.stake_of[validator] = stake
    if (
        stake >= MINIMUM_STAKE
        and self.jailed_until[validator] == 0
        and self.evidence_of[validator] == empty(bytes32)
    ):
        ranking._enter(validator, MAX_VALIDATORS)


@internal
@view
def _epoch() -> uint256:
    """
    @notice Epoch of the parent block, which is the one that may have been missed.
    """
    return (max(block.number, 1) - 1) // EPOCH_BLOCKS


@internal
def _count_missed(absent: DynArray[address, MAX_SET]):
    """
    @notice Count a missed block for each, and jail who has missed too many of this
            epoch, though never the last who stands for election.
    """
    jailed: uint256 = 0
    epoch: uint256 = self._epoch()
    allowed: uint256 = MAX_MISSED_PERCENT * EPOCH_BLOCKS
    for who: address in absent:
        missed: uint256 = self.missed_of[who]
        if missed >> 64 != epoch:
            missed = epoch << 64
        missed += 1
        self.missed_of[who] = missed
        if (missed & LOW) * 100 <= allowed or jailed == MAX_JAILED:
            continue
        if ranking._is_ranked(who) and ranking.sizes[ranking.SEATED] > 1:
            jailed += 1
            self.jailed_until[who] = block.number + JAIL_BLOCKS
            ranking._leave(who)


@internal
def _elect():
    """
    @notice Make the seated the set that votes next; with nobody seated the old set goes
            on.
    """
    count: uint256 = ranking.sizes[ranking.SEATED]
    if count == 0:
        return
    beacon._begin_set()
    number: uint256 = beacon.set_number
    opened: uint256 = beacon.fixed
    total: uint256 = 0
    revealed: uint256 = 0
    for i: uint256 in range(count, bound=MAX_SET):
        who: address = ranking.heaps[ranking.SEATED][i]
        power: uint256 = ranking.stake_of[who]
        total += power
        revealed += beacon._add_member(who, power, number, opened)
        self.members[i] = who
    self.member_count = count
    beacon.total_power = total
    beacon.revealed = revealed
