// Camera and microphone -> engine (WHIP).

import { Link } from "./link.js";

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
