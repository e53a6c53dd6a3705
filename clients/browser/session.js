// One session of the engine, as HTTP offers it.

export class ServerError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }

  /** The session is unknown: the engine was started anew, or closed it. */
  get isSessionLost() {
    return this.status === 401 || this.status === 404;
  }

  /** All sessions are taken. */
  get isFull() {
    return this.status === 503;
  }
}

/** Throws a ServerError with the engine's own words unless the answer is a success. */
export async function succeeded(response) {
  if (response.ok) return response;
  const text = await response.text();
  let message = text.trim();
  try {
    message = JSON.parse(text).error ?? message;
  } catch {
    // plain text is its own message
  }
  throw new ServerError(response.status, message || `The engine answered ${response.status}.`);
}

export async function identities() {
  const response = await succeeded(await fetch("identities"));
  return (await response.json()).identities;
}

export async function presetNames() {
  const response = await succeeded(await fetch("presets", { cache: "no-store" }));
  return (await response.json()).presets;
}

export async function deletePreset(name) {
  await succeeded(await fetch(`presets/${encodeURIComponent(name)}`, { method: "DELETE" }));
}

export class Session {
  /** A new session that starts with `changes`, the JSON of PATCH. */
  static async open(changes) {
    const headers = { "Content-Type": "application/json" };
    const response = await succeeded(await fetch("sessions", { method: "POST", headers, body: JSON.stringify(changes) }));
    const { id, token, local_sources } = await response.json();
    return new Session(id, token, `${response.url}/`, local_sources); // a full engine sends on to another one
  }

  /** `allowsLocal`: a page may use the files, devices and network of the engine's machine. */
  constructor(id, token, parent = new URL("sessions/", document.baseURI).href, allowsLocal = false) {
    this.id = id;
    this.url = new URL(id, parent).href;
    this.token = token;
    this.allowsLocal = allowsLocal;
  }

  get authorization() {
    return { Authorization: `Bearer ${this.token}` };
  }

  /** Where the WebSocket for control is. A page cannot send a header there, so the token is in the query. */
  get controlUrl() {
    return `${this.url.replace(/^http/, "ws")}/control?token=${encodeURIComponent(this.token)}`;
  }

  /** Where a speech program sends what the source `name` is to say. */
  speechUrl(name) {
    return `${this.url.replace(/^http/, "ws")}/sources/${encodeURIComponent(name)}/pcm`;
  }

  async addSource(name, description) {
    await this.#ask("PUT", `sources/${encodeURIComponent(name)}`, description);
  }

  async removeSource(name) {
    await this.#ask("DELETE", `sources/${encodeURIComponent(name)}`);
  }

  async addSink(description) {
    await this.#ask("POST", "sinks", description);
  }

  async removeSink(id) {
    await this.#ask("DELETE", `sinks/${id}`);
  }

  async #ask(method, path, body) {
    const headers = { ...this.authorization, ...(body && { "Content-Type": "application/json" }) };
    return succeeded(await fetch(`${this.url}/${path}`, { method, headers, body: body && JSON.stringify(body) }));
  }

  async state() {
    const response = await fetch(this.url, { headers: this.authorization, cache: "no-store" });
    return (await succeeded(response)).json();
  }

  /** Takes on the face of the person in these photos. */
  async uploadIdentity(photos) {
    const body = new FormData();
    for (const photo of photos) body.append("photo", photo);
    await succeeded(await fetch(`${this.url}/identity`, { method: "POST", headers: this.authorization, body }));
  }

  /** Keeps what is set now as a preset of the engine's. */
  async savePreset(name) {
    const url = `${this.url}/presets/${encodeURIComponent(name)}`;
    await succeeded(await fetch(url, { method: "PUT", headers: this.authorization }));
  }

  /** Ends the session; `keepalive` lets the request outlive the page. */
  close() {
    return fetch(this.url, { method: "DELETE", headers: this.authorization, keepalive: true });
  }
}
