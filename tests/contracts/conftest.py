"""People and places of the contract tests."""

import pytest

from tests.contracts.chain import Chain
from tests.contracts.play import Game
from tests.contracts.toy import cheating, honest

STEPS = 10
WRONG = 4


@pytest.fixture
def chain() -> Chain:
    """A chain of devnet's parameters in its first block."""
    return Chain()


@pytest.fixture
def fair(chain: Chain) -> Game:
    """A committed job whose solver is honest."""
    return Game(chain, honest(STEPS)).start()


@pytest.fixture
def fraud(chain: Chain) -> Game:
    """A committed job whose step `WRONG` is faked."""
    return Game(chain, cheating(STEPS, WRONG)).start()


@pytest.fixture
def alice(chain: Chain) -> bytes:
    """A challenger."""
    return chain.fund("alice")


@pytest.fixture
def bob(chain: Chain) -> bytes:
    """Another challenger."""
    return chain.fund("bob")
