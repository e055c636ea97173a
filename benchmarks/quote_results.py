"""Writes the figures of `benchmarks/results` into the documents that quote them.

A document marks the place with `<!-- results: NAME -->` and `<!-- end -->`; what stands
between is replaced by the table NAME. Run: python benchmarks/quote_results.py
[--check]: with `--check` nothing is written and a stale document is an error.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from pathlib import Path

import gallery_tables
import one_shot_tables

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = (
    "README.md",
    "docs/benchmarks.md",
    "docs/budget.md",
    "docs/channels.md",
    "docs/gallery.md",
    "docs/keras-hub.md",
    "docs/load-litert.md",
    "docs/microcontrollers.md",
    "docs/one-shot.md",
    "docs/other-formats.md",
    "docs/sparse-inference.md",
)
_BLOCK = re.compile(r"(<!-- results: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_TITLES = {
    "article": "article CNN (20,410)",
    "lenet-300-100": "LeNet-300-100 (266,610)",
    "cnn": "CNN (421,642)",
    "lenet-5": "LeNet-5 Caffe (431,080)",
    "resnet-20": "ResNet-20 (273,754)",
    "mobilenet": "MobileNet (279,498)",
}
# Zipped float .h5 over zipped pruned and quantized .tflite, and that file's accuracy:
# tfmot 0.8.1 with tf-keras on TensorFlow 2.21, the founding article's settings.
_PEER = {
    "article": (8.9, 0.8617),
    "lenet-300-100": (10.2, 0.8767),
    "cnn": (11.0, 0.8939),
}


# The same for its best combination: pruned, clustered and quantized for the article
# CNN, pruned and quantized for the others.
_PEERS_BEST = {**_PEER, "article": (11.9, 0.856)}


def compression_table() -> list[str]:
    summary = _results("compression")["summary"]
    lines = [
        "| model (parameters) | seeds | float accuracy | tfmot: smaller, accuracy "
        "| penjing, the article's settings | penjing, default recipe |",
        "|---|---|---|---|---|---|",
    ]
    for name in sorted(summary, key=list(_TITLES).index):
        row = summary[name]
        peer = _PEER.get(name)
        cells = [
            _TITLES[name],
            str(row["default"]["seeds"]),
            f"{row['baseline_accuracy']:.2%}",
            f"{peer[0]:.1f}x, {peer[1]:.2%}" if peer else "-",
            *(
                f"{row[recipe]['ratio']:.1f}x, {row[recipe]['accuracy']:.2%}"
                for recipe in ("article", "default")
            ),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def smallest_table() -> list[str]:
    results = _results("smallest")
    lines = [
        "| model | seeds | float accuracy | tfmot's best | penjing, `smallest` "
        "| bytes, gzipped | file itself |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, row in results["summary"].items():
        runs = [v for k, v in results["runs"].items() if k.startswith(f"{model}/")]
        small = row["smallest"]
        gzipped = statistics.mean(r["recipes"]["smallest"]["tflite_gzip"] for r in runs)
        raw = statistics.mean(r["baseline_tflite_raw"] for r in runs) / small["raw"]
        ratio, accuracy = _PEERS_BEST.get(model, (None, None))
        peer = f"{ratio:.1f}x, {accuracy:.2%}" if ratio else "-"
        lines.append(
            f"| {_TITLES[model]} | {small['seeds']} | {row['baseline_accuracy']:.2%} "
            f"| {peer} | **{small['gzip_ratio']:.0f}x**, {small['accuracy']:.2%} "
            f"| {gzipped:,.0f} | {raw:.1f}x smaller |"
        )
    return lines


def dense_controls_table() -> list[str]:
    lines = [
        "| model | recipe | epochs | baseline | dense, trained as long | file |",
        "|---|---|---|---|---|---|",
    ]
    for key, row in _results("dense_controls")["runs"].items():
        model, recipe, _ = key.split("/")
        scores = (row[name] for name in ("baseline", "control", "file"))
        lines.append(
            f"| {_TITLES[model]} | `{recipe}` | {row['epochs']} "
            f"| {' | '.join(f'{score:.2%}' for score in scores)} |"
        )
    return lines


def micro_recipe_table() -> list[str]:
    lines = [
        "| network | seeds | epochs, then with the recipe | float | packed file, test "
        "| most lost | plain int8 | packed | arena | Vela's flash |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    results = _results("micro_recipe")
    for name, row in results["summary"].items():
        first = next(own for key, own in results["runs"].items() if key[:-2] == name)
        vela = row.get("vela_flash_ratio")
        lines.append(
            f"| {name} | {row['seeds']} "
            f"| {first['epochs']}, {first['epochs_in_all'] - first['epochs']} "
            f"| {row['baseline_accuracy']:.2%} | {row['accuracy']:.2%} "
            f"| {100 * row['most_lost']:.2f} points | {row['plain_flash']:,.0f} "
            f"| {row['flash']:,.0f} ({row['ratio']:.1f}x) "
            f"| {row['plain_arena']:,.0f} -> {row['arena']:,.0f} "
            f"| {'' if vela is None else f'{vela:.1f}x less'} |"
        )
    return lines


def step_profile_table() -> list[str]:
    lines = [
        "| backend | operations, plain step | pruned step | of them most are more |",
        "|---|---|---|---|",
    ]
    for backend, row in _results("step_profile")["backends"].items():
        more = ", ".join(f"{count} {name}" for name, count in row["more"].items())
        lines.append(f"| {backend} | {row['plain']} | {row['pruned']} | {more} |")
    return lines


def budget_table() -> list[str]:
    lines = [
        "| task (parameters) | minutes | float | dense control | file | bytes, gzipped "
        "| smaller |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in _results("budget")["tasks"].items():
        form = "{:.2%}" if row["metric"] == "accuracy" else "{:.2f}"
        scores = (row[part] for part in ("baseline", "control", "file"))
        lines.append(
            f"| {name} ({row['parameters']:,}) | {row['seconds'] / 60:.0f} "
            f"| {' | '.join(form.format(score) for score in scores)} "
            f"| {row['gzip']:,} | {row['ratio']:.1f}x |"
        )
    return lines


def budget_bounds_table() -> list[str]:
    lines = [
        "| task | bounds | float | dense control | file | bytes | ms | arena | met |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows = [
        (task, row)
        for name in ("budget_latency", "budget_micro")
        for task, row in _results(name)["tasks"].items()
    ]
    for task, row in rows:
        bounds = ", ".join(f"{key} {value}" for key, value in row["bounds"].items())
        scores = (f"{row[part]:.2%}" for part in ("baseline", "control", "file"))
        time = "" if row["latency"] is None else f"{1000 * row['latency']:.2f}"
        arena = "" if row["arena"] is None else f"{row['arena']:,}"
        lines.append(
            f"| {task} | {bounds} | {' | '.join(scores)} | {row['raw']:,} | {time} "
            f"| {arena} | {'yes' if row['met_on_validation'] else 'no'} |"
        )
    return lines


def dead_units_table() -> list[str]:
    results = _results("dead_units")
    lines = [
        "| file | raw bytes | gzipped | microseconds, one thread, batch 1 | faster |",
        "|---|---|---|---|---|",
    ]
    for mode in ("float32", "dynamic"):
        row = results[mode]
        sizes = [
            f"{row[key][0]:,} -> {row[key][1]:,}"
            for key in ("raw", "gzip", "microseconds")
        ]
        lines.append(f"| {mode} | {' | '.join(sizes)} | {row['faster']:.1f}x |")
    return lines


def latency_model_table() -> list[str]:
    modes = _results("latency_model")["modes"]
    lines = [
        "| file | width | fewer MACs | foretold, us | measured, us | off by |",
        "|---|---|---|---|---|---|",
    ]
    for mode, results in modes.items():
        for width, row in results["widths"].items():
            foretold, measured = row["foretold_us"], row["measured_us"]
            lines.append(
                f"| {mode} | {width} | {row['fewer_macs']:.1f}x | {foretold:,.0f} | "
                f"{measured:,.0f} | {foretold / measured - 1:+.0%} |"
            )
    return lines


def step_table() -> list[str]:
    results = _results("step_overhead")["ratios"]
    lines = [
        "| backend | model | masks every 100 steps | masks every step |",
        "|---|---|---|---|",
    ]
    for backend, models in results.items():
        for model, row in models.items():
            lines.append(
                f"| {backend} | {model} | {row['frequency_100']:.2f} "
                f"| {row['frequency_1']:.2f} |"
            )
    return lines


def mask_table() -> list[str]:
    results = _results("mask_selection")["results"]
    lines = [
        "| backend | weights | penjing, ms | full sort, ms | sort / penjing "
        "| numpy.partition, ms |",
        "|---|---|---|---|---|---|",
    ]
    for backend, sizes in results.items():
        for size, row in sizes.items():
            lines.append(
                f"| {backend} | {int(size):,} | {row['penjing_ms']:.2f} "
                f"| {row['sort_ms']:.2f} | {row['sort_over_penjing']:.1f} "
                f"| {row['numpy_partition_ms']:.2f} |"
            )
    return lines


def scale_table() -> list[str]:
    lines = [
        "| backend | weights | memory | while masks are made "
        "| mask update, plain steps | saved file |",
        "|---|---|---|---|---|---|",
    ]
    for name in ("scale", "scale_backends"):
        for backend, found in _results(name)["results"].items():
            weights = found["plain"]["weights_bytes"] / 4e6
            row = found["over_plain"]["pruned"]
            lines.append(
                f"| {backend} | {weights:.1f} M | {row['memory']:.2f} "
                f"| {row['memory_of_update']:.2f} | {row['update_in_plain_steps']:.1f} "
                f"| {row['file']:.2f} |"
            )
    return lines


def import_table() -> list[str]:
    results = _results("import_cost")["results"]
    lines = ["| backend | seconds added | MiB added |", "|---|---|---|"]
    for backend, row in results.items():
        lines.append(
            f"| {backend} | {row['added_seconds']:.2f} | {row['added_mebibytes']:.1f} |"
        )
    return lines


def shrink_table() -> list[str]:
    models = _results("shrink_models")["models"]
    lines = [
        "| model | bytes | gzipped | sparse, bytes | outputs differ by |",
        "|---|---|---|---|---|",
    ]
    for name, row in models.items():
        lines.append(
            f"| {name.replace('_', ' ')} "
            f"| {row['raw_before']:,} -> {row['raw_after']:,} "
            f"| {row['gzip_before']:,} -> {row['gzip_after']:,} "
            f"({row['gzip_after'] / row['gzip_before'] - 1:.0%}) "
            f"| {row['raw_after_sparse']:,} | {row['difference']:g} |"
        )
    return lines


def sparse_dense_table() -> list[str]:
    lines = [
        "| zeros | bytes, dense | bytes, sparse | faster, warm | faster, cold caches |",
        "|---|---|---|---|---|",
    ]
    for row in _results("sparse_dense")["rows"]:
        times = " | ".join(
            f"{row[state]['speedup']:.1f}x" for state in ("warm", "cold")
        )
        lines.append(
            f"| {row['sparsity']:.0%} | {row['bytes_dense']:,} "
            f"| {row['bytes_sparse']:,} | {times} |"
        )
    return lines


def raw_table() -> list[str]:
    lines = [
        "| file | bytes | smaller | accuracy | load, ms | image, us | memory, MiB |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in _results("raw_size")["files"].items():
        title = "float32, not pruned" if name == "baseline" else name
        lines.append(
            f"| {title} | {row['raw']:,} | {row['smaller']:.1f}x "
            f"| {row['accuracy']:.2%} | {row['load_ms']:.1f} "
            f"| {row['image_us']:.0f} | {row['memory_kib'] / 1024:.1f} |"
        )
    return lines


def channels_table() -> list[str]:
    """The networks that lost channels, against their own float and int8 files."""
    titles = {
        "channels_int8": "`channels`, int8",
        "channels-smallest_smallest": "`channels-smallest`",
        "half_float32": "half of the MACs, float32",
        "half_int8": "half of the MACs, int8",
        "third_float32": "a third of the MACs, float32",
        "third_int8": "a third of the MACs, int8",
        "fast_float32": "half of the time, float32",
        "fast_int8": "half of the time, int8",
    }
    lines = [
        "| model | seeds | float accuracy | file | accuracy | file itself | gzipped "
        "| faster than float32 | than int8 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model, row in _results("channels")["summary"].items():
        for key, title in titles.items():
            if key not in row:
                continue
            small = row[key]
            over_int8 = f"{small['faster_than_int8']:.1f}x"
            lines.append(
                f"| {_TITLES[model]} | {row['seeds']} | {row['baseline_accuracy']:.2%} "
                f"| {title} | {small['accuracy']:.2%} "
                f"| {small['raw_ratio']:.1f}x smaller "
                f"| {small['gzip_ratio']:.0f}x smaller "
                f"| {small['faster_than_float32']:.1f}x "
                f"| {'-' if key.endswith('float32') else over_int8} |"
            )
    return lines


def channels_int8_table() -> list[str]:
    """One int8 file of each network that lost channels."""
    titles = {"channels_int8": "`channels`", "half_int8": "half of the MACs"}
    lines = [
        "| model | float accuracy | int8 file | accuracy | file itself "
        "| faster than float32 | than int8 |",
        "|---|---|---|---|---|---|---|",
    ]
    for model, row in _results("channels")["summary"].items():
        for key in [key for key in titles if key in row]:
            lines.append(
                f"| {_TITLES[model]} | {row['baseline_accuracy']:.2%} | {titles[key]} "
                f"| {row[key]['accuracy']:.2%} | {row[key]['raw_ratio']:.1f}x smaller "
                f"| {row[key]['faster_than_float32']:.1f}x "
                f"| {row[key]['faster_than_int8']:.1f}x |"
            )
    return lines


def sparse_mobilenet_table() -> list[str]:
    result = _results("sparse_mobilenet")
    lines = [
        "| file | accuracy | bytes | gzipped | milliseconds | faster |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in result["files"].items():
        lines.append(
            f"| {name} | {result['accuracy'][name]:.2%} "
            f"| {result['raw'][name]:,} | {result['gzip'][name]:,} "
            f"| {row['milliseconds']:.2f} | {row['speedup'][0]:.1f}x |"
        )
    return lines


def wasm_speed_table() -> list[str]:
    lines = [
        "| zeros | dense, ms | int8, ms | sparse, ms | faster than dense "
        "| than int8 | outputs differ by |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in _results("wasm_speed")["results"]:
        times = " | ".join(
            f"{row['files'][name]['milliseconds']:.1f}"
            for name in ("dense", "int8", "sparse")
        )
        lines.append(
            f"| {row['sparsity']:.0%} | {times} | {row['faster_than_dense']:.1f}x "
            f"| {row['faster_than_int8']:.1f}x | {row['largest_difference']:.0e} |"
        )
    return lines


def arm_table() -> list[str]:
    """Instructions of files on emulated ARM processors, and how many times fewer."""
    lines = [
        "| network | zeros | file | Cortex-A72 | fewer | Neoverse N1 | fewer |",
        "|---|---|---|---|---|---|---|",
    ]
    results = _results("arm_instructions")
    for title, key in (
        ("MobileNetV1, 224x224", "mobilenet"),
        ("four dense layers, 1x4 blocks", "dense_layers"),
    ):
        for row in results[key]:
            for name, file in row["files"].items():
                cells = " | ".join(
                    f"{file[processor]['instructions'] / 1e6:.1f} "
                    f"| {file[processor]['fewer']:.2f}x"
                    for processor in ("cortex-a72", "neoverse-n1")
                )
                lines.append(f"| {title} | {row['sparsity']:.0%} | {name} | {cells} |")
    return lines


def ethos_table() -> list[str]:
    """Vela's estimates for the `cnn` with zeros and levels, next to the plain file."""
    lines = [
        "| weights of the int8 file | flash | times less | cycles | times fewer |",
        "|---|---|---|---|---|",
    ]
    for name, row in _results("ethos_estimates")["rows"].items():
        lines.append(
            f"| {name} | {row['flash']:,} | {row['flash_ratio']:.1f}x "
            f"| {row['cycles']:,} | {row['cycle_ratio']:.1f}x |"
        )
    return lines


