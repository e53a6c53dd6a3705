// The patch bay: which source feeds which socket, and how. Shows what the engine says, asks it for the rest.

import { $, element } from "./elements.js";

export const SOCKETS = ["pose", "expression", "mouth"];
const TITLES = { pose: "Pose", expression: "Expression", mouth: "Mouth" };
const SOUND = ":audio";
const ALWAYS = ["camera", "microphone", "clip", "idle"];

/** What feeds all three, under a name. */
export const SCENES = {
  me: { pose: "camera", expression: "camera", mouth: "camera" },
  voice: { pose: "clip", expression: "idle", mouth: "microphone" },
  clip: { pose: "clip", expression: "clip", mouth: "clip" },
  idle: { pose: "idle", expression: "idle", mouth: "idle" },
};

/** The grid of sources (rows) and sockets (columns). */
export class PatchGrid {
  #root;
  #note;
  #onPick;
  #routes = [];

  /** `onPick({socket: source})` hears what a person picks; `note` is told where another source stands in. */
  constructor(root, note, onPick) {
    this.#root = root;
    this.#note = note;
    this.#onPick = onPick;
    this.#build(ALWAYS);
  }

  show({ sockets, effective, sources }) {
    const routes = offered(sources, Object.values(sockets));
    if (routes.join() !== this.#routes.join()) this.#build(routes);
    for (const route of routes) {
      this.#root.querySelector(`[data-route="${route}"]`).dataset.presence = presence(route, sources);
    }
    for (const input of this.#root.querySelectorAll("input")) {
      input.checked = input.value === sockets[input.name];
      input.parentElement.classList.toggle("stands-in", standsIn(input, sockets, effective));
      input.parentElement.classList.toggle("away", input.checked && effective[input.name] !== input.value);
    }
    const away = SOCKETS.filter((socket) => effective[socket] !== sockets[socket]);
    const text = away.map((socket) => `${TITLES[socket]}: ${label(effective[socket]).toLowerCase()} stands in.`).join(" ");
    if (this.#note.textContent !== text) this.#note.textContent = text;
  }

  /** The source after the one that feeds `socket` now. */
  next(socket) {
    const inputs = [...this.#root.querySelectorAll(`input[name="${socket}"]`)];
    const at = inputs.findIndex(({ checked }) => checked);
    return inputs[(at + 1) % inputs.length].value;
  }

  #build(routes) {
    this.#routes = routes;
    const heads = SOCKETS.map((socket) => element("th", { scope: "col" }, TITLES[socket]));
    const corner = element("td", {});
    this.#root.replaceChildren(
      element("thead", {}, element("tr", {}, corner, ...heads)),
      element("tbody", {}, ...routes.map((route) => this.#row(route))),
    );
  }

  #row(route) {
    const head = element("th", { scope: "row" }, label(route));
    head.dataset.route = route;
    const cells = SOCKETS.map((socket) => element("td", {}, ...this.#jack(socket, route)));
    return element("tr", {}, head, ...cells);
  }

  #jack(socket, route) {
    if (isSound(route) && socket !== "mouth") return [];
    const input = element("input", { type: "radio", name: socket, value: route });
    input.ariaLabel = `${TITLES[socket]} from ${label(route)}`;
    input.addEventListener("change", () => this.#onPick({ [socket]: route }));
    return [element("label", { className: "jack" }, input, element("span", {}))];
  }
}

function isSound(route) {
  return route === "microphone" || route.endsWith(SOUND);
}

/** All routes there are now, those that are always there first. */
function offered(sources, chosen) {
  const pictures = Object.keys(sources).filter((name) => sources[name].video);
  const sounds = Object.keys(sources).filter((name) => sources[name].audio && name !== "camera");
  return [...new Set([...ALWAYS, ...pictures, ...sounds.map((name) => name + SOUND), ...chosen])];
}

function label(route) {
  if (route === "microphone") return "My voice";
  const name = route.endsWith(SOUND) ? `${route.slice(0, -SOUND.length)}\u2019s sound` : route;
  return name[0].toUpperCase() + name.slice(1);
}

/** "live", "quiet" (connected, but nothing comes) or "absent". */
function presence(route, sources) {
  if (route === "idle") return "live";
  const kind = isSound(route) ? "audio" : "video";
  const source = sources[route === "microphone" ? "camera" : route.replace(SOUND, "")];
  if (!source?.[kind]) return "absent";
  return source.live ? "live" : "quiet";
}

function standsIn({ name, value }, sockets, effective) {
  return effective[name] === value && sockets[name] !== value;
}

/** One slider per socket for how strongly its motion is shown; `onGains` hears all: {socket: gain}. */
export class GainSliders {
  #inputs;

  constructor(root, onGains) {
    const changed = () => onGains(Object.fromEntries(this.#inputs.map(({ dataset, value }) => [dataset.socket, Number(value)])));
    const rows = SOCKETS.map((socket) => gainRow(socket, changed));
    root.replaceChildren(...rows);
    this.#inputs = rows.map((row) => row.querySelector("input"));
  }

  show(gains) {
    for (const input of this.#inputs) {
      input.value = gains[input.dataset.socket];
      showGain(input);
    }
  }
}

function gainRow(socket, onChange) {
  const input = element("input", { type: "range", min: 0, max: 2, step: 0.05, value: 1 });
  input.dataset.socket = socket;
  input.id = `gain-${socket}`;
  const reset = element("button", { type: "button", className: "value", title: "Back to 100 %" });
  const changed = () => {
    showGain(input);
    onChange();
  };
  input.addEventListener("input", changed);
  reset.addEventListener("click", () => {
    input.value = 1;
    changed();
  });
  const row = element("div", { className: "slider" }, element("label", { htmlFor: input.id }, TITLES[socket]), input, reset);
  showGain(input);
  return row;
}

function showGain(input) {
  const percent = `${Math.round(100 * input.value)} %`;
  input.setAttribute("aria-valuetext", percent);
  if (input.nextElementSibling) input.nextElementSibling.textContent = percent;
  input.style.setProperty("--share", input.value / input.max);
}

/** Absolute or relative pose, the neutral face, the cross-fade. `change(changes)` takes the JSON of PATCH. */
export function connectMotionSettings(change) {
  for (const input of document.querySelectorAll("input[name=pose_mode]")) {
    input.addEventListener("change", () => change({ pose_mode: input.value }));
  }
  $("calibrate").addEventListener("click", () => change({ calibrate: true }));
  $("forget").addEventListener("click", () => change({ calibrate: false }));
  $("crossfade").addEventListener("change", () => change({ crossfade_ms: Number($("crossfade").value) }));
  $("crossfade").addEventListener("input", showCrossfade);
}

export function showMotionSettings({ sockets, pose_mode, calibrated, calibrating, crossfade_ms }) {
  for (const input of document.querySelectorAll("input[name=pose_mode]")) input.checked = input.value === pose_mode;
  $("calibrate").textContent = calibrating ? "Hold still\u2026" : "Set my neutral face";
  $("calibrate").disabled = calibrating;
  $("forget").hidden = !calibrated || calibrating;
  $("calibrate-hint").hidden = calibrated || calibrating || !Object.values(sockets).includes("camera");
  if ($("crossfade").matches(":active")) return; // it is being moved
  $("crossfade").value = crossfade_ms;
  showCrossfade();
}

function showCrossfade() {
  const { value, max } = $("crossfade");
  $("crossfade").style.setProperty("--share", value / max);
  $("crossfade").setAttribute("aria-valuetext", `${value} ms`);
  $("crossfade-value").textContent = `${value} ms`;
}
