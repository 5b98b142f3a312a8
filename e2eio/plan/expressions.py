"""Conditions on scalar fields: a small part of Python's syntax, evaluated on whole columns."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from e2eio.errors import ConfigError

__all__ = ["condition"]

# As in pandas.DataFrame.query, & and | bind like "and" and "or"; && and || are what ROOT's users write.
_SPELLINGS = {"&": "and", "&&": "and", "|": "or", "||": "or", "!": "not"}
_SPELLED = re.compile(r"&&?|\|\|?|!(?!=)")

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_MOST_NESTED = 100


def condition(
    text: str,
    names: Sequence[str],
    column: Callable[[str], NDArray[Any]],
    argument: str = "select",
) -> NDArray[np.bool_]:
    """Return which samples a condition holds for.

    Names of scalar fields, numbers, ``+ - * / // % **``, ``abs()``, comparisons (also chained), ``in`` and
    ``not in`` a list of numbers, and ``and``, ``or``, ``not``, also written ``&``, ``|``, ``~`` or ``&&``,
    ``||``, ``!``. Values and types are numpy's: a float32 field is compared with 0.1 rounded to float32, and
    nothing but ``!=`` holds for NaN. Arithmetic on integer fields of any width is that of int64, so ``n - 5``
    is negative where a uint8 n is 3; values of uint64 above its range are refused there, and results beyond it
    wrap around. Nothing else is evaluated.

    Parameters
    ----------
    text : str
        As in ``"pt > 500 & y == 1"``.
    names : sequence of str
        The fields that there are.
    column : callable
        Returns the values of a field, [n].
    argument : str
        Whose value the text is, for messages.

    Returns
    -------
    ndarray
        bool [n].

    Raises
    ------
    ConfigError
        The text is not such a condition; the message shows the place.

    Examples
    --------
    >>> condition("x > 1 & x != 3", ["x"], {"x": np.arange(5)}.__getitem__).tolist()
    [False, False, True, False, True]
    """
    return _Condition(text, names, column, argument).holds()


class _Condition:
    """One text and what is needed to evaluate it. Thread rule: one thread."""

    def __init__(
        self,
        text: str,
        names: Sequence[str],
        column: Callable[[str], NDArray[Any]],
        argument: str,
    ) -> None:
        if not isinstance(text, str):
            raise ConfigError(f"{argument} is {text!r}; expected a text as in 'pt > 500 & y == 1'")
        self._text = text
        self._names = names
        self._column = column
        self._argument = argument
        self._python, self._origin = _as_python(text)

    def holds(self) -> NDArray[np.bool_]:
        if not self._python.strip():
            raise ConfigError(
                f"{self._argument} is empty; expected a condition as in 'pt > 500 & y == 1', or None for all samples"
            )
        try:
            tree = ast.parse(self._python, mode="eval")
        except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
            # 0 or nothing: Python has read on to the end of the text.
            place = (getattr(error, "offset", None) or len(self._python) + 1) - 1
            what = getattr(error, "msg", None) or str(error)
            raise self._error(what, min(place, len(self._python))) from None
        with np.errstate(all="ignore"):
            result = self._value(tree.body, 0)
        if not isinstance(result, np.ndarray) or result.dtype != np.bool_:
            raise self._error("expected a condition on scalar fields, as in 'pt > 500'", 0)
        return result

    def _error(self, what: str, place: int) -> ConfigError:
        at = self._origin[place]
        line = self._text.replace("\n", " ").replace("\t", " ")
        return ConfigError(
            f"{self._argument}: {what} (column {at + 1})\n    {line}\n    {' ' * at}^"
        )

    def _refuse(self, node: ast.AST, what: str) -> ConfigError:
        # Offsets of the syntax tree count UTF-8 bytes.
        n_bytes = getattr(node, "col_offset", 0)
        return self._error(what, len(self._python.encode()[:n_bytes].decode(errors="ignore")))

    def _value(self, node: ast.expr, depth: int) -> Any:
        if depth > _MOST_NESTED:
            raise self._refuse(node, f"nested more than {_MOST_NESTED} deep; simplify it")
        if isinstance(node, ast.Constant):
            if isinstance(node.value, bool | int | float):
                return node.value
            raise self._refuse(node, f"found {node.value!r}; expected a number or a scalar field")
        if isinstance(node, ast.Name | ast.Attribute):
            return self._field(node)
        if isinstance(node, ast.BoolOp):
            return self._connected(node, depth)
        if isinstance(node, ast.Compare):
            return self._compared(node, depth)
        if isinstance(node, ast.UnaryOp):
            return self._unary(node, depth)
        if isinstance(node, ast.BinOp) and type(node.op) in _ARITHMETIC:
            return self._arithmetic(node, depth)
        if isinstance(node, ast.Call):
            if not isinstance(node.func, ast.Name) or node.func.id != "abs":
                raise self._refuse(node, "the only function is abs()")
            if len(node.args) != 1 or node.keywords or isinstance(node.args[0], ast.Starred):
                raise self._refuse(node, "abs() takes one argument")
            return abs(self._number(node.args[0], depth + 1))
        raise self._refuse(
            node, "not part of conditions, which have fields, numbers, arithmetic, abs(), "
            "comparisons, in, and, or, not"
        )  # fmt: skip

    def _field(self, node: ast.Name | ast.Attribute) -> NDArray[Any]:
        name = ast.unparse(node)  # fields may have dots in their names
        if name not in self._names:
            known = ", ".join(self._names) or "none"
            raise self._refuse(node, f"unknown scalar field {name!r}; expected one of {known}")
        return self._column(name)

    def _number(self, node: ast.expr, depth: int) -> Any:
        value = self._value(node, depth)
        if not isinstance(value, np.ndarray) or value.dtype.kind not in "bui":
            return value
        if value.dtype == np.uint64 and value.max(initial=0) > np.iinfo(np.int64).max:
            raise self._refuse(
                node, f"arithmetic on uint64 values up to {value.max()}, expected at most 2**63 - 1; compare them "
                "as they are"
            )  # fmt: skip
        return value.astype(np.int64, copy=False)

    def _arithmetic(self, node: ast.BinOp, depth: int) -> Any:
        left = self._number(node.left, depth + 1)
        right = self._number(node.right, depth + 1)
        if not isinstance(left, np.ndarray) and not isinstance(right, np.ndarray):
            left = float(left) if isinstance(node.op, ast.Pow) else left  # no endless integers
        try:
            return _ARITHMETIC[type(node.op)](left, right)
        except OverflowError:
            raise self._refuse(node, "a number out of range (that of float64, or int64)") from None
        except (ArithmeticError, TypeError, ValueError) as error:
            raise self._refuse(node, str(error)) from None

    def _truth(self, node: ast.expr, depth: int) -> Any:
        value = self._value(node, depth)
        if isinstance(value, np.ndarray) and value.dtype == np.bool_:
            return value
        raise self._refuse(
            node, "expected a condition on each side of and, or, not; as in (pt > 500) & (y == 1)"
        )

    def _connected(self, node: ast.BoolOp, depth: int) -> Any:
        connect = np.logical_and if isinstance(node.op, ast.And) else np.logical_or
        result = self._truth(node.values[0], depth + 1)
        for value in node.values[1:]:
            result = connect(result, self._truth(value, depth + 1))
        return result

    def _unary(self, node: ast.UnaryOp, depth: int) -> Any:
        if isinstance(node.op, ast.Not | ast.Invert):
            return np.logical_not(self._truth(node.operand, depth + 1))
        value = self._number(node.operand, depth + 1)
        return -value if isinstance(node.op, ast.USub) else value

    def _compared(self, node: ast.Compare, depth: int) -> Any:
        result: Any = True
        left = self._value(node.left, depth + 1)
        for op, right_node in zip(node.ops, node.comparators, strict=True):
            try:
                if isinstance(op, ast.In | ast.NotIn):
                    right = self._listed(right_node)
                    # Not numpy.isin, which would compare 0.1 with a float32 field as float64.
                    holds = np.logical_or.reduce([left == each for each in right])
                    holds = holds if isinstance(op, ast.In) else np.logical_not(holds)
                elif type(op) in _COMPARISONS:
                    right = self._value(right_node, depth + 1)
                    holds = _COMPARISONS[type(op)](left, right)
                else:
                    raise self._refuse(node, "'is' compares objects; use == or !=")
            except OverflowError as error:
                raise self._refuse(right_node, str(error)) from None
            result = holds if result is True else np.logical_and(result, holds)
            left = right
        return result

    def _listed(self, node: ast.expr) -> list[Any]:
        if not isinstance(node, ast.List | ast.Tuple | ast.Set) or not node.elts:
            raise self._refuse(node, "expected a list of numbers after in, as in 'y in (0, 2)'")
        values = [self._value(each, 0) for each in node.elts]
        if any(isinstance(value, np.ndarray) for value in values):
            raise self._refuse(node, "a list after in holds numbers, not fields")
        return values


def _as_python(text: str) -> tuple[str, list[int]]:
    """Return the text in Python's spelling, and where each of its characters comes from."""
    python, origin, done = "", [], 0
    for found in _SPELLED.finditer(text):
        word = f" {_SPELLINGS[found.group()]} "
        python += text[done : found.start()] + word
        origin += [*range(done, found.start()), *[found.start()] * len(word)]
        done = found.end()
    python += text[done:]
    origin += range(done, len(text) + 1)
    blank = len(python) - len(python.lstrip())  # Python would take it for an indentation
    flat = python[blank:].replace("\n", " ").replace("\r", " ")
    return flat, origin[blank:]
