# pragma version 0.4.3
"""
@title ranking
@license Apache-2.0
@notice Knows the strongest of any number of candidates. Two heaps: the seated, with the
        weakest on top, and the waiting, with the strongest on top. Who comes, goes or
        changes its stake moves along one path of each, so the cost grows with the
        logarithm of the number of candidates. A stake decides, then the public key:
        of two equal stakes the smaller key is stronger.
"""

SEATED: constant(uint256) = 0
WAITING: constant(uint256) = 1
# More levels than any heap has.
MAX_LEVELS: constant(uint256) = 64

# @notice What a candidate stakes, ranked or not.
stake_of: public(HashMap[address, uint256])
# Public key x, y.
key_of: HashMap[address, bytes32[2]]
heaps: HashMap[uint256, HashMap[uint256, address]]
sizes: HashMap[uint256, uint256]
# 2 * (index + 1) + heap, or 0 for those who are not ranked.
place_of: HashMap[address, uint256]


@internal
@view
def _is_ranked(who: address) -> bool:
    """
    @notice Whether `who` is seated or waiting.
    """
    return self.place_of[who] != 0


@internal
@view
def _stronger(one: address, other: address) -> bool:
    """
    @notice Whether `one` comes before `other`.
    """
    mine: uint256 = self.stake_of[one]
    its: uint256 = self.stake_of[other]
    if mine != its:
        return mine > its
    mine = convert(self.key_of[one][0], uint256)
    its = convert(self.key_of[other][0], uint256)
    if mine != its:
        return mine < its
    return convert(self.key_of[one][1], uint256) < convert(
        self.key_of[other][1], uint256
    )


@internal
@view
def _above(heap: uint256, one: address, other: address) -> bool:
    """
    @notice Whether `one` belongs nearer to the top of a heap than `other`.
    """
    if heap == WAITING:
        return self._stronger(one, other)
    return self._stronger(other, one)


@internal
def _put(heap: uint256, index: uint256, who: address):
    """
    @notice Write `who` to a place.
    """
    self.heaps[heap][index] = who
    self.place_of[who] = 2 * (index + 1) + heap


@internal
def _rise(heap: uint256, start: uint256, who: address):
    """
    @notice Put `who` to the free place `start` or above it.
    """
    index: uint256 = start
    for _: uint256 in range(MAX_LEVELS):
        if index == 0:
            break
        parent: uint256 = (index - 1) // 2
        other: address = self.heaps[heap][parent]
        if not self._above(heap, who, other):
            break
        self._put(heap, index, other)
        index = parent
    self._put(heap, index, who)


@internal
def _sink(heap: uint256, start: uint256, who: address, size: uint256):
    """
    @notice Put `who` to the free place `start` or below it.
    """
    index: uint256 = start
    for _: uint256 in range(MAX_LEVELS):
        child: uint256 = 2 * index + 1
        if child >= size:
            break
        other: address = self.heaps[heap][child]
        if child + 1 < size:
            sibling: address = self.heaps[heap][child + 1]
            if self._above(heap, sibling, other):
                child += 1
                other = sibling
        if not self._above(heap, other, who):
            break
        self._put(heap, index, other)
        index = child
    self._put(heap, index, who)


@internal
def _push(heap: uint256, who: address):
    """
    @notice Add `who` to a heap.
    """
    size: uint256 = self.sizes[heap]
    self.sizes[heap] = size + 1
    self._rise(heap, size, who)


@internal
def _take(heap: uint256, index: uint256):
    """
    @notice Remove whoever is at a place; the last of the heap fills it.
    """
    last: uint256 = self.sizes[heap] - 1
    moved: address = self.heaps[heap][last]
    self.sizes[heap] = last
    self.heaps[heap][last] = empty(address)
    if index == last:
        return
    if index > 0 and self._above(heap, moved, self.heaps[heap][(index - 1) // 2]):
        self._rise(heap, index, moved)
    else:
        self._sink(heap, index, moved, last)


@internal
def _enter(who: address, seats: uint256):
    """
    @notice Rank `who`, which is not ranked; it may unseat the weakest.
    @param who A candidate whose stake is set.
    @param seats How many may be seated.
    """
    seated: uint256 = self.sizes[SEATED]
    if seated < seats:
        self._push(SEATED, who)
        return
    weakest: address = self.heaps[SEATED][0]
    if self._stronger(who, weakest):
        self._sink(SEATED, 0, who, seated)
        self._push(WAITING, weakest)
    else:
        self._push(WAITING, who)


@internal
def _leave(who: address):
    """
    @notice Drop `who`, which is ranked; the strongest of the waiting takes its seat.
    """
    place: uint256 = self.place_of[who]
    heap: uint256 = place & 1
    self.place_of[who] = 0
    self._take(heap, (place >> 1) - 1)
    if heap == SEATED and self.sizes[WAITING] > 0:
        strongest: address = self.heaps[WAITING][0]
        self._take(WAITING, 0)
        self._push(SEATED, strongest)
