"""Fuzzes one target: ``python tests/fuzz TARGET [--runs N] [--seconds S] [--seed K] [--corpus FOLDER] [--atheris]``.

Inputs that raise are written to the folder of ``--found`` and make the exit status 1. With ``--atheris`` that library
(``pip install atheris``) chooses the inputs by what code they reach, and keeps the interesting ones in ``--corpus``;
without it they are random changes of the corpus, the same for the same seed.
"""

import argparse
import hashlib
import logging
import random
import sys
import time
import traceback
import warnings
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]


def main():
    parser = argparse.ArgumentParser(prog="python tests/fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("target", choices=["tensors", "text", "folder", "tokenizer"])
    parser.add_argument("--runs", type=int, default=None, help="how many inputs; default: no end")
    parser.add_argument("--seconds", type=float, default=None)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--corpus", type=Path, default=None, help="more inputs to begin with")
    parser.add_argument("--found", type=Path, default=Path("fuzz-found"))
    parser.add_argument("--atheris", action="store_true", help="let atheris choose, see above")
    options = parser.parse_args()
    logging.getLogger("plait").setLevel(logging.ERROR)
    warnings.simplefilter("error")
    if options.atheris:
        return with_atheris(options)
    from mutate import mutated
    from targets import TARGETS

    seeds = corpus(options)
    rng, start, count, failures = random.Random(options.seed), time.monotonic(), 0, 0
    while (options.runs is None or count < options.runs) and failures < 20:
        if options.seconds is not None and time.monotonic() - start > options.seconds:
            break
        data = seeds[count] if count < len(seeds) else mutated(rng.choice(seeds), rng, seeds)
        count += 1
        try:
            TARGETS[options.target](data)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                break
            failures += 1
            options.found.mkdir(exist_ok=True)
            file = options.found / f"{options.target}-{hashlib.sha1(data).hexdigest()[:12]}"
            file.write_bytes(data)
            print(f"{file}: {traceback.format_exc(limit=-3)}", file=sys.stderr)
    taken = time.monotonic() - start
    print(
        f"{options.target}: {count} inputs in {taken:.0f} s ({count / max(taken, 1e-9):.0f} a second), {failures} found"
    )
    return failures > 0


def corpus(options):
    files = sorted(file for file in (HERE / "corpus" / options.target).iterdir())
    if options.corpus is not None:
        files += sorted(file for file in options.corpus.iterdir() if file.is_file())
    return [file.read_bytes() for file in files]


def with_atheris(options):
    import atheris

    with atheris.instrument_imports(include=["plait"]):
        from targets import TARGETS
    own = options.corpus or Path(f"fuzz-{options.target}")
    own.mkdir(exist_ok=True)
    arguments = [
        sys.argv[0],
        str(own),
        str(HERE / "corpus" / options.target),
        f"-seed={options.seed + 1}",
        "-timeout=20",
    ]
    arguments += [f"-runs={options.runs}"] if options.runs is not None else []
    arguments += [f"-max_total_time={options.seconds:.0f}"] if options.seconds is not None else []
    atheris.Setup(arguments, TARGETS[options.target])
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