def applications_table() -> list[str]:
    """How exact the cut architectures are, and their files."""
    lines = [
        "| backend | architectures | exact at every ratio | largest difference "
        "| files that ran | largest difference | slowest channel graph |",
        "|---|---|---|---|---|---|---|",
    ]
    for backend, rows in _results("applications")["backends"].items():
        done = [row for row in rows.values() if "ratios" in row]
        cuts = [cut for row in done for cut in row["ratios"].values()]
        exact = [row for row in done if all(c["exact"] for c in row["ratios"].values())]
        files = [cut["tflite_error"] for cut in cuts if "tflite_error" in cut]
        lines.append(
            f"| {backend} | {len(rows)} | {len(exact)} "
            f"| {max(cut['error'] for cut in cuts):.0e} | {len(files)} "
            f"| {max(files):.0e} | {max(row['graph_seconds'] for row in done):.2f} s |"
        )
    return lines


def packing_table() -> list[str]:
    lines = [
        "| network (parameters) | weights | plain int8 | packed | shrunk, packed "
        "| arena |",
        "|---|---|---|---|---|---|",
    ]
    for network, kinds in _results("packing")["networks"].items():
        for kind, row in kinds.items():
            if not row["packed"]:
                continue
            cells = [f"{network} ({row['parameters']:,})", kind, f"{row['plain']:,}"]
            for key in ("packed", "shrunk_and_packed"):
                cells.append(f"{row[key]['flash']:,} ({row[f'ratio_{key}']:.1f}x)")
            arena = row["packed"]
            cells.append(f"{arena['arena_before']:,} -> {arena['arena']:,}")
            lines.append(f"| {' | '.join(cells)} |")
    return lines


