from __future__ import annotations

import pytest

from tpopt.errors import ParseError
from tpopt.ir import Apply, Const, DType, FloorDiv, Iter, Read, index, tensor
from tpopt.ir.parse import parse_program, parse_stage, parse_term

X, W = tensor("x", (7, 5), DType.F32), tensor("w", (5,), DType.F32)
IDS, B = tensor("ids", (7,), DType.I64), tensor("b", (7,), DType.BOOL)
TENSORS = {t.name: t for t in (X, W, IDS, B)}
I, K = Iter("i", 7), Iter("k", 5)

PROGRAM = """program p(x: f32[7,5])   # the input
weight w: f32[5]
# a comment "with (marks
y: f32[7] = L[i:7]
    sum[k:5]{ x[i,k]
              * w[k] }
return y"""


def test_spaces_lines_and_comments_mean_nothing():
    again = parse_program(PROGRAM)
    assert str(again) == str(parse_program(str(again)))
    assert len(again.stages) == 1
    assert again.stages[0] is parse_stage("y:f32[7]=L[i:7]sum[k:5]{x[i,k]*w[k]}", [X, W])


def test_a_short_stage_for_tests_of_rules():
    stage = parse_stage("y: f32[7] = L[i:7] sum[k:5]{ x[i,k] * w[k] }", TENSORS)
    assert [o.name for o in stage.outs] == ["y"]


def test_literals_may_be_written_as_people_do():
    assert parse_term("1 < w[k] * 2", TENSORS, (K,)) is parse_term("1.0 < w[k] * 2.0", TENSORS, (K,))
    assert parse_term("1", (), dtype=DType.F32) is Const(1.0, DType.F32)
    assert parse_term("(1+2)*3 + ids[i]", TENSORS, (I,)).args[0].dtype is DType.I64
    assert parse_term("true", ()) is Const(True, DType.BOOL)
    assert parse_term("select(1 <= i < 3, 0, x[i,0])", TENSORS, (I,)).inside is Const(0.0, DType.F32)
    assert parse_term("2:i8", ()) is Const(2, DType.I8)
    assert parse_term("select(true, w[k], 0.0)", TENSORS, (K,)).guard.bounds == ()


def test_indices_are_built_as_written_and_not_simplified():
    read = parse_term("w[i//1]", TENSORS, (I,))
    assert isinstance(read, Read)
    assert read.indices == (index(FloorDiv(index(I), index(1))),)
    assert str(parse_term("x[i+0*i, k-k]", TENSORS, (I, K)).indices) == "(i, 0)"
    assert str(parse_term("w[2*i//3*4%5]", TENSORS, (I,)).indices[0]) == "(4*((2*i)//3))%5"


def test_chains_of_sums_are_one_function_unless_parenthesised():
    flat, nested = (parse_term(t, TENSORS, (K,)) for t in ("w[k] + w[0] + w[1]", "(w[k] + w[0]) + w[1]"))
    assert isinstance(flat, Apply)
    assert len(flat.args) == 3
    assert len(nested.args) == 2


