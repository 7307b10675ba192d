"""Write codesign/spec/data/megatron_flags.yaml from Megatron-LM's own parser: python tests/frameworks/megatron_flags.py DIR."""

from __future__ import annotations

import argparse
import sys
import textwrap
from pathlib import Path

import python_of_megatron

ROOT = Path(__file__).parents[2]
COMMIT = "d98e8a64ddf34856e74b24714e3bedb2f5a39553"


def main(folder: str) -> None:
    python_of_megatron.prepare()
    sys.path.insert(0, folder)
    from megatron.training.arguments import add_megatron_arguments

    parser = add_megatron_arguments(argparse.ArgumentParser(allow_abbrev=False, add_help=False))
    kinds: dict[str, list[str]] = {"switches": [], "one": [], "three": [], "many": []}
    for action in parser._actions:
        kind = {None: "one", 0: "switches", 3: "three"}.get(action.nargs, "many")
        kinds[kind] += [option[2:] for option in action.option_strings if option.startswith("--")]
    lines = [
        "# Every argument of Megatron-LM's parser and how many values it takes, at NVIDIA/Megatron-LM commit",
        f"# {COMMIT}. Written by tests/frameworks/megatron_flags.py; read by codesign.spec.megatron_args.",
    ]
    for kind, names in kinds.items():
        text = " ".join(sorted(names))
        lines.append(f"{kind}: >-")
        lines += textwrap.wrap(text, 120, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False,
                               break_long_words=False)  # fmt: skip
    (ROOT / "codesign/spec/data/megatron_flags.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
