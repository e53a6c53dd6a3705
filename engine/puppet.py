"""The generating thread's side of a performance: from what the drivers said to the finished picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from engine.calibration import Calibrations, Subject
from engine.clock import NS_PER_S, MediaClock
from engine.codes import SOCKETS, Code, Socket
from engine.compositor import BLACK, Compositor
from engine.config import PerformanceConfig
from engine.identity_fade import IdentityFade
from engine.metrics import StageTimes
from engine.motion_budget import pace
from engine.patch_bay import IDLE, PatchBay, Route
from engine.reader import Reading
from engine.shaping import Shaping, shaped
from engine.sinks.sink import AvatarFrame, CutOut
from engine.socket_fade import GENTLE_NS, NATURAL_STEP, SocketFade, Spoken
from gcavt import code_space

if TYPE_CHECKING:
    from engine.puppeteer import IdentityState, Puppeteer

GAIN_STEP: Final = 0.05
"""Per picture: a slider may jump, the face may not."""


@dataclass(frozen=True)
class CalibrationCommand:
    """Each is carried out once, told apart by its serial number."""

    serial: int = 0
    subject: Subject | None = None
    """What to listen to; None: forget what was heard."""


class Puppet:
    """Shapes, mixes and shows. Used in the generating thread, but for what says otherwise."""

    def __init__(self, config: PerformanceConfig, clock: MediaClock, stages: StageTimes) -> None:
        self.compositor = Compositor(BLACK)
        """May be replaced from another thread, as may `calibration`."""
        self.calibration = CalibrationCommand()
        self.effective: Mapping[Socket, Route | None] = {}
        """What feeds each socket now. May be read from another thread, as may the next two."""
        self.is_calibrating = False
        self.is_calibrated = False
        self._stages = stages
        self._start_ns = clock.now_ns()
        self._gains: dict[Socket, float] = {}
        self._calibrations = Calibrations()
        self._identity_fade = IdentityFade()
        self._fades = {
            socket: SocketFade(NATURAL_STEP[socket], hold_ms=config.hold_ms, ease_ms=config.ease_ms)
            for socket in SOCKETS
        }
        self._switching_ns: int | None = None
        """When something was last on its way from one thing to another."""
        self._pace = 1.0

    def render(self, puppeteer: Puppeteer, identity: IdentityState, reading: Reading) -> AvatarFrame:
        """Mix the codes, generate, and lay the picture out for the encoders."""
        codes = self.mix(puppeteer, identity, reading)
        with self._stages.measure("generate"):
            face = self._identity_fade.step(
                identity, reading.tick_ns, reading.bay.crossfade_ms, pace=self._pace
            )
            cut_out = CutOut(*puppeteer.generate(face, codes["pose"], codes["expression"], codes["mouth"]))
        with self._stages.measure("deliver"):
            image_HWC = self.compositor.compose(cut_out.image_HWC, cut_out.mask_HW)
            yuv420p = np.asarray(cv2.cvtColor(image_HWC, cv2.COLOR_RGB2YUV_I420), np.uint8)
        return AvatarFrame(yuv420p, reading.capture_time_ns, reading.tick_ns, cut_out)

    def mix(self, puppeteer: Puppeteer, identity: IdentityState, reading: Reading) -> dict[Socket, Code]:
        """The codes to show for this reading."""
        self._calibrate(reading)
        time_s = (reading.tick_ns - self._start_ns) / NS_PER_S
        idle = puppeteer.idle_codes(time_s, identity)
        idle_take = None if puppeteer.has_exact_codes else identity.name
        rest = _rest(identity)
        changes_identity = self._identity_fade.is_under_way(identity)
        is_switching = changes_identity
        for socket, fade in self._fades.items():
            is_switching |= self._step_gain(socket, reading.bay)
            spoken = {
                route: self._shaped(socket, route, said, rest.get(socket), reading, puppeteer.has_exact_codes)
                for route, said in reading.spoken[socket].items()
            }
            fade.aim(
                reading.bay.chain(socket),
                spoken,
                Spoken(idle.of(socket), idle_take),
                reading.tick_ns,
                reading.bay.crossfade_ms,
            )
            is_switching |= fade.is_fading
        now_ns = reading.tick_ns
        if is_switching:
            self._switching_ns = now_ns
        is_gentle = self._switching_ns is not None and now_ns - self._switching_ns < GENTLE_NS
        strides = {socket: fade.stride(now_ns, is_gentle=is_gentle) for socket, fade in self._fades.items()}
        self._pace = pace(strides, changes_identity=changes_identity) if is_gentle else 1.0
        codes = {socket: fade.move(now_ns, pace=self._pace) for socket, fade in self._fades.items()}
        self.effective = {socket: fade.effective for socket, fade in self._fades.items()}
        return codes

    def _calibrate(self, reading: Reading) -> None:
        """Carry out a new command, and let every recording hear what was said."""
        bay = reading.bay
        routes = {route for route in map(bay.route_of, SOCKETS) if route != IDLE and not route.is_sound}
        self._calibrations.command(self.calibration.serial, self.calibration.subject, routes)
        for socket in SOCKETS:
            for route in routes & reading.spoken[socket].keys():
                said = reading.spoken[socket][route]
                self._calibrations.of(route).observe(socket, said.code, reading.tick_ns)
                if socket == "pose" and bay.pose_mode == "relative":
                    self._calibrations.of(route).follow_first_second(said, reading.tick_ns)
        self.is_calibrating = any(self._calibrations.of(route).is_running for route in routes)
        self.is_calibrated = bool(routes) and all(self._calibrations.of(route).neutral for route in routes)

    def _step_gain(self, socket: Socket, bay: PatchBay) -> bool:
        """Whether it had to change."""
        wanted = bay.gains.of(socket)
        gain = self._gains.get(socket, wanted)
        self._gains[socket] = gain + float(np.clip(wanted - gain, -GAIN_STEP, GAIN_STEP))
        return gain != wanted

    def _shaped(
        self, socket: Socket, route: Route, said: Spoken, rest: Code | None, reading: Reading, is_exact: bool
    ) -> Spoken:
        calibration = self._calibrations.of(route)
        is_relative = socket == "pose" and reading.bay.pose_mode == "relative"
        shaping = Shaping(
            gain=self._gains[socket],
            neutral=calibration.neutral.get(socket),
            reach=calibration.reach.get(socket),
            rest=rest,
            pose_mode=reading.bay.pose_mode,
        )
        code = shaped(socket, said.code, shaping, is_exact=is_exact)
        about = rest.tobytes() if is_relative and rest is not None else b""
        return Spoken(code, (said.take, calibration.version, is_relative, about))


def _rest(identity: IdentityState) -> dict[Socket, Code]:
    """What is known of how the avatar rests."""
    rest = {} if identity.rest is None else {socket: identity.rest.of(socket) for socket in SOCKETS}
    if "reference_pose" in identity.tensors:
        rest["pose"] = code_space.pose_code(identity.tensors["reference_pose"][0])
    return rest
