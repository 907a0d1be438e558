"""What is right for the small sound files of ../shared/inputs: seconds, or the reason why a file cannot be used."""

from __future__ import annotations

# name -> (seconds that ffmpeg decodes or the reason, the warning that comes with a file that is used)
ANSWERS: dict[str, tuple[float | str, str | None]] = {
    "quiet_then_loud.aac": (16.04, None),
    "mono_then_stereo.aac": ("unsupported format", None),
    "rate_44_then_48.aac": ("unsupported format", None),
    "quiet_then_loud.mp3": (16.04, None),
    "joined_with_cat.mp3": (6.06, None),
    "chained_libvorbis.ogg": (5.0, None),
    "no_eos.opus": (3.0, "no end mark"),
    "data_says_2_more.wav": (3.0, "wrong size in header"),
    "data_zero.wav": (3.0, None),
    "one_sample_3e29.wav": ("absurd values", None),
    "antiphase.wav": (5.0, "channels cancel"),
    "au_half.au": ("truncated", None),
    "rf64_half.wav": ("truncated", None),
    "mp3_with_artwork_half.mp3": ("truncated", None),
    "adts_named.mp3": (3.04, None),
    "mpegts.ts": (3.04, None),
    "mp3_in_wav.wav": (3.03, None),
    "vbr.mp3": (40.0, None),
    "rate_1.wav": ("unsupported format", None),
    "lying.flac": ("truncated", None),
    "latin1_title.m4a": (1.02, None),
}
# Its answer depends on the version of FFmpeg: what it finds by the track's description, or "unreadable".
BY_FFMPEG = "unknown_codec.m4a"
LENGTH_S = 0.025  # tolerance: a codec's frame
OF_CHANNELS = "channels cancel"  # told of the clip, not of the file: decoding alone does not tell it
