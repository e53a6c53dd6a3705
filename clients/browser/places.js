// Further sources and sinks: what there is, what is wrong with it, and forms to add and remove it.

import { element } from "./elements.js";

const PATH = "Path on the server";
const DEVICE = { name: "device", title: "Device", optional: true };

/** Kinds of source by what `PUT sources/{name}` calls them; `isLocal`: they use the server's machine. */
export const SOURCE_KINDS = {
  tts: {
    title: "Speech program",
    fields: [{ name: "sample_rate", title: "Samples per second", type: "number", min: 8000, max: 48000, value: 24000 }],
  },
  file: { title: "Video or sound file", isLocal: true, fields: [{ name: "path", title: PATH, placeholder: "/home/me/talk.mp4" }] },
  still: { title: "Photo", isLocal: true, fields: [{ name: "path", title: PATH, placeholder: "/home/me/me.jpg" }] },
  url: { title: "Network stream", isLocal: true, fields: [{ name: "url", title: "Address", placeholder: "rtsp://camera/live" }] },
  webcam: { title: "Webcam of the server", isLocal: true, fields: [{ ...DEVICE, placeholder: "the first, or /dev/video0" }] },
  microphone: { title: "Microphone of the server", isLocal: true, fields: [{ ...DEVICE, placeholder: "the default, or part of its name" }] },
};

/** Kinds of sink by what `POST sinks` calls them. */
export const SINK_KINDS = {
  rtmp: { title: "Broadcast (RTMP)", isLocal: true, fields: [{ name: "url", title: "Address with key", placeholder: "rtmp://server/live/key" }] },
  srt: { title: "Broadcast (SRT)", isLocal: true, fields: [{ name: "url", title: "Address", placeholder: "srt://server:9000" }] },
  whip: {
    title: "Media server (WHIP)",
    isLocal: true,
    fields: [
      { name: "url", title: "Address", placeholder: "https://server/whip/room" },
      { name: "token", title: "Bearer token", optional: true, type: "password" },
    ],
  },
  file: {
    title: "Recording on the server",
    isLocal: true,
    fields: [
      { name: "path", title: PATH, placeholder: "/home/me/avatar.mp4" },
      { name: "alpha", title: "Keep transparency (.mov, .webm)", type: "checkbox" },
    ],
  },
  virtual_camera: { title: "Virtual camera", isLocal: true, fields: [{ ...DEVICE, placeholder: "the first" }] },
  virtual_microphone: { title: "Virtual microphone", isLocal: true, fields: [{ name: "device", title: "Device", placeholder: "part of its name" }] },
};

/** A list of what is there and, below it, the form for one more. */
export class Places {
  #root;
  #kinds;
  #isNamed;
  #onAdd;
  #onRemove;
  #shown = "";

  /**
   * `root` gets a list and a form. `isNamed`: each needs a name of a person's choice. `onAdd(description, name)`
   * and `onRemove(id)` return promises; what they reject with is told below the form.
   */
  constructor(root, { kinds, isNamed = false, onAdd, onRemove }) {
    this.#root = root;
    this.#kinds = kinds;
    this.#isNamed = isNamed;
    this.#onAdd = onAdd;
    this.#onRemove = onRemove;
  }

  /** Offers the kinds that the server allows. */
  offer(allowsLocal) {
    const offered = Object.entries(this.#kinds).filter(([, { isLocal }]) => allowsLocal || !isLocal);
    const closed = "Files, devices and addresses are open to this page where the server runs with --allow-local-sources.";
    this.#shown = "";
    this.#root.replaceChildren(element("ul", { className: "places" }));
    if (offered.length > 0) this.#root.append(this.#form(offered));
    if (!allowsLocal) this.#root.append(element("p", { className: "quiet" }, closed));
  }

  /** `items`: [{id, title, note, problem}]. */
  show(items) {
    const list = this.#root.querySelector(".places");
    const now = JSON.stringify(items);
    if (!list || now === this.#shown) return; // it is not made anew under a person's finger
    this.#shown = now;
    list.replaceChildren(...items.map((item) => this.#item(item)));
  }

  #item({ id, title, note, problem }) {
    const remove = element("button", { type: "button", className: "remove", title: `Remove ${title}` }, "\u2715");
    remove.ariaLabel = `Remove ${title}`;
    remove.addEventListener("click", () => this.#attempt(() => this.#onRemove(id)));
    const words = element("div", {}, element("b", {}, title), " ", element("span", { className: "quiet" }, note));
    if (problem) words.append(element("p", { className: "problem" }, problem));
    return element("li", {}, words, remove);
  }

  #form(offered) {
    const kind = element("select", { name: "kind", ariaLabel: "Kind" });
    kind.append(...offered.map(([value, { title }]) => element("option", { value }, title)));
    const fields = element("div", { className: "fields" });
    const showFields = () => fields.replaceChildren(...this.#kinds[kind.value].fields.map(field));
    kind.addEventListener("change", showFields);
    showFields();
    const name = field({ name: "name", title: "Name", placeholder: "door", pattern: "[A-Za-z0-9][A-Za-z0-9_.\\-]{0,31}" });
    const add = element("button", { type: "submit" }, "Add");
    const form = element("form", {}, kind, ...(this.#isNamed ? [name] : []), fields, add);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      add.disabled = true;
      await this.#attempt(async () => {
        await this.#onAdd(described(kind.value, this.#kinds[kind.value].fields, form), form.elements.name?.value);
        form.closest("details").open = false;
        for (const input of form.querySelectorAll("input")) input.value = input.defaultValue;
      });
      add.disabled = false;
    });
    const problem = element("p", { className: "problem", role: "alert" });
    return element("details", {}, element("summary", {}, "Add one"), form, problem);
  }

  async #attempt(act) {
    const problem = this.#root.querySelector("details > .problem");
    try {
      await act();
      problem.textContent = "";
    } catch (error) {
      problem.textContent = error.message;
      problem.parentElement.open = true;
    }
  }
}

function field({ name, title, type = "text", optional = false, value = "", ...rest }) {
  const required = !optional && type !== "checkbox";
  const input = element("input", { name, type, required, autocomplete: "off", spellcheck: false, ...rest });
  input.defaultValue = value;
  return element("label", { className: type }, element("span", {}, title), input);
}

/** The JSON that the engine takes; what was left empty is left out. */
function described(kind, fields, form) {
  const description = { kind };
  for (const { name, type } of fields) {
    const input = form.elements[name];
    if (type === "checkbox") description[name] = input.checked;
    else if (input.value !== "") description[name] = type === "number" ? Number(input.value) : input.value;
  }
  return description;
}

/** Fills both lists by what the engine says; `session` knows where speech programs talk to. */
export function showPlaces(sources, sinks, state, session) {
  const described = Object.entries(state.sources).filter(([name]) => !["camera", "clip"].includes(name));
  sources.show(
    described.map(([name, { kind, live, problem }]) => ({
      id: name,
      title: name,
      note: kind === "tts" ? `speaks what comes to ${session.speechUrl(name)}` : `${titleOf(SOURCE_KINDS, kind)}${live ? "" : ", nothing comes"}`,
      problem,
    })),
  );
  sinks.show(
    Object.entries(state.sinks).map(([id, { kind, label, problem }]) => ({
      id,
      title: titleOf(SINK_KINDS, kind),
      note: label,
      problem,
    })),
  );
}

function titleOf(kinds, kind) {
  return kinds[kind]?.title ?? kind;
}
