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

export class Session {
  static async open() {
    const response = await succeeded(await fetch("sessions", { method: "POST" }));
    const { id, token } = await response.json();
    return new Session(id, token);
  }

  constructor(id, token) {
    this.url = new URL(`sessions/${id}`, document.baseURI).href;
    this.token = token;
  }

  get authorization() {
    return { Authorization: `Bearer ${this.token}` };
  }

  async state() {
    const response = await fetch(this.url, { headers: this.authorization, cache: "no-store" });
    return (await succeeded(response)).json();
  }

  /** Connects sockets: any of identity, pose, expression and mouth. */
  async route(sockets) {
    const headers = { ...this.authorization, "Content-Type": "application/json" };
    await succeeded(await fetch(this.url, { method: "PATCH", headers, body: JSON.stringify(sockets) }));
  }

  /** Takes on the face of the person in these photos. */
  async uploadIdentity(photos) {
    const body = new FormData();
    for (const photo of photos) body.append("photo", photo);
    await succeeded(await fetch(`${this.url}/identity`, { method: "POST", headers: this.authorization, body }));
  }

  /** Ends the session; `keepalive` lets the request outlive the page. */
  close() {
    return fetch(this.url, { method: "DELETE", headers: this.authorization, keepalive: true });
  }
}
