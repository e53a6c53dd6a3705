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

/** The name under which the engine holds an identity that was made from a person's own photos. */
export const UPLOADED = "uploaded";

/** Builds the gallery from the identities the engine has; `onPick({identity: name})`, `onPhotos(files)`. */
export function buildGallery(root, identities, onPick, onPhotos) {
  root.replaceChildren(...identities.map((identity) => identityTile(identity, onPick)), photosTile(onPhotos));
}

/** Shows a person's own photo as one more identity, in front of the tile that took it. */
export function showUploaded(root, photo, onPick) {
  const thumbnail = URL.createObjectURL(photo);
  root.querySelector(`input[value="${UPLOADED}"]`)?.closest("label").remove();
  root.lastElementChild.before(identityTile({ name: UPLOADED, title: "yours", thumbnail }, onPick));
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

function identityTile({ name, title = name.replaceAll("_", " "), thumbnail }, onPick) {
  const picture = element("img", { src: thumbnail, alt: "", loading: "lazy" });
  const tile = choice("identity", name, picture, onPick);
  tile.className = "identity";
  tile.append(element("span", { textContent: title }));
  return tile;
}

function photosTile(onPhotos) {
  const tile = element("label", { className: "identity photos", title: "One photo or a few of the same person" });
  const input = element("input", { type: "file", accept: "image/*", multiple: true });
  input.addEventListener("change", () => {
    if (input.files.length > 0) onPhotos([...input.files]);
    input.value = ""; // the same file may be picked again
  });
  tile.append(input, element("b", { textContent: "+" }), element("span", { textContent: "a photo" }));
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
