"""Which sounds each stand-in is made of: class name -> action on a material.

Some classes come in pairs that differ in nothing but the order or rhythm of the same touches; their time-averaged
spectra agree, so only a model that uses the time axis can distinguish them. They are listed in `ORDER_PAIRS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from reproduce.datasets.standin import notes, streams, touches
from reproduce.datasets.standin.synthesis import Action, Sound

# Kinetics-Sounds' 32 classes (RECIPES section 5), each imitated by what makes its sound.
KINETICS_SOUNDS: Mapping[str, Sound] = MappingProxyType(
    {
        "blowing nose": Sound(partial(streams.puff, length=(0.4, 1.0), gap=(0.3, 0.9), buzz=0.6), "nose"),
        "blowing out candles": Sound(partial(streams.puff, length=(0.35, 0.7), gap=(0.8, 1.6)), "breath"),
        "bowling": Sound(streams.bowl_a_ball, "lane"),
        "chopping wood": Sound(touches.chop, "wood"),
        "dribbling basketball": Sound(partial(touches.strike, rate=(1.7, 2.6), jitter=0.05), "ball"),
        "laughing": Sound(notes.laugh, "voice"),
        "mowing lawn": Sound(streams.motor, "engine"),
        "playing accordion": Sound(
            notes.Melody(pitch=(220, 330), slope=0.6, tremolo=0.45, chord=(1.0, 1.5, 2.01), pauses=0.0), "reed"
        ),
        "playing bagpipes": Sound(
            notes.Melody(pitch=(420, 520), note=(0.12, 0.4), slope=0.4, drone=0.9, pauses=0.0, glide=0.004), "reed"
        ),
        "playing bass guitar": Sound(partial(notes.pick, rate=(2.2, 4.0), notes=4), "bass string"),
        "playing clarinet": Sound(
            notes.Melody(pitch=(150, 230), note=(0.2, 0.8), slope=0.9, even=0.03, attack=0.04, pauses=0.03), "pipe"
        ),
        "playing drums": Sound(touches.drum_kit, "skin"),
        "playing guitar": Sound(partial(notes.strum, spread=(0.18, 0.2)), "string"),
        "playing harmonica": Sound(
            notes.Melody(
                pitch=(480, 680), note=(0.4, 1.2), slope=0.5, tremolo=0.45, chord=(1.0, 1.26), breath=0.25, pauses=0.4
            ),
            "reed",
        ),
        "playing keyboard": Sound(partial(notes.pick, rate=(3.0, 5.0)), "tine"),
        "playing organ": Sound(
            notes.Melody(pitch=(130, 220), note=(0.9, 2.0), slope=1.1, chord=(1.0, 2.0, 3.0, 4.0), pauses=0.0), "pipe"
        ),
        "playing piano": Sound(partial(notes.pick, rate=(2.5, 5.0), notes=6), "piano string"),
        "playing saxophone": Sound(
            notes.Melody(pitch=(150, 250), slope=0.7, breath=0.2, vibrato=0.012, glide=0.04, attack=0.05), "horn"
        ),
        "playing trombone": Sound(
            notes.Melody(pitch=(75, 120), note=(0.4, 1.2), slope=0.5, glide=0.25, attack=0.08), "horn"
        ),
        "playing trumpet": Sound(
            notes.Melody(pitch=(330, 480), note=(0.1, 0.28), slope=0.3, attack=0.015, pauses=0.25), "horn"
        ),
        "playing violin": Sound(
            notes.Melody(pitch=(440, 760), note=(0.3, 1.0), slope=0.6, vibrato=0.03, attack=0.1, breath=0.06),
            "fiddle",
        ),
        "playing xylophone": Sound(partial(notes.pick, rate=(4.0, 7.0), notes=6), "tuned bar"),
        "ripping paper": Sound(streams.rip, "paper"),
        "shoveling snow": Sound(partial(streams.scrape, stroke=(0.5, 0.9), gap=(0.5, 1.0)), "snow"),
        "shuffling cards": Sound(streams.shuffle, "paper"),
        "singing": Sound(
            notes.Melody(pitch=(120, 260), note=(0.4, 1.4), slope=1.3, vibrato=0.035, glide=0.2, attack=0.08),
            "voice",
        ),
        "stomping grapes": Sound(streams.squelch, "mud"),
        "strumming guitar": Sound(notes.strum, "string"),
        "tap dancing": Sound(partial(touches.knock, rate=(1.6, 2.3)), "shoe"),
        "tapping guitar": Sound(partial(notes.pick, rate=(11.0, 14.0), notes=6), "tapped string"),
        "tapping pen": Sound(partial(touches.strike, rate=(4.0, 6.0)), "pen"),
        "tickling": Sound(partial(notes.laugh, reverse=True), "voice"),
    }
)


VGGSOUND: Mapping[str, Sound] = MappingProxyType(
    {
        "striking wood block": Sound(touches.strike, "wood"),
        "striking metal plate": Sound(touches.strike, "metal"),
        "striking gong, cymbal": Sound(partial(touches.strike, rate=(0.4, 0.7)), "gong"),
        "striking drum skin": Sound(partial(touches.strike, rate=(1.5, 2.5)), "skin"),
        "striking glass, clinking": Sound(touches.strike, "glass"),
        "knocking on board, in threes": Sound(partial(touches.knock, rate=(0.8, 1.1)), "board"),
        "knocking on board, evenly": Sound(partial(touches.strike, rate=(2.4, 3.3), jitter=0.05), "board"),
        "tapping stone, speeding up": Sound(touches.accelerate, "stone"),
        "tapping stone, slowing down": Sound(partial(touches.accelerate, reverse=True), "stone"),
        "tapping plastic": Sound(partial(touches.strike, rate=(4.0, 6.0)), "plastic"),
        "bouncing on wood": Sound(touches.bounce, "wood"),
        "bouncing on metal": Sound(touches.bounce, "pan"),
        "bouncing on stone": Sound(touches.bounce, "stone"),
        "spinning coin on glass": Sound(touches.spin, "glass"),
        "spinning lid on board": Sound(touches.spin, "board"),
        "scraping wood": Sound(streams.scrape, "wood"),
        "scraping metal": Sound(streams.scrape, "metal"),
        "scraping snow, shovelling": Sound(streams.scrape, "snow"),
        "sawing wood": Sound(streams.saw, "wood"),
        "sawing metal": Sound(streams.saw, "pan"),
        "rubbing glass, squeaking": Sound(partial(streams.rub, hz=(1000, 1500)), "glass"),
        "rubbing skin, creaking": Sound(streams.rub, "skin"),
        "rolling on board": Sound(streams.roll, "board"),
        "rolling on metal": Sound(streams.roll, "pan"),
        "rolling on stone": Sound(streams.roll, "stone"),
        "shaking plastic bottle": Sound(touches.shake, "plastic"),
        "shaking metal box, rattling": Sound(touches.shake, "lid"),
        "shaking paper box": Sound(touches.shake, "cardboard"),
        "pouring water": Sound(streams.pour, "water"),
        "filling vessel, pitch rising": Sound(partial(streams.pour, glide=1.3), "pipe"),
        "emptying vessel, pitch falling": Sound(partial(streams.pour, glide=-1.3), "pipe"),
        "pouring grains on metal": Sound(partial(streams.pour, rate=90), "metal"),
        "dripping water": Sound(touches.drip, "water"),
        "dripping on metal": Sound(touches.drip, "lid"),
        "crumpling paper": Sound(streams.crumple, "paper"),
        "crumpling cardboard": Sound(streams.crumple, "cardboard"),
        "tearing paper": Sound(streams.rip, "paper"),
        "siren, pitch rising": Sound(notes.siren, "horn"),
        "siren, pitch falling": Sound(partial(notes.siren, reverse=True), "horn"),
        "engine running": Sound(streams.motor, "engine"),
        "plucking strings": Sound(notes.pick, "string"),
        "bowing strings": Sound(notes.Melody(pitch=(330, 600), slope=0.9, vibrato=0.025, attack=0.1), "fiddle"),
    }
)


# AudioSet's stand-in: events, then the beds that may sound under them.
AUDIOSET: Mapping[str, Sound] = MappingProxyType(
    {
        "Wood block": VGGSOUND["striking wood block"],
        "Gong": VGGSOUND["striking gong, cymbal"],
        "Drum": VGGSOUND["striking drum skin"],
        "Clink, glass": VGGSOUND["striking glass, clinking"],
        "Knock, in threes": VGGSOUND["knocking on board, in threes"],
        "Knock, evenly": VGGSOUND["knocking on board, evenly"],
        "Tap": VGGSOUND["tapping plastic"],
        "Bouncing": VGGSOUND["bouncing on wood"],
        "Coin, spinning": VGGSOUND["spinning coin on glass"],
        "Scrape": VGGSOUND["scraping metal"],
        "Sawing": VGGSOUND["sawing wood"],
        "Squeak": VGGSOUND["rubbing glass, squeaking"],
        "Roll": VGGSOUND["rolling on board"],
        "Rattle": VGGSOUND["shaking metal box, rattling"],
        "Pour": VGGSOUND["pouring water"],
        "Fill, rising": VGGSOUND["filling vessel, pitch rising"],
        "Empty, falling": VGGSOUND["emptying vessel, pitch falling"],
        "Drip": VGGSOUND["dripping on metal"],
        "Crumpling, crinkling": VGGSOUND["crumpling paper"],
        "Tearing": VGGSOUND["tearing paper"],
        "Siren, rising": VGGSOUND["siren, pitch rising"],
        "Siren, falling": VGGSOUND["siren, pitch falling"],
        "Engine": VGGSOUND["engine running"],
        "Guitar": VGGSOUND["plucking strings"],
        "Violin, fiddle": VGGSOUND["bowing strings"],
        "Laughter": KINETICS_SOUNDS["laughing"],
        "Trumpet": KINETICS_SOUNDS["playing trumpet"],
        "Singing": KINETICS_SOUNDS["singing"],
        "Rain": Sound(partial(streams.weather, rate=1500.0), "foil"),
        "Wind": Sound(streams.weather, "breath"),
        "Mains hum": Sound(notes.hum, "cable"),
    }
)


AUDIOSET_BEDS = ("Rain", "Wind", "Mains hum")
# EPIC-KITCHENS-100: verb = action, noun = object; every verb can be done to every noun.
EPIC_VERBS: Mapping[str, tuple[Action, float]] = MappingProxyType(
    {  # action and softness
        "open": (partial(touches.accelerate, interval=(0.22, 0.32), length=(0.9, 1.6)), 2.0),
        "close": (partial(touches.accelerate, interval=(0.22, 0.32), length=(0.9, 1.6), reverse=True), 2.0),
        "cut": (partial(streams.saw, rate=(2.0, 3.0)), 1.0),
        "pour": (streams.pour, 1.0),
        "shake": (touches.shake, 1.0),
        "scrape": (partial(streams.scrape, stroke=(0.25, 0.5), gap=(0.05, 0.15)), 0.3),
        "pat": (partial(touches.strike, rate=(3.0, 4.5)), 4.0),
        "crush": (partial(streams.crumple, length=(0.3, 0.8)), 1.0),
    }
)


EPIC_NOUNS: Mapping[str, str] = MappingProxyType(
    {
        "plate": "ceramic",
        "knife": "blade",
        "pan": "pan",
        "lid": "lid",
        "bowl": "bowl",
        "glass": "glass",
        "bottle": "plastic",
        "bag": "foil",
        "board:chopping": "board",
        "box": "cardboard",
    }
)


def epic_sound(verb: str, noun: str) -> Sound:
    """The action of the verb on the material of the noun."""
    action, softness = EPIC_VERBS[verb]
    return Sound(action, EPIC_NOUNS[noun], softness)


ORDER_PAIRS: Mapping[str, tuple[tuple[str, str], ...]] = MappingProxyType(
    {
        "kinetics_sounds": (("laughing", "tickling"), ("playing guitar", "strumming guitar")),
        "epic_kitchens": (("open", "close"),),
        "vggsound": (
            ("tapping stone, speeding up", "tapping stone, slowing down"),
            ("knocking on board, in threes", "knocking on board, evenly"),
            ("filling vessel, pitch rising", "emptying vessel, pitch falling"),
            ("siren, pitch rising", "siren, pitch falling"),
        ),
        "audioset": (
            ("Knock, in threes", "Knock, evenly"),
            ("Fill, rising", "Empty, falling"),
            ("Siren, rising", "Siren, falling"),
        ),
    }
)
