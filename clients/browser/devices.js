// Which camera and microphone: asked for, chosen from lists, remembered; and how loud the microphone is.

const VIDEO = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 25 } };
const AUDIO = { echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const NONE = "none";
const QUIETEST_DB = -60;

const REASONS = {
  NotAllowedError: "The browser may not use the camera and microphone: allow them beside the address, then try again.",
  NotFoundError: "No camera and no microphone were found. The built-in driver needs neither.",
  NotReadableError: "The camera or the microphone is in use by another program: close that, then try again.",
  AbortError: "The camera or the microphone could not be started: unplug it, plug it in, then try again.",
};

/** A sentence that says what a person can do about an error of `capture`. */
export function captureAdvice(error) {
  return REASONS[error.name] ?? error.message;
}

/** Camera and microphone as they were chosen, in one stream, or whichever of the two there is. */
export async function capture() {
  if (!navigator.mediaDevices) {
    throw new Error("Cameras work only over https or on http://localhost and http://127.0.0.1: open the page there.");
  }
  const wanted = { video: constraints("camera", VIDEO), audio: constraints("microphone", AUDIO) };
  if (!wanted.video && !wanted.audio) throw new Error("Neither a camera nor a microphone is chosen below.");
  try {
    return await navigator.mediaDevices.getUserMedia(wanted);
  } catch (error) {
    const isPartMissing = error.name === "NotFoundError" || error.name === "NotReadableError";
    if (!isPartMissing || !wanted.video || !wanted.audio) throw error;
  }
  const parts = [{ video: wanted.video }, { audio: wanted.audio }];
  const streams = await Promise.allSettled(parts.map((part) => navigator.mediaDevices.getUserMedia(part)));
  const tracks = streams.flatMap((result) => (result.status === "fulfilled" ? result.value.getTracks() : []));
  if (tracks.length === 0) throw streams[0].reason;
  return new MediaStream(tracks);
}

function constraints(kind, always) {
  const chosen = localStorage.getItem(kind);
  if (chosen === NONE) return false;
  return chosen ? { ...always, deviceId: { ideal: chosen } } : always; // ideal: it may have been unplugged
}

/** Keeps `select` filled with the devices of its kind ("camera" or "microphone"); `onChoice()` after a choice. */
export class DevicePicker {
  #select;
  #kind;

  constructor(select, kind, onChoice) {
    this.#select = select;
    this.#kind = kind;
    select.addEventListener("change", () => {
      localStorage.setItem(kind, select.value);
      onChoice();
    });
    navigator.mediaDevices?.addEventListener("devicechange", () => this.refresh());
  }

  /** Browsers tell names only once a camera or microphone was allowed: call again after that. */
  async refresh() {
    const deviceKind = this.#kind === "camera" ? "videoinput" : "audioinput";
    const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
    const usable = devices.filter(({ kind, deviceId }) => kind === deviceKind && deviceId);
    const options = usable.map(({ deviceId, label }, i) => new Option(label || `${this.#kind} ${i + 1}`, deviceId));
    const isDefaultNamed = usable.some(({ deviceId }) => deviceId === "default");
    const first = isDefaultNamed ? [] : [new Option(`Any ${this.#kind}`, "")];
    this.#select.replaceChildren(...first, ...options, new Option(`No ${this.#kind}`, NONE));
    const chosen = localStorage.getItem(this.#kind) ?? "";
    const isThere = [...this.#select.options].some(({ value }) => value === chosen);
    this.#select.value = isThere ? chosen : this.#select.options[0].value;
  }
}

/** Shows in `element`, a role="meter", how loud a stream's sound is. */
export class LevelMeter {
  #element;
  #context = null;
  #timer = 0;

  constructor(element) {
    this.#element = element;
  }

  show(stream) {
    this.stop();
    if (stream.getAudioTracks().length === 0) return;
    this.#context = new AudioContext();
    const analyser = new AnalyserNode(this.#context, { fftSize: 2048 });
    new MediaStreamAudioSourceNode(this.#context, { mediaStream: stream }).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    this.#timer = setInterval(() => {
      analyser.getFloatTimeDomainData(samples);
      this.#set(level(samples));
    }, 60);
  }

  stop() {
    clearInterval(this.#timer);
    this.#context?.close();
    this.#context = null;
    this.#set(0);
  }

  #set(share) {
    this.#element.style.setProperty("--level", share.toFixed(3));
    this.#element.setAttribute("aria-valuenow", Math.round(100 * share));
  }
}

/** 0 for silence to 1 for full scale, in decibels. */
function level(samples) {
  const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
  return Math.min(1, Math.max(0, 1 - (10 * Math.log10(power + 1e-12)) / QUIETEST_DB));
}