S = "y: f32[7] = L[i:7] "
ERRORS = [
    ("y", 1, 2, "expected ':' and a type after tensor 'y', found the end"),
    ("y: f33[7]", 1, 4, "unknown element type 'f33'; did you mean 'f32'?"),
    (
        "y: f32[7] = M[i:7] w[0]",
        1,
        13,
        "expected a stage (L, scatter, scan, cond, sort, topk, kernel, opaque, effectful)",
    ),
    (S + "v[0]", 1, 20, "unknown tensor 'v'. Valid names: b, ids, w, x"),
    (S + "w[j]", 1, 22, "unknown iterator or symbol 'j'. Valid names: i"),
    (S + "sine(w[0])", 1, 20, "unknown function 'sine'; did you mean 'sin"),
    (S + "w[0,1]", 1, 20, "read of w: f32[5] with 2 indices: expected 1"),
    (S + "w[0", 1, 23, "expected ']' or ',', found the end"),
    (S + "w[0] +", 1, 26, "expected a term, found the end"),
    (S + "w[0] w[1]", 1, 25, "expected the end, or an operator, found 'w'"),
    (S + "ids[i]", 1, 20, "this term is i64, declared f32; insert a cast: f32(…)"),
    (S + "w[0] + ids[i]", 1, 25, "add: argument types differ: f32, i64; insert a Cast"),
    (S + "f32(1.5)", 1, 24, "nothing here implies the type of this literal; write it out: 1.5:f32"),
    (S + "f32(1.0 < 2.0)", 1, 28, "nothing here implies the type of this literal"),
    (S + "w[0] + true", 1, 25, "add: argument types differ: f32, bool; insert a Cast"),
    (S + "f32(ids[i] + 1.5)", 1, 33, "literal 1.5 where i64 is expected"),
    (S + "where(1, w[0], w[1])", 1, 26, "literal 1 where bool is expected; write true or false"),
    (S + "f32(w[0] < w[1] < w[2])", 1, 36, "comparisons do not chain; use and(a < b, b < c)"),
    (S + "sum[k]{ w[k] }", 1, 25, "expected ':' and an extent after iterator 'k', found ']'"),
    (S + "summ[k:5]{ w[k] }", 1, 20, "unknown tensor 'summ'. Valid names: b, ids, w, x"),
    (S + "argmax[k:5].2{ w[k], k }", 1, 20, "argmax carries 2 values; got 2, picking number 2"),
    (S + "argmax[k:5].0{ w[k], 0 }", 1, 41, "nothing here implies the type of this literal"),
    (S + "select(1 <= i, w[0], w[1])", 1, 33, "expected '<' in a guard 'low <= index < high', found ','"),
    (S + "w[i//0]", 1, 23, "division of an index by 0: the denominator must be positive"),
    (S + "w[ids[i]]", 1, 28, "expected '{' and the bounds of a lookup, '{low:high}', found ']'"),
    (S + "w[w[0]{0:5}]", 1, 22, "lookup of w: expected an integer tensor, got f32"),
    (S + "$0", 1, 20, "unknown part '$0'. Valid names: (none)"),
    (S + "let $0: f32 = w[0] w[1]", 1, 39, "expected 'in' after the term that $0 stands for, or an operator"),
    (S + "w[0]\n  ; w[1]", 2, 3, "unexpected character ';'"),
    ("y: f32[5] = L[i:7] w[0]", 1, 1, "y: f32[5]: shape differs from its loops ['i:7']"),
    ("y: f32[-7] = L[] w[0]", 1, 1, "tensor y: its shape ['-7'] has a negative extent"),
    ("x: f32[7] = L[i:7] w[0]", 1, 1, "tensor x is defined twice"),
    ("y: f32[7] layout 3 = L[i:7] w[0]", 1, 11, "expected '=' after what the stage defines, found 'layout'"),
    ("y: f32[7] structure kro(3) = L[i:7] w[0]", 1, 21, "unknown structure 'kro'; did you mean 'kron'?"),
    ("y: f32[7] structure kron((1.0+1.0j)) = L[]", 1, 26, "a structure has no complex parameters"),
    ("y: f32[7] = opaque f((a+1.0j))", 1, 23, "expected the real part of a complex literal, found 'a'"),
    ("y: f32[5] = scatter sub into w L[] at [0] { 1 }", 1, 21, "unknown scatter operator 'sub'"),
    ("y: f32[5], z: f32[5] = scatter add into w L[] at [0] { 1 }", 1, 32, "scatter defines 1 tensors, 2 are declared"),
    ("y: f32[5] = sort(w, axis=0)", 1, 17, "sort defines 2 tensors, 1 are declared"),
    ("y: f32[5], z: i64[5] = sort(w, axs=0)", 1, 32, "unknown argument 'axs'; did you mean 'axis'?"),
    ("y: f32[5], z: i64[5] = sort(w, axis=true)", 1, 32, "argument axis: expected int, got bool"),
    ("y: f32[5] = opaque aten.f(a=1, w)", 1, 32, "expected name=value, found 'w'"),
    ("y: f32[5] = opaque aten.f(v)", 1, 27, "unknown tensor 'v'"),
    ('y: f32[5] = opaque "\\q"(w)', 1, 20, "this string has a bad escape"),
    ("`\\q`: f32[5] = L[]", 1, 1, "a quoted name has a bad escape"),
    ("y: f32[5] = scan[a:3,b:4](init=[])", 1, 17, "a scan runs over one iterator, got 2"),
    (S + "9" * 500, 1, 20, "a number of more than 400 characters"),
    (S + "1" + "0" * 399, 1, 20, "int too large to convert to float"),
]


