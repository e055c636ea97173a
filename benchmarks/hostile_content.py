"""Sound files of every kind, what damages them, and the commands that read them."""

from __future__ import annotations

import copy
import io
import json
import os
import random
import socket
import struct
import sys
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

Act = Callable[[Any, Path, random.Random], int]

NUMBERS = (
    0,
    -1,
    1,
    2,
    127,
    255,
    2**15,
    2**31 - 1,
    -(2**31),
    2**32,
    2**63,
    10**9,
    10**23,
)
VALUES: tuple[Any, ...] = (
    *NUMBERS,
    *(None, True, False, "", "x", "\0", "\ud800", "../../x", "x" * 100_000, "<script>"),
    *(
        0.5,
        -1e308,
        float("nan"),
        float("inf"),
        [],
        {},
        [[]],
        [1, "x"],
        {"class_name": 1},
    ),
    {"class_name": "Dense", "config": {"units": 10**9}, "module": "keras.layers"},
    {"class_name": "__numpy__", "config": {"value": [1] * 1000, "dtype": "O"}},
)


def make_sound_files(folder: Path) -> None:
    """Write one sound file of each kind."""
    import keras
    import numpy as np

    import penjing

    keras.utils.set_random_seed(0)
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.Flatten(),
            layers.Dense(16, activation="relu"),
            layers.Dense(3, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.save(folder / "sound.keras")
    model.save(folder / "sound.h5")
    x = np.random.default_rng(0).random((20, 8, 8, 1), "float32")
    y = np.arange(20) % 3
    np.savez(folder / "sound.npz", x_train=x, y_train=y, x_test=x, y_test=y)
    penjing.export_litert(model, folder / "float.tflite")
    penjing.export_litert(model, folder / "int8.tflite", "int8", representative_data=x)
    table = penjing.sensitivity(model, (x, y), progress=False)
    (folder / "sound.json").write_text(json.dumps(table.to_dict()))
    recipe = Path(penjing.__file__).parent / "recipes" / "smallest.toml"
    (folder / "sound.toml").write_text(recipe.read_text())


# ------------------------------------------------------------------ damages


def damaged(data: bytes, chance: random.Random) -> bytes:
    """Bytes of which some are changed, cut, doubled, swapped or made extreme."""
    content = bytearray(data)
    size = max(len(content), 1)
    for _ in range(chance.choice((1, 1, 1, 2, 4, 16))):
        start = chance.randrange(size)
        stop = min(start + chance.choice((1, 4, 16, 200, 4000)), size)
        kind = chance.randrange(8)
        if kind < 2:
            if content:
                content[start % len(content)] ^= 1 << chance.randrange(8)
        elif kind == 2:
            content[start:stop] = bytes(stop - start)
        elif kind == 3:
            content[start:stop] = chance.randbytes(stop - start)
        elif kind == 4:
            number = chance.choice(NUMBERS) % 2**32
            start -= start % 4
            content[start : start + 4] = struct.pack("<I", number)
        elif kind == 5:
            content[start:start] = content[start:stop]
        elif kind == 6:
            del content[start:stop]
        else:
            del content[chance.randrange(len(content) or 1) :]
    return bytes(content)


def damaged_json(text: str, chance: random.Random) -> str:
    """JSON in which some values are others."""
    tree = json.loads(text)
    for _ in range(chance.choice((1, 1, 2, 5))):
        places: list[tuple[Any, Any]] = []
        waiting = [tree]
        while waiting:
            node = waiting.pop()
            pairs = (
                node.items()
                if isinstance(node, dict)
                else enumerate(node)
                if isinstance(node, list)
                else ()
            )
            places += [(node, key) for key, _ in pairs]
            waiting += [value for _, value in pairs]
        if not places:
            break
        node, key = chance.choice(places)
        kind = chance.randrange(12)
        if kind == 0 and isinstance(node, dict):
            del node[key]
        elif kind == 1:
            node[key] = [node[key]]
        elif kind == 2 and isinstance(node[key], list):
            node[key] = node[key] * chance.choice((2, 50))
        elif kind == 3:
            deep: Any = node[key]
            # Five times that is within what `json` can write.
            for _ in range(chance.choice((10, 150))):
                deep = [deep]
            node[key] = deep
        else:
            node[key] = copy.deepcopy(chance.choice(VALUES))
    text = json.dumps(tree)
    return "[" * 100_000 + text if chance.random() < 0.01 else text


def damaged_zip(data: bytes, chance: random.Random) -> bytes:
    """A zip file with a member that is damaged, doubled, missing or a bomb."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = chance.choice(list(members))
    kind = chance.randrange(8)
    if name.endswith(".json") and kind < 6:
        members[name] = damaged_json(members[name].decode(), chance).encode(
            "utf-8", "surrogatepass"
        )
    elif name.endswith(".npy") and kind < 3:
        members[name] = _damaged_head(members[name], chance)
    elif kind < 5:
        members[name] = damaged(members[name], chance)
    elif kind == 5:
        del members[name]
    elif kind == 6:
        members[name] += bytes(chance.choice((10**5, 10**8)))
    else:
        members[chance.choice(("../x.npy", "/x", "x_train.npy", "a" * 300))] = b"x"
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for key, content in members.items():
            archive.writestr(key, content)
    return target.getvalue()


def _damaged_head(data: bytes, chance: random.Random) -> bytes:
    size = struct.unpack_from("<H", data, 8)[0]
    head, rest = data[10 : 10 + size].decode("latin1"), data[10 + size :]
    changes = [
        ("(20", f"({chance.choice(NUMBERS)}"),
        (
            "'<f4'",
            chance.choice(("'|O'", "'<f8'", "'|V2147483647'", "'<U9'", "[]", "1")),
        ),
        ("False", chance.choice(("True", "1", "None", "[" * 300))),
        ("{", chance.choice(("", "{'x': 1, ", "__import__('os'), {"))),
    ]
    old, new = chance.choice(changes)
    head = head.replace(old, new, 1)
    return data[:8] + struct.pack("<H", len(head) % 2**16) + head.encode() + rest


def damaged_text(text: str, chance: random.Random) -> bytes:
    """Lines of a recipe with other values, names, order or bytes."""
    lines = text.splitlines()
    for _ in range(chance.choice((1, 1, 2, 4))):
        place = chance.randrange(len(lines))
        kind = chance.randrange(7)
        name, equals, value = lines[place].partition("=")
        if kind < 3 and equals:
            values = ("[]", "{}", "1e400", "nan", "10" * 40, '"x"', "true", "[[1]]")
            values += ("-1", "0", '""', "1979-05-27", "[" * 5000 + "]" * 5000, "inf")
            lines[place] = f"{name}= {chance.choice(values)}"
        elif kind == 3:
            lines.insert(
                place, chance.choice(("[methods]", "[[method]]", "x = 1", "["))
            )
        elif kind == 4:
            lines.insert(chance.randrange(len(lines)), lines[place])
        elif kind == 5:
            del lines[place]
        else:
            return damaged("\n".join(lines).encode(), chance)
    return "\n".join(lines).encode()


def png(width: int, height: int, rows: bytes) -> bytes:
    """A grey picture; what it says of its size need not be true."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + check

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = (
        chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )
    return b"\x89PNG\r\n\x1a\n" + body


# ------------------------------------------------------------------ files


def make_file(kind: str, sound: Path, folder: Path, chance: random.Random) -> Path:
    """Write a hostile file, or folder, of a kind."""
    if kind == "images":
        return _image_folder(folder, chance)
    suffix = {"recipe": "toml", "request": "bin"}.get(kind, kind)
    path = folder / f"it.{suffix}"
    if kind == "request":
        path.write_bytes(_request(chance))
        return path
    name = chance.choice(("float", "int8")) if kind == "tflite" else "sound"
    data = (sound / f"{name}.{suffix}").read_bytes()
    if kind == "recipe":
        content = damaged_text(data.decode(), chance)
    elif kind == "tflite" and chance.random() < 0.01:
        content = chance.choice(_aimed_files())()
    elif kind == "json" and chance.random() < 0.7:
        text = damaged_json(data.decode(), chance)
        content = text.encode("utf-8", "surrogatepass")
    elif kind in ("keras", "npz") and chance.random() < 0.7:
        content = damaged_zip(data, chance)
    elif kind == "h5" and chance.random() < 0.5:
        return _damaged_h5(data, path, chance)
    else:
        content = damaged(data, chance)
    path.write_bytes(content)
    return path


def _aimed_files() -> list[Callable[[], bytes]]:
    """Files that never end, or ask for any memory, as the tests make them."""
    checkout = str(Path(__file__).parents[1])
    if checkout not in sys.path:
        sys.path.append(checkout)
    from tests.runtime.hostile_files import endless_file, greedy_file, huge_file

    return [endless_file, greedy_file, huge_file]


def _damaged_h5(data: bytes, path: Path, chance: random.Random) -> Path:
    import h5py

    path.write_bytes(data)
    with h5py.File(path, "a") as file:
        for name in ("model_config", "training_config"):
            if chance.random() < 0.7:
                text = damaged_json(file.attrs[name], chance)
                file.attrs[name] = text[:60_000].replace("\0", "")
        if chance.random() < 0.2:
            file["link"] = h5py.ExternalLink("/etc/passwd", "/")
        if chance.random() < 0.2:
            file.create_dataset("huge", (2 ** chance.randrange(20, 50),), chunks=True)
    return path


def _image_folder(folder: Path, chance: random.Random) -> Path:
    root = folder / "images"
    for part in ("train", "test"):
        for name in ("a", "b"):
            own = root / part / name
            own.mkdir(parents=True)
            for number in range(3):
                (own / f"{number}.png").write_bytes(png(8, 8, bytes(9 * 8)))
    victim = chance.choice(sorted(root.rglob("*.png")))
    kind = chance.randrange(6)
    if kind < 3:
        victim.write_bytes(damaged(victim.read_bytes(), chance))
    elif kind == 3:
        size = chance.choice((0, 20_000, 2**31 - 1))
        victim.write_bytes(png(size, size, bytes(1000)))
    elif kind == 4:
        victim.unlink()
        os.symlink(chance.choice(("/etc/passwd", "/dev/zero", "x")), victim)
    else:
        victim.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    return root


def _request(chance: random.Random) -> bytes:
    host = chance.choice(
        ("127.0.0.1", "127.0.0.1:80@evil.com", "evil.com", "", "[::1]")
    )
    length = chance.choice(("5", "-1", "9" * 30, "x", str(2**29), "0"))
    path = chance.choice(
        ("/", "/secret/x", "/../../etc/passwd", "/%00", "/" + "a" * 9000)
    )
    verb = chance.choice(("GET", "POST", "PUT", "HEAD", "POST"))
    head = f"{verb} {path} HTTP/1.{chance.choice('019')}\r\nHost: {host}\r\n"
    request = f"{head}Content-Length: {length}\r\n\r\nabcde".encode()
    return damaged(request, chance) if chance.random() < 0.6 else request


# ------------------------------------------------------------------ commands


def _command(*arguments: Any) -> int:
    from penjing import cli

    return cli.main([str(argument) for argument in arguments])


def _loaded(sound: Path) -> Path:
    import penjing

    penjing.LiteRTModel(sound / "float.tflite")
    return sound


def _on_litert(sound: Path, path: Path, chance: random.Random) -> int:
    kind = chance.randrange(8)
    if kind < 4:
        return _command("inspect", path, *(["--runtime", "x86"] if kind == 3 else []))
    if kind < 6:
        return _command("evaluate", path, "--data", sound / "sound.npz")
    if kind == 6:
        return _command("benchmark", path, "--rounds", 1, "--runs", 1)
    code = _command("shrink", path, "--out", path.parent / "out.tflite")
    (path.parent / "out.tflite").unlink(missing_ok=True)
    return code


def _on_keras(sound: Path, path: Path, chance: random.Random) -> int:
    if chance.random() < 0.5:
        return _command("inspect", path)
    return _command("evaluate", path, "--data", sound / "sound.npz")


def _on_data(sound: Path, path: Path, chance: random.Random) -> int:
    return _command("evaluate", sound / "float.tflite", "--data", path)


def _on_recipe(sound: Path, path: Path, chance: random.Random) -> int:
    from penjing.pipeline import load_recipe

    load_recipe(path)
    return 0


def _on_table(sound: Path, path: Path, chance: random.Random) -> int:
    import penjing

    str(penjing.SensitivityTable.from_json(path))
    return 0


def _server(sound: Path) -> Any:
    from penjing.web.local_server import LocalServer, Response

    return LocalServer(lambda request: Response(200, b"good"), secret="secret")


def _on_server(server: Any, path: Path, chance: random.Random) -> int:
    port = int(server.address.split(":")[2].partition("/")[0])
    for content in (
        path.read_bytes(),
        b"GET /secret/ HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n",
    ):
        with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
            client.sendall(content)
            client.shutdown(socket.SHUT_WR)
            answer = b""
            try:
                while part := client.recv(65536):
                    answer += part
            except ConnectionResetError:
                continue
    if not answer.endswith(b"good"):
        raise RuntimeError("The server answers no more.")
    return 0


KINDS: dict[str, tuple[Callable[[Path], Any], Act]] = {
    "tflite": (_loaded, _on_litert),
    "keras": (_loaded, _on_keras),
    "h5": (_loaded, _on_keras),
    "npz": (_loaded, _on_data),
    "images": (_loaded, _on_data),
    "recipe": (lambda sound: sound, _on_recipe),
    "json": (lambda sound: sound, _on_table),
    "request": (_server, _on_server),
}
