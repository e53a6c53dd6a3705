// The figures over the picture: the engine's own, and what this browser sees of the way here.

/** Measures between two calls of `read`: pictures shown per second, and milliseconds spent on the way here. */
export class PlaybackMeter {
  #video;
  #before = null;

  constructor(video) {
    this.#video = video;
  }

  async read(connection) {
    const now = { time_ms: performance.now(), frames: this.#video.getVideoPlaybackQuality().totalVideoFrames };
    Object.assign(now, await receiverStats(connection));
    const before = this.#before;
    this.#before = now;
    if (!before || now.emitted < before.emitted) return {};
    const emitted = now.emitted - before.emitted;
    return {
      shown_fps: ((now.frames - before.frames) * 1000) / (now.time_ms - before.time_ms),
      buffer_ms: emitted > 0 ? ((now.buffered_s - before.buffered_s) * 1000) / emitted : undefined,
      round_trip_ms: now.round_trip_ms,
      lost_packets: now.lost_packets,
    };
  }
}

async function receiverStats(connection) {
  const found = { emitted: 0, buffered_s: 0 };
  if (!connection) return found;
  for (const report of (await connection.getStats()).values()) {
    if (report.type === "inbound-rtp" && report.kind === "video") {
      found.emitted = report.jitterBufferEmittedCount ?? 0;
      found.buffered_s = report.jitterBufferDelay ?? 0;
      found.lost_packets = report.packetsLost;
    }
    if (report.type === "candidate-pair" && report.nominated && report.currentRoundTripTime !== undefined) {
      found.round_trip_ms = report.currentRoundTripTime * 1000;
    }
  }
  return found;
}

/** Fills the list `root` with the engine's `state` and this browser's `playback`. */
export function showFigures(root, state, playback) {
  const rows = [
    ["engine", perSecond(state.fps)],
    ["shown here", perSecond(playback.shown_fps)],
    ["dropped", state.dropped],
    ["stage", "p50 / p95"],
    ...Object.entries(state.stage_ms ?? {}).map(([stage, spread]) => [stage.replaceAll("_", " "), spreadText(spread)]),
    ["round trip", milliseconds(playback.round_trip_ms)],
    ["buffer here", milliseconds(playback.buffer_ms)],
    ["packets lost", playback.lost_packets],
  ];
  root.replaceChildren(
    ...rows
      .filter(([, value]) => value !== undefined)
      .flatMap(([name, value]) => [described("dt", name), described("dd", value)]),
  );
}

function described(tag, text) {
  const element = document.createElement(tag);
  element.textContent = text;
  return element;
}

function perSecond(value) {
  return value === undefined ? undefined : `${value.toFixed(1)} fps`;
}

function milliseconds(value) {
  return value === undefined ? undefined : `${value.toFixed(0)} ms`;
}

function spreadText({ p50, p95 }) {
  return p50 == null ? undefined : `${p50.toFixed(1)} / ${p95.toFixed(1)} ms`;
}
