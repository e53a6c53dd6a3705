// Keys that do what buttons do, and the list that tells of them.

import { element } from "./elements.js";

/**
 * `hotkeys` is a list of {keys, does, act}. A key is its place on the keyboard (KeyboardEvent.code), after
 * "Shift+" where that is held, or the character that it writes; `act(index)` hears which of the keys it was.
 * Nothing happens while a person types.
 */
export function listenForHotkeys(hotkeys) {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || isTyping(event.target)) return;
    const pressed = (event.shiftKey ? "Shift+" : "") + event.code;
    for (const { keys, act } of hotkeys) {
      const index = keys.findIndex((key) => key === pressed || key === event.key);
      if (index < 0) continue;
      event.preventDefault();
      act(index);
    }
  });
}

function isTyping(target) {
  const isText = target.matches?.("input:not([type=radio], [type=range], [type=color], [type=file]), textarea, select");
  return isText || document.querySelector("dialog[open]") !== null;
}

/** Fills the list `root` with what each key does. */
export function showHotkeys(root, hotkeys) {
  const rows = hotkeys.flatMap(({ keys, does }) => {
    const shown = keys.length > 2 ? [keys[0], "\u2013", keys.at(-1)] : keys;
    const parts = shown.map((key) => (key === "\u2013" ? key : element("kbd", {}, named(key))));
    return [element("dt", {}, ...parts), element("dd", {}, does)];
  });
  root.replaceChildren(...rows);
}

function named(code) {
  return code
    .replace("Shift+", "\u21e7")
    .replace(/Key|Digit/, "")
    .replace("BracketLeft", "[")
    .replace("BracketRight", "]");
}