def micro_networks_table() -> list[str]:
    networks = _results("micro_networks")["networks"]
    modes = list(next(iter(networks.values())))
    lines = [f"| network | {' | '.join(modes)} |", "|---|" + "---|" * len(modes)]
    for name, row in networks.items():
        cells = [_micro_cell(row[mode]) for mode in modes]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _micro_cell(found: dict) -> str:
    if not found["runs"]:
        return "refused"
    arena = f"{found['arena']['total']:,} bytes"
    if found["steps"] is None:
        return arena
    steps = round(found["steps"])
    return f"{arena}, {steps} step{'' if steps == 1 else 's'}"


def micro_mlperf_table() -> list[str]:
    lines = ["| network | flash | arena | difference |", "|---|---|---|---|"]
    for name, row in _results("micro_networks")["mlperf tiny"].items():
        steps = round(row["steps"])
        lines.append(
            f"| {name.replace('_', ' ')} | {row['bytes']:,} bytes | "
            f"{row['arena']['total']:,} bytes | {steps} "
            f"step{'' if steps == 1 else 's'} |"
        )
    return lines


def float_layers_table() -> list[str]:
    lines = [
        "| `float_layers` | error on other texts | cosine | bytes | layers in float "
        "| CPU seconds |",
        "|---|---|---|---|---|---|",
    ]
    for row in _results("float_layers")["rows"]:
        bound = row["float_layers"]
        lines.append(
            f"| {'none' if bound is None else bound} | {row['error']:.3f} "
            f"| {row['cosine']:.3f} | {row['bytes']:,} "
            f"| {len(row['in_float'])} of {row['layers']} | {row['cpu_seconds']:.0f} |"
        )
    return lines


