"""Made sounds, for want of recorded ones in any package: words and machines.

Words are made as old synthesizers speak: pulses of a voice or noise of a breath through
three moving resonances, a few syllables long, over some noise. Machines hum: harmonics
that waver, knocks and noise. Both are seen by the networks as their authors describe.
"""

from __future__ import annotations

import numpy as np
from scipy.signal import lfilter

RATE = 16_000
# Rough middles of the first three resonances of vowels, in Hz.
_VOWELS = np.array(
    [
        *((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480)),
        *((570, 840, 2410), (660, 1720, 2410), (440, 1020, 2240), (490, 1350, 1690)),
    ]
)


def words(count: int, seed: int) -> np.ndarray:
    """Spectrograms of made words for keyword spotting, `(count, 50, 10, 1)`, 0 to 224.

    TensorFlow's micro front-end in the settings that `keyword_spotting.py` names:
    windows of 30 ms every 20 ms, 10 bands up to 4 kHz.
    """
    import tensorflow as tf
    from tensorflow.lite.experimental.microfrontend.python.ops import (
        audio_microfrontend_op as frontend,
    )

    rng = np.random.default_rng([seed, 2])
    images = np.zeros((count, 50, 10, 1), "float32")
    for image in images:
        sound = np.clip(_word(rng) * 32767, -32768, 32767).astype("int16")
        bands = frontend.audio_microfrontend(
            tf.constant(sound),
            sample_rate=RATE,
            window_size=30,
            window_step=20,
            num_channels=10,
            upper_band_limit=4000.0,
            lower_band_limit=125.0,
        ).numpy()
        # As in the interpreter's own example, 26 * 25.6 units fill a byte; but the
        # author's file takes 0 to 224 alone.
        rows = np.clip(bands.astype("float32") * 256 / 666, 0, 224).round()[:50]
        image[: len(rows), :, 0] = rows
    return images


def machines(count: int, seed: int) -> np.ndarray:
    """Five frames of 128 mel bands of made machine noise, `(count, 5, 128, 1)`."""
    rng = np.random.default_rng([seed, 3])
    filters = _mel_filters(128, 1025)
    images = np.empty((count, 5, 128, 1), "float32")
    for image in images:
        sound = _machine(rng, 1024 + 4 * 512 + 1024)
        frames = [sound[512 * i : 512 * i + 2048] * np.hanning(2048) for i in range(5)]
        power = np.abs(np.fft.rfft(frames, axis=1)) ** 2
        decibel = 10 * np.log10(power[:, :1025] @ filters.T + 1e-9)
        image[..., 0] = np.clip(130 + 2.2 * decibel, 0, 237).round()
    return images


def _word(rng: np.random.Generator) -> np.ndarray:
    sound = np.zeros(RATE + RATE // 20)
    pitch = rng.uniform(80, 260)
    place = int(rng.uniform(0.05, 0.4) * RATE)
    for _ in range(rng.integers(1, 4)):
        if rng.random() < 0.6:  # a consonant: a burst or a hiss
            length = int(rng.uniform(0.02, 0.12) * RATE)
            burst = rng.normal(size=length) * np.hanning(length)
            centre = rng.uniform(1000, 3900)
            burst = _resonance(burst, np.full(length, centre), 600)
            place = _put(sound, burst * rng.uniform(0.05, 0.4), place)
        length = int(rng.uniform(0.08, 0.3) * RATE)
        place = _put(sound, _vowel(rng, pitch, length), place)
    sound *= rng.uniform(0.1, 0.9) / max(np.abs(sound).max(), 1e-6)
    return sound + rng.normal(size=len(sound)) * 10 ** rng.uniform(-4, -1.7)


def _vowel(rng: np.random.Generator, pitch: float, length: int) -> np.ndarray:
    bend = np.linspace(1, rng.uniform(0.8, 1.2), length)
    phase = np.cumsum(pitch * bend / RATE)
    source = np.diff(np.floor(phase), prepend=0) + 0.02 * rng.normal(size=length)
    first, last = _VOWELS[rng.integers(0, len(_VOWELS), 2)] * rng.uniform(0.9, 1.2)
    sound = source
    for low, high, width in zip(first, last, (80, 110, 160), strict=True):
        sound = _resonance(sound, np.linspace(low, high, length), width)
    edge = np.minimum(1, np.linspace(0, 8, length))
    sound = sound * edge * edge[::-1]
    return sound / max(np.abs(sound).max(), 1e-6)


def _resonance(sound: np.ndarray, centre: np.ndarray, width: float) -> np.ndarray:
    """A resonance that moves: filtered in pieces of 10 ms."""
    radius = np.exp(-np.pi * width / RATE)
    out, state = np.empty_like(sound), np.zeros(2)
    for start in range(0, len(sound), 160):
        turn = np.cos(2 * np.pi * centre[start] / RATE)
        poles = [1, -2 * radius * turn, radius**2]
        piece = slice(start, start + 160)
        out[piece], state = lfilter([1 - radius], poles, sound[piece], zi=state)
    return out


def _put(sound: np.ndarray, piece: np.ndarray, place: int) -> int:
    stop = min(place + len(piece), len(sound))
    sound[place:stop] += piece[: max(stop - place, 0)]
    return stop


def _machine(rng: np.random.Generator, length: int) -> np.ndarray:
    time = np.arange(length) / RATE
    base = rng.uniform(40, 200)
    sound = rng.normal(size=length) * 10 ** rng.uniform(-3, -1)
    for harmonic in range(1, int(rng.integers(5, 40))):
        swing = 1 + 0.01 * np.sin(2 * np.pi * rng.uniform(1, 20) * time)
        phase = 2 * np.pi * (base * harmonic * time * swing + rng.random())
        sound += np.sin(phase) * rng.exponential() / harmonic ** rng.uniform(0.3, 1)
    for start in rng.integers(0, length, rng.integers(0, 4)):
        knock = rng.normal(size=length - start) * np.exp(-time[: length - start] * 200)
        sound[start:] += knock * rng.exponential()
    return sound * 10 ** rng.uniform(-1.5, 0)


def _mel_filters(bands: int, bins: int) -> np.ndarray:
    top = 2595 * np.log10(1 + RATE / 2 / 700)
    edges = 700 * (10 ** (np.linspace(0, top, bands + 2) / 2595) - 1)
    hertz = np.linspace(0, RATE / 2, bins)
    rising = (hertz - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - hertz) / np.diff(edges)[1:, None]
    return np.maximum(0, np.minimum(rising, falling))
