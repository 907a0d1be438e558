"""Each stand-in in the official layout of its data set: which files there are, and what is in each."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from reproduce.datasets.standin import catalogue
from reproduce.datasets.standin.materials import SAMPLE_RATE
from reproduce.datasets.standin.synthesis import Scene, Sound, level

CLIP_SECONDS = 10.0
_NOTE = "synthetic stand-in, not the real dataset"
_VIDEO_SEGMENTS = 20  # labelled segments per EPIC-like video
_VIDEO_FPS = 59.94
# How many of AudioSet's 20,371 eval clips carry 1, 2, 3 ... labels (mean 2.54), counted in eval_segments.csv.
_LABELS_PER_CLIP = np.array([4740, 7067, 4591, 2162, 974, 459, 213, 108, 40, 14, 3])


@dataclass
class Tree:
    """Files to be written below the root.

    Args:
        audio: (relative path, function that makes the waveform), in the order of writing.
        text: relative path -> content.
    """

    audio: list[tuple[str, Callable[[], np.ndarray]]] = field(default_factory=list)
    text: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class StandIn:
    """The stand-in of one data set.

    Args:
        name: registered name of the data set whose layout it has.
        title: name for readers, which always states that it is synthetic.
        classes: head -> class names in index order.
        shares: split -> its part of the clips.
        default_clips: number of clips over all splits.
        plan: `plan(seed, {split: clips}) -> Tree`.
    """

    name: str
    title: str
    classes: Mapping[str, tuple[str, ...]]
    shares: Mapping[str, float]
    default_clips: int
    plan: Callable[[int, Mapping[str, int]], Tree]

    def clips_per_split(self, clips: int) -> dict[str, int]:
        """{split: clips}: each split gets its share, at least one clip; the first split gets what rounding leaves."""
        counts = {split: max(round(clips * share), 1) for split, share in self.shares.items()}
        first = next(iter(counts))
        counts[first] += clips - sum(counts.values())
        return counts


def clip_rng(seed: int, *name: str | int) -> np.random.Generator:
    """Random generator of one clip or video: each can be made alone, and no two share a source."""
    digest = hashlib.sha256(repr((seed, *name)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def youtube_id(seed: int, *name: str | int) -> str:
    """11 characters of YouTube's alphabet, which includes - and _ (in front too, as in real ids)."""
    digest = hashlib.sha256(repr(("id", seed, *name)).encode()).digest()
    return base64.urlsafe_b64encode(digest)[:11].decode()


def start_second(seed: int, *name: str | int) -> int:
    """Second of its video at which a clip starts, 0 to 299."""
    return int(clip_rng(seed, "start", *name).integers(0, 300))


def to_csv(rows: Iterable[Sequence[object]], end: str = "\n") -> str:
    """Text of a CSV with `end` after each row."""
    stream = io.StringIO()
    csv.writer(stream, lineterminator=end).writerows(rows)
    return stream.getvalue()


def render_clip(sound: Sound, seconds: float, *name: str | int, seed: int) -> np.ndarray:
    """One recording of one source: (samples,) float32."""
    rng = clip_rng(seed, *name)
    return Scene.draw(rng).record(rng, sound.perform(rng, round(seconds * SAMPLE_RATE)))


# --- Kinetics-Sounds: one CSV and one folder of class folders per split ---


def plan_kinetics_sounds(seed: int, clips: Mapping[str, int]) -> Tree:
    """Files of {split: clips}; see `StandIn.plan`."""
    tree = Tree()
    labels = sorted(catalogue.KINETICS_SOUNDS)
    for split, count in clips.items():
        rows: list[Sequence[object]] = [("label", "youtube_id", "time_start", "time_end", "split")]
        for i in range(count):
            label = labels[i % len(labels)]
            key = ("kinetics_sounds", split, i)
            clip, start = youtube_id(seed, *key), start_second(seed, *key)
            stop = start + int(CLIP_SECONDS)
            rows.append((label, clip, start, stop, split))
            render = partial(render_clip, catalogue.KINETICS_SOUNDS[label], CLIP_SECONDS, *key, seed=seed)
            tree.audio.append((f"{split}/{label}/{clip}_{start:06d}_{stop:06d}.flac", render))
        tree.text[f"{split}.csv"] = to_csv(rows)
    return tree


