// libdatachannel (the library under OBS's WHIP output) publishes ready-made RTP by WHIP.
// node_publisher.mjs PACKETS.json URL TOKEN: prints {"connected": true}; DELETEs and ends with its standard input.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

const require = createRequire(join(process.env.NODE_PATH, "x.js"));
const rtc = require("node-datachannel");
const [packetsPath, url, token] = process.argv.slice(2);
const packets = JSON.parse(readFileSync(packetsPath)).map((entry) => ({
  ...entry,
  packet: Buffer.from(entry.packet, "base64"),
}));
const LOOP_MS = 1000;
const CLOCK_RATE = { video: 90, audio: 48 }; // per millisecond
const report = (values) => console.log(JSON.stringify(values));

const connection = new rtc.PeerConnection("publisher", { iceServers: [], bindAddress: "127.0.0.1" });
const video = new rtc.Video("0", "SendOnly");
video.addVP8Codec(96);
video.addSSRC(1234, "publisher", "stream", "video");
const audio = new rtc.Audio("1", "SendOnly");
audio.addOpusCodec(111);
audio.addSSRC(1235, "publisher", "stream", "audio");
const tracks = { video: connection.addTrack(video), audio: connection.addTrack(audio) };

const perLoop = { video: packets.filter((p) => p.kind === "video").length, audio: packets.filter((p) => p.kind === "audio").length };

function send({ kind, packet }, loop) {
  const moved = Buffer.from(packet);
  moved.writeUInt16BE((moved.readUInt16BE(2) + loop * perLoop[kind]) & 0xffff, 2);
  moved.writeUInt32BE((moved.readUInt32BE(4) + loop * LOOP_MS * CLOCK_RATE[kind]) >>> 0, 4);
  if (tracks[kind].isOpen()) tracks[kind].sendMessageBinary(moved);
}

function play() {
  const start = Date.now();
  let next = 0;
  setInterval(() => {
    const now = Date.now() - start;
    for (;;) {
      const loop = Math.floor(next / packets.length);
      const entry = packets[next % packets.length];
      if (loop * LOOP_MS + entry.at_ms > now) break;
      send(entry, loop);
      next += 1;
    }
  }, 5);
}

let location;
const headers = { "Content-Type": "application/sdp", Authorization: `Bearer ${token}` };

connection.onStateChange((state) => {
  if (state === "connected") {
    report({ connected: true });
    play();
  }
});
connection.onGatheringStateChange(async (state) => {
  if (state !== "complete") return;
  const response = await fetch(url, { method: "POST", headers, body: connection.localDescription().sdp });
  report({ posted: response.status });
  location = new URL(response.headers.get("location"), url);
  connection.setRemoteDescription(await response.text(), "answer");
});
connection.setLocalDescription();

process.stdin.resume();
process.stdin.on("end", async () => {
  const response = location && (await fetch(location, { method: "DELETE", headers }));
  report({ deleted: response?.status });
  connection.close();
  rtc.cleanup();
  process.exit(0);
});