def int4_groups_table() -> list[str]:
    found = _results("int4_groups")
    errors = {f"groups of {row['group']}": row for row in found["groups"]}
    lines = ["| weights | bytes | us | error by XNNPACK |", "|---|---|---|---|"]
    for label, taken in found["milliseconds"].items():
        row = errors.get(label)
        error = f"{row['delegated']['error']:.4f}" if row else ""
        title = f"int4, {label}" if row else label
        size = found["bytes"][label]
        lines.append(f"| {title} | {size:,} | {1000 * taken:.1f} | {error} |")
    return lines


_HUB_STEPS = {
    "prune": "prune",
    "quantize_aware": "train on grids",
    "cut": "cut",
    "float": "float32",
    "dynamic": "dynamic",
    "int8": "int8",
    "int4": "int4",
}


def hub_backbones_table() -> list[str]:
    lines = [
        f"| backbone | {' | '.join(_HUB_STEPS.values())} |",
        f"|{'---|' * (len(_HUB_STEPS) + 1)}",
    ]
    for name, row in _results("hub_backbones")["backbones"].items():
        cells = []
        for step in _HUB_STEPS:
            found = row.get(step, {})
            cell = "yes" if found.get("good") else "no" if found else "-"
            if step == "cut" and found.get("good"):
                left = found["parameters_after"] / found["parameters"]
                cell = f"-{1 - left:.0%}"
            cells.append(cell)
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def hub_refusals_table() -> list[str]:
    """What is refused, and the first sentence that says why."""
    lines = ["| backbone | step | why not |", "|---|---|---|"]
    for name, row in _results("hub_backbones")["backbones"].items():
        whys = {step: row[step]["why"] for step in row if not row[step]["good"]}
        for step, why in whys.items():
            first = why.partition("\n")[0].partition(": ")[2]
            lines.append(f"| {name} | {_HUB_STEPS[step]} | {first[:300]} |")
    return lines if len(lines) > 2 else ["Of what was measured nothing was refused."]


