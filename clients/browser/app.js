// Joins the parts: one session with its control, one link that plays, one that publishes, and the controls.

import { BackgroundPicker } from "./background.js";
import { Control, newestOnly } from "./control.js";
import { GainSliders, PatchGrid, SCENES, connectMotionSettings, showMotionSettings } from "./controls.js";
import { DevicePicker, LevelMeter, capture, captureAdvice } from "./devices.js";
import { $ } from "./elements.js";
import { Gallery, UPLOADED } from "./gallery.js";
import { listenForHotkeys, showHotkeys } from "./hotkeys.js";
import { watchLink } from "./play.js";
import { Places, SINK_KINDS, SOURCE_KINDS, showPlaces } from "./places.js";
import { PresetList } from "./presets.js";
import { publishLink } from "./publish.js";
import { remember, remembered } from "./remembered.js";
import { Retry } from "./retry.js";
import { ServerError, Session, deletePreset, identities, presetNames } from "./session.js";
import { PlaybackMeter, showFigures } from "./stats.js";

const FIGURES_MS = 500;
const SEEN_MS = 1000;
const LASTING_SOURCES = ["camera", "microphone", "clip", "clip:audio", "idle"]; // every session has them

const avatar = $("avatar");
const playback = new PlaybackMeter(avatar);
const level = new LevelMeter($("level"));
const opening = new Retry(() => openSession());

let session = null;
let control = null;
let watching = null;
let publishing = null;
let stream = null; // camera and microphone, once a person gave them
let photos = []; // a person's own, which another session needs again
let state = null; // what the engine said last
let settings = remembered(SCENES.clip) ?? SCENES.clip; // for the next session, to be as this one is
let isGalleryShown = false;
let controlState = "live"; // of the control connection
let linkState = "connecting"; // of the link that plays

// --- session ---

/** A new session with its links, set as the one before. */
async function openSession() {
  try {
    if (!isGalleryShown) gallery.showIdentities(await identities());
    isGalleryShown = true;
    session = await Session.open(settings);
    if (opening.hasTried) showError(""); // what kept it from opening holds no longer
    opening.reset();
  } catch (error) {
    explainNoSession(error);
    opening.later();
    return;
  }
  control = new Control(session, { onState: showState, onConnection: showControlled, onLost: replaceSession });
  control.open();
  watching = watchLink(session, avatar, (state, error) => {
    linkState = state;
    showConnection(error);
  });
  watching.open();
  sources.offer(session.allowsLocal);
  sinks.offer(session.allowsLocal);
  $("alone").href = `static/alpha.html#session=${session.id}&token=${session.token}`;
  if (stream) publish();
  if (state?.identity === UPLOADED) await attempt(() => session.uploadIdentity(photos));
  await attempt(showPresets);
}

/** The engine was started anew or has ended the session: go on in another one. */
function replaceSession() {
  control.close();
  watching.close();
  publishing?.close();
  session = null;
  controlState = "live";
  linkState = "reconnecting";
  showConnection();
  openSession();
}

function explainNoSession(error) {
  if (!(error instanceof ServerError)) return showPill("offline"); // fetch found nobody
  showPill(error.isFull ? "full" : "waiting");
  showError(error.isFull ? `${error.message} This page goes on trying by itself.` : error.message);
  if (!error.isFull) settings = SCENES.clip; // what was set there this engine does not know
}

function showState(told) {
  state = told;
  playback.date(state.viewers[watching?.peer], control.engineAhead_ms);
  showPlaces(sources, sinks, state, session);
  if (state.failure) showError(state.failure);
  if (control.isChanging) return; // this may be older than what a person has just picked
  settings = settingsOf(state);
  remember(settings);
  gallery.show(state.identity);
  grid.show(state);
  gains.show(state.gains);
  showMotionSettings(state);
  background.show(state.background);
}

/** What a new session is to be told to be as this one; sources by other names end with their session. */
function settingsOf({ identity, sockets, gains, pose_mode, crossfade_ms, background }) {
  const lasting = ([socket, source]) => [socket, LASTING_SOURCES.includes(source) ? source : "idle"];
  const routed = Object.fromEntries(Object.entries(sockets).map(lasting));
  const found = identity === UPLOADED ? {} : { identity };
  return { ...routed, ...found, gains, pose_mode, crossfade_ms, background };
}

/** Does what a person asked for; what goes wrong is told. */
async function attempt(act) {
  try {
    await act();
  } catch (error) {
    showError(captureAdvice(error));
  }
}

function change(changes) {
  return attempt(() => control?.change(changes));
}

// --- what drives the avatar ---

/** What a person picked. Picking the camera or the microphone before it is on turns it on first. */
function pick(sockets) {
  return attempt(async () => {
    await turnOnSources(Object.values(sockets));
    await control?.change(sockets);
  });
}

