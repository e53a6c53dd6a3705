// The patch bay: which source feeds which socket. Shows what the engine says, asks it for what a person picks.

export const SOCKETS = [
  { name: "pose", title: "Pose", note: "turn and place of the head", sources: ["camera", "clip", "idle"] },
  { name: "expression", title: "Expression", note: "brows, eyes, smile", sources: ["camera", "clip", "idle"] },
  { name: "mouth", title: "Mouth", note: "speech", sources: ["camera", "microphone", "clip", "idle"] },
];

const LABELS = { camera: "Camera", microphone: "Voice", clip: "Clip", idle: "Idle" };

export const PRESETS = {
  me: { pose: "camera", expression: "camera", mouth: "camera" },
  voice: { pose: "clip", expression: "idle", mouth: "microphone" },
  clip: { pose: "clip", expression: "clip", mouth: "clip" },
  idle: { pose: "idle", expression: "idle", mouth: "idle" },
};

/** Builds the sockets' rows; `onPick({socket: source})` hears what a person picks. */
export function buildSockets(root, onPick) {
  root.replaceChildren(...SOCKETS.map((socket) => socketRow(socket, onPick)));
}

/** Builds the gallery from the identities the engine has; `onPick({identity: name})`. */
export function buildGallery(root, identities, onPick) {
  root.replaceChildren(...identities.map((identity) => identityTile(identity, onPick)));
}

/** Marks what the engine says is connected: `identity` and `sockets` of the session's state. */
export function showRouting({ identity, sockets }) {
  const connected = { identity, ...sockets };
  for (const [name, source] of Object.entries(connected)) {
    for (const input of document.querySelectorAll(`input[name="${name}"]`)) {
      input.checked = input.value === source;
    }
  }
}

function socketRow({ name, title, note, sources }, onPick) {
  const row = element("fieldset", { className: "socket" });
  const legend = element("legend", { textContent: title });
  legend.append(element("small", { textContent: note }));
  const choices = element("div", { className: "choices" });
  choices.append(...sources.map((source) => choice(name, source, element("span", { textContent: LABELS[source] }), onPick)));
  row.append(legend, choices);
  return row;
}

function identityTile({ name, thumbnail }, onPick) {
  const picture = element("img", { src: thumbnail, alt: "", loading: "lazy" });
  const tile = choice("identity", name, picture, onPick);
  tile.className = "identity";
  tile.append(element("span", { textContent: name.replaceAll("_", " ") }));
  return tile;
}

function choice(socket, source, content, onPick) {
  const label = element("label", {});
  const input = element("input", { type: "radio", name: socket, value: source });
  input.addEventListener("change", () => onPick({ [socket]: source }));
  label.append(input, content);
  return label;
}

function element(tag, properties) {
  return Object.assign(document.createElement(tag), properties);
}
