// Joins the parts: one session, one link that plays, one that publishes, the patch bay, the figures.

import { PRESETS, UPLOADED, buildGallery, buildSockets, showRouting, showUploaded } from "./controls.js";
import { watchLink } from "./play.js";
import { capture, captureAdvice, publishLink } from "./publish.js";
import { ServerError, Session, identities } from "./session.js";
import { PlaybackMeter, showFigures } from "./stats.js";

const POLL_MS = 1000;

const $ = (id) => document.getElementById(id);
const avatar = $("avatar");
const meter = new PlaybackMeter(avatar);

let session = null;
let watching = null;
let publishing = null;
let stream = null; // camera and microphone, once a person gave them
let routing = PRESETS.clip; // what drives the avatar now, to connect a new session the same way
let photos = []; // a person's own, which another session needs again
let routesStarted = 0;
let routesPending = 0;
let linkState = "connecting"; // of the link that plays

// --- session ---

/** A new session with its links; what drove the one before drives this one too. */
async function openSession() {
  watching?.close();
  publishing?.close();
  session = await Session.open();
  watching = watchLink(session, avatar, (state, error) => {
    linkState = state;
    showConnection(state, error);
  });
  watching.open();
  if (stream) publish();
  await route(routing);
}

async function poll() {
  try {
    if (!session) {
      buildGallery($("gallery"), await identities(), pick, takePhotos);
      if (photos.length > 0) showUploaded($("gallery"), photos[0], pick);
      await openSession();
    }
    await showState();
    if ($("connection").dataset.state === "offline") showConnection(linkState);
  } catch (error) {
    await answerFailure(error);
  }
  setTimeout(poll, POLL_MS);
}

async function showState() {
  const routesSeen = routesPending === 0 ? routesStarted : -1;
  const state = await session.state();
  if (state.failure) showError(state.failure);
  if (routesSeen === routesStarted) { // else this state is older than what was picked
    showRouting(state);
    routing = { identity: state.identity, ...state.sockets };
  }
  if (!$("hud").hidden) showFigures($("hud"), state, await meter.read(watching.connection));
}

async function answerFailure(error) {
  if (error instanceof ServerError && error.isSessionLost && session) {
    session = null; // the engine was started anew: the next poll opens another session
    showConnection("reconnecting");
  } else if (error instanceof TypeError) {
    showConnection("offline"); // fetch found nobody: the next poll tries again
  } else {
    showError(error.message);
  }
}

// --- routing ---

/** What a person picked. Picking the camera or the microphone before it is on turns it on first. */
async function pick(sockets) {
  try {
    await turnOnSources(Object.values(sockets));
    await route(sockets);
  } catch (error) {
    showError(captureAdvice(error));
  }
}

async function takePhotos(files) {
  try {
    await session.uploadIdentity(files);
    photos = files;
    showUploaded($("gallery"), files[0], pick);
    showError("");
  } catch (error) {
    showError(error.message);
  }
}

async function route(sockets) {
  routesStarted += 1;
  routesPending += 1;
  try {
    const { identity, ...others } = sockets;
    if (identity === UPLOADED) await session.uploadIdentity(photos);
    await session.route(identity === UPLOADED ? others : sockets);
  } finally {
    routesPending -= 1;
  }
}

// --- camera and microphone ---

async function turnOnSources(sources) {
  if (sources.includes("camera") || sources.includes("microphone")) await turnOnCamera();
  if (sources.includes("camera") && stream.getVideoTracks().length === 0) {
    throw new Error("No camera was found: choose the voice, the clip or idle.");
  }
  if (sources.includes("microphone") && stream.getAudioTracks().length === 0) {
    throw new Error("No microphone was found: choose the camera, the clip or idle.");
  }
}

async function turnOnCamera() {
  if (stream) return;
  stream = await capture();
  $("self").srcObject = stream;
  $("self").hidden = stream.getVideoTracks().length === 0;
  $("mute").disabled = stream.getAudioTracks().length === 0;
  $("start").textContent = "Stop my camera";
  $("start").classList.remove("primary");
  publish();
}

function publish() {
  publishing = publishLink(session, stream, (state, error) => {
    if (error) showError(`The camera could not be sent: ${error.message}`);
  });
  publishing.open();
}

async function turnOffCamera() {
  publishing?.close();
  publishing = null;
  for (const track of stream.getTracks()) track.stop();
  stream = null;
  $("self").srcObject = null;
  $("self").hidden = true;
  $("mute").disabled = true;
  showMuted(false);
  $("start").textContent = "Use my camera";
  $("start").classList.add("primary");
  await pick(PRESETS.clip);
}

/** Drives all that the captured tracks allow: without a camera, the voice alone. */
async function driveFromMe() {
  await turnOnCamera();
  await route(stream.getVideoTracks().length > 0 ? PRESETS.me : PRESETS.voice);
}

// --- what is shown ---

function showConnection(state, error) {
  if (state === "closed") return;
  $("connection").dataset.state = state;
  $("connection").textContent = state;
  if (error && !(error instanceof TypeError) && !error.isSessionLost) showError(error.message);
}

function showError(message) {
  $("banner-text").textContent = message;
  $("banner").hidden = message === "";
}

function showMuted(isMuted) {
  $("mute").setAttribute("aria-pressed", String(isMuted));
  $("mute").textContent = isMuted ? "Microphone is muted" : "Mute my microphone";
}

// --- start ---

$("start").addEventListener("click", async () => {
  $("start").disabled = true;
  try {
    await (stream ? turnOffCamera() : driveFromMe());
  } catch (error) {
    showError(captureAdvice(error));
  }
  $("start").disabled = false;
});

$("mute").addEventListener("click", () => {
  const tracks = stream.getAudioTracks();
  const isMuted = tracks.some((track) => track.enabled);
  for (const track of tracks) track.enabled = !isMuted;
  showMuted(isMuted);
});

$("sound").addEventListener("click", () => {
  avatar.muted = !avatar.muted;
  $("sound").setAttribute("aria-pressed", String(!avatar.muted));
  $("sound").textContent = `Avatar sound: ${avatar.muted ? "off" : "on"}`;
});

$("stats").addEventListener("click", () => {
  $("hud").hidden = !$("hud").hidden;
  $("stats").setAttribute("aria-pressed", String(!$("hud").hidden));
});

$("builtin").addEventListener("click", () => pick(PRESETS.clip));
$("presets").addEventListener("click", ({ target }) => {
  if (target.dataset.preset) pick(PRESETS[target.dataset.preset]);
});
$("banner-close").addEventListener("click", () => ($("banner").hidden = true));
avatar.addEventListener("playing", () => ($("waiting").hidden = true));
addEventListener("pagehide", () => session?.close());
addEventListener("pageshow", ({ persisted }) => persisted && location.reload()); // its session was closed

buildSockets($("sockets"), pick);
poll();
