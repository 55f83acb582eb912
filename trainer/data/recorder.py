"""Takes and room sound recorded one after the other: a level meter, "speak now", and at once whether the take is kept.

Every take is written, whole, as soon as it is accepted: whatever ends the session loses nothing.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from converter.arrays import Int16
from converter.commands.microphone import Microphone
from converter.errors import ConvertError, printable
from converter.spec import FeatureSpec
from trainer.data.dataset import NOISE_FOLDER
from trainer.data.recordings import resample, to_int16, write_wav
from trainer.data.takes import Take, find_takes, takes_of, write_take
from trainer.data.utterances import CLICK_S
from trainer.errors import TrainerError

LISTEN_S = 2.5  # from "speak now"
ECHO_S = 0.3  # that a played sound is heard after its end
EDGE_S = 0.03  # a word that comes so close to an end of it is cut off
ROOM_FILE_S, LEAST_ROOM_S = 60.0, 11.0  # at most in a file; what training takes as noise
METER_DB = 60  # below full scale
Player = Callable[[Int16, int], None]
Keys = Callable[[], str | None]  # the key that was pressed next, None if none was
ENDED = ""  # in place of a key, where no more can come
_LOST_SAYS = "samples were lost; close what keeps this computer busy, or plug the board in by USB, and try again"
_LOST = Take(0, 0, np.zeros(0, np.int16), _LOST_SAYS)


@dataclass
class Recorder:
    """A session: where sound and keys come from, and where what is to be said goes."""

    source: Microphone  # this computer's, or a board's
    keys: Keys
    player: Player
    console: Console
    spec: FeatureSpec = field(default_factory=FeatureSpec)

    def takes(self, folder: Path, speaker: str, wanted: int) -> int:
        """Records until the folder holds so many takes of the speaker, or `q`; how many there are then. Raises
        TrainerError where keys end before. The caller is alone in the folder."""
        kept: Path | None = None  # what `d` drops: the last try, where it was kept
        last = np.zeros(0, np.int16)
        with self._live() as live:
            while True:
                there = len(takes_of(folder, speaker))
                key = self._key(live, _invitation(folder.name, there, wanted, kept is not None))
                if key == "q" or (key in ("\n", ENDED) and there >= wanted):
                    return there
                if key == ENDED:
                    raise TrainerError(
                        f"{printable(str(folder))}: {there} of {wanted} takes, and no more keys can come; "
                        f"run `record` in a terminal, it goes on there"
                    )
                if key == "p":
                    self._play(last, live)
                elif key == "d":
                    last = self._drop(kept, last)
                    kept = None
                elif key == "\n":
                    sound, lost = self._listen(live)
                    with uninterrupted():
                        take = _LOST if lost else judge(sound, self.spec)
                        last, kept = sound if take.fault else take.pcm, None
                        if take.fault:
                            self._say(f"[bold red]not kept[/]: {take.fault}")
                            continue
                        kept = write_take(folder, speaker, take.pcm, self.spec)
                        name = _plain(kept.name)
                        self._say(f"[bold green]kept[/] {there + 1} of {wanted}: {name}, {take.seconds:.2f} s")

    def room(self, folder: Path, minutes: float) -> list[Path]:
        """Records room sound to folder/_background_noise_, in files of at most a minute; what was heard until Ctrl-C
        too, where it is long enough. The paths."""
        total = minutes * 60
        files = max(1, int(np.ceil(total / ROOM_FILE_S)))
        written: list[Path] = []
        with self._live() as live:
            for number in range(files):
                heard: list[Int16] = []
                any_lost = False
                try:
                    for pcm, lost in self._heard(total / files):
                        any_lost |= lost and len(heard) > 0
                        heard.append(pcm)
                        done_s = number * total / files + sum(map(len, heard)) / self.source.rate_hz
                        says = f"room sound, {done_s:.0f} of {total:.0f} s: leave the word unsaid"
                        live.update(_meter(pcm, says), refresh=True)
                finally:
                    with uninterrupted():
                        written += self._write_room(folder / NOISE_FOLDER, heard)
                        if any_lost:
                            self._say("[bold yellow]samples of it were lost[/]: it has gaps")
        return written

    def _write_room(self, folder: Path, heard: list[Int16]) -> list[Path]:
        pcm = self._at_rate(np.concatenate(heard)) if heard else np.zeros(0, np.int16)
        seconds = len(pcm) / self.spec.sample_rate_hz
        if seconds < LEAST_ROOM_S:
            self._say(
                f"[bold red]not kept[/]: {seconds:.1f} s of room sound, training needs {LEAST_ROOM_S:g} s at a time"
            )
            return []
        if np.ptp(pcm) < 2:
            self._say(f"[bold red]not kept[/]: {_muted()}")
            return []
        number = 0
        while (path := folder / f"room_{number}.wav").exists():
            number += 1
        write_wav(path, pcm, self.spec.sample_rate_hz)
        self._say(f"[bold green]kept[/] {_plain(str(path))}, {seconds:.0f} s")
        return [path]

    def _live(self) -> Live:
        return Live(console=self.console, auto_refresh=False, transient=True)

    def _say(self, sentence: str) -> None:
        self.console.print(sentence, highlight=False, soft_wrap=True)

    def _key(self, live: Live, says: str) -> str:
        """The next key, the level shown until then."""
        while (key := self.keys()) is None:
            pcm, _ = next(self.source.blocks, (np.zeros(1, np.int16), False))
            live.update(_meter(pcm, says), refresh=True)
        return "\n" if key == "\r" else key.lower()

    def _heard(self, seconds: float) -> Iterator[tuple[Int16, bool]]:
        """Blocks of so many seconds, the last one cut; fewer where the sound ends."""
        left = int(seconds * self.source.rate_hz)
        while left > 0:
            found = next(self.source.blocks, None)
            if found is None:
                return
            yield found[0][:left], found[1]
            left -= len(found[0])

    def _listen(self, live: Live) -> tuple[Int16, bool]:
        """The sound of a try at the spec's rate, and whether samples of it were lost."""
        heard, any_lost = [np.zeros(0, np.int16)], False
        for pcm, lost in self._heard(LISTEN_S):
            any_lost |= lost and len(heard) > 1  # before the first block nobody listened
            heard.append(pcm)
            live.update(_meter(pcm, "[bold reverse] speak now [/]"), refresh=True)
        return self._at_rate(np.concatenate(heard)), any_lost

    def _at_rate(self, pcm: Int16) -> Int16:
        rate_hz = self.source.rate_hz
        if rate_hz == self.spec.sample_rate_hz:
            return pcm
        return to_int16(resample(pcm / 32768, rate_hz, self.spec.sample_rate_hz, self.source.name))

    def _play(self, pcm: Int16, live: Live) -> None:
        """What the microphone hears of it meanwhile is no take."""
        if not len(pcm):
            self._say("nothing to play: press Enter and say the word first")
            return
        try:
            self.player(pcm, self.spec.sample_rate_hz)
        except ConvertError as error:
            self._say(_plain(str(error)))
            return
        for heard, _ in self._heard(len(pcm) / self.spec.sample_rate_hz + ECHO_S):
            live.update(_meter(heard, "playing"), refresh=True)

    def _drop(self, kept: Path | None, last: Int16) -> Int16:
        """What is left to be played."""
        if kept is None:
            self._say("nothing to drop: the last try was not kept")
            return last
        kept.unlink(missing_ok=True)
        self._say(f"dropped {_plain(kept.name)}")
        return last[:0]


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Ctrl-C waits for the end of the block."""
    asked: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: asked.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if asked:
            raise KeyboardInterrupt


def judge(pcm: Int16, spec: FeatureSpec) -> Take:
    """The one take in the sound of a try, or why there is none; clicks and noises beside a word do not matter."""
    heard = find_takes(pcm, spec)
    good = [take for take in heard if not take.fault]
    seconds = len(pcm) / spec.sample_rate_hz
    none = np.zeros(0, np.int16)
    if len(good) > 1:
        return Take(good[0].at_s, seconds, none, f"{len(good)} words were heard; say it once")
    loud = good or sorted((take for take in heard if take.seconds >= CLICK_S), key=lambda take: -take.seconds)
    if not loud:
        return Take(0, 0, none, "nothing heard; speak up, or come closer" if len(pcm) and np.ptp(pcm) > 1 else _muted())
    take = loud[0]
    if take.at_s < EDGE_S or take.at_s + take.seconds > seconds - EDGE_S:
        return Take(take.at_s, take.seconds, none, "cut off; say the word after `speak now`, and at once")
    return take


def _plain(text: str) -> str:
    """For a sentence with markup."""
    return escape(printable(text))


def _muted() -> str:
    return "the microphone gives no sound at all; is it muted, or is another one meant (--device)?"


def _invitation(word: str, there: int, wanted: int, may_drop: bool) -> str:
    keys = "p plays it" + (", d drops it" if may_drop else "") + ", q ends"
    if there >= wanted:
        return f"all {wanted} are there: Enter ends, {keys}"
    return f"take {there + 1} of {wanted}: Enter, then say '{_plain(word)}' ({keys})"


def _meter(pcm: Int16, says: str) -> Group:
    """What is to be done, and a bar of the level in dB of full scale, red where it clips."""
    peak = float(np.abs(pcm.astype(np.int32)).max()) if len(pcm) else 0.0
    rms = float(np.sqrt(np.square(pcm.astype(np.float64)).mean())) if len(pcm) else 0.0
    level_db = 20 * np.log10(max(rms, 1e-3) / 32768)
    colour = "red" if peak >= 32000 else "yellow" if peak >= 20000 else "green"
    bar = ProgressBar(
        METER_DB, float(np.clip(METER_DB + level_db, 0, METER_DB)), 24, complete_style=colour, finished_style=colour
    )
    row = Table.grid(padding=(0, 1))
    row.add_row(bar, f"{max(level_db, -99.0):4.0f} dBFS")
    return Group(Text.from_markup(says), row)


@contextlib.contextmanager
def keyboard() -> Iterator[Keys]:
    """A function that returns the next key that was pressed, None when none was, ENDED where the input has."""
    if sys.platform == "win32":
        import msvcrt

        def typed() -> str | None:
            key = msvcrt.getwch() if msvcrt.kbhit() else None
            if key in ("\x00", "\xe0"):  # an arrow or a function key: its letter is none
                msvcrt.getwch()
                return None
            return key.replace("\r", "\n") if key else None

        yield typed
        return
    import termios
    import tty

    stdin = sys.stdin.fileno()

    def pressed() -> str | None:
        if not select.select([stdin], [], [], 0)[0]:
            return None
        key = os.read(stdin, 1).decode(errors="replace")
        if not key:
            return ENDED
        if key != "\x1b":
            return key
        while select.select([stdin], [], [], 0.01)[0]:  # an arrow or a function key: its letters are none
            if not os.read(stdin, 32):
                return ENDED
        return None

    if not os.isatty(stdin):
        yield pressed
        return
    before = termios.tcgetattr(stdin)
    try:
        tty.setcbreak(stdin)
        yield pressed
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