def other_formats_table() -> list[str]:
    rows = _results("other_formats")["rows"]
    formats = list(dict.fromkeys(row["format"] for row in rows))
    dense = {row["format"]: row for row in rows if row["model"] == "dense"}
    lines = [
        f"| model (test accuracy in Keras) | {' | '.join(formats)} |",
        f"|---|{'---|' * len(formats)}",
    ]
    for name in dict.fromkeys(row["model"] for row in rows):
        own = {row["format"]: row for row in rows if row["model"] == name}
        accuracy = own[formats[0]]["accuracy"]
        cells = [_other_format(own[form], dense[form]) for form in formats]
        lines.append(f"| {name} ({accuracy:.1%}) | {' | '.join(cells)} |")
    return lines


def _other_format(row: dict, dense: dict) -> str:
    """Bytes as they are and gzipped, over those of the dense model; the outputs."""
    if "failed" in row:
        return f"refused: {row['failed']}"
    text = f"{row['bytes']:,} ({row['gzip']:,})"
    if row["model"] != "dense" and "failed" not in dense:
        shares = [dense[kind] / row[kind] for kind in ("bytes", "gzip")]
        text += f", {shares[0]:.1f}x ({shares[1]:.1f}x) smaller"
    if not row["ran"]:
        return f"{text}, not run"
    return f"{text}, off by {row['difference'] / row['largest']:.0e}"


