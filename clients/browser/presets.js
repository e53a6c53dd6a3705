// Presets that the engine keeps: all that is set now, under a name.

import { element } from "./elements.js";

export class PresetList {
  #root;
  #onApply;
  #onDelete;
  #names = [];

  constructor(root, { onApply, onDelete }) {
    this.#root = root;
    this.#onApply = onApply;
    this.#onDelete = onDelete;
  }

  get names() {
    return this.#names;
  }

  show(names) {
    this.#names = names;
    const empty = element("li", { className: "quiet" }, "None yet: set things as you like them, then save.");
    this.#root.replaceChildren(...(names.length > 0 ? names.map((name, i) => this.#item(name, i)) : [empty]));
  }

  #item(name, i) {
    const apply = element("button", { type: "button", className: "apply" }, name);
    if (i < 9) apply.append(element("kbd", {}, `\u21e7${i + 1}`));
    apply.addEventListener("click", () => this.#onApply(name));
    const remove = element("button", { type: "button", className: "remove", title: `Delete ${name}` }, "\u2715");
    remove.ariaLabel = `Delete the preset ${name}`;
    remove.addEventListener("click", () => this.#onDelete(name));
    return element("li", { className: "preset" }, apply, remove);
  }
}