@pytest.mark.parametrize(("text", "line", "column", "message"), ERRORS, ids=[m[:50] for *_, m in ERRORS])
def test_errors_say_where_and_what_was_expected(text: str, line: int, column: int, message: str):
    with pytest.raises(ParseError) as caught:
        parse_stage(text, TENSORS)
    assert message in str(caught.value)
    assert (caught.value.line, caught.value.column) == (line, column)


PROGRAM_ERRORS = [
    ("x: f32[7]", "expected 'program' at the start, found 'x'"),
    ("program p(x: f32[7]", "expected ')' after the inputs, found the end"),
    ("program p(x: f32[s0]) return x", "unknown iterator or symbol 's0'. Valid names: (none)"),
    ("program p(x: f32[7], x: f32[7]) return x", "tensor x is defined twice"),
    ("program p(x: f32[7]) weight x: f32[7] return x", "tensor x is defined twice"),
    ("program p(x: f32[7]) symbol s in [a, 3] return x", "expected the least value of a symbol, found 'a'"),
    ("program p(x: f32[7])", "expected the name of a tensor, found the end"),
    ("program p(x: f32[7]) return y", "unknown tensor 'y'"),
    ("program p(x: f32[7]) return x alias 0 -> y", "unknown tensor 'y'"),
    ("program p(x: f32[7]) return x y", "expected the end, or an operator, found 'y'"),
    ("program p(x: f32[7]) y: f32[7] = L[i:7] x[i] z: f32[7] = L[j:7] x[i] return y", "unknown iterator or symbol 'i'"),
    ("program p(x: f32[7]) k: f32[7] = kernel c(x) defines { k: f32[7] = L[i:7] q[i] } return k", "Valid names: x"),
]


@pytest.mark.parametrize(("text", "message"), PROGRAM_ERRORS, ids=[m for _, m in PROGRAM_ERRORS])
def test_errors_in_programs(text: str, message: str):
    with pytest.raises(ParseError) as caught:
        parse_program(text)
    assert message in str(caught.value)


def test_an_error_shows_the_line_with_a_caret():
    with pytest.raises(ParseError) as caught:
        parse_program(PROGRAM.replace("w[k]", "v[k]"))
    assert str(caught.value).split("\n")[1:] == ["                * v[k] }", "                  ^"]


def test_a_long_list_of_valid_names_is_cut():
    inputs = ", ".join(f"x{n}: f32[7]" for n in range(60))
    with pytest.raises(ParseError, match=r"did you mean 'x17'\? Valid names: x0, .*, … \(20 more\)"):
        parse_program(f"program p({inputs}) return x177")


@pytest.mark.parametrize("opening", ["(", "-", "abs(", "sum[k:1]{ ", "f32(", "w[(", "where(b[i], ", "1.0 + ("])
def test_no_nesting_exhausts_the_stack(opening: str):
    with pytest.raises(ParseError, match="nested deeper than 60 levels; name the parts with 'let"):
        parse_stage(S + opening * 3_000, TENSORS)


@pytest.mark.parametrize("opening", ["kron(", "(", "y: f32[] = kernel k() defines { "])
def test_no_nesting_of_attributes_exhausts_the_stack(opening: str):
    start = {"k": "y: f32[] structure ", "(": "y: f32[] = opaque f("}.get(opening[0], "")
    with pytest.raises(ParseError, match="nested deeper than 60 levels"):
        parse_stage(start + opening * 3_000, TENSORS)


def test_the_number_of_a_component_may_not_be_negative():
    with pytest.raises(ParseError):
        parse_program("program p(x: f32[4])\ny: f32[] = L[] sum[k:4].-3{ 1.0 }\nreturn y")
