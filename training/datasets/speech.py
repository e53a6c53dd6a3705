"""Spoken sentences with the mouth that says them: many languages, accents, voices and manners.

espeak-ng speaks every language here and says when each phoneme sounds; flite's English voices were built from
recordings of people. `render_speech` puts the sentences through microphones of all kinds
(`training.datasets.sound_scenes`) and keeps the mel windows that the audio encoder will hear.
"""

from __future__ import annotations

import argparse
import functools
import re
import sys
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from pydoc_data import topics
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from gcavt import audio
from training.datasets.sentences import LANGUAGES
from training.datasets.sound_scenes import NAMED_SCENES, Scene, random_scene, recorded
from training.synthetic.speech import Voice, random_sentence, speak
from training.synthetic.visemes import TimedSymbol, sounds_of, viseme_matrix, viseme_track

TRAIN_UTTERANCES, HELD_OUT_UTTERANCES = 1200, 8
UNSPOKEN_SHARE, FLITE_SHARE, FOREIGN_SHARE = 0.1, 0.2, 0.35
MOST_SECONDS = 8.0
PAUSE_FRAMES = 8

ACCENTS = ("en-us", "en", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-029", "en-us-nyc")
VARIANTS: tuple[str, ...] = ("", "+f1", "+f2", "+f3", "+f4", "+m1", "+m2", "+m3", "+m4", "+m5", "+m6")
VARIANTS += ("+klatt", "+klatt3", "+Andrea", "+Alex", "+linda", "+Michael", "+steph", "+grandma", "+grandpa")
VARIANTS += ("+Mario", "+whisper")
HELD_OUT_VOICES = ("en-us+f5", "en+m7", "en-gb-scotland+f2")
FLITE_VOICES, HELD_OUT_FLITE_VOICE = ("slt", "rms"), "awb"
HELD_OUT_LANGUAGES = ("it", "hu")
PITCH_SHIFT = (0.88, 1.14)
"""A recording played slower or faster: another throat."""

_NEAREST_ENGLISH = str.maketrans(
    "ɓβɸʋɱʙʈɖɗcɟqɢɲɳɴɬɭʎɽʂʐɕʑçʝχħʕɦɥʀɻɯɨʉɵɘɤʏɞɶɮɰ",
    "bbfvmbtddkɡkɡnnŋllllʃʒʃʒjjxhhhyʁɹɪɪuəəʌyɜœlɣ",
)
"""Sounds that the viseme table lacks, as those whose mouth is nearest."""


@dataclass(frozen=True, eq=False)
class Utterance:
    """16 kHz sound, and the mouth's weights (frames, 52) at 25 fps over exactly its length."""

    samples: NDArray[np.float32]
    weights: NDArray[np.float32]

    @property
    def frames(self) -> int:
        return len(self.weights)


@dataclass(frozen=True, eq=False)
class Windows:
    """What is heard (N, 80, 20), the mouth that goes with it (N, 52), and which utterance it is of (N,)."""

    mel: NDArray[np.float16]
    weights: NDArray[np.float32]
    utterance: NDArray[np.int32]

    def arrays(self, name: str) -> dict[str, NDArray[np.generic]]:
        return {
            f"{name}_windows": self.mel,
            f"{name}_weights": self.weights,
            f"{name}_utterances": self.utterance,
        }


Speakers = Literal["english", "foreign", "human"]


def render_speech(
    path: Path, train_utterances: int = TRAIN_UTTERANCES, held_out_utterances: int = HELD_OUT_UTTERANCES
) -> None:
    """Write the training windows and every scored condition; a minute of CPU for 400 utterances.

    Raises EngineMissingError where espeak-ng or flite is not installed.
    """
    rng = np.random.default_rng(1)
    pairs = []
    for _ in tqdm(range(train_utterances), desc="speaking (train)", mininterval=5):
        said = unspoken(rng) if rng.random() < UNSPOKEN_SHARE else random_utterance(rng)
        pairs.append((said, random_scene(rng)))
    arrays = windows_of(pairs, rng).arrays("train")
    for name, windows in held_out_conditions(held_out_utterances).items():
        arrays |= windows.arrays(name)
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **arrays)  # type: ignore[arg-type]
    partial.rename(path)


