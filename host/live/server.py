"""The page's server, on 127.0.0.1 alone: sound comes in from the browser, what the board makes of it goes out, by one
websocket.

Whoever speaks to it must know the token in the page's address, must have asked for this host by its own name (DNS
rebinding), and a browser must not do so for a foreign page (Origin).
"""

from __future__ import annotations

import asyncio
import json
import os
import queue
import secrets
import socket
import sys
import threading
import time
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import uvicorn
from rich.console import Console
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from converter.commands.html import template
from converter.target import SAMPLE_RATE_HZ
from host.emulator.errors import BoardError
from host.errors import HostError
from host.link.detector import FIRST_WORD
from host.live.listening import Listening, Step
from host.live.takes import NEGATIVES, loudest_second, save_take
from host.measure.tune import rate_of

PAGE = Path(__file__).parent / "page"
FILES = {"live.js": "text/javascript", "mic.js": "text/javascript", "live.css": "text/css"}
KEEP_SECONDS, SILENT_S, BEHIND_S = 60, 3.0, 10.0  # of sound for takes; without sound; of sound the board has not heard
PATIENCE_S = 10.0  # without a record of a board that is to stop
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; connect-src 'self' ws://127.0.0.1:* ws://localhost:*; "
    "img-src data:; frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


class Guard:
    """Refuses what does not come from the page: another Host, a foreign Origin, a wrong token. The ticket, which opens
    the page once, is for the browser's command line, where every user of this computer can read it."""

    def __init__(self, app: ASGIApp, port: int, token: str, ticket: str) -> None:
        self._app, self._token, self._ticket = app, token, ticket
        self._hosts = {f"127.0.0.1:{port}", f"localhost:{port}"}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request or websocket."""
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        origin = headers.get("origin")
        given = parse_qs(scope["query_string"].decode("latin-1"))
        own = headers.get("host") in self._hosts and (
            origin is None or origin in {f"http://{host}" for host in self._hosts}
        )
        if own and _same(given.get("token", [""])[0], self._token):
            await self._app(scope, receive, send)
        elif own and scope["type"] == "http" and self._ticket and _same(given.get("ticket", [""])[0], self._ticket):
            self._ticket = ""
            await RedirectResponse(f"/?token={self._token}", 303, HEADERS)(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: 403
        else:
            why = "Open the address that the command printed: it holds a token, and no other page may use it.\n"
            await PlainTextResponse(why, 403)(scope, receive, send)


def _same(given: str, secret: str) -> bool:
    return secrets.compare_digest(given.encode(), secret.encode())


class Live:
    """One board and the page that feeds it, one page at a time. Sound is played and records are read by two threads of
    their own, as both wait."""

    def __init__(self, listening: Listening, folder: Path) -> None:
        self.listening, self._folder = listening, folder
        self.error: str | None = None  # what the board died of
        self.words = 0
        self.on_death: Callable[[], None] = lambda: None
        board = listening.board
        self._table = board.detector()
        self._labels = (
            listening.model.spec.labels if listening.model and listening.model.spec else board.identity.labels
        )
        now = self._table.thresholds
        self._rows: list[tuple[float | None, tuple[int, ...]]] = [*self._table.rates]
        if not self._rows:  # nobody has counted false accepts
            self._rows = [(None, tuple(value * part // 4 for value in now)) for part in (8, 7, 6, 5, 4, 3, 2, 1)]
        self._send: Callable[[dict[str, Any]], None] | None = None  # to the page, from any thread
        self._pcm = bytearray()
        self._sounds: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._came = 0  # samples that came from the page
        self._behind = 0.0  # seconds of them that were not heard yet
        self._last = 0.0  # when a record came

    # -- the page

    async def page(self, socket: WebSocket) -> None:
        """From its opening to its end."""
        await socket.accept()
        for _ in range(50):  # a page that was reloaded has not quite gone
            if self._send is not None:
                await asyncio.sleep(0.1)
        if self._send is not None or self.error:
            await socket.send_json({"error": self.error or "another page has the board; close it and reload this one"})
            await socket.close()
            return
        loop, out = asyncio.get_running_loop(), asyncio.Queue[dict[str, Any]]()
        self._send = lambda message: _post(loop, out, message)
        sender = asyncio.create_task(_forward(out, socket))
        self._send(self._hello())
        try:
            if self.listening.has_own_microphone:
                self._start()
            while True:
                await self._message(socket)
        except (WebSocketDisconnect, RuntimeError):  # RuntimeError: it was told of an error and is closed
            pass
        finally:
            with suppress(asyncio.CancelledError):  # the server ends, and the board hangs
                await asyncio.to_thread(self._stop)
            self._send = None
            sender.cancel()

    async def _message(self, socket: WebSocket) -> None:
        running = bool(self._threads) and not self.listening.has_own_microphone
        try:
            came = await asyncio.wait_for(socket.receive(), SILENT_S if running else None)
        except asyncio.TimeoutError:
            return await self._halt(f"no sound came from the page for {SILENT_S:g} s; is its tab asleep?")
        if came["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        if sound := came.get("bytes"):
            if running and len(sound) % 2 == 0:
                self._came += len(sound) // 2
                self._sounds.put(sound)
            if running and self._behind > BEHIND_S:
                slow = "this computer runs the virtual board slower than real time; close other programs"
                await self._halt(f"the board is {self._behind:.0f} s behind: {slow}")
        else:
            try:
                await self._command(json.loads(came.get("text") or ""))
            except (HostError, OSError) as error:
                self._tell({"error": str(error)})
            except (ValueError, TypeError, KeyError, IndexError):
                self._tell({"error": "the page sent what is no command; reload it"})

    async def _command(self, asked: dict[str, Any]) -> None:
        if asked["do"] == "start" and not self._threads:
            self._start()
        elif asked["do"] == "stop" and not self.listening.has_own_microphone:
            await self._halt(None)
        elif asked["do"] == "thresholds":
            thresholds = self._rows[int(asked["row"])][1]
            if self._threads:
                self.listening.board.retune(thresholds)
            else:
                await asyncio.to_thread(self.listening.board.set_thresholds, thresholds)
                self._tell(self._detector())
        elif asked["do"] == "save":
            label, seconds = str(asked["label"]), min(max(int(asked["seconds"]), 1), KEEP_SECONDS)
            if label not in (*self._labels[FIRST_WORD:], NEGATIVES):
                raise HostError(f"{label[:40]!r} is none of the model's words")
            pcm = np.frombuffer(bytes(self._pcm[-2 * SAMPLE_RATE_HZ * seconds :]), np.int16)
            if label == NEGATIVES:  # for `trainer negatives`, where a folder's name is a source's
                label = "_".join((NEGATIVES, *self._labels[FIRST_WORD:]))
            file = save_take(self._folder, label, pcm if label not in self._labels else loudest_second(pcm))
            self._tell({"saved": str(file)})

    def _hello(self) -> dict[str, Any]:
        board = self.listening.board
        me, audio = board.identity, board.identity.audio
        how = ", modelled" if board.modelled else ""
        return {
            "board": f"{me.board}, {me.engine} engine, {me.clock_hz / 1e6:g} MHz{how}",
            "model": f"{me.model_name} {me.model_id}",
            "labels": self._labels,
            "outputs": me.outputs,
            "channels": audio.channels if audio else 0,
            "hop_ms": self._hop_seconds * 1000,
            "step_ms": self._hop_seconds * 1000 / self._table.hop_frames,
            "settle_s": self._table.settle_frames * self._hop_seconds / self._table.hop_frames,
            "highest": self._table.highest_sum,
            "own_microphone": self.listening.has_own_microphone,
            "folder": str(self._folder),
            "rows": [{"rate": rate, "thresholds": row} for rate, row in self._rows],
            **self._detector(),
        }

    @property
    def _hop_seconds(self) -> float:
        audio = self.listening.board.identity.audio
        return self._table.hop_frames * audio.step_samples / audio.sample_rate_hz if audio else 0.0

    def _detector(self) -> dict[str, Any]:
        spec = self.listening.board.identity.detector or self._table
        return {"thresholds": spec.thresholds, "rate": rate_of(replace(spec, rates=self._table.rates))}

    def _tell(self, message: dict[str, Any]) -> None:
        send = self._send
        if send is not None:
            send(message)

    # -- the board

    def _start(self) -> None:
        self._pcm.clear()
        self._came, self._behind = 0, 0.0
        self._sounds = queue.SimpleQueue()
        self.listening.begin()
        self._threads = [threading.Thread(target=self._read, daemon=True)]
        if not self.listening.has_own_microphone:
            self._threads.append(threading.Thread(target=self._play, args=(self._sounds,), daemon=True))
        for thread in self._threads:
            thread.start()

    async def _halt(self, why: str | None) -> None:
        await asyncio.to_thread(self._stop)
        self._tell({"stopped": why})

    def _stop(self) -> None:
        if self.listening.has_own_microphone and self._threads:
            self.listening.end()
        with suppress(queue.Empty):  # what a slow board has not heard yet it never will
            while True:
                self._sounds.get_nowait()
        self._sounds.put(None)
        began = time.monotonic()
        for thread in self._threads:  # a board that hangs is told of by _read, and a slow one still sends records
            while thread.is_alive() and not self.error and time.monotonic() - max(began, self._last) < PATIENCE_S:
                thread.join(timeout=0.1)
        if any(thread.is_alive() for thread in self._threads) and not self.error:
            self.error = "the board does not stop listening; start the command again"
            self._tell({"error": self.error, "ended": True})
            self.on_death()
        self._threads = []

    def _play(self, sounds: queue.SimpleQueue[bytes | None]) -> None:
        with suppress(HostError):  # _read is told too
            while (sound := sounds.get()) is not None:
                self._pcm += sound
                del self._pcm[: -2 * SAMPLE_RATE_HZ * KEEP_SECONDS]
                self.listening.play(np.frombuffer(sound, np.int16))
            self.listening.end()

    def _read(self) -> None:
        try:
            for step in self.listening.steps():
                self._last = time.monotonic()
                self._tell(self._step(step))
        except (HostError, BoardError) as error:
            self.error = str(error)
            self._tell({"error": self.error, "ended": True})
            self.on_death()

    def _step(self, step: Step) -> dict[str, Any]:
        heard, clock_hz = step.heard, self.listening.board.identity.clock_hz
        cycles = (heard.pre_cycles, heard.infer_cycles, heard.post_cycles)
        seconds = heard.frame * self._hop_seconds / self._table.hop_frames
        self.words += heard.word is not None
        self._behind = 0.0 if step.features is None else self._came / SAMPLE_RATE_HZ - seconds
        return {
            "step": heard.index,
            "seconds": seconds,
            "us": [count * 1e6 / clock_hz for count in cycles],
            "load": sum(cycles) / clock_hz / self._hop_seconds,
            "scores": heard.scores,
            "sums": step.sums,
            "word": heard.word,
            "features": None if step.features is None else step.features.tolist(),
            "behind": self._behind,
            "lost": heard.lost,
            "count": self.listening.count,
            "different": self.listening.different,
            **self._detector(),
        }


def _post(loop: asyncio.AbstractEventLoop, out: asyncio.Queue[dict[str, Any]], message: dict[str, Any]) -> None:
    with suppress(RuntimeError):  # the loop is closed: nobody looks any more
        loop.call_soon_threadsafe(out.put_nowait, message)


async def _forward(out: asyncio.Queue[dict[str, Any]], socket: WebSocket) -> None:
    with suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await socket.send_json(await out.get())


def app_of(live: Live, port: int, token: str, ticket: str) -> ASGIApp:
    """The whole site."""
    html = template("host.live", "page/live.html.j2", token=token)

    def page(request: Request) -> Response:
        return Response(html, media_type="text/html", headers=HEADERS)

    def file(request: Request) -> Response:
        name = request.path_params["name"]
        if name not in FILES:
            return PlainTextResponse("no such file", 404)
        return Response((PAGE / name).read_bytes(), media_type=FILES[name], headers=HEADERS)

    routes = [Route("/", page), Route("/{name}", file), WebSocketRoute("/board", live.page)]
    return Guard(Starlette(routes=routes), port, token, ticket)


def serve(listening: Listening, folder: Path, http: int, browser: bool, console: Console) -> str:
    """Serves the page until Ctrl-C, and returns what is to be said at the end; HostError when the board dies."""
    live, token, ticket = Live(listening, folder), secrets.token_urlsafe(24), secrets.token_urlsafe(24)
    door = socket.socket()
    try:
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind(("127.0.0.1", http))
        door.listen()
    except OSError as error:
        door.close()
        raise HostError(f"--http {http}: the port cannot be opened ({error.strerror}); choose another") from None
    port = door.getsockname()[1]
    config = uvicorn.Config(
        app_of(live, port, token, ticket),
        log_level="critical",
        lifespan="off",
        ws_max_size=1 << 16,
        timeout_graceful_shutdown=3,
    )
    server = uvicorn.Server(config)

    def die() -> None:
        server.should_exit = True

    live.on_death = lambda: threading.Timer(0.5, die).start()  # when the page has been told
    address = f"http://127.0.0.1:{port}/"
    console.print(f"{address}?token={token}\nCtrl-C ends it", highlight=False, soft_wrap=True)
    shows = sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if browser and shows:  # else it could be one for terminals
        webbrowser.open(f"{address}?ticket={ticket}")
    try:
        server.run(sockets=[door])
    except KeyboardInterrupt:
        live.error = None  # the board may have been stopped by it first
    if live.error:
        raise HostError(live.error)
    return f"{listening.count} inferences, {live.words} words heard, {listening.different} differ from the host's"
