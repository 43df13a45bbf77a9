"""Functions that programs are compared with torch over, by families."""

from tests.ml_verifier.functions.attention import ATTENTION
from tests.ml_verifier.functions.elementwise import ACTIVATIONS, ARITHMETIC, LOGIC
from tests.ml_verifier.functions.indexing import INDEXING
from tests.ml_verifier.functions.inputs import Cases
from tests.ml_verifier.functions.layers import NORMALISATION, WINDOWS
from tests.ml_verifier.functions.losses import LOSSES
from tests.ml_verifier.functions.movement import CREATION, MOVEMENT
from tests.ml_verifier.functions.reductions import MATRICES, REDUCTIONS

FAMILIES: dict[str, Cases] = {
    "arithmetic": ARITHMETIC,
    "activations": ACTIVATIONS,
    "reductions": REDUCTIONS,
    "matrices": MATRICES,
    "movement": MOVEMENT,
    "logic": LOGIC,
    "creation": CREATION,
    "indexing": INDEXING,
    "losses": LOSSES,
    "windows": WINDOWS,
    "normalisation": NORMALISATION,
    "attention": ATTENTION,
}
