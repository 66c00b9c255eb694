"""Times whole encoders on real input, beside transformers and sentence-transformers on PyTorch.

    python benchmarks/encode.py --clip FOLDER --pictures DIR --captions FILE --minilm FOLDER --torch PYTHON

FOLDER is a checkpoint as transformers saves it, DIR holds pictures (or is an .npz whose `images` are arrays), FILE one
caption a line (or a JSON list), PYTHON is the interpreter that has PyTorch. What is not given is left out. Every engine
and case runs in a process of its own with two threads, in alternating rounds; figures are medians over the rounds.
Decoding of pictures and tokenising are part of the time. The vectors of both sides are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from bench_ops import wait_until_idle

HERE = Path(__file__).parent


def measure(python, engine, case, model, data, out):
    """Figures of one process: a dict of numbers."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
    command = [python, str(HERE / "encode_sides.py"), engine, case, str(model), str(data), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        print(f"{engine} {case}: {done.stderr.strip().splitlines()[-1:]}", file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clip", type=Path, help="folder of a CLIP checkpoint")
    parser.add_argument("--minilm", type=Path, help="folder of a sentence-transformers checkpoint")
    parser.add_argument("--pictures", type=Path, nargs="+", default=[], help="folders of pictures, or .npz of arrays")
    parser.add_argument("--captions", type=Path, help="file of captions")
    parser.add_argument("--torch", default=sys.executable, metavar="PYTHON", help="interpreter that has PyTorch")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    cases = []
    if arguments.clip:
        cases += [("load", arguments.clip, None)]
        cases += [("images", arguments.clip, pictures) for pictures in arguments.pictures]
        cases += [("texts", arguments.clip, arguments.captions)] if arguments.captions else []
    if arguments.minilm and arguments.captions:
        cases += [("load_sentences", arguments.minilm, None), ("sentences", arguments.minilm, arguments.captions)]
    if not cases:
        parser.error("nothing to measure: give --clip or --minilm, with --pictures and --captions")
    print("| case | figure | plait | PyTorch | |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for case, model, data in cases:
            found = {"plait": [], "torch": []}
            quiet = True
            for _ in range(arguments.rounds):
                for engine, python in (("plait", sys.executable), ("torch", arguments.torch)):
                    quiet &= wait_until_idle()
                    figures = measure(python, engine, case, model, data, Path(folder) / f"{engine}.npy")
                    found[engine] += [figures] if figures else []
            show(case, found, quiet)
            files = [Path(folder) / f"{engine}.npy" for engine in found]
            if all(f.exists() for f in files):
                a, b = (np.load(f) for f in files)
                cosine = (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)
                print(f"| {case} | least cosine of the two sides' vectors | {cosine.min():.7f} | | |")
                [f.unlink() for f in files]


def show(case, found, quiet):
    """The rows of a case."""
    for figure in found["plait"][0] if found["plait"] else ():
        values = {e: statistics.median(f[figure] for f in fs) for e, fs in found.items() if fs}
        factor = ""
        if len(values) == 2:
            ratio = values["plait"] / values["torch"]
            factor = f"{ratio if figure.endswith('/s') else 1 / ratio:.2f}x"
        cells = [f"{values[e]:,.4g}" if e in values else "" for e in found]
        print(f"| {case}{'' if quiet else ' *'} | {figure} | {cells[0]} | {cells[1]} | {factor} |", flush=True)


if __name__ == "__main__":
    main()
