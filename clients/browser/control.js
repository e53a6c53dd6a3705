// The session's state, told by the engine as it changes, and the changes that a person makes to it.

import { Retry } from "./retry.js";
import { ServerError } from "./session.js";

const CLOCKS_KEPT = 20;
const SILENCE_MS = 6000; // the state comes five times a second: nobody is there any more

/** The control WebSocket of one session, opened again when it breaks for as long as the session lives. */
export class Control {
  #session;
  #onState;
  #onConnection;
  #onLost;
  #socket = null;
  #state = {};
  #waiting = new Map(); // changes under way or yet to be sent: id -> {message, resolve, reject}
  #lastId = 0;
  #clocks = []; // {wait_ms, ahead_ms} of the last questions about the engine's clock
  #silence = 0;
  #retry = new Retry(() => this.#reopen());

  /**
   * `onState(state)` hears of every new state, `onConnection(state)` whether the connection is "live",
   * "reconnecting" or "offline" (nobody answers), and `onLost()` that the engine knows the session no longer.
   */
  constructor(session, { onState, onConnection, onLost }) {
    this.#session = session;
    this.#onState = onState;
    this.#onConnection = onConnection;
    this.#onLost = onLost;
  }

  /** A change is under way: the states that come meanwhile may be older than it. */
  get isChanging() {
    return this.#waiting.size > 0;
  }

  open() {
    const socket = new WebSocket(this.#session.controlUrl);
    this.#socket = socket;
    socket.addEventListener("open", () => this.#opened());
    socket.addEventListener("message", ({ data }) => socket === this.#socket && this.#hear(JSON.parse(data)));
    socket.addEventListener("close", () => socket === this.#socket && this.#broken());
    this.#expectWord();
  }

  /** Makes changes, the JSON of PATCH; what is said while the connection is down is sent when it is back. */
  change(changes) {
    const id = ++this.#lastId;
    return new Promise((resolve, reject) => {
      const message = JSON.stringify({ ...changes, id });
      this.#waiting.set(id, { message, resolve, reject });
      if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(message);
    });
  }

  /** Tells how old the pictures were that were seen, and compares the clocks by the way. */
  async tellSeen(seen_ms) {
    const asked_ms = performance.now();
    const { now_ms } = await this.change({ seen_ms });
    const wait_ms = performance.now() - asked_ms;
    const ahead_ms = now_ms - (asked_ms + wait_ms / 2);
    this.#clocks = [...this.#clocks.slice(1 - CLOCKS_KEPT), { wait_ms, ahead_ms }];
  }

  /** By how much the engine's clock is ahead of `performance.now()`; the quickest answer is the best. */
  get engineAhead_ms() {
    return this.#clocks.toSorted((a, b) => a.wait_ms - b.wait_ms)[0]?.ahead_ms;
  }

  close() {
    this.#retry.cancel();
    clearTimeout(this.#silence);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    for (const { reject } of this.#waiting.values()) reject(new Error("The session ended before that was done."));
    this.#waiting.clear();
  }

  #opened() {
    this.#retry.reset();
    this.#onConnection("live");
    for (const { message } of this.#waiting.values()) this.#socket.send(message);
  }

  #hear({ id, state, error }) {
    this.#expectWord();
    if (state) this.#state = { ...this.#state, ...state }; // what has not changed may be left out
    const answered = this.#waiting.get(id);
    this.#waiting.delete(id);
    if (error) answered?.reject(new Error(error));
    else answered?.resolve(this.#state);
    if (state) this.#onState(this.#state);
  }

  #expectWord() {
    clearTimeout(this.#silence);
    this.#silence = setTimeout(() => this.#broken(), SILENCE_MS);
  }

  #broken() {
    clearTimeout(this.#silence);
    const socket = this.#socket;
    this.#socket = null;
    socket?.close();
    this.#onConnection("reconnecting");
    this.#retry.later();
  }

  /** A WebSocket does not say why it was refused: ask for the state first. */
  async #reopen() {
    try {
      await this.#session.state();
    } catch (error) {
      if (error instanceof ServerError && error.isSessionLost) return this.#onLost();
      if (!(error instanceof ServerError)) this.#onConnection("offline");
      return this.#retry.later();
    }
    this.open();
  }
}

/** Makes changes one after the other; of those that come while one is under way only the newest is made. */
export function newestOnly(change) {
  let isUnderWay = false;
  let next = null;
  return async function run(changes) {
    next = changes;
    if (isUnderWay) return;
    isUnderWay = true;
    try {
      while (next) {
        const now = next;
        next = null;
        await change(now);
      }
    } finally {
      isUnderWay = false;
    }
  };
}
