"""Messages through packets and frames: whole, in order, in proportion; no lies."""

from collections import Counter

import pytest
from hypothesis import given, strategies as st

from node.p2p.errors import PeerFaultError
from node.p2p.frames import MAX_PLAINTEXT
from node.p2p.interface import Channel
from node.p2p.limits import Meter, TokenBucket
from node.p2p.outbox import Outbox
from node.p2p.packets import HEADER, HEADER_BYTES, Assembler, Packet

LIMIT = 200_000


def channel(
    number: int,
    *,
    priority: int = 1,
    queue: int = 1_000,
    messages: float = 1e9,
    rate: float = 1e12,
) -> Channel:
    return Channel(number, f"c{number}", LIMIT, messages, rate, queue, priority)


def assembler() -> Assembler:
    return Assembler({2: LIMIT, 3: LIMIT, 4: 5})


def packet(number: int, left: int, data: bytes) -> bytes:
    return HEADER.pack(number, left, len(data)) + data


def drain(outbox: Outbox, now: float = 0.0) -> list[Packet]:
    assembled, packets = assembler(), list[Packet]()
    while frame := outbox.frame(now)[0]:
        assert len(frame) <= MAX_PLAINTEXT
        packets += assembled.feed(frame)
    return packets


@given(
    st.lists(
        st.tuples(
            st.sampled_from([2, 3]),
            st.one_of(st.integers(1, 50), st.integers(60_000, LIMIT)),
        ),
        max_size=20,
    )
)
def test_every_message_arrives_whole_and_in_order(sent: list[tuple[int, int]]) -> None:
    outbox = Outbox([channel(2, priority=3), channel(3)], 0.0)
    messages = [(n, bytes([i]) * size) for i, (n, size) in enumerate(sent)]
    for number, payload in messages:
        outbox.push(number, payload)
    assert outbox.pending == sum(size for _, size in sent)
    got = [(p.channel, p.message) for p in drain(outbox) if p.message is not None]
    for number in (2, 3):
        assert [m for m in got if m[0] == number] == [
            m for m in messages if m[0] == number
        ]
    assert outbox.pending == 0


def test_a_packet_costs_its_header_too() -> None:
    (one,) = assembler().feed(packet(2, 0, b"x"))
    assert one == Packet(2, HEADER_BYTES + 1, first=True, message=b"x")


@pytest.mark.parametrize(
    ("frames", "complaint"),
    [
        ([packet(9, 0, b"x")], "channel 9 is not open"),
        ([packet(4, 0, b"123456")], "6 bytes was announced, 5 are allowed"),
        ([packet(4, 5, b"1")], "6 bytes was announced"),
        ([packet(2, (1 << 32) - 1, b"1")], "4294967296 bytes was announced"),
        ([packet(2, 10, b"1"), packet(2, 10, b"1")], "10 bytes were announced"),
        ([packet(2, 10, b"1"), packet(2, 0, b"12345678901")], "now 11"),
        ([packet(2, 10, b"1"), packet(2, 0, b"12")], "now 2"),
        ([packet(2, 0, b"")], "packet of 0 bytes"),
        ([packet(2, 1, b"")], "packet of 0 bytes"),
        ([packet(2, 0, b"12")[:-1]], "packet of 2 bytes where 1 follow"),
        ([packet(2, 0, b"12") + b"\x02\0"], "header is cut off"),
    ],
)
def test_lies_about_sizes_are_faults(frames: list[bytes], complaint: str) -> None:
    receiver = assembler()
    for frame in frames[:-1]:
        assert [one.message for one in receiver.feed(frame)] == [None]
    with pytest.raises(PeerFaultError, match=complaint):
        list(receiver.feed(frames[-1]))


@given(st.lists(st.binary(min_size=1, max_size=60), max_size=5))
def test_any_frame_is_packets_or_a_fault(frames: list[bytes]) -> None:
    receiver = assembler()
    try:
        for frame in frames:
            for one in receiver.feed(frame):
                assert one.message is None or 0 < len(one.message) <= LIMIT
    except PeerFaultError:
        return


def test_an_urgent_channel_is_not_kept_waiting_by_a_bulk_one() -> None:
    outbox = Outbox([channel(2, priority=10), channel(3)], 0.0)
    for _ in range(10):
        outbox.push(3, bytes(LIMIT))
    outbox.frame(0.0)
    outbox.push(2, b"urgent")
    first = next(iter(assembler().feed(outbox.frame(0.0)[0])))
    assert first.message == b"urgent"


