"""Array types with shapes, for annotations: jaxtyping's, which only type checkers need."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jaxtyping import Bool, Float, Int, UInt8
else:
    Bool = Float = Int = UInt8 = None

__all__ = ["Bool", "Float", "Int", "UInt8"]