# --- VGGSound: one CSV without a header, audio in one flat folder ---


def plan_vggsound(seed: int, clips: Mapping[str, int]) -> Tree:
    """Files of {split: clips}; see `StandIn.plan`."""
    tree = Tree()
    labels = sorted(catalogue.VGGSOUND)
    rows: list[Sequence[object]] = []
    for split, count in clips.items():
        for i in range(count):
            label = labels[i % len(labels)]
            key = ("vggsound", split, i)
            clip, start = youtube_id(seed, *key), start_second(seed, *key)
            rows.append((clip, start, label, split))
            render = partial(render_clip, catalogue.VGGSOUND[label], CLIP_SECONDS, *key, seed=seed)
            tree.audio.append((f"audio/{clip}_{start:06d}.flac", render))
    tree.text["vggsound.csv"] = to_csv(rows)
    listed = Counter(str(row[2]) for row in rows)
    stat = [(label, listed[label], "standin") for label in labels]
    tree.text["stat.csv"] = to_csv(stat, end="\r\n")
    return tree


# --- AudioSet: a segments CSV and an audio folder per split; several labels per clip ---


def plan_audioset(seed: int, clips: Mapping[str, int]) -> Tree:
    """Files of {split: clips}; see `StandIn.plan`."""
    tree = Tree()
    names = list(catalogue.AUDIOSET)
    mids = {name: f"/t/standin{i:02d}" for i, name in enumerate(names)}
    index = [("index", "mid", "display_name"), *((i, mids[name], name) for i, name in enumerate(names))]
    tree.text["class_labels_indices.csv"] = to_csv(index)
    for split, count in clips.items():
        lines, positives = [], Counter[str]()
        for i in range(count):
            key = ("audioset", split, i)
            labels, seconds = audioset_labels(seed, split, i)
            clip, start = youtube_id(seed, *key), start_second(seed, *key)
            quoted = ",".join(mids[label] for label in labels)
            lines.append(f'{clip}, {start:.3f}, {start + seconds:.3f}, "{quoted}"')
            positives.update(labels)
            render = partial(render_audioset_clip, seed, split, i)
            tree.audio.append((f"audio/{split}_segments/Y{clip}.flac", render))
        head = [
            f"# Segments csv of a {_NOTE}",
            f"# num_ytids={count}, num_segs={count}, num_unique_labels={len(positives)}, "
            f"num_positive_labels={positives.total()}",
            "# YTID, start_seconds, end_seconds, positive_labels",
        ]
        tree.text[f"{split}_segments.csv"] = "\n".join([*head, *lines]) + "\n"
    return tree


def audioset_labels(seed: int, split: str, i: int) -> tuple[list[str], float]:
    """Labels of clip i and its length in seconds.

    The first label cycles through the classes, so that none is missing. The others are uniform, but skewed in the
    unbalanced split as in the real one. As there, about 2% of the clips are shorter than 10 s.
    """
    rng = clip_rng(seed, "audioset labels", split, i)
    names = list(catalogue.AUDIOSET)
    count = 1 + int(rng.choice(len(_LABELS_PER_CLIP), p=_LABELS_PER_CLIP / _LABELS_PER_CLIP.sum()))
    skew = 1.0 if split == "unbalanced_train" else 0.0
    weights = (1.0 + np.arange(len(names))) ** -skew
    first = i % len(names)
    weights[first] = 0
    others = rng.choice(len(names), count - 1, replace=False, p=weights / weights.sum())
    seconds = float(rng.integers(3, 10)) if rng.random() < 0.02 else CLIP_SECONDS
    return [names[k] for k in sorted([first, *others])], seconds