def held_out_conditions(count: int) -> dict[str, Windows]:
    """Voices that training never heard: clean, in each named scene, a recorded voice, languages, nobody."""
    rng = np.random.default_rng(99)
    english = [held_out_utterance(rng, "english") for _ in range(count)]
    conditions = {"clean": windows_of([(said, Scene()) for said in english], rng)}
    for name, scene in NAMED_SCENES.items():
        conditions[name] = windows_of([(said, scene) for said in english], rng)
    for speakers in ("human", "foreign"):
        said = [held_out_utterance(rng, speakers) for _ in range(count)]
        conditions[speakers] = windows_of([(one, Scene()) for one in said], rng)
    nobody = [unspoken(rng) for _ in range(count)]
    for kind in ("music", "brown", "clicks"):
        scene = Scene(noise=kind, noise_db=-10, is_live=True)
        conditions[f"only_{kind}"] = windows_of([(one, scene) for one in nobody[: count // 2]], rng)
    return conditions


def windows_of(pairs: Sequence[tuple[Utterance, Scene]], rng: np.random.Generator) -> Windows:
    """Every mel window of utterances recorded in scenes."""
    heard = []
    for said, scene in pairs:
        sound = recorded(said.samples, scene, rng)
        level = audio.LevelTracker() if scene.is_live else max(audio.rms(sound), audio.RMS_FLOOR)
        stream = audio.StreamingMel(level)
        windows = stream.push(sound) + stream.finish()
        heard.append(np.stack([window.mel for window in windows]).astype(np.float16))
    return Windows(
        np.concatenate(heard),
        np.concatenate([said.weights for said, _ in pairs]),
        np.repeat(np.arange(len(pairs)), [said.frames for said, _ in pairs]).astype(np.int32),
    )


def unspoken(rng: np.random.Generator) -> Utterance:
    """Nobody speaks for two to four seconds."""
    frames = int(rng.integers(50, 100))
    samples = np.zeros(frames * audio.SAMPLES_PER_VIDEO_FRAME, np.float32)
    return Utterance(samples, np.zeros((frames, viseme_matrix().shape[1]), np.float32))


def random_utterance(rng: np.random.Generator) -> Utterance:
    """A voice for training, in any language, manner and size."""
    kind = rng.random()
    shift = float(rng.uniform(*PITCH_SHIFT))
    if kind < FLITE_SHARE:
        rate_wpm = int(rng.integers(130, 205))
        return spoken(
            english_text(rng),
            Voice(engine="flite", name=str(rng.choice(FLITE_VOICES)), rate_wpm=rate_wpm),
            shift,
        )
    if kind < FLITE_SHARE + FOREIGN_SHARE:
        language = str(rng.choice([name for name in LANGUAGES if name not in HELD_OUT_LANGUAGES]))
        name, text = language, _excerpt(LANGUAGES[language].split(), rng)
    else:
        name, text = str(rng.choice(ACCENTS)), english_text(rng)
    voice = _voice(name + str(rng.choice(VARIANTS)), rng)
    return spoken(text, voice, shift)


def held_out_utterance(rng: np.random.Generator, speakers: Speakers) -> Utterance:
    if speakers == "human":
        return spoken(english_text(rng), Voice(engine="flite", name=HELD_OUT_FLITE_VOICE))
    if speakers == "foreign":
        language = str(rng.choice(HELD_OUT_LANGUAGES))
        return spoken(_excerpt(LANGUAGES[language].split(), rng), _voice(f"{language}+f5", rng))
    return spoken(english_text(rng), _voice(str(rng.choice(HELD_OUT_VOICES)), rng))


def english_text(rng: np.random.Generator) -> str:
    """A sentence of the grammar, or running English that every Python carries: its own documentation."""
    return random_sentence(rng) if rng.random() < 0.4 else _excerpt(_vocabulary(), rng)


def spoken(text: str, voice: Voice, pitch_shift: float = 1.0) -> Utterance:
    """A sentence in a voice, played `pitch_shift` times as fast. Raises EngineMissingError."""
    speech = speak(text, voice)
    return _utterance(speech.samples, speech.sample_rate, speech.phonemes, pitch_shift)


def known_phonemes(phonemes: Sequence[TimedSymbol]) -> list[TimedSymbol]:
    """Phonemes of any language in sounds that the viseme table knows.

    A modifier that espeak-ng reports on its own prolongs the sound before it; changes of language go.
    """
    timed: list[TimedSymbol] = []
    for ipa, start_s, end_s in phonemes:
        if ipa.startswith("("):
            continue
        near = unicodedata.normalize("NFD", ipa.translate(_NEAREST_ENGLISH))
        if near.strip(" _") and not sounds_of(near) and timed:
            before = timed.pop()
            timed.append((before[0], before[1], end_s))
        else:
            timed.append((near, start_s, end_s))
    return timed


def _utterance(
    samples: NDArray[np.float32], sample_rate: int, phonemes: Sequence[TimedSymbol], pitch_shift: float
) -> Utterance:
    """At 16 kHz with a pause about it, played `pitch_shift` times as fast."""
    samples = audio.resample_to_16k_mono(samples, round(sample_rate * pitch_shift))
    timed = [(ipa, start_s / pitch_shift, end_s / pitch_shift) for ipa, start_s, end_s in phonemes]
    samples = samples[: round(MOST_SECONDS * audio.SAMPLE_RATE)]
    frames = audio.video_frame_count(len(samples))
    weights = viseme_track(known_phonemes(timed), frames) @ viseme_matrix()
    pause = PAUSE_FRAMES * audio.SAMPLES_PER_VIDEO_FRAME
    missing = frames * audio.SAMPLES_PER_VIDEO_FRAME - len(samples)
    return Utterance(
        np.pad(samples, (pause, pause + missing)),
        np.asarray(np.pad(weights, ((PAUSE_FRAMES, PAUSE_FRAMES), (0, 0))), np.float32),
    )


def _voice(name: str, rng: np.random.Generator) -> Voice:
    return Voice(
        name=name,
        rate_wpm=int(rng.integers(115, 225)),
        pitch=int(rng.integers(15, 85)),
        pitch_range=int(rng.integers(20, 80)),
    )


def _excerpt(words: Sequence[str], rng: np.random.Generator) -> str:
    """Five to fourteen words in a row."""
    count = int(rng.integers(5, 15))
    start = int(rng.integers(0, max(1, len(words) - count)))
    return " ".join(words[start : start + count])


@functools.cache
def _vocabulary() -> tuple[str, ...]:
    text = " ".join(topics.topics.values()).lower()
    return tuple(re.findall(r"[a-z]{2,10}", text))


def main() -> int:
    parser = argparse.ArgumentParser(description="Render the audio encoder's speech, once.")
    parser.add_argument("--out", type=Path, required=True, help="file, .npz; left alone if it is there")
    parser.add_argument("--utterances", type=int, default=TRAIN_UTTERANCES, help="default %(default)s")
    parser.add_argument("--held-out", type=int, default=HELD_OUT_UTTERANCES, help="default %(default)s")
    args = parser.parse_args()
    if not args.out.exists():
        args.out.parent.mkdir(parents=True, exist_ok=True)
        render_speech(args.out, args.utterances, args.held_out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
