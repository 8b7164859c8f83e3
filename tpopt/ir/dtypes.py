"""Element types of tensors and scalar terms."""

from __future__ import annotations

from enum import Enum

from tpopt.errors import InvalidProgram


class DType(Enum):
    """An element type; the value is its name in program text."""

    F64 = "f64"
    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    C128 = "c128"
    C64 = "c64"
    I64 = "i64"
    I32 = "i32"
    I16 = "i16"
    I8 = "i8"
    U8 = "u8"
    BOOL = "bool"

    def __str__(self) -> str:
        return self.value

    @property
    def itemsize(self) -> int:
        """Bytes of one element."""
        return _ITEMSIZE[self]

    @property
    def is_float(self) -> bool:
        """Real floating point."""
        return self in (DType.F64, DType.F32, DType.F16, DType.BF16)

    @property
    def is_complex(self) -> bool:
        """Complex floating point."""
        return self in (DType.C128, DType.C64)

    @property
    def is_integer(self) -> bool:
        """Signed or unsigned integer, ``bool`` excluded."""
        return self in (DType.I64, DType.I32, DType.I16, DType.I8, DType.U8)

    @property
    def real(self) -> DType:
        """Type of the real part: ``c64 -> f32``, ``c128 -> f64``, itself otherwise."""
        return {DType.C64: DType.F32, DType.C128: DType.F64}.get(self, self)

    @property
    def complex(self) -> DType:
        """Complex type over this real type. Raises :class:`InvalidProgram` where none exists."""
        if self.is_complex:
            return self
        found = {DType.F32: DType.C64, DType.F64: DType.C128}.get(self)
        if found is None:
            raise InvalidProgram(f"no complex type over {self}; cast to f32 or f64 first")
        return found


_ITEMSIZE = {
    DType.F64: 8,
    DType.F32: 4,
    DType.F16: 2,
    DType.BF16: 2,
    DType.C128: 16,
    DType.C64: 8,
    DType.I64: 8,
    DType.I32: 4,
    DType.I16: 2,
    DType.I8: 1,
    DType.U8: 1,
    DType.BOOL: 1,
}
