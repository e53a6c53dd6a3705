// Engine -> avatar video element (WHEP).

import { Link } from "./link.js";

/**
 * A link that plays the avatar's picture and sound, as one stream, in `video`. With the layout "colour-alpha"
 * the picture is twice as wide: the avatar's colours left, its mask right.
 */
export function watchLink(session, video, onState, layout = "") {
  return new Link({
    session,
    url: `${session.url}/watch${layout && `?layout=${layout}`}`,
    prepare(connection) {
      connection.addTransceiver("video", { direction: "recvonly" });
      connection.addTransceiver("audio", { direction: "recvonly" });
      const stream = new MediaStream();
      connection.addEventListener("track", ({ track, streams }) => {
        // the engine puts both tracks into one stream, which is what keeps lips and voice together
        const source = streams[0] ?? stream;
        if (!streams[0]) stream.addTrack(track);
        if (video.srcObject !== source) video.srcObject = source;
      });
    },
    onState,
  });
}