def litert_torch_table() -> list[str]:
    found = _results("litert_torch_road")
    lines = [
        "| model | litert-torch: bytes (gzipped), shrunk | off by | penjing: bytes "
        "(gzipped), shrunk | off by |",
        "|---|---|---|---|---|",
    ]
    for name, row in found["rows"].items():
        cells = [name]
        for road in ("litert_torch", "tensorflow"):
            one = row[road]
            cells.append(f"{one['bytes']:,} ({one['gzip']:,}), {one['shrunk']:,}")
            cells.append(f"{one['difference']:.0e}")
        lines.append(f"| {' | '.join(cells)} |")
    added, whole = found["mebibytes_added"], found["mebibytes"]
    largest = ", ".join(
        f"{name} {size:,}"
        for name, size in found["largest"].items()
        if name not in ("torch", "numpy", "ai_edge_litert", "sympy")
    )
    return [
        *lines,
        "",
        f"On disk: {whole:,} MiB in all, {added:,} MiB more than Keras with torch and "
        f"LiteRT; the largest are {largest}. The package tensorflow takes "
        f"{found['tensorflow_mebibytes']:,} MiB.",
    ]


def load_litert_table() -> list[str]:
    """What became of the files of each package."""
    lines = [
        "| package | files | floats: outputs equal to 1e-5 | floats: layers equal, "
        "roundings add up to (largest) | int8: within 1 step on the file's ranges "
        "| int8: layers within 1 step | refused |",
        "|---|---|---|---|---|---|---|",
    ]
    packages: dict[str, list[dict]] = {}
    for row in _results("load_litert")["rows"]:
        packages.setdefault(row["package"], []).append(row)
    packages["all"] = [row for rows in packages.values() for row in rows]
    for package, rows in packages.items():
        loaded = [row for row in rows if row["outcome"] == "loaded"]
        floats = [row for row in loaded if row["kind"] == "float"]
        rounded = [row["relative"] for row in floats if row["relative"] > 1e-5]
        integers = [row for row in loaded if row["kind"] == "int8"]
        kept = [row for row in integers if row["kept"].get("steps", 99) <= 1.01]
        summed = f"{len(rounded)} ({max(rounded):.0e})" if rounded else "0"
        cells = [
            *(len(rows), len(floats) - len(rounded), summed, len(kept)),
            *(len(integers) - len(kept), len(rows) - len(loaded)),
        ]
        lines.append(f"| {package} | {' | '.join(map(str, cells))} |")
    return lines