def render_audioset_clip(seed: int, split: str, i: int) -> np.ndarray:
    """Events of at least 2.5 s at random times, over beds that last the whole clip and background without a label.

    Returns (samples,) float32.
    """
    labels, seconds = audioset_labels(seed, split, i)
    rng = clip_rng(seed, "audioset", split, i)
    samples = round(seconds * SAMPLE_RATE)
    mixture = np.zeros(samples, np.float32)
    for label in labels:
        bed = label in catalogue.AUDIOSET_BEDS
        length = samples if bed else int(rng.uniform(min(2.5 * SAMPLE_RATE, samples), samples))
        at = int(rng.integers(0, samples - length + 1))
        gain = 10 ** (rng.uniform(-12, -4) / 20) if bed else 10 ** (rng.uniform(-6, 0) / 20)
        mixture[at : at + length] += np.float32(gain) * catalogue.AUDIOSET[label].perform(rng, length)
    return Scene.draw(rng, noise_db=(-36.0, -18.0)).record(rng, mixture)


# --- EPIC-KITCHENS-100: long videos, segments named by timestamps, a verb and a noun each ---


@dataclass(frozen=True, slots=True)
class Segment:
    """One narrated action.

    Args:
        number: within its video.
        verb: class index.
        noun: class index.
        start: hundredths of a second, the resolution of the annotations.
        stop: hundredths of a second.
    """

    number: int
    verb: int
    noun: int
    start: int
    stop: int


EPIC_COLUMNS = (
    "narration_id", "participant_id", "video_id", "narration_timestamp", "start_timestamp", "stop_timestamp",
    "start_frame", "stop_frame", "narration", "verb", "verb_class", "noun", "noun_class", "all_nouns",
    "all_noun_classes",
)  # fmt: skip


def verb_and_noun(i: int) -> tuple[int, int]:
    """Class indices of segment i: every verb-noun pair comes once before one repeats, so the two are independent."""
    verbs, nouns = len(catalogue.EPIC_VERBS), len(catalogue.EPIC_NOUNS)
    shift = i // int(np.lcm(verbs, nouns))
    return i % verbs, (i + shift) % nouns


def epic_segments(seed: int, split: str, video: int, count: int) -> list[Segment]:
    """The time line of one video. Lengths are log-normal around the real data's median of 1.96 s, at least 0.5 s."""
    rng = clip_rng(seed, "epic time line", split, video)
    segments, now = [], 0
    for number in range(count):
        verb, noun = verb_and_noun(video * _VIDEO_SEGMENTS + number)
        start = now + int(rng.uniform(20, 150))
        length = int(np.clip(196 * np.exp(rng.normal(0, 0.87)), 50, 3000))
        segments.append(Segment(number, verb, noun, start, start + length))
        now = start + length
    return segments


def epic_video_id(split: str, video: int) -> str:
    """Validation has cooks of the training split and new ones, as in the official split."""
    first = 101 if split == "train" else 151
    cook = (1, 2, 3, 4, 5, 6)[video % 6] if split == "train" else (1, 2, 30, 31)[video % 4]
    return f"P{cook:02d}_{first + video // (6 if split == 'train' else 4)}"


def plan_epic_kitchens(seed: int, clips: Mapping[str, int]) -> Tree:
    """Files of {split: clips}, 20 segments per video; see `StandIn.plan`."""
    tree = Tree()
    verbs, nouns = list(catalogue.EPIC_VERBS), list(catalogue.EPIC_NOUNS)
    for name, keys in (("verb", verbs), ("noun", nouns)):
        table = [
            ("id", "key", "instances", "category"),
            *((i, key, repr([key]), "standin") for i, key in enumerate(keys)),
        ]
        tree.text[f"EPIC_100_{name}_classes.csv"] = to_csv(table, end="\r\n")
    videos: list[Sequence[object]] = [("video_id", "duration", "fps", "resolution")]
    for split, count in clips.items():
        rows = []
        for video, first in enumerate(range(0, count, _VIDEO_SEGMENTS)):
            segments = epic_segments(seed, split, video, min(_VIDEO_SEGMENTS, count - first))
            video_id = epic_video_id(split, video)
            rows += [epic_row(video_id, segment, verbs, nouns) for segment in segments]
            videos.append((video_id, (segments[-1].stop + 100) / 100, _VIDEO_FPS, "1920x1080"))
            tree.audio.append((f"audio/{video_id}.flac", partial(render_epic_video, seed, split, video, segments)))
        tree.text[f"EPIC_100_{split}.csv"] = to_csv([EPIC_COLUMNS, *sorted(rows)])
    tree.text["EPIC_100_video_info.csv"] = to_csv(videos)
    return tree