def test_channels_share_the_connection_by_priority() -> None:
    outbox = Outbox([channel(2, priority=3), channel(3)], 0.0)
    for number in (2, 3):
        for _ in range(1_000):
            outbox.push(number, bytes(1_000))
    shares = sum((tally(outbox.frame(0.0)[0]) for _ in range(10)), Counter[int]())
    assert 2.8 < shares[2] / shares[3] < 3.2


def tally(frame: bytes) -> Counter[int]:
    """Bytes of each channel in a frame."""
    position, shares = 0, Counter[int]()
    while position < len(frame):
        number, _, size = HEADER.unpack_from(frame, position)
        shares[number] += size
        position += HEADER_BYTES + size
    return shares


def test_a_channel_that_was_idle_has_saved_nothing_up() -> None:
    outbox = Outbox([channel(2), channel(3)], 0.0)
    for _ in range(100):
        outbox.push(2, bytes(10_000))
    for _ in range(10):
        outbox.frame(0.0)
    for _ in range(100):
        outbox.push(3, bytes(10_000))
    shares = sum((tally(outbox.frame(0.0)[0]) for _ in range(4)), Counter[int]())
    assert 0.7 < shares[2] / shares[3] < 1.4


def test_control_goes_before_all_and_is_bounded() -> None:
    outbox = Outbox([channel(2)], 0.0)
    outbox.push(2, b"x")
    for _ in range(100):
        outbox.push_control(b"\1")
    frame, done = outbox.frame(0.0)
    assert frame == packet(0, 0, b"\1") * 4 + packet(2, 0, b"x")
    assert [(c.id, size) for c, size in done] == [(2, 1)]


def test_the_sender_keeps_the_rates_of_a_channel() -> None:
    slow = channel(2, messages=2.0)
    outbox = Outbox([slow, channel(3)], 0.0)
    for _ in range(5):
        outbox.push(2, b"x")
    outbox.push(3, b"y")
    frame, done = outbox.frame(0.0)
    assert sorted(c.id for c, _ in done) == [2, 2, 2, 3]
    assert outbox.frame(0.0) == (b"", [])
    assert outbox.wait(0.0) == pytest.approx(0.5)
    assert [c.id for c, _ in outbox.frame(0.5)[1]] == [2]
    assert frame


def test_an_idle_outbox_waits_for_nothing() -> None:
    assert Outbox([channel(2)], 0.0).wait(0.0) is None


def test_a_queue_is_bounded() -> None:
    outbox = Outbox([channel(2, queue=2)], 0.0)
    outbox.push(2, b"1")
    assert outbox.has_room(2)
    outbox.push(2, b"2")
    assert not outbox.has_room(2)
    with pytest.raises(ValueError, match="full"):
        outbox.push(2, b"3")


@pytest.mark.parametrize(
    ("number", "payload"), [(5, b"x"), (2, b""), (2, bytes(LIMIT + 1))]
)
def test_what_a_peer_would_not_accept_is_not_queued(
    number: int, payload: bytes
) -> None:
    with pytest.raises(ValueError, match=r"channel|expected"):
        Outbox([channel(2)], 0.0).push(number, payload)


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(1, 20)), max_size=50))
def test_a_bucket_never_lets_more_through_than_its_rate(
    takes: list[tuple[float, int]],
) -> None:
    bucket, now, taken = TokenBucket(3.0, 10.0, 0.0), 0.0, 0
    for pause, amount in takes:
        now += pause
        if bucket.take(amount, now):
            taken += amount
        assert taken <= 10 + 3 * now + 1e-6


def test_a_debt_is_paid_by_waiting() -> None:
    bucket = TokenBucket(2.0, 4.0, 0.0)
    assert bucket.charge(4, 0.0) == 0
    assert bucket.charge(4, 0.0) == 2.0
    assert bucket.wait(1.0) == 1.0
    assert bucket.wait(2.0) == 0


def test_a_clock_that_steps_back_gives_nothing_away() -> None:
    bucket = TokenBucket(1.0, 1.0, 10.0)
    assert bucket.take(1, 10.0)
    assert not bucket.take(1, 5.0)


def test_an_honest_sender_never_makes_the_receiver_pause() -> None:
    """The sender's burst is half of what the receiver allows."""
    one = channel(2, messages=10, rate=100_000)
    outbox, meter = Outbox([one], 0.0), Meter(one, 2.0, 0.0)
    receiver, now = assembler(), 0.0
    for _ in range(300):
        while outbox.has_room(2) and outbox.pending < LIMIT:
            outbox.push(2, bytes(LIMIT // 3))
        frame, _ = outbox.frame(now)
        for part in receiver.feed(frame):
            assert meter.charge(part.cost, int(part.first), now) == 0
        now += outbox.wait(now) or 0.0
    assert now > 60
