"""Import bitsandbytes for 8-bit and 4-bit models only.

peft imports it wherever it is installed, which takes seconds: when peft itself is imported, and again when peft looks
for the kind of an adapted layer. transformers imports it to load a quantised model. If it is not loaded by then, no
layer of the model is one of its layers, and peft has no use for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from types import ModuleType
from typing import Any

BITSANDBYTES = "bitsandbytes"
EAGER_MODULE = "peft.helpers"  # the module of peft that imports it at once, and takes it as missing if that fails


def defer_bitsandbytes() -> None:
    """Make peft, when it is imported, leave bitsandbytes to transformers; has no effect once peft is imported."""
    if EAGER_MODULE not in sys.modules and not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    """Finds EAGER_MODULE with a loader of its own, and nothing else."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != EAGER_MODULE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        if spec and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(spec.loader.name, spec.loader.path)
        return spec


class _Loader(SourceFileLoader):
    """Runs EAGER_MODULE without bitsandbytes, and has peft ask whether it is loaded instead of installed."""

    def exec_module(self, module: ModuleType) -> None:
        with _not_importable(BITSANDBYTES):
            super().exec_module(module)
        from peft.tuners.lora import model

        dispatcher: Any = model
        for name in ("is_bnb_available", "is_bnb_4bit_available"):
            setattr(dispatcher, name, _is_loaded)


def _is_loaded() -> bool:
    return BITSANDBYTES in sys.modules


@contextmanager
def _not_importable(name: str) -> Iterator[None]:
    """Within the block, importing the module `name` raises ImportError, unless it is loaded already."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment] # Python's own mark of a module that cannot be imported
    try:
        yield
    finally:
        del sys.modules[name]
