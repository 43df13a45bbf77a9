"""Ears for an audit: what the precompile was asked, and what execution wrote."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from typing_extensions import override

from chain.addresses import ML_VERIFIER
from chain.store import PassThrough, Store
from ml_verifier import judge, oracle
from runtime.ml_precompile import ml_precompile
from runtime.precompile_table import precompiles
from runtime.precompiles.interface import Precompile
from runtime.rules import Rules


@dataclass(slots=True)
class Listener:
    """The judge with an ear: asks `judge` and remembers each replay."""

    use_oracle: bool
    heard: list[tuple[judge.ReplayCall, bool, bool | None]]

    def admission_gas(self, program_size: int) -> int:
        """As `judge.admission_gas`."""
        return judge.admission_gas(program_size)

    def admit(self, program: bytes, records: int) -> judge.Admission:
        """As `judge.admit`."""
        return judge.admit(program, records)

    def intake_gas(self, witness_size: int, head: bytes) -> int:
        """As `judge.intake_gas`."""
        return judge.intake_gas(witness_size, head)

    def replay_gas(self, call: judge.ReplayCall) -> int:
        """As `judge.replay_gas`."""
        return judge.replay_gas(call)

    def replay(self, call: judge.ReplayCall) -> bool:
        """As `judge.replay`; remembers question and answers."""
        valid = judge.replay(call)
        second = judge.replay(call, backend=oracle) if self.use_oracle else None
        self.heard.append((call, valid, second))
        return valid

    def opening_gas(self, size: int) -> int:
        """As `judge.opening_gas`."""
        return judge.opening_gas(size)

    def verify_opening(
        self, state_root: bytes, slot: int, tile: int, opening: bytes
    ) -> None:
        """As `judge.verify_opening`."""
        judge.verify_opening(state_root, slot, tile, opening)


def listening_table(rules: Rules, listener: Listener) -> Mapping[bytes, Precompile]:
    """The precompiles of the rules, with a listener at the ML verifier."""
    table = precompiles(rules)
    listening = ml_precompile(listener)
    # Everything but the answering stays what the rules say.
    heard = replace(table[ML_VERIFIER], run=listening.run)
    return {**table, ML_VERIFIER: heard}


class Recorder(PassThrough):
    """A store that remembers what the last batch wrote."""

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.written: dict[bytes, bytes] = {}

    @override
    def write(
        self,
        puts: Mapping[bytes, bytes],
        deletes: Iterable[bytes] = (),
        *,
        sync: bool = True,
    ) -> None:
        del sync  # see below
        self.written = dict(puts)
        # The audit's own state is scratch; nobody reads it after a crash.
        self._inner.write(puts, deletes, sync=False)
