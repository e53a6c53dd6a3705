// Whose face the avatar has: those that came with the model, and a person's own.

import { element } from "./elements.js";

/** The name under which the engine holds an identity that was made from a person's own photos. */
export const UPLOADED = "uploaded";

export class Gallery {
  #root;
  #onPick;
  #photosTile;

  /** `onPick(name)` hears which identity was picked, `onPhotos(files)` of photos of one person. */
  constructor(root, onPick, onPhotos) {
    this.#root = root;
    this.#onPick = onPick;
    this.#photosTile = photosTile(onPhotos);
    root.replaceChildren(this.#photosTile);
  }

  showIdentities(identities) {
    this.#root.prepend(...identities.map(({ name, thumbnail }) => this.#tile(name, titled(name), thumbnail)));
  }

  /** Shows a person's own photos as one more identity, in front of the tile that took them. */
  showUploaded(photos) {
    this.#input(UPLOADED)?.closest("label").remove();
    const title = photos.length > 1 ? `yours, ${photos.length} photos` : "yours";
    this.#photosTile.before(this.#tile(UPLOADED, title, URL.createObjectURL(photos[0])));
  }

  /** The tile waits for the engine to make an identity of the photos. */
  showBusy(isBusy) {
    this.#photosTile.ariaBusy = String(isBusy);
    this.#photosTile.querySelector("input").disabled = isBusy;
  }

  show(name) {
    const input = this.#input(name);
    if (input) input.checked = true;
    else for (const other of this.#root.querySelectorAll("input:checked")) other.checked = false;
  }

  /** The identity `step` tiles after (or before) the one that is shown. */
  neighbour(step) {
    const inputs = [...this.#root.querySelectorAll("input[type=radio]")];
    const at = inputs.findIndex(({ checked }) => checked);
    return inputs.at((at + step + inputs.length) % inputs.length)?.value;
  }

  #input(name) {
    return this.#root.querySelector(`input[value="${CSS.escape(name)}"]`);
  }

  #tile(name, title, thumbnail) {
    const input = element("input", { type: "radio", name: "identity", value: name });
    input.addEventListener("change", () => this.#onPick(name));
    const picture = element("img", { src: thumbnail, alt: "", loading: "lazy" });
    return element("label", { className: "identity", title }, input, picture, element("span", {}, title));
  }
}

function titled(name) {
  return name.replaceAll("_", " ");
}

function photosTile(onPhotos) {
  const input = element("input", { type: "file", accept: "image/*", multiple: true });
  input.addEventListener("change", () => {
    if (input.files.length > 0) onPhotos([...input.files]);
    input.value = ""; // the same file may be picked again
  });
  const title = "One photo or several of the same person: ahead, with an open mouth, from both sides";
  return element("label", { className: "identity photos", title }, input, element("b", {}, "+"), element("span", {}, "photos"));
}
