"""An interpreter with the delegate, the plan that it runs, and what loading took; errors in one line."""
from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cermet.cli.models import COMPILE_OPTIONS, compile_options
from cermet.cli.setting import Setting, blob_of_model
from cermet.errors import CermetError

if TYPE_CHECKING:
    from cermet.program.plan import Plan

GREETINGS = ("INFO: ",)     # what TFLite says when all is well


def load(setting: Setting) -> tuple[Any, Plan, float | None, float]:
    """(interpreter, plan it runs, compile ms, load ms).

    With an empty cache it loads twice: the second time shows what loading takes, the difference is the compiler's.
    """
    from cermet.program.cache import Cache, CacheError, cache_key, default_directory
    options = compile_options([f"{name}={value}" for name, value in setting.options.items() if name in COMPILE_OPTIONS])
    blob = blob_of_model(setting.model)
    key = cache_key(blob, setting.soc, options)
    directory = setting.options.get("cache_dir")
    cache = Cache(Path(directory) if directory else default_directory())
    was_there = cache.has(key)
    interpreter, first_ms = timed_load(setting)
    is_cached = cache.has(key)
    compile_ms: float | None = 0.0 if was_there else None
    load_ms = first_ms
    if is_cached and not was_there:
        interpreter, load_ms = timed_load(setting)
        compile_ms = max(first_ms - load_ms, 0.0)
    try:
        plan = cache.load(key)
    except CacheError:
        plan = plan_without_cache(blob, setting.soc, options)
    check_applied(interpreter, plan)
    return interpreter, plan, compile_ms, load_ms


def plan_without_cache(blob: bytes, soc: str, options: Any) -> Plan:
    from cermet.compiler import compile_blob
    from cermet.program.plan_reader import decode_plan
    return decode_plan(compile_blob(blob, soc, options)[0])


def timed_load(setting: Setting) -> tuple[Any, float]:
    started = time.perf_counter()
    interpreter = make_interpreter(setting)
    return interpreter, (time.perf_counter() - started) * 1000


def make_interpreter(setting: Setting, *, on_npu: bool = True) -> Any:
    """An interpreter with allocated tensors. Raises CermetError with the delegate's or TFLite's reason."""
    from cermet import paths
    from cermet.interpreter import reason_of, runtime_module
    module = runtime_module(setting.runtime)
    library = str(paths.library("libcermet_delegate.so"))
    resolver = getattr(module.OpResolverType, setting.resolver)
    try:
        with held_stderr() as held:
            delegates = [module.load_delegate(library, setting.options)] if on_npu else None
            made = module.Interpreter(str(setting.model), experimental_delegates=delegates,
                                      experimental_op_resolver_type=resolver)
            made.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise CermetError(f"{setting.model}: {reason_of(error)}") from error
    sys.stderr.write("".join(line for line in held if not line.startswith(GREETINGS)))
    return made


def check_options(setting: Setting) -> None:
    """Raises CermetError with the delegate's reason when it refuses what is asked of it."""
    from cermet import paths
    from cermet.interpreter import reason_of, runtime_module
    try:
        with held_stderr():
            runtime_module(setting.runtime).load_delegate(str(paths.library("libcermet_delegate.so")), setting.options)
    except (ValueError, RuntimeError) as error:
        raise CermetError(reason_of(error)) from error


@contextlib.contextmanager
def held_stderr() -> Iterator[list[str]]:
    """Lines that libraries write to fd 2 meanwhile: the delegate says there what the exception says again."""
    sys.stderr.flush()
    lines: list[str] = []
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            lines += held.read().decode(errors="replace").splitlines(keepends=True)


def check_applied(interpreter: Any, plan: Plan) -> None:
    """The runtime lists an operation DELEGATE for each partition: none, though the plan has some, is an error."""
    operations: list[dict[str, Any]] = getattr(interpreter, "_get_ops_details", list)()
    if not operations or not plan.partitions:
        return
    if not any(operation["op_name"] == "DELEGATE" for operation in operations):
        raise CermetError("run: the delegate took no operations (see the messages above); nothing ran on the NPU")
