"""A learner's function as bytes, with what it uses, so that another process can run it.

`pickle` names a function by its module, and a notebook's functions have none that another process
could import. So their code is sent, with the global names that it uses. Libraries are sent by name.
"""

import builtins
import dis
import importlib
import io
import marshal
import pickle
import sys
import types
from pathlib import Path
from typing import Any

OF_THE_KIT = frozenset(("helpers", "labkit", "openrouter_sim", "pocket_model"))
OF_A_CLASS = frozenset(("__dict__", "__weakref__", "__module__", "__annotations_cache__"))


class NotPortable(ValueError):
    """The answer uses something that another process cannot have; the message says what."""


def dumps(answer: Any) -> bytes:
    """`answer` as bytes; `pickle.loads` reads it where this module can be imported.

    Raises:
        NotPortable: it uses an open file, a connection, or anything else of this process alone.
    """
    stream = io.BytesIO()
    try:
        _Pickler(stream, protocol=5).dump(answer)
    except Exception:  # pickle has no error of its own for this: TypeError, PicklingError, …
        raise NotPortable(
            "The function uses something of the notebook that a process of its own cannot have, "
            "such as a connection or a running generator. Use the arguments instead."
        ) from None
    return stream.getvalue()


class _Pickler(pickle.Pickler):
    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, types.ModuleType):
            return importlib.import_module, (value.__name__,)
        if isinstance(value, types.FunctionType) and not _is_importable(value):
            cells = tuple(types.CellType() for _ in value.__closure__ or ())
            state = (
                _used_globals(value),
                value.__defaults__,
                value.__kwdefaults__,
                [_content(cell) for cell in value.__closure__ or ()],
            )
            made = (marshal.dumps(value.__code__), value.__name__, len(cells))
            # The state comes later: a function may use itself.
            return _function, made, state, None, None, _finish_function
        if isinstance(value, type) and not _is_importable(value):
            members = {k: v for k, v in vars(value).items() if k not in OF_A_CLASS}
            made = (type(value), value.__name__, value.__bases__)
            return _class, made, members, None, None, _finish_class
        if isinstance(value, staticmethod | classmethod):
            return type(value), (value.__func__,)
        if isinstance(value, property):
            return property, (value.fget, value.fset, value.fdel, value.__doc__)
        if isinstance(value, types.CodeType):
            return marshal.loads, (marshal.dumps(value),)
        return NotImplemented


def _is_importable(value: Any) -> bool:
    """Whether a new process finds it by its module: one of Python, of the kit, or installed."""
    module = sys.modules.get(value.__module__ or "")
    top = (value.__module__ or "").partition(".")[0]
    if module is None or top in ("__main__", "__mp_main__"):
        return False
    found: Any = module
    for part in value.__qualname__.split("."):
        found = getattr(found, part, None)
    folders = {"site-packages", "dist-packages"}
    return found is value and (
        top in OF_THE_KIT
        or top in sys.stdlib_module_names
        or bool(folders & set(Path(getattr(module, "__file__", None) or "").parts))
    )


def _used_globals(function: types.FunctionType) -> dict[str, Any]:
    names, waiting = set(), [function.__code__]
    while waiting:
        code = waiting.pop()
        # `co_names` would have the names of attributes too.
        used = dis.get_instructions(code)
        names |= {each.argval for each in used if each.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
        waiting += [each for each in code.co_consts if isinstance(each, types.CodeType)]
    return {n: function.__globals__[n] for n in sorted(names) if n in function.__globals__}


def _content(cell: types.CellType) -> tuple:
    try:
        return (cell.cell_contents,)
    except ValueError:  # empty: a name that was not set yet
        return ()


def _function(code: bytes, name: str, cells: int) -> types.FunctionType:
    closure = tuple(types.CellType() for _ in range(cells))
    return types.FunctionType(
        marshal.loads(code),
        {"__name__": "__main__", "__builtins__": builtins},
        name,
        None,
        closure or None,
    )


def _finish_function(function: types.FunctionType, state: tuple) -> None:
    used, defaults, keyword_defaults, contents = state
    function.__globals__.update(used)
    function.__defaults__, function.__kwdefaults__ = defaults, keyword_defaults
    for cell, content in zip(function.__closure__ or (), contents, strict=True):
        if content:
            cell.cell_contents = content[0]


def _class(kind: type, name: str, bases: tuple) -> type:
    return types.new_class(name, bases, {} if kind is type else {"metaclass": kind})


def _finish_class(made: type, members: dict[str, Any]) -> None:
    for name, value in members.items():
        setattr(made, name, value)