function pickIdentity(name) {
  if (name === undefined) return;
  return name === UPLOADED ? takePhotos(photos) : change({ identity: name });
}

async function takePhotos(files) {
  gallery.showBusy(true);
  await attempt(async () => {
    await session.uploadIdentity(files);
    photos = files;
    gallery.showUploaded(files);
    gallery.show(UPLOADED);
    showError("");
  });
  gallery.showBusy(false);
}

// --- presets ---

async function showPresets() {
  presets.show(await presetNames());
}

async function savePreset() {
  const name = $("preset-name").value.trim();
  await attempt(async () => {
    await session.savePreset(name);
    $("preset-name").value = "";
    await showPresets();
    showError("");
  });
}

function removePreset(name) {
  return attempt(async () => {
    await deletePreset(name);
    await showPresets();
  });
}

/** Turns on the camera too where the preset wants it. */
function applyPreset(name) {
  if (name === undefined) return;
  return attempt(async () => {
    const { sockets } = await control.change({ preset: name });
    await turnOnSources(Object.values(sockets));
  });
}

// --- camera and microphone ---

async function turnOnSources(sources) {
  if (sources.includes("camera") || sources.includes("microphone")) await turnOnCamera();
  if (sources.includes("camera") && stream.getVideoTracks().length === 0) {
    throw new Error("There is no camera: choose the voice, the clip or idle.");
  }
  if (sources.includes("microphone") && stream.getAudioTracks().length === 0) {
    throw new Error("There is no microphone: choose the camera, the clip or idle.");
  }
}

async function turnOnCamera() {
  if (stream) return;
  stream = await capture();
  for (const track of stream.getTracks()) track.addEventListener("ended", () => replaceCapture(track));
  const hasCamera = stream.getVideoTracks().length > 0;
  $("self").srcObject = stream;
  $("self").hidden = !hasCamera;
  $("mute").disabled = stream.getAudioTracks().length === 0;
  $("start").textContent = "Stop my camera";
  $("start").classList.remove("primary");
  level.show(stream);
  await Promise.all([cameras.refresh(), microphones.refresh()]);
  if (session) publish();
}

function publish() {
  publishing = publishLink(session, stream, (state, error) => {
    if (isWorthTelling(error)) showError(`The camera could not be sent: ${error.message}`);
  });
  publishing.open();
}

function stopCapture() {
  publishing?.close();
  publishing = null;
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  level.stop();
  $("self").srcObject = null;
  $("self").hidden = true;
  $("mute").disabled = true;
  showMuted(false);
  $("start").textContent = "Use my camera";
  $("start").classList.add("primary");
}

/** Other devices were chosen, or one of them (`ended`) has gone: go on with those that there are. */
async function replaceCapture(ended) {
  if (!stream || (ended && !stream.getTracks().includes(ended))) return;
  stopCapture();
  if (ended) showError(`The ${ended.kind === "video" ? "camera" : "microphone"} has gone.`);
  await attempt(turnOnCamera);
}

async function turnOffCamera() {
  stopCapture();
  await pick(SCENES.clip);
}

/** Drives all that the captured tracks allow: without a camera, the voice alone. */
async function driveFromMe() {
  await turnOnCamera();
  await pick(stream.getVideoTracks().length > 0 ? SCENES.me : SCENES.voice);
}

async function toggleCamera() {
  if ($("start").disabled) return;
  $("start").disabled = true;
  await attempt(stream ? turnOffCamera : driveFromMe);
  $("start").disabled = false;
}

function toggleMute() {
  const tracks = stream?.getAudioTracks() ?? [];
  if (tracks.length === 0) return;
  const isMuted = tracks.some((track) => track.enabled);
  for (const track of tracks) track.enabled = !isMuted;
  showMuted(isMuted);
}

// --- what is shown ---

function isWorthTelling(error) {
  return error && !(error instanceof TypeError) && !error.isSessionLost; // else trying again is all there is to do
}

function showControlled(state) {
  controlState = state;
  showConnection();
}

function showConnection(error) {
  if (linkState === "closed") return;
  showPill(controlState === "live" ? linkState : controlState);
  if (isWorthTelling(error)) showError(error.message);
}

function showPill(text) {
  $("connection").dataset.state = text;
  $("connection").textContent = text;
  if (text === "live") $("waiting").hidden = true;
}

function showError(message) {
  $("banner-text").textContent = message;
  $("banner").hidden = message === "";
}

function showMuted(isMuted) {
  $("mute").setAttribute("aria-pressed", String(isMuted));
  $("mute").textContent = isMuted ? "Microphone is muted" : "Mute my microphone";
}

