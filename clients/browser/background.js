// What is behind the avatar: nothing (black), a colour, a picture, softened if so wished, or the camera's room,
// always softened.

import { $ } from "./elements.js";

const LEAST_ROOM_BLUR = 0.03; // what the engine makes of less
const LONGEST_SIDE_PX = 640; // more than the avatar has; it goes over the network and into presets

export class BackgroundPicker {
  #onBackground;
  #onError;
  #image = null; // data URL
  #shown = null;

  /** `onBackground(description)` hears what the engine is to show, `onError(sentence)` of unusable pictures. */
  constructor(onBackground, onError) {
    this.#onBackground = onBackground;
    this.#onError = onError;
    for (const input of document.querySelectorAll("input[name=background]")) {
      input.addEventListener("change", () => (input.value === "image" && !this.#image ? this.#askForPicture() : this.#tell()));
    }
    $("background-colour").addEventListener("input", () => this.#pick("colour"));
    $("background-blur").addEventListener("input", () => this.#tell());
    this.#showShare();
    $("background-file").addEventListener("change", () => this.#takePicture());
    $("background-file").addEventListener("cancel", () => this.#image || this.#check("black"));
    $("background-choose").addEventListener("click", () => this.#askForPicture());
  }

  show(background) {
    if (background === this.#shown) return;
    this.#shown = background;
    const kind = ["image", "room", "colour"].find((key) => background[key]) ?? "black";
    this.#check(kind);
    if (background.colour) $("background-colour").value = background.colour;
    if (background.image) {
      this.#image = background.image;
    }
    if (background.image || background.room) $("background-blur").value = background.blur ?? 0;
    this.#showShare();
    this.#showImage();
  }

  #askForPicture() {
    $("background-file").click();
  }

  async #takePicture() {
    const [file] = $("background-file").files;
    $("background-file").value = "";
    if (!file) return;
    try {
      this.#image = await asDataUrl(file);
      this.#pick("image");
    } catch (error) {
      this.#onError(error.message);
    }
    this.#showImage();
  }

  #pick(kind) {
    this.#check(kind);
    this.#tell();
  }

  #check(kind) {
    document.querySelector(`input[name=background][value=${kind}]`).checked = true;
    $("background-colour").hidden = kind !== "colour";
    $("background-picture").hidden = kind !== "image" && kind !== "room";
    $("background-choose").hidden = kind !== "image";
    $("background-blur").min = kind === "room" ? LEAST_ROOM_BLUR : 0;
  }

  #tell() {
    const kind = document.querySelector("input[name=background]:checked").value;
    this.#check(kind);
    if (kind === "black") this.#onBackground({});
    if (kind === "colour") this.#onBackground({ colour: $("background-colour").value });
    this.#showShare();
    const blur = Number($("background-blur").value);
    if (kind === "image" && this.#image) this.#onBackground({ image: this.#image, blur });
    if (kind === "room") this.#onBackground({ room: "camera", blur });
  }

  /** How far the slider is filled. */
  #showShare() {
    const { style, value, min, max } = $("background-blur");
    style.setProperty("--share", (value - min) / (max - min));
  }

  #showImage() {
    $("background-choose").style.backgroundImage = this.#image ? `url("${this.#image}")` : "";
  }
}

/** The picture as a JPEG of moderate size in a data URL. Throws an Error if it cannot be read. */
async function asDataUrl(file) {
  let picture;
  try {
    picture = await createImageBitmap(file);
  } catch {
    throw new Error(`${file.name} is not a picture that this browser can read.`);
  }
  const scale = Math.min(1, LONGEST_SIDE_PX / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.round(picture.width * scale);
  canvas.height = Math.round(picture.height * scale);
  canvas.getContext("2d").drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.85);
}