def load_litert_refusals_table() -> list[str]:
    """Which files were refused, and why."""
    lines = ["| package | file | why |", "|---|---|---|"]
    for row in _results("load_litert")["rows"]:
        if row["outcome"] != "loaded":
            reason = row["reason"].partition(" Keras layers of: ")[2] or row["reason"]
            counted = re.sub(r": at '[^)]*'(?: and \d+ more)?\)", ")", reason)
            cells = (row["package"], row["file"], counted.partition(". ")[0])
            lines.append(f"| {' | '.join(cells)} |")
    return lines


TABLES = {
    "load-litert": load_litert_table,
    "load-litert-refusals": load_litert_refusals_table,
    **{
        name: lambda table=table: gallery_tables.filled(table(_results("gallery")))
        for name, table in gallery_tables.TABLES.items()
    },
    **{
        name: lambda table=table: table(_results)
        for name, table in one_shot_tables.TABLES.items()
    },
    "litert-torch": litert_torch_table,
    "other-formats": other_formats_table,
    "hub-backbones": hub_backbones_table,
    "hub-refusals": hub_refusals_table,
    "float-layers": float_layers_table,
    "int4-groups": int4_groups_table,
    "ethos-estimates": ethos_table,
    "arm-instructions": arm_table,
    "applications": applications_table,
    "channels": channels_table,
    "channels-int8": channels_int8_table,
    "sparse-mobilenet": sparse_mobilenet_table,
    "compression": compression_table,
    "smallest": smallest_table,
    "dead-units": dead_units_table,
    "latency-model": latency_model_table,
    "step-overhead": step_table,
    "step-profile": step_profile_table,
    "mask-selection": mask_table,
    "scale": scale_table,
    "dense-controls": dense_controls_table,
    "micro-recipe": micro_recipe_table,
    "budget": budget_table,
    "budget-bounds": budget_bounds_table,
    "packing": packing_table,
    "import-cost": import_table,
    "shrink-models": shrink_table,
    "raw-size": raw_table,
    "sparse-dense": sparse_dense_table,
    "wasm-speed": wasm_speed_table,
    "micro-networks": micro_networks_table,
    "micro-mlperf": micro_mlperf_table,
}


def quoted(text: str) -> str:
    return _BLOCK.sub(
        lambda match: match[1] + "\n".join(TABLES[match[2]]()) + "\n" + match[3],
        text,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args()
    stale = []
    for name in DOCUMENTS:
        path = ROOT / name
        old = path.read_text(encoding="utf-8")
        new = quoted(old)
        if new != old:
            stale.append(name)
            if not options.check:
                path.write_text(new, encoding="utf-8")
    if options.check and stale:
        sys.exit(f"Stale figures in {', '.join(stale)}: run {Path(__file__).name}")


def _results(name: str) -> dict:
    path = ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
