"""How each operator is refined into stages, by family."""

from collections.abc import Mapping

from ml_verifier.adjudication.refinement import Recipe
from ml_verifier.adjudication.rules import (
    elementwise,
    indexing,
    movement,
    products,
    rows,
    windows,
)

RECIPES: Mapping[str, Recipe] = {
    **elementwise.RECIPES,
    **indexing.RECIPES,
    **movement.RECIPES,
    **products.RECIPES,
    **rows.RECIPES,
    **windows.RECIPES,
}
