"""Running a measurement in a fresh Python process, so that its peak memory is only its own."""

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, TypeVarTuple

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")


def in_own_process(function: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """Call a module's function in a fresh process; its arguments and result travel as JSON.

    Raises
    ------
    CalledProcessError
        If the function raises an exception, which the process prints.
    """
    call = json.dumps([function.__module__, function.__name__, *arguments])
    command = [sys.executable, "-m", "simulation.bench.process", call]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def peak_memory_bytes() -> float:
    """Return the largest resident memory that this process has had so far, in bytes.

    Linux gives it as VmHWM. ``getrusage`` would give at least the memory of the process that
    started this one.
    """
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    (kibibytes,) = [line.split()[1] for line in lines if line.startswith("VmHWM:")]
    return 1024.0 * int(kibibytes)


def main() -> None:
    """Run the call that :func:`in_own_process` describes, and print its result."""
    module, name, *arguments = json.loads(sys.argv[1])
    function = getattr(importlib.import_module(module), name)
    print(json.dumps(function(*arguments)))


if __name__ == "__main__":
    main()
