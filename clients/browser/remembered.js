// What a person has set, remembered by this tab over a reload.

const KEY = "settings";

/** Puts the settings away; a tab that may not keep anything, or not that much, forgets them. */
export function remember(settings) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(settings));
  } catch {
    // the next reload begins afresh
  }
}

/** What was put away, or null. The camera is off after a reload: what it fed is fed as in `instead`. */
export function remembered(instead) {
  try {
    const settings = JSON.parse(sessionStorage.getItem(KEY));
    if (!settings) return null;
    for (const [socket, source] of Object.entries(instead)) {
      if (["camera", "microphone"].includes(settings[socket])) settings[socket] = source;
    }
    return settings;
  } catch {
    return null;
  }
}