function toggleSound() {
  avatar.muted = !avatar.muted;
  $("sound").setAttribute("aria-pressed", String(!avatar.muted));
  $("sound").textContent = `Avatar sound: ${avatar.muted ? "off" : "on"}`;
}

function toggleFigures() {
  $("hud").hidden = !$("hud").hidden;
  $("stats").setAttribute("aria-pressed", String(!$("hud").hidden));
}

async function refreshFigures() {
  if (state && watching && !$("hud").hidden) {
    showFigures($("hud"), state, await playback.read(watching.connection));
  }
  setTimeout(refreshFigures, FIGURES_MS);
}

/** The engine counts for /metrics how old the pictures were that were seen here. */
async function tellSeen() {
  try {
    if (controlState === "live") await control?.tellSeen(playback.takeAges());
  } catch {
    // the session ended meanwhile
  }
  setTimeout(tellSeen, SEEN_MS);
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else $("screen").requestFullscreen();
}

// --- start ---

const gallery = new Gallery($("gallery"), pickIdentity, takePhotos);
const grid = new PatchGrid($("patch"), $("standing-in"), pick);
const gains = new GainSliders($("gains"), newestOnly((gains) => change({ gains })));
const background = new BackgroundPicker(newestOnly((background) => change({ background })), showError);
const presets = new PresetList($("preset-list"), { onApply: applyPreset, onDelete: removePreset });
const sources = new Places($("sources"), {
  kinds: SOURCE_KINDS,
  isNamed: true,
  onAdd: (description, name) => session.addSource(name, description),
  onRemove: (name) => session.removeSource(name),
});
const sinks = new Places($("sinks"), {
  kinds: SINK_KINDS,
  onAdd: (description) => session.addSink(description),
  onRemove: (id) => session.removeSink(id),
});
const cameras = new DevicePicker($("cameras"), "camera", () => replaceCapture());
const microphones = new DevicePicker($("microphones"), "microphone", () => replaceCapture());

const scenes = [...document.querySelectorAll("[data-scene]")];
const digits = (count, prefix = "") => Array.from({ length: count }, (_, i) => `${prefix}Digit${i + 1}`);
const HOTKEYS = [
  { keys: digits(scenes.length), does: "all from me, my voice, the clip, at rest", act: (i) => scenes[i].click() },
  { keys: digits(9, "Shift+"), does: "the presets", act: (i) => applyPreset(presets.names[i]) },
  { keys: ["KeyP"], does: "the pose\u2019s next source", act: () => pick({ pose: grid.next("pose") }) },
  { keys: ["KeyE"], does: "the expression\u2019s next source", act: () => pick({ expression: grid.next("expression") }) },
  { keys: ["KeyM"], does: "the mouth\u2019s next source", act: () => pick({ mouth: grid.next("mouth") }) },
  { keys: ["BracketLeft", "BracketRight"], does: "the face before, after", act: (i) => pickIdentity(gallery.neighbour(2 * i - 1)) },
  { keys: ["KeyN"], does: "set my neutral face", act: () => change({ calibrate: true }) },
  { keys: ["KeyV"], does: "camera on, off", act: toggleCamera },
  { keys: ["KeyX"], does: "mute my microphone", act: toggleMute },
  { keys: ["KeyS"], does: "the avatar\u2019s sound", act: toggleSound },
  { keys: ["KeyF"], does: "figures", act: toggleFigures },
  { keys: ["KeyL"], does: "full screen", act: toggleFullScreen },
  { keys: ["?"], does: "this list", act: () => $("keys").showModal() },
];

$("start").addEventListener("click", toggleCamera);
$("mute").addEventListener("click", toggleMute);
$("sound").addEventListener("click", toggleSound);
$("stats").addEventListener("click", toggleFigures);
$("full-screen").addEventListener("click", toggleFullScreen);
$("full-screen").hidden = !document.fullscreenEnabled;
$("show-keys").addEventListener("click", () => $("keys").showModal());
$("builtin").addEventListener("click", () => pick(SCENES.clip));
for (const button of scenes) button.addEventListener("click", () => pick(SCENES[button.dataset.scene]));
$("save-preset").addEventListener("submit", (event) => {
  event.preventDefault();
  savePreset();
});
$("banner-close").addEventListener("click", () => showError(""));
avatar.addEventListener("playing", () => ($("waiting").hidden = true));
addEventListener("pagehide", () => session?.close());
addEventListener("pageshow", ({ persisted }) => persisted && location.reload()); // its session was closed

connectMotionSettings(change);
listenForHotkeys(HOTKEYS);
showHotkeys($("key-list"), HOTKEYS);
cameras.refresh();
microphones.refresh();
refreshFigures();
tellSeen();
openSession();
