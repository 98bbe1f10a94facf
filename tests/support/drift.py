"""Find library symbols and keywords that the installed versions do not have.

Nothing is executed but imports: imported names are resolved, attributes of modules and classes
looked up, keywords of calls compared with signatures. What cannot be decided is let through.
"""

import ast
import importlib
import inspect
import sys
from collections import Counter
from types import ModuleType

import openai

# Importable only where they belong, and never needed elsewhere. The standard library is let
# through as well: it is no requirement of the kit, and differs between systems.
ELSEWHERE = {"google", "vllm"}
UNKNOWN = object()


class Instance:
    """Stands for a value of which only the class is known."""

    def __init__(self, cls):
        self.cls = cls


def problems(tree: ast.Module, package: str = "") -> list[str]:
    """What in `tree` the installed libraries lack; `package` resolves relative imports."""
    finder = _Finder(package)
    finder.bind(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            finder.resolve(node)
        elif isinstance(node, ast.Call):
            finder.check_keywords(node)
    return list(dict.fromkeys(finder.found))


class _Finder:
    def __init__(self, package):
        self.package = package
        self.names = {}
        self.found = []

    def bind(self, tree):
        """Note what each imported name means, unless the code gives that name again."""
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    module = self.load(alias.name, node)
                    top = alias.name.split(".")[0]
                    if alias.asname:
                        self.names[alias.asname] = module
                    elif module is not UNKNOWN:
                        self.names[top] = importlib.import_module(top)
            elif isinstance(node, ast.ImportFrom):
                self.bind_from(node)
        imported = set(self.names)
        for name in stored_names(tree):
            self.names.pop(name, None)
        counts = Counter(stored_names(tree))
        for node in ast.walk(tree):
            match node:
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=ast.Call() as call)
                    | ast.withitem(optional_vars=ast.Name(id=name), context_expr=ast.Call() as call)
                ):
                    cls = self.resolve(call.func)
                    if inspect.isclass(cls) and counts[name] == 1 and name not in imported:
                        self.names[name] = Instance(cls)

    def bind_from(self, node):
        base = "." * node.level + (node.module or "")
        if node.level:
            base = importlib.util.resolve_name(base, self.package)
        module = self.load(base, node)
        for alias in node.names if module is not UNKNOWN else []:
            value = getattr(module, alias.name, UNKNOWN)
            if value is UNKNOWN:
                value = self.load(f"{base}.{alias.name}", node)
            self.names[alias.asname or alias.name] = value

    def load(self, name, node):
        if name.split(".")[0] in ELSEWHERE | sys.stdlib_module_names:
            return UNKNOWN
        try:
            return importlib.import_module(name)
        except ImportError as error:
            self.found.append(f"line {node.lineno}: cannot import {name} ({error})")
            return UNKNOWN

    def resolve(self, node):
        """The object that a dotted name stands for, or UNKNOWN; notes a missing attribute."""
        if isinstance(node, ast.Name):
            return self.names.get(node.id, UNKNOWN)
        if not isinstance(node, ast.Attribute):
            return UNKNOWN
        if node.attr == "client" and isinstance(node.value, ast.Name) and node.value.id == "lab":
            return CLIENT
        if isinstance(node.value, ast.Name) and node.value.id == "client" and node.attr == "chat":
            return CLIENT.chat
        owner = self.resolve(node.value)
        if owner is UNKNOWN:
            return UNKNOWN
        if isinstance(owner, Instance):
            value = inspect.getattr_static(owner.cls, node.attr, UNKNOWN)
            return value if inspect.isfunction(value) else UNKNOWN
        if (
            not isinstance(owner, ModuleType)
            and not inspect.isclass(owner)
            and not of_client(owner)
        ):
            return UNKNOWN
        value = getattr(owner, node.attr, UNKNOWN)
        if value is UNKNOWN and isinstance(owner, ModuleType):
            try:  # a submodule that another import has loaded in the notebook
                value = importlib.import_module(f"{owner.__name__}.{node.attr}")
            except ImportError:
                value = UNKNOWN
        if value is UNKNOWN and node.attr not in getattr(owner, "__annotations__", {}):
            name = getattr(owner, "__name__", type(owner).__name__)
            self.found.append(f"line {node.lineno}: {name} has no {node.attr!r}")
        return value

    def check_keywords(self, call):
        function = self.resolve(call.func)
        if function is UNKNOWN or isinstance(function, Instance) or not callable(function):
            return
        try:
            accepted = inspect.signature(function).parameters
        except (ValueError, TypeError):  # written in C, without a signature
            return
        if any(one.kind is one.VAR_KEYWORD for one in accepted.values()):
            return
        for keyword in call.keywords:
            if keyword.arg and keyword.arg not in accepted:
                name = ast.unparse(call.func)
                self.found.append(f"line {call.lineno}: {name} takes no {keyword.arg!r}")


def stored_names(tree):
    """Every name that the code itself gives: assignments, arguments, functions, classes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def of_client(value):
    """Whether `value` is a part of the openai client, whose attributes can be looked up."""
    return type(value).__module__.split(".")[0] == "openai"


CLIENT = openai.OpenAI(api_key="none", base_url="http://localhost:1/v1")
