// A WebRTC connection that was set up over HTTP (WHIP or WHEP) and is set up again when it breaks.

import { Retry } from "./retry.js";
import { ServerError, succeeded } from "./session.js";

const GATHERING_TIMEOUT_MS = 2000;
const SETUP_TIMEOUT_MS = 15000; // a connection that is not up by then never will be
const DISCONNECTED_GRACE_MS = 3000; // a Wi-Fi hiccup mends itself within this

export class Link {
  #url;
  #session;
  #prepare;
  #onState;
  #connection = null;
  #resource = null;
  #deadline = 0;
  #again = new Retry(() => this.open());

  /**
   * `prepare(connection)` adds tracks or transceivers. `onState(state, error)` hears "connecting", "live",
   * "reconnecting" and "closed"; the error is why, where there is one.
   */
  constructor({ session, url, prepare, onState }) {
    this.#session = session;
    this.#url = url;
    this.#prepare = prepare;
    this.#onState = onState;
  }

  /** The RTCPeerConnection in use, or null. */
  get connection() {
    return this.#connection;
  }

  /** The engine's name for its end of this connection, or "". */
  get peer() {
    return this.#resource?.split("/").pop() ?? "";
  }

  async open() {
    const connection = new RTCPeerConnection();
    this.#connection = connection;
    this.#onState(this.#again.hasTried ? "reconnecting" : "connecting");
    connection.addEventListener("connectionstatechange", () => this.#connectionChanged(connection));
    this.#retryUnlessConnected(connection, SETUP_TIMEOUT_MS);
    try {
      const iceServers = await this.#iceServers();
      if (connection !== this.#connection) return; // closed meanwhile
      connection.setConfiguration({ iceServers });
      this.#prepare(connection);
      await this.#negotiate(connection);
    } catch (error) {
      this.#retry(connection, error);
    }
  }

  close() {
    clearTimeout(this.#deadline);
    this.#again.cancel();
    const connection = this.#connection;
    this.#connection = null;
    connection?.close();
    this.#release();
    this.#onState("closed");
  }

  /** The STUN and TURN servers that the engine names; a passing password comes with them. */
  async #iceServers() {
    const response = await fetch(this.#url, { method: "OPTIONS", headers: this.#session.authorization });
    return response.ok ? iceServers(response.headers.get("Link") ?? "") : [];
  }

  async #negotiate(connection) {
    await connection.setLocalDescription();
    await gatheringComplete(connection);
    const response = await succeeded(
      await fetch(this.#url, {
        method: "POST",
        headers: { ...this.#session.authorization, "Content-Type": "application/sdp" },
        body: connection.localDescription.sdp,
      }),
    );
    const location = response.headers.get("Location");
    this.#resource = location && new URL(location, this.#url).href;
    if (connection !== this.#connection) return this.#release(); // closed while the answer was under way
    await connection.setRemoteDescription({ type: "answer", sdp: await response.text() });
  }

  #connectionChanged(connection) {
    if (connection !== this.#connection) return;
    switch (connection.connectionState) {
      case "connected":
        clearTimeout(this.#deadline);
        this.#again.reset();
        this.#onState("live");
        break;
      case "disconnected":
        this.#retryUnlessConnected(connection, DISCONNECTED_GRACE_MS);
        break;
      case "failed":
        this.#retry(connection);
        break;
    }
  }

  #retryUnlessConnected(connection, delayMs) {
    clearTimeout(this.#deadline);
    this.#deadline = setTimeout(() => this.#retry(connection), delayMs);
  }

  #retry(connection, error) {
    if (connection !== this.#connection) return;
    connection.close();
    this.#release();
    clearTimeout(this.#deadline);
    this.#onState("reconnecting", error);
    if (error instanceof ServerError && error.isSessionLost) return; // a new session brings new links
    this.#again.later();
  }

  /** Lets the engine free its end at once rather than after its own time-out. */
  #release() {
    if (!this.#resource) return;
    const headers = this.#session.authorization;
    fetch(this.#resource, { method: "DELETE", headers, keepalive: true }).catch(() => {
      // the engine is gone, and its end with it
    });
    this.#resource = null;
  }
}

/** Resolves when all candidates are in the local description, or when waiting longer is no use. */
function gatheringComplete(connection) {
  return new Promise((resolve) => {
    if (connection.iceGatheringState === "complete") return resolve();
    const timer = setTimeout(resolve, GATHERING_TIMEOUT_MS);
    connection.addEventListener("icegatheringstatechange", () => {
      if (connection.iceGatheringState !== "complete") return;
      clearTimeout(timer);
      resolve();
    });
  });
}

/** The servers of a Link header, as RTCPeerConnection takes them (RFC 9725, section 4.6). */
export function iceServers(link) {
  return [...link.matchAll(/<([^>]+)>([^<]*)/g)].flatMap(([, urls, rest]) => {
    const said = Object.fromEntries([...rest.matchAll(/([\w-]+)="([^"]*)"/g)].map(([, key, value]) => [key, value]));
    if (said.rel !== "ice-server") return [];
    return said.username ? { urls, username: said.username, credential: said.credential } : { urls };
  });
}
