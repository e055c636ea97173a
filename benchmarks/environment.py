"""What a benchmark ran on, and the file that its results go into."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
_PACKAGES = (
    *("keras", "tensorflow", "jax", "torch", "numpy", "ai-edge-litert"),
    *("tflite-micro", "ethos-u-vela"),
)


def describe_environment() -> dict[str, Any]:
    """Versions and processor; no name or path of the machine."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                processor = line.partition(":")[2].strip()
                break
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "system": platform.system(),
        "processor": processor,
        "cores": os.cpu_count(),
        "versions": versions,
    }


def write_results(name: str, results: dict[str, Any]) -> Path:
    """Write results and environment to `results/<name>.json`, whole or not at all."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    temporary = path.with_suffix(".tmp")
    content = {"environment": describe_environment(), **results}
    temporary.write_text(json.dumps(content, indent=1) + "\n")
    temporary.replace(path)
    return path


def run_on_backends(
    script: str, backends: list[str], arguments: list[str]
) -> dict[str, Any]:
    """Run a script once per backend in its own process; gives its JSON output."""
    outcomes = {}
    for backend in backends:
        environment = {
            **os.environ,
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        finished = subprocess.run(
            [sys.executable, script, "--worker", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        outcomes[backend] = json.loads(finished.stdout.splitlines()[-1])
        print(backend, json.dumps(outcomes[backend]), flush=True)
    return outcomes
