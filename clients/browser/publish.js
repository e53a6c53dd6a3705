// Camera and microphone -> engine (WHIP).

import { Link } from "./link.js";

const VIDEO = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 25 } };
const AUDIO = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };

const REASONS = {
  NotAllowedError: "The browser may not use the camera and microphone: allow them beside the address, then try again.",
  NotFoundError: "No camera and no microphone were found. The built-in driver needs neither.",
  NotReadableError: "The camera or the microphone is in use by another program.",
};

/** A sentence that says what a person can do about an error of `capture`. */
export function captureAdvice(error) {
  return REASONS[error.name] ?? error.message;
}

/** Camera and microphone as one stream, or whichever of the two there is. */
export async function capture() {
  if (!navigator.mediaDevices) {
    throw new Error("Cameras work only over https or on http://localhost and http://127.0.0.1: open the page there.");
  }
  try {
    return await navigator.mediaDevices.getUserMedia({ video: VIDEO, audio: AUDIO });
  } catch (error) {
    if (error.name !== "NotFoundError" && error.name !== "NotReadableError") throw error;
  }
  const parts = [{ video: VIDEO }, { audio: AUDIO }].map((wanted) => navigator.mediaDevices.getUserMedia(wanted));
  const streams = await Promise.allSettled(parts);
  const tracks = streams.flatMap((result) => (result.status === "fulfilled" ? result.value.getTracks() : []));
  if (tracks.length === 0) throw streams[0].reason;
  return new MediaStream(tracks);
}

/** A link that sends both tracks of `stream` as one, so that they stay in step. */
export function publishLink(session, stream, onState) {
  return new Link({
    session,
    url: `${session.url}/sources/camera`,
    prepare(connection) {
      for (const track of stream.getTracks()) {
        connection.addTransceiver(track, { direction: "sendonly", streams: [stream] });
      }
    },
    onState,
  });
}
