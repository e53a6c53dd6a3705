// A WebRTC connection that was set up over HTTP (WHIP or WHEP) and is set up again when it breaks.

import { Retry } from "./retry.js";
import { ServerError, succeeded } from "./session.js";

const GATHERING_TIMEOUT_MS = 2000;
const SETUP_TIMEOUT_MS = 15000; // a connection that is not up by then never will be
const OTHER_NETWORK_GRACE_MS = 1500; // ICE takes five times as long to see that the old path is dead
const LISTEN_MS = 1000;
const SILENCE_MS = 4000; // the other side reports every second; ICE gives up on it after ten
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
  #closing = new AbortController();

  /**
   * `prepare(connection)` adds tracks or transceivers. `onState(state, error)` hears "connecting", "live",
   * "reconnecting" and "closed"; the error is why, where there is one.
   */
  constructor({ session, url, prepare, onState }) {
    this.#session = session;
    this.#url = url;
    this.#prepare = prepare;
    this.#onState = onState;
    const { signal } = this.#closing;
    addEventListener("online", () => this.#networkChanged(), { signal });
    navigator.connection?.addEventListener("change", () => this.#networkChanged(), { signal });
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
    this.#closing.abort();
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
        this.#listen(connection);
        break;
      case "disconnected":
        this.#retryUnlessConnected(connection, DISCONNECTED_GRACE_MS);
        break;
      case "failed":
        this.#retry(connection);
        break;
    }
  }

  /** Connects anew when the other side has not been heard for long. */
  async #listen(connection) {
    let heard_ms = performance.now();
    for (let before = 0; connection === this.#connection; ) {
      const bytes = await bytesReceived(connection);
      if (bytes !== before) heard_ms = performance.now();
      if (performance.now() - heard_ms > SILENCE_MS) return this.#retry(connection);
      before = bytes;
      await new Promise((resolve) => setTimeout(resolve, LISTEN_MS));
    }
  }

  /** The device may have another address now. If nothing comes over the old one any more, connect anew. */
  async #networkChanged() {
    const connection = this.#connection;
    if (connection?.connectionState !== "connected" && connection?.connectionState !== "disconnected") return;
    const before = await bytesReceived(connection);
    await new Promise((resolve) => setTimeout(resolve, OTHER_NETWORK_GRACE_MS));
    if (connection === this.#connection && (await bytesReceived(connection)) === before) this.#retry(connection);
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

async function bytesReceived(connection) {
  const transports = [...(await connection.getStats()).values()].filter(({ type }) => type === "transport");
  return transports.reduce((sum, transport) => sum + transport.bytesReceived, 0);
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
