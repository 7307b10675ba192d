"""Every export of tests/export/launches.py through the framework's own parser or configuration classes, and compared.

    python tests/frameworks/check_exports.py --megatron DIR --torchtitan DIR --deepspeed DIR --maxtext DIR --bridge DIR

Each DIR is a checkout at the commit that the exports name; leave out what you do not want to check. Needs no GPU.
docs/how-to/check-exports.md says how to set it up. Not part of the default tests.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "export"))
sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2]))

import launches

from codesign.errors import SpecError
from codesign.export import asked as asking
from codesign.export.launch import export

Check = Callable[[str, asking.Asked], dict[str, tuple[object, object]]]


def check(target: str, one: Check) -> int:
    """Run one target over its specs; returns how many failed."""
    failed = compared = 0
    specs = launches.BY_TARGET[target]
    for name in specs:
        plan = launches.planned(target, name)
        try:
            pairs = one(export(plan, target).text, asking.asked(plan))
        except (SpecError, Exception, SystemExit) as error:  # the framework may raise anything
            print(f"{target} {name}: REFUSED by the framework: {type(error).__name__}: {error}")
            failed += 1
            continue
        wrong = {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}
        compared += len(pairs)
        failed += bool(wrong)
        print(f"{target} {name}: {f'WRONG {wrong}' if wrong else f'{len(pairs)} values equal'}")
    print(f"{target}: {len(specs)} specs, {compared} values compared, {failed} specs wrong\n")
    return failed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("megatron", "torchtitan", "deepspeed", "maxtext", "bridge"):
        parser.add_argument(f"--{name}", metavar="DIR")
    given = vars(parser.parse_args())
    failed = 0
    for name, folder in given.items():
        if folder is None:
            continue
        module = __import__(f"{name}_check")
        sys.argv = sys.argv[:1]
        target = "megatron-bridge" if name == "bridge" else name
        failed += check(target, module.prepare(Path(folder), given))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
