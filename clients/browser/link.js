// A WebRTC connection that was set up over HTTP (WHIP or WHEP) and is set up again when it breaks.

import { ServerError, succeeded } from "./session.js";

const GATHERING_TIMEOUT_MS = 2000;
const SETUP_TIMEOUT_MS = 15000; // a connection that is not up by then never will be
const DISCONNECTED_GRACE_MS = 3000; // a Wi-Fi hiccup mends itself within this
const FIRST_DELAY_MS = 500;
const LONGEST_DELAY_MS = 8000;

/** Milliseconds to wait before try number `attempt` (1, 2, ...): doubling, with a quarter of chance. */
export function backoffMs(attempt, random = Math.random) {
  const delay = Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** (attempt - 1));
  return delay * (0.875 + 0.25 * random());
}

export class Link {
  #url;
  #session;
  #prepare;
  #onState;
  #connection = null;
  #resource = null;
  #attempt = 0;
  #timer = 0;

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

  async open() {
    const connection = new RTCPeerConnection({ iceServers: [] });
    this.#connection = connection;
    this.#onState(this.#attempt === 0 ? "connecting" : "reconnecting");
    this.#prepare(connection);
    connection.addEventListener("connectionstatechange", () => this.#connectionChanged(connection));
    this.#retryUnlessConnected(connection, SETUP_TIMEOUT_MS);
    try {
      await this.#negotiate(connection);
    } catch (error) {
      this.#retry(connection, error);
    }
  }

  close() {
    clearTimeout(this.#timer);
    const connection = this.#connection;
    this.#connection = null;
    connection?.close();
    this.#release();
    this.#onState("closed");
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
        clearTimeout(this.#timer);
        this.#attempt = 0;
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
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#retry(connection), delayMs);
  }

  #retry(connection, error) {
    if (connection !== this.#connection) return;
    connection.close();
    this.#release();
    clearTimeout(this.#timer);
    this.#onState("reconnecting", error);
    if (error instanceof ServerError && error.isSessionLost) return; // a new session brings new links
    this.#attempt += 1;
    this.#timer = setTimeout(() => this.open(), backoffMs(this.#attempt));
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
