// Elements of the page made in one line.

export const $ = (id) => document.getElementById(id);

/** A `tag` with these properties and children. */
export function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}
