// The avatar on a transparent background, for OBS's browser source or any page that is laid over something:
// alpha.html#session=ID&token=TOKEN. The engine sends its colours and, beside them, its mask.

import { watchLink } from "./play.js";
import { Session } from "./session.js";

const LAYOUT = "colour-alpha";

const VERTEX_SHADER = `
  attribute vec2 corner;
  varying vec2 place;
  void main() {
    place = vec2(corner.x, 1.0 - corner.y);
    gl_Position = vec4(2.0 * corner - 1.0, 0.0, 1.0);
  }`;

// The codec leaves a haze of a few levels where the mask is empty, and blurs across the middle.
const FRAGMENT_SHADER = `
  precision mediump float;
  uniform sampler2D picture;
  uniform float seam;
  varying vec2 place;
  void main() {
    float x = min(0.5 * place.x, 0.5 - seam);
    vec3 colour = texture2D(picture, vec2(x, place.y)).rgb;
    float mask = texture2D(picture, vec2(max(0.5 + 0.5 * place.x, 0.5 + seam), place.y)).r;
    float alpha = clamp((mask - 0.03) / 0.94, 0.0, 1.0);
    gl_FragColor = vec4(min(colour, vec3(alpha)), alpha);
  }`;

/** Draws a colour|mask video on a canvas, whose background stays transparent. */
export class AlphaPainter {
  #gl;
  #canvas;
  #seam;

  /** Throws an Error where the browser has no WebGL. */
  constructor(canvas) {
    const options = { alpha: true, premultipliedAlpha: true, antialias: false, preserveDrawingBuffer: true };
    const gl = canvas.getContext("webgl", options);
    if (!gl) throw new Error("This browser has no WebGL, which the transparent avatar needs.");
    this.#gl = gl;
    this.#canvas = canvas;
    const program = linked(gl, VERTEX_SHADER, FRAGMENT_SHADER);
    gl.useProgram(program);
    this.#seam = gl.getUniformLocation(program, "seam");
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]), gl.STATIC_DRAW);
    const corner = gl.getAttribLocation(program, "corner");
    gl.enableVertexAttribArray(corner);
    gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) {
      gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
    }
    gl.texParameteri(gl.TEXTURE_2D, gl.TEXTURE_MIN_FILTER, gl.LINEAR);
  }

  paint(video) {
    const gl = this.#gl;
    const width = video.videoWidth / 2;
    if (this.#canvas.width !== width || this.#canvas.height !== video.videoHeight) {
      this.#canvas.width = width;
      this.#canvas.height = video.videoHeight;
    }
    gl.viewport(0, 0, width, video.videoHeight);
    gl.uniform1f(this.#seam, 1.5 / video.videoWidth);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, video);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }
}

function linked(gl, vertexSource, fragmentSource) {
  const program = gl.createProgram();
  for (const [kind, source] of [
    [gl.VERTEX_SHADER, vertexSource],
    [gl.FRAGMENT_SHADER, fragmentSource],
  ]) {
    const shader = gl.createShader(kind);
    gl.shaderSource(shader, source);
    gl.compileShader(shader);
    if (!gl.getShaderParameter(shader, gl.COMPILE_STATUS)) throw new Error(gl.getShaderInfoLog(shader));
    gl.attachShader(program, shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS)) throw new Error(gl.getProgramInfoLog(program));
  return program;
}

function showProblem(text) {
  const problem = document.getElementById("problem");
  problem.textContent = text;
  problem.hidden = !text;
}

/** Plays with sound where that is allowed without a click (OBS allows it), else without. */
async function play(video) {
  try {
    await video.play();
  } catch {
    video.muted = true;
    await video.play();
  }
}

function start() {
  const { session: id, token } = Object.fromEntries(new URLSearchParams(location.hash.slice(1)));
  if (!id || !token) throw new Error("Open this page as alpha.html#session=ID&token=TOKEN.");
  const painter = new AlphaPainter(document.getElementById("avatar"));
  const video = document.getElementById("video");
  const paintNext = () => {
    painter.paint(video);
    video.requestVideoFrameCallback(paintNext);
  };
  video.requestVideoFrameCallback(paintNext);
  video.addEventListener("loadedmetadata", () => play(video));
  const onState = (state, error) => showProblem(state === "reconnecting" && error ? error.message : "");
  const link = watchLink(new Session(id, token), video, onState, LAYOUT);
  addEventListener("pagehide", () => link.close());
  link.open();
}

try {
  start();
} catch (error) {
  showProblem(error.message);
}
