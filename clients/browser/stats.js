// The figures over the picture: the engine's own, and what this browser sees of the way here.

import { element } from "./elements.js";

const AGES_KEPT = 250; // ten seconds
const RTP_TICKS_PER_MS = 90;
const OLDEST_MS = 5000; // beyond that a clock was set, not a picture delayed

/** Measures between two calls of `read`: pictures shown per second, and milliseconds spent on the way here. */
export class PlaybackMeter {
  #video;
  #before = null;
  #ages_ms = [];
  #untold_ms = [];
  #dated = null;

  constructor(video) {
    this.#video = video;
    const seen = (now, { rtpTimestamp, expectedDisplayTime }) => {
      this.#note(rtpTimestamp, expectedDisplayTime);
      video.requestVideoFrameCallback(seen);
    };
    video.requestVideoFrameCallback?.(seen);
  }

  /**
   * One picture's RTP time and when it was captured (the engine tells them), which dates all others; by how
   * much the engine's clock is ahead of `performance.now()`. Browsers offer a `captureTime` of their own, but
   * know it only for peers that they send to as well.
   */
  date(picture, ahead_ms) {
    const isKnown = picture && ahead_ms !== undefined;
    this.#dated = isKnown ? { rtp_time: picture.rtp_time, captured_ms: picture.captured_ms - ahead_ms } : null;
  }

  /** The ages of the pictures shown since this was last asked. */
  takeAges() {
    const ages_ms = this.#untold_ms;
    this.#untold_ms = [];
    return ages_ms;
  }

  #note(rtpTime, shown_ms) {
    if (!this.#dated || rtpTime === undefined) return;
    const later_ms = ((rtpTime - this.#dated.rtp_time) | 0) / RTP_TICKS_PER_MS; // | 0: it wraps around at 2^32
    const age_ms = shown_ms - (this.#dated.captured_ms + later_ms);
    if (age_ms < 0 || age_ms > OLDEST_MS) return;
    this.#ages_ms = [...this.#ages_ms.slice(1 - AGES_KEPT), age_ms];
    this.#untold_ms = [...this.#untold_ms.slice(1 - AGES_KEPT), age_ms];
  }

  async read(connection) {
    const now = { time_ms: performance.now(), frames: this.#video.getVideoPlaybackQuality().totalVideoFrames };
    Object.assign(now, await receiverStats(connection));
    const before = this.#before;
    this.#before = now;
    if (!before || now.emitted < before.emitted) return {};
    const emitted = now.emitted - before.emitted;
    return {
      ...now,
      shown_fps: ((now.frames - before.frames) * 1000) / (now.time_ms - before.time_ms),
      buffer_ms: emitted > 0 ? ((now.buffered_s - before.buffered_s) * 1000) / emitted : undefined,
      age_ms: percentiles(this.#ages_ms),
    };
  }
}

function percentiles(values) {
  if (values.length < 10) return {};
  const sorted = values.toSorted((a, b) => a - b);
  const at = (share) => sorted[Math.floor(share * (sorted.length - 1))];
  return { p50: at(0.5), p95: at(0.95), p99: at(0.99) };
}

async function receiverStats(connection) {
  const found = { emitted: 0, buffered_s: 0 };
  if (!connection) return found;
  for (const report of (await connection.getStats()).values()) {
    if (report.type === "inbound-rtp" && report.kind === "video") {
      found.emitted = report.jitterBufferEmittedCount ?? 0;
      found.buffered_s = report.jitterBufferDelay ?? 0;
      found.lost_packets = report.packetsLost;
      found.dropped_here = report.framesDropped;
      found.freezes = report.freezeCount;
      found.size = report.frameWidth && `${report.frameWidth} \u00d7 ${report.frameHeight}`;
    }
    if (report.type === "candidate-pair" && report.nominated && report.currentRoundTripTime !== undefined) {
      found.round_trip_ms = report.currentRoundTripTime * 1000;
    }
  }
  return found;
}

/** Fills the list `root` with the engine's `state` and this browser's `playback`. */
export function showFigures(root, state, playback) {
  const { capture_to_send: whole, glass_to_glass, ...stages } = state.stage_ms ?? {};
  const rows = [
    ["", "p50 / p95 / p99"],
    ["camera to here", spreadText(playback.age_ms)],
    ["capture to send", spreadText(whole)],
    ...Object.entries(stages).map(([stage, spread]) => [`\u00b7 ${stage.replaceAll("_", " ")}`, spreadText(spread)]),
    ["round trip", milliseconds(playback.round_trip_ms)],
    ["jitter buffer", milliseconds(playback.buffer_ms)],
    ["made / shown", `${state.fps.toFixed(1)} / ${perSecond(playback.shown_fps)}`],
    ["dropped there / here", `${state.dropped} / ${playback.dropped_here ?? "\u2013"}`],
    ["freezes", playback.freezes],
    ["packets lost", playback.lost_packets],
    ["picture", playback.size],
  ];
  root.replaceChildren(
    ...rows
      .filter(([, value]) => value !== undefined)
      .flatMap(([name, value]) => [element("dt", {}, name), element("dd", {}, String(value))]),
  );
}

function perSecond(value) {
  return value === undefined ? "\u2013" : `${value.toFixed(1)} fps`;
}

function milliseconds(value) {
  return value === undefined ? undefined : `${value.toFixed(0)} ms`;
}

function spreadText(spread) {
  return spread?.p50 == null ? undefined : `${[spread.p50, spread.p95, spread.p99].map((ms) => ms.toFixed(0)).join(" / ")} ms`;
}