def timestamp(hundredths: int, digits: int = 2) -> str:
    """HH:MM:SS.ff"""
    minutes, seconds = divmod(hundredths, 6000)
    hours, minutes = divmod(minutes, 60)
    return f"{hours:02d}:{minutes:02d}:{seconds // 100:02d}.{seconds % 100:02d}" + "0" * (digits - 2)


def epic_row(video_id: str, segment: Segment, verbs: Sequence[str], nouns: Sequence[str]) -> list[str]:
    """Row of the annotation list, in the order of EPIC_COLUMNS."""
    verb, noun = verbs[segment.verb], nouns[segment.noun]
    spoken = " ".join(reversed(noun.split(":")))  # "board:chopping" is narrated "chopping board"
    frames = [max(int(hundredths / 100 * _VIDEO_FPS), 1) for hundredths in (segment.start, segment.stop)]
    return [
        f"{video_id}_{segment.number}",
        video_id.split("_")[0],
        video_id,
        timestamp(max(segment.start - 10, 0), digits=3),
        timestamp(segment.start),
        timestamp(segment.stop),
        *map(str, frames),
        f"{verb} {spoken}",
        verb,
        str(segment.verb),
        noun,
        str(segment.noun),
        repr([noun]),
        repr([segment.noun]),
    ]


def render_epic_video(seed: int, split: str, video: int, segments: Sequence[Segment]) -> np.ndarray:
    """A kitchen (one room, one microphone) with a new object per segment and one silent second at the end.

    Returns (samples,) float32.
    """
    verbs, nouns = list(catalogue.EPIC_VERBS), list(catalogue.EPIC_NOUNS)
    hundredth = SAMPLE_RATE // 100
    dry = np.zeros((segments[-1].stop + 100) * hundredth, np.float32)
    for segment in segments:
        rng = clip_rng(seed, "epic segment", split, video, segment.number)
        sound = catalogue.epic_sound(verbs[segment.verb], nouns[segment.noun])
        samples = (segment.stop - segment.start) * hundredth
        gain = np.float32(10 ** (rng.uniform(-8, 0) / 20))
        dry[segment.start * hundredth :][:samples] += gain * sound.perform(rng, samples)
    rng = clip_rng(seed, "epic kitchen", split, video)
    return Scene.draw(rng).record(rng, level(dry))


_ALL = (
    StandIn(
        name="kinetics_sounds",
        title=f"Kinetics-Sounds ({_NOTE})",
        classes={"label": tuple(sorted(catalogue.KINETICS_SOUNDS))},
        shares={"train": 0.75, "val": 0.25},
        default_clips=512,
        plan=plan_kinetics_sounds,
    ),
    StandIn(
        name="epic_kitchens",
        title=f"EPIC-KITCHENS-100 ({_NOTE})",
        classes={"verb": tuple(catalogue.EPIC_VERBS), "noun": tuple(catalogue.EPIC_NOUNS)},
        shares={"train": 0.75, "validation": 0.25},
        default_clips=640,
        plan=plan_epic_kitchens,
    ),
    StandIn(
        name="vggsound",
        title=f"VGGSound ({_NOTE})",
        classes={"label": tuple(sorted(catalogue.VGGSOUND))},
        shares={"train": 0.75, "test": 0.25},
        default_clips=504,
        plan=plan_vggsound,
    ),
    StandIn(
        name="audioset",
        title=f"AudioSet ({_NOTE})",
        classes={"label": tuple(catalogue.AUDIOSET)},
        shares={"balanced_train": 0.3, "unbalanced_train": 0.45, "eval": 0.25},
        default_clips=620,
        plan=plan_audioset,
    ),
)
STANDINS = {standin.name: standin for standin in _ALL}
